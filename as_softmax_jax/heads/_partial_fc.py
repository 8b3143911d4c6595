"""Partial FC: a margin loss among a share of the classes, drawn anew for each step."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from as_softmax_jax._core import checks
from as_softmax_jax._core.cosine_margin import Beyond
from as_softmax_jax.heads._centers import columns_of
from as_softmax_jax.heads._linear_margin import margin_loss
from as_softmax_jax.heads._operands import LAYOUTS, mask_for_all_rows, operands_of
from as_softmax_jax.heads._sampling import SampledClasses, sample_classes
from as_softmax_jax.kernels import Implementation


def partial_fc_loss(
    features: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    *,
    key: jax.Array,
    num_sampled: int,
    num_features_sampled: int | None = None,
    unbiased: bool = False,
    scale: ArrayLike = 64.0,
    angle: ArrayLike = 0.0,
    cosine: ArrayLike = 0.4,
    beyond: Beyond = "linear",
    straight_through: bool = False,
    filter_threshold: float | None = None,
    sub_centers: int = 1,
    delta: ArrayLike | None = None,
    logit_margin: ArrayLike | None = None,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    kernel_layout: str = "dc",
    axis_name: str | None = None,
    implementation: Implementation | None = None,
) -> jax.Array:
    r"""A margin loss on cosines among the drawn classes of a step (Partial FC, Unicom).

    .. math::
      \ell = \mathrm{linear\_margin\_softmax\_loss}(x_F, W_{F, \mathcal{S}}, t)

    with the classes :math:`\mathcal{S}` of `sample_classes`, those of the labels among
    them, and the features F of `sample_features`, where a number of them is given: the
    norms are of the drawn features alone. Nothing makes up for the classes left out, as
    published, unless `unbiased` is True; fewer rivals make the label more probable, so
    with `delta` or `logit_margin` more is settled than among all classes. Evaluate with
    all of them.

    The gradient of the kernel is 0 in what is not drawn, and has the kernel's size.
    With millions of classes take it by the drawn columns alone, and let the optimizer
    see no others: ``drawn = sample_classes(key, ...)``, then the gradient of
    `linear_margin_softmax_loss` by ``kernel[:, drawn.classes]`` at ``drawn.labels``.

    Args:
      features: floating point [..., D]; as are all that are not said here, see
        `linear_margin_softmax_loss`.
      kernel: floating point [D, C], or [C, D].
      labels: integers [...] in [0, C).
      key: of the step, the same on every device.
      num_sampled: how many classes are drawn, with `axis_name` on each device; at least
        the number of labels or all classes.
      num_features_sampled: how many features are drawn; None: all count.
      unbiased: whether each rival that is no label of the batch counts for those that
        were not drawn, too: of C classes with P labels among them S are drawn, and its
        logit grows by log((C - P) / (S - P)), so that the sum over the rivals is on
        average that over all classes. With `axis_name`, of each device's part.
      scale: s, positive and finite.
      angle: the margin of the label's angle.
      cosine: the margin of the label's cosine.
      beyond: what holds past an angle of pi.
      straight_through: whose gradient; the published code's is True.
      filter_threshold: a cosine with another class above it counts as 0.
      sub_centers: K, how many columns of the kernel a class has, side by side.
      delta: the margin of AS-Softmax in probability, among the drawn classes; or else
      logit_margin: that in logits. None of the two: softmax.
      where: boolean, broadcasts to [...]: the rows that count.
      class_mask: boolean [C], the valid classes, such as are no padding.
      kernel_layout: ``"dc"`` or ``"cd"``, the order of the kernel's axes.
      axis_name: inside `jax.shard_map`, the mesh axis over which classes are split.
      implementation: as in `linear_margin_softmax_loss`.

    Returns:
      The loss of each example, [...].

    Raises:
      TypeError: an argument has a wrong dtype.
      ValueError: an argument has a wrong shape or value, or a name is unknown.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> from as_softmax_jax.heads import partial_fc_loss
      >>> features, kernel, labels = jnp.eye(2), jnp.eye(2, 100), jnp.array([0, 1])
      >>> loss = partial_fc_loss(
      ...     features, kernel, labels, key=jax.random.key(0), num_sampled=10
      ... )
      >>> print(loss.shape)
      (2,)

    References:
      An et al., `Killing Two Birds with One Stone: Efficient and Robust Training of
      Face Recognition CNNs by Partial FC <https://arxiv.org/abs/2203.15565>`_, CVPR
      2022; An et al., `Unicom <https://arxiv.org/abs/2304.05884>`_, ICLR 2023, for the
      features.
    """
    checks.one_of(kernel_layout, LAYOUTS, "kernel_layout")
    sub_centers = checks.integer(sub_centers, "sub_centers", at_least=1)
    features, kernel, _ = operands_of(
        features, kernel, None, kernel_layout, sub_centers
    )
    class_axis = kernel_layout.index("c")
    num_classes = kernel.shape[class_axis] // sub_centers
    # A second key only where it is needed, so that the classes are those of the key.
    own = None
    if num_features_sampled is not None:
        key, own = jax.random.split(key)
    rows: dict[str, Any] = {"where": where, "axis_name": axis_name}
    drawn = sample_classes(
        key, labels, num_classes=num_classes, num_sampled=num_sampled, **rows
    )
    if class_mask is not None:
        class_mask = mask_for_all_rows(class_mask, num_classes)
    bias = None
    if unbiased:
        bias = _for_those_left_out(drawn, class_mask, num_classes, axis_name)
    if class_mask is not None:
        class_mask = class_mask[drawn.classes]
    columns = columns_of(drawn.classes, sub_centers).reshape(-1)
    kernel = jnp.take(kernel, columns, axis=class_axis)
    if own is not None and num_features_sampled is not None:
        kept = _some_features(own, features.shape[-1], num_features_sampled)
        features = jnp.take(features, kept, axis=-1)
        kernel = jnp.take(kernel, kept, axis=1 - class_axis)
    return margin_loss(
        features,
        kernel,
        drawn.labels,
        bias=bias,
        scale=scale,
        angle=angle,
        cosine=cosine,
        beyond=beyond,
        straight_through=straight_through,
        filter_threshold=filter_threshold,
        sub_centers=sub_centers,
        delta=delta,
        logit_margin=logit_margin,
        class_mask=class_mask,
        kernel_layout=kernel_layout,
        implementation=implementation,
        **rows,
    )


def sample_features(
    key: jax.Array, *, num_features: int, num_sampled: int
) -> jax.Array:
    """Draws features for one step, the same for all rows and classes (Unicom).

    Args:
      key: of this step.
      num_features: D.
      num_sampled: how many are drawn.

    Returns:
      Their numbers in ascending order, int32 [num_sampled]; none comes twice.

    Raises:
      TypeError: a count is no integer.
      ValueError: more are to be drawn than there are.

    Examples:
      >>> import jax
      >>> from as_softmax_jax.heads import sample_features
      >>> key = jax.random.key(0)
      >>> print(sample_features(key, num_features=3, num_sampled=3))
      [0 1 2]

    References:
      An et al., `Unicom <https://arxiv.org/abs/2304.05884>`_, ICLR 2023.
    """
    num_features = checks.static_count(num_features, "num_features")
    num_sampled = checks.static_count(num_sampled, "num_sampled")
    if num_sampled > num_features:
        raise ValueError(
            f"`num_sampled` must be at most the {num_features} features there are; got "
            f"{num_sampled}."
        )
    drawn = jax.random.permutation(key, num_features)[:num_sampled]
    return jnp.sort(drawn).astype(jnp.int32)


def _for_those_left_out(
    drawn: SampledClasses,
    class_mask: jax.Array | None,
    num_classes: int,
    axis_name: str | None,
) -> jax.Array:
    """Returns how much the logit of each drawn class grows by, [num_sampled]."""
    size = drawn.classes.shape[0]
    first = 0 if axis_name is None else jax.lax.axis_index(axis_name) * size
    # A label of another device, or of none, is past the end and dropped.
    places = drawn.labels.reshape(-1) - first
    places = jnp.where(places < 0, size, places)
    is_label = jnp.zeros(size, bool).at[places].set(True, mode="drop")
    valid = jnp.ones(num_classes, bool) if class_mask is None else class_mask
    num_others = jnp.sum(valid) - jnp.sum(is_label)
    others = valid[drawn.classes] & ~is_label
    grows = jnp.log(num_others / jnp.maximum(jnp.sum(others), 1))
    return jnp.where(others, grows, 0.0)


def _some_features(key: jax.Array, width: int, number: int) -> jax.Array:
    """Returns the drawn features of a step; refuses more than there are."""
    number = checks.static_count(number, "num_features_sampled")
    if number > width:
        raise ValueError(
            f"`num_features_sampled` must be at most the {width} features there are; "
            f"got {number}."
        )
    return sample_features(key, num_features=width, num_sampled=number)
