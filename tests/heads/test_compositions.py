"""AS-Softmax on the logits of every layer and margin that leaves it room.

With a margin of infinity it is the loss of the layer itself; with a finite one, settled
examples have no gradient, down to the features.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from as_softmax_jax import as_softmax_loss, as_softmax_settled
from as_softmax_jax.heads import (
    cosine_logits,
    distance_logits,
    fourier_logits,
    l_softmax_logits,
    l_softmax_loss,
    noisy_softmax_logits,
    noisy_softmax_loss,
)
from as_softmax_jax.losses import (
    adaface_loss,
    am_softmax_loss,
    arcface_loss,
    balanced_softmax_loss,
    class_prior,
    dismax_loss,
    elastic_margins,
    feature_norms,
    init_norm_state,
    ldam_loss,
    ldam_margins,
    madacos_loss,
    madacos_scale_margin,
    margin_logits,
    margin_softmax_loss,
    norm_margins,
    softmax_loss,
)

ROWS = 10
# The corners of a tetrahedron: classes far apart, so that there is room for a margin.
KERNEL = np.array([[1.0, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]])
COUNTS = np.array([100, 20, 5, 1])
NOISE = np.linspace(-2, 2, ROWS)
WAVES = np.linspace(-1, 1, 12).reshape(3, 4), np.linspace(0.5, -0.5, 4)
DRAWN = elastic_margins(jax.random.key(0), (ROWS,))
STATE = init_norm_state()


def cosine(logits_of, loss_of):
    """A pair of functions of cosines as one of features."""
    return (
        lambda x, t: logits_of(cosine_logits(x, KERNEL), t, x),
        lambda x, t: loss_of(cosine_logits(x, KERNEL), t, x),
    )


def of_adaface(c, t, x):
    angle, cosine = norm_margins(feature_norms(x), STATE)
    return margin_logits(c, t, angle=angle, cosine=cosine, beyond="clip")


def of_madacos(c, t, _):
    scale, margin = madacos_scale_margin(c, t, alpha=0.9)
    return margin_logits(c, t, scale=scale, cosine=margin)


# Of features [n, 3] and labels: the logits, and the loss that they are of.
LAYERS = {
    "am_softmax": cosine(
        lambda c, t, _: margin_logits(c, t, scale=30.0, cosine=0.35),
        lambda c, t, _: am_softmax_loss(c, t),
    ),
    "arcface": cosine(
        lambda c, t, _: margin_logits(c, t, angle=0.5),
        lambda c, t, _: arcface_loss(c, t),
    ),
    "elastic_arcface": cosine(
        lambda c, t, _: margin_logits(c, t, angle=DRAWN, beyond="plain"),
        lambda c, t, _: margin_softmax_loss(c, t, angle=DRAWN, beyond="plain"),
    ),
    "adaface": cosine(
        of_adaface,
        lambda c, t, x: adaface_loss(c, t, norms=feature_norms(x), norm_state=STATE),
    ),
    "madacos": cosine(of_madacos, lambda c, t, _: madacos_loss(c, t, alpha=0.9)),
    "ldam": cosine(
        lambda c, t, _: margin_logits(c, t, scale=30.0, cosine=ldam_margins(COUNTS)[t]),
        lambda c, t, _: ldam_loss(c, t, class_counts=COUNTS),
    ),
    "normalised softmax": cosine(
        lambda c, t, _: 10.0 * c, lambda c, t, _: softmax_loss(10.0 * c, t)
    ),
    "balanced": (
        lambda x, t: x @ KERNEL + class_prior(COUNTS)[None],
        lambda x, t: balanced_softmax_loss(x @ KERNEL, t, class_counts=COUNTS),
    ),
    "dismax": (
        lambda x, t: 10.0 * distance_logits(x, KERNEL),
        lambda x, t: dismax_loss(distance_logits(x, KERNEL), t),
    ),
    "l_softmax": (
        lambda x, t: l_softmax_logits(x, KERNEL, t, margin=2),
        lambda x, t: l_softmax_loss(x, KERNEL, t, margin=2),
    ),
    "noisy_softmax": (
        lambda x, t: noisy_softmax_logits(x, KERNEL, t, noise=NOISE),
        lambda x, t: noisy_softmax_loss(x, KERNEL, t, noise=NOISE),
    ),
    "fourier": (
        lambda x, t: fourier_logits(x, *WAVES, num_classes=4),
        lambda x, t: softmax_loss(fourier_logits(x, *WAVES, num_classes=4), t),
    ),
}


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("name", LAYERS)
def test_as_softmax_on_logits_of_a_layer(name):
    logits_of, loss_of = LAYERS[name]
    noise = np.random.default_rng(0).normal(size=(ROWS, 3))
    near, rows = np.arange(ROWS) % 4, jnp.arange(ROWS)
    features = jnp.asarray(2 * KERNEL.T[near] + 0.5 * noise)
    # Most are right, so that some settle; the others are not.
    guess = jnp.argmax(logits_of(features, near), axis=1)
    labels = jnp.where(rows % 3 == 0, (guess + 1) % 4, guess)

    def losses(features, margin):
        logits = logits_of(features, labels)
        return as_softmax_loss(logits, labels, logit_margin=margin)

    # A margin loss keeps the digits of what lies below 1e-16, a logit has none for it.
    expected = loss_of(features, labels)
    np.testing.assert_allclose(losses(features, jnp.inf), expected, 1e-9, 1e-12)

    found = jax.grad(lambda x: losses(x, jnp.inf).sum())(features)
    wanted = jax.grad(lambda x: loss_of(x, labels).sum())(features)
    np.testing.assert_allclose(found, wanted, rtol=1e-7, atol=1e-10)

    logits = logits_of(features, labels)
    settled = as_softmax_settled(logits, labels, logit_margin=0.05)
    assert 0 < int(settled.sum()) < ROWS
    gradient = jax.grad(lambda x: losses(x, 0.05).sum())(features)
    np.testing.assert_array_equal(gradient[settled], 0)
    assert (gradient[~settled] != 0).any(axis=1).all()
