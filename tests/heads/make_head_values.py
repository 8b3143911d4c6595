"""Golden values of output layers with their losses, by NumPy alone in float64.

    python tests/heads/make_head_values.py     # prints them

Each formula is written from its definition, with the gradients of features and kernel
by complex steps, which are exact to rounding. What has no gradient goes through `held`.
"""

import numpy as np

FEATURES = np.array([[-0.8, 1.4, -0.1], [2.3, -0.8, -0.1], [0.1, 0.9, 1.0]])
KERNEL = np.array([[-1.8, 1.2, -1.1, 0.6], [-0.4, 0.0, 0.2, -0.3], [-0.1, 1.6, 0, 2.7]])
BIAS = np.array([0.1, -0.2, 0.3, 0.0])
LABELS = np.array([2, 1, 3])
ROWS = np.arange(3)


def held(x):
    return np.real(x)


def softplus(x):
    big = held(x) > 0
    return np.where(big, x, 0) + np.log1p(np.exp(np.where(big, -x, x)))


def cross_entropy(logits, labels, kept=True):
    """log(1 + the kept others' sum of e^(o_j - o_t))."""
    kept = kept & (np.arange(logits.shape[1]) != labels[:, None])
    shift = np.where(kept, held(logits), -np.inf).max(1)
    exps = np.where(kept, np.exp(np.where(kept, logits - shift[:, None], 0)), 0)
    others = np.log(exps.sum(1)) + shift
    return softplus(others - logits[ROWS, labels])


def cosines(features, kernel):
    lengths = (np.sqrt((a * a).sum(axis)) for a, axis in ((features, 1), (kernel, 0)))
    of_features, of_classes = lengths
    return features @ kernel / of_features[:, None] / of_classes


def margins(c, labels, scale=64.0, angle=0.0, cosine=0.0, through=False, linear=True):
    """Logits with the label's angle and cosine lowered."""
    own = c[ROWS, labels]
    turned = own * np.cos(angle) - np.sqrt(1 - own * own) * np.sin(angle)
    past = linear & (held(own) < -np.cos(angle)) & (angle > np.zeros(3))
    turned = np.where(past, own - angle * np.sin(angle), turned)
    if through:
        turned = own + held(turned - own)
    logits = scale * c
    logits[ROWS, labels] = scale * (turned - cosine)
    return logits


def adaptive(logits, labels, delta):
    p = np.exp(held(logits) - held(logits).max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    return cross_entropy(logits, labels, p[ROWS, labels][:, None] - p <= delta)


def of_cosines(**keywords):
    def loss(features, kernel):
        return cross_entropy(
            margins(cosines(features, kernel), LABELS, **keywords), LABELS
        )

    return loss


def of_drawn(threshold=None, features_kept=slice(None), **keywords):
    """Among classes 1, 2 and 3."""

    def loss(features, kernel):
        labels = LABELS - 1
        c = cosines(features[:, features_kept], kernel[features_kept, 1:])
        if threshold is not None:
            others = np.arange(3) != labels[:, None]
            c = np.where(others & (held(c) > threshold), 0, c)
        return cross_entropy(margins(c, labels, **keywords), labels)

    return loss


LDAM = 0.5 * np.array([100, 20, 5, 1.0]) ** -0.25
LOSSES = {
    "softmax": lambda x, w: cross_entropy(x @ w + BIAS, LABELS),
    "am_softmax": of_cosines(scale=30.0, cosine=0.35),
    "arcface": of_cosines(angle=0.5),
    "arcface_straight_through": of_cosines(angle=0.5, through=True),
    "elastic_arcface": of_cosines(angle=np.array([0.47, 0.56, 0.51]), linear=False),
    "elastic_cosface": of_cosines(cosine=np.array([0.32, 0.41, 0.36])),
    "ldam": of_cosines(scale=30.0, cosine=LDAM[LABELS]),
    "as_softmax on am_softmax": lambda x, w: adaptive(
        margins(cosines(x, w), LABELS, scale=4.0, cosine=0.35), LABELS, 0.1
    ),
    "partial_fc": of_drawn(cosine=0.4),
    "partial_fc, filter 0.4": of_drawn(threshold=0.4, cosine=0.4),
    "unicom": of_drawn(features_kept=[0, 2], scale=32.0, angle=0.3),
    "unicom, straight through": of_drawn(
        features_kept=[0, 2], scale=32.0, angle=0.3, through=True
    ),
}


def complex_step(function, x, step=1e-30):
    gradient = np.empty(x.shape)
    for place in np.ndindex(x.shape):
        moved = x.astype(complex)
        moved[place] += 1j * step
        gradient[place] = function(moved).sum().imag / step
    return gradient


def main():
    np.set_printoptions(precision=10, linewidth=100)
    for name, loss in LOSSES.items():
        print(name, loss(FEATURES, KERNEL), sep="\n")
        print(complex_step(lambda x, loss=loss: loss(x, KERNEL), FEATURES))
        print(complex_step(lambda w, loss=loss: loss(FEATURES, w), KERNEL))


if __name__ == "__main__":
    main()
