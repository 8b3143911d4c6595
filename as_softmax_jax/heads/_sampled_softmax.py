"""Softmax of an output layer against classes drawn from a proposal, with its logs."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from as_softmax_jax._core import checks
from as_softmax_jax._core.log_odds import label_log_odds, softplus
from as_softmax_jax._core.nan import nan_where
from as_softmax_jax.heads import _operands


def sampled_softmax_loss(
    features: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    *,
    classes: ArrayLike,
    log_q: ArrayLike,
    label_log_q: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    kernel_layout: str = "dc",
) -> jax.Array:
    r"""Softmax cross-entropy against M classes that a proposal Q has drawn.

    With the label's log Q given, label and draws are both weighed by it,

    .. math::
      \ell = \log \Bigl( 1 + \sum_{i=1}^M
             e^{(o_i - \log Q_i) - (o_t - \log Q_t)} \Bigr),

    the self-normalised importance sampling of MIDX, in which draws of the label stay;
    its gradient comes to that of softmax as M grows, its value grows with log M.
    Without it this is the usual sampled softmax, in which the draws estimate the sum
    over the other classes, so that a draw of the label is left out,

    .. math::
      \ell = \log \Bigl( 1 + \sum_{i: k_i \ne t} e^{o_i - \log (M Q_i) - o_t} \Bigr) .

    which comes to softmax itself. Nothing flows to Q.

    Args:
      features: floating point [..., D].
      kernel: floating point [D, C], or [C, D].
      labels: integers [...] in [0, C). One outside makes its row's loss NaN.
      classes: integers [..., M], the draws of each row, with replacement; or [M], for
        all rows. Those of `sample_multi_index`, for example. One outside [0, C) is no
        draw.
      log_q: floating point, of the shape of `classes`: the log-probability of each.
      label_log_q: floating point [...], that of the label; None: the usual form.
      bias: floating point [C]; None: no bias.
      where: boolean, broadcasts to [...]: the rows that count.
      class_mask: boolean [C], the valid classes. A draw of another is left out.
      kernel_layout: ``"dc"`` or ``"cd"``, the order of the kernel's axes.

    Returns:
      The loss of each example, [...]; float32, or float64 for float64 operands.

    Raises:
      TypeError: an argument has a wrong dtype.
      ValueError: an argument has a wrong shape or value, or a name is unknown.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.heads import sampled_softmax_loss
      >>> x, w = jnp.eye(1, 2), jnp.array([[2.0, 0.0, 1.0, 0.0], [0.0, 4.0, 0.0, 0.0]])
      >>> classes, log_q = jnp.array([1, 2]), jnp.log(jnp.array([0.25, 0.25]))
      >>> jnp.set_printoptions(precision=4)
      >>> # log(1 + (exp(0) + exp(1)) / (2 * 0.25) / exp(2))
      >>> print(sampled_softmax_loss(
      ...     x, w, jnp.array([0]), classes=classes, log_q=log_q
      ... ))
      [0.6964]

    References:
      Chen et al., `Learning Multi-Index Sampling for Softmax
      <https://arxiv.org/abs/2501.08563>`_, 2025; Jean et al., `On Using Very Large
      Target Vocabulary <https://arxiv.org/abs/1412.2007>`_, ACL 2015, for the other.
    """
    given = None, np.inf
    x = _operands.read(features, kernel, labels, given, bias, where, kernel_layout)
    classes, log_q = _draws(classes, log_q, x)
    valid = (classes >= 0) & (classes < x.num_classes)
    classes = jnp.clip(classes, 0, x.num_classes - 1)
    label = jnp.clip(x.labels, 0, x.num_classes - 1)[..., None]
    if class_mask is not None:
        valid &= _operands.mask_for_all_rows(class_mask, x.num_classes)[classes]
    rivals = _logits_at(x, classes) - _for_each_row(log_q, x)
    own = _logits_at(x, label)
    valid = _for_each_row(valid, x)
    if label_log_q is None:
        valid = valid & (_for_each_row(classes, x) != label)
        rivals -= jnp.log(jnp.full((), classes.shape[-1], rivals.dtype))
    else:
        own -= _constant(label_log_q, x.labels.shape, x, "label_log_q")[..., None]
    rivals = jnp.where(valid, rivals, -jnp.inf)
    log_odds = label_log_odds(
        jnp.concatenate([own, rivals], axis=-1), jnp.zeros_like(x.labels)
    )
    loss = nan_where(jnp.isnan(x.margin.value), softplus(-log_odds))
    return loss if x.where is None else jnp.where(x.where, loss, 0)


def _draws(
    classes: ArrayLike, log_q: ArrayLike, x: _operands.Inputs
) -> tuple[jax.Array, jax.Array]:
    """Returns the draws, [..., M] or [M] for all rows, and their log-probabilities."""
    classes = jnp.asarray(classes)
    shape = x.labels.shape
    if not jnp.issubdtype(classes.dtype, jnp.integer):
        raise TypeError(f"`classes` must be integers; got dtype {classes.dtype}.")
    if classes.ndim == 0 or classes.shape[:-1] not in ((), shape) or not classes.size:
        raise ValueError(
            f"`classes` must have the shape {(*shape, 'M')}, or (M,) for all rows, M "
            f"at least 1; got {classes.shape}."
        )
    log_q = _constant(log_q, classes.shape, x, "log_q")
    return checks.integer_labels(classes, classes.shape, x.num_classes), log_q


def _for_each_row(draws: jax.Array, x: _operands.Inputs) -> jax.Array:
    """Returns what draws [..., M] have, or with axes for the rows what [M] have."""
    missing = x.labels.ndim + 1 - draws.ndim
    return jnp.expand_dims(draws, tuple(range(missing)))


def _constant(
    value: ArrayLike, shape: tuple[int, ...], x: _operands.Inputs, name: str
) -> jax.Array:
    """Returns log-probabilities without a gradient, 0 in rows that are left out."""
    array = checks.floating_array(value, name)
    if array.shape != shape:
        raise ValueError(f"`{name}` must have the shape {shape}; got {array.shape}.")
    array = jax.lax.stop_gradient(array.astype(x.like.dtype))
    if x.where is None or shape[: x.where.ndim] != x.where.shape:
        return array
    there = jnp.expand_dims(x.where, tuple(range(x.where.ndim, array.ndim)))
    return jnp.where(there, array, jnp.zeros((), array.dtype))


def _logits_at(x: _operands.Inputs, classes: jax.Array) -> jax.Array:
    """Returns the logits [..., M] of the draws [..., M], or [M] of all rows."""
    dtype = x.like.dtype
    if x.layout == "dc":
        columns, letters = x.kernel[:, classes], "...d,d{}m->...m"
    else:
        columns, letters = x.kernel[classes], "...d,{}md->...m"
    letters = letters.format("..." if classes.ndim > 1 else "")
    logits = jnp.einsum(letters, x.features, columns, preferred_element_type=dtype)
    if x.bias is None:
        return logits
    return logits + _for_each_row(x.bias[classes].astype(dtype), x)
