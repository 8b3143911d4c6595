r"""An output layer and AS-Softmax in one: no array of logits (cf. arXiv 2411.09009).

The gradient of the loss :math:`\ell_n` of a row with features x, kernel W and bias b
follows from that with respect to its logits (see `losses/_as_softmax.py`),

.. math::
  G_{ni} = \tilde p_{ni} - [\, i = t_n \,], \qquad
  \frac{\partial \ell}{\partial x} = G W^\top, \quad
  \frac{\partial \ell}{\partial W} = x^\top G, \quad
  \frac{\partial \ell}{\partial b_i} = \sum_n G_{ni},

and G has a row of zeros for each settled example. So the backward pass computes logits
again for active rows alone, block by block; `_passes` has the passes.
"""

import dataclasses
import functools
import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from as_softmax_jax import kernels
from as_softmax_jax._core import checks
from as_softmax_jax._core.dtypes import compute_dtype
from as_softmax_jax._core.margin import Margin
from as_softmax_jax._core.margin import read as read_margin
from as_softmax_jax._core.mesh import as_varying, is_tracked, varying_axes
from as_softmax_jax._core.nan import nan_where
from as_softmax_jax.heads import _dense, _passes
from as_softmax_jax.heads._blocks import ROW_SIZES, Layer
from as_softmax_jax.kernels import Implementation
from as_softmax_jax.losses._as_softmax import as_softmax_loss

IMPLEMENTATIONS = ("xla", *_passes.KERNELS, "reference")
LAYOUTS = ("dc", "cd")


def linear_as_softmax_loss(
    features: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    *,
    delta: ArrayLike | None = None,
    logit_margin: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    kernel_layout: str = "dc",
    axis_name: str | None = None,
    implementation: Implementation | None = None,
) -> jax.Array:
    r"""AS-Softmax of an output layer, without an array of its logits.

    .. math::
      \ell = \mathrm{as\_softmax\_loss}(x W + b, t), \qquad
      x \in \mathbb{R}^{\dots \times D}, \ W \in \mathbb{R}^{D \times C}

    The logits are made block by block and forgotten. One pass over all of them tells
    settled rows from active ones; the backward pass makes those of active rows again,
    and of a row that keeps few classes only the blocks where these lie. Memory is that
    of the gradients and a few megabytes. With ``logit_margin=inf`` or ``delta=1`` this
    is softmax cross-entropy of a layer with many classes.

    With a margin in logits that pass is all: the label's logit comes first, and what is
    kept is known as it is made. With the paper's margin, rows that keep few classes
    are looked at once more.

    Products of bfloat16 or float16 are summed in float32, and the mask is decided on
    these sums, not on logits rounded to the operands' dtype.

    Rows are picked by their values, so an array of features that is spread over a mesh
    under `jax.jit` would be gathered on every device. Call this inside
    `jax.shard_map`, each device on its own rows; there the gradient of a kernel that
    all devices share is their sum.

    Args:
      features: floating point [..., D].
      kernel: floating point [D, C], or [C, D] as an embedding has it. Where the dtype
        is not that of `features`, both are cast to the wider one.
      labels: integers [...] in [0, C). One outside makes its row's loss NaN, and so
        every gradient that the row has part in.
      delta: the margin, a difference of probabilities in [0, 1]; or else
      logit_margin: the margin, a difference of logits in [0, inf]; exactly one of the
        two is given, see `as_softmax_loss`.
      bias: floating point [C]; None: no bias.
      where: boolean, broadcasts to [...]: the rows that count. What is left out may
        hold NaN and costs nothing.
      class_mask: boolean, broadcasts to [..., C]: the valid classes. One mask for all
        rows, [C], is the cheap form.
      kernel_layout: ``"dc"`` or ``"cd"``, the order of the kernel's axes.
      axis_name: inside `jax.shard_map`, the mesh axis over which the classes are
        split: kernel, bias and class mask are this device's part, all of one size,
        and labels count over all of them. Pad what does not divide, and mask the
        padding by `class_mask`. A few numbers a row cross the wire, never a logit.
        The gradient needs ``check_vma=True``, the default, and is refused without.
        None: this device has all classes.
      implementation: None or ``"xla"`` for the blocked form; ``"mosaic_tpu"`` or
        ``"mosaic_gpu"`` for the same with its first pass in a kernel, without a class
        mask of each row's own (on a Hopper GPU: of bfloat16 or float16, up to 768
        features); ``"reference"`` for the layer and the loss one after the other, by
        automatic differentiation, which serves forward mode. Second derivatives of the
        blocked form are right, and hold the logits of all rows.

    Returns:
      The loss of each example, [...]; float32, or float64 for float64 operands.
      Gradients come back in the dtypes of `features`, `kernel` and `bias`.

    Raises:
      TypeError: an argument has a wrong dtype.
      ValueError: an argument has a wrong shape or value, or a name is unknown.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> from as_softmax_jax import as_softmax_loss, linear_as_softmax_loss
      >>> x, w = jnp.eye(3, 2), jnp.array([[2.0, 0.0, 1.9], [0.0, 4.0, 0.0]])
      >>> labels = jnp.array([0, 1, 2])
      >>> jnp.set_printoptions(precision=4)
      >>> print(linear_as_softmax_loss(x, w, labels, logit_margin=1.0))
      [0.6444 0.     1.0986]
      >>> print(as_softmax_loss(x @ w, labels, logit_margin=1.0))
      [0.6444 0.     1.0986]

    References:
      Wijmans et al., `Cut Your Losses in Large-Vocabulary Language Models
      <https://arxiv.org/abs/2411.09009>`_, ICLR 2025, for softmax without logits.
    """
    op = "linear_as_softmax_loss"
    implementation = kernels.choose(implementation, IMPLEMENTATIONS, op)
    if implementation != "reference":
        return row_statistics(
            features,
            kernel,
            labels,
            delta=delta,
            logit_margin=logit_margin,
            bias=bias,
            where=where,
            class_mask=class_mask,
            kernel_layout=kernel_layout,
            axis_name=axis_name,
            implementation=implementation,
        ).loss
    if axis_name is not None:
        raise ValueError(
            "`axis_name` and `implementation` 'reference' do not go together: it has "
            "the logits of all classes. Leave one of them out."
        )
    given = delta, logit_margin
    x = _read(features, kernel, labels, given, bias, where, kernel_layout)
    return as_softmax_loss(
        _dense_logits(x.features, x.kernel, x.bias, kernel_layout),
        labels,
        delta=delta,
        logit_margin=logit_margin,
        where=where,
        class_mask=class_mask,
        implementation="reference",
    )


class RowStatistics(NamedTuple):
    """What one pass says of each row [...]; only the loss has a gradient."""

    loss: jax.Array  # as of `linear_as_softmax_loss`
    settled: jax.Array  # bool, as of `as_softmax_settled`
    # The label's logit less the strongest other one, in a row that counts.
    label_lead: jax.Array


def row_statistics(
    features: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    *,
    delta: ArrayLike | None = None,
    logit_margin: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    kernel_layout: str = "dc",
    axis_name: str | None = None,
    implementation: Literal["xla", "mosaic_tpu", "mosaic_gpu"] = "xla",
) -> RowStatistics:
    """Returns the loss of each row, and what its pass over the logits tells of it.

    For training loops that count settled and rightly predicted examples. Arguments and
    errors are those of `linear_as_softmax_loss`.
    """
    given = delta, logit_margin
    x = _read(features, kernel, labels, given, bias, where, kernel_layout, axis_name)
    num_classes = x.kernel.shape[kernel_layout.index("c")]
    bias = None if x.bias is None else x.bias.astype(x.margin.value.dtype)
    mask = _class_mask(class_mask, (*x.labels.shape, num_classes))
    layer = Layer(x.kernel, bias, mask)
    if implementation in _passes.KERNELS:
        _check_kernel(implementation, x.features, mask)
    program = _passes.Program(kernel_layout, num_classes, axis_name, implementation)
    with kernels.backward_only():
        return _blocked(program, x.features, layer, x.labels, x.margin, x.where)


def _check_kernel(name: str, features: jax.Array, mask: jax.Array | None) -> None:
    """Refuses what a kernel does not serve."""
    kernels.require_device(name)
    dtype, width = features.dtype, features.shape[-1]
    served, what = dtype != jnp.float64, "no float64"
    if name == "mosaic_gpu":
        most = _passes.KERNELS[name].MAX_WIDTH
        served = dtype.itemsize == 2 and width <= most
        what = f"bfloat16 or float16, and up to {most} features"
    if not served:
        raise ValueError(
            f"`implementation` {name!r} takes {what}; got {width} features in {dtype}. "
            "Leave `implementation` out."
        )
    if mask is not None and mask.shape[0] > 1:
        raise ValueError(
            f"`implementation` {name!r} takes one class mask [C] for all rows. Leave "
            "`implementation` out."
        )


class _Inputs(NamedTuple):
    """Checked and clean arguments, before rows are laid out."""

    features: jax.Array  # [..., D]; 0 in rows that are left out
    kernel: jax.Array  # in the features' dtype
    labels: jax.Array  # [...] int32, from this device's first class on
    margin: Margin  # [...], NaN where it or the label is out of range
    bias: jax.Array | None  # [C]
    where: jax.Array | None  # [...] bool


def _read(
    features: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    given: tuple[ArrayLike | None, ArrayLike | None],
    bias: ArrayLike | None,
    where: ArrayLike | None,
    layout: str,
    axis_name: str | None = None,
) -> _Inputs:
    """Checks the arguments; `given` are delta and the margin in logits."""
    checks.one_of(layout, LAYOUTS, "kernel_layout")
    features, kernel, bias = _operands(features, kernel, bias, layout)
    shape, num_classes = features.shape[:-1], kernel.shape[layout.index("c")]
    first: jax.Array | int = 0
    of_all = num_classes
    if axis_name is not None:
        first = jax.lax.axis_index(axis_name) * num_classes
        of_all = jax.lax.axis_size(axis_name) * num_classes
    labels = checks.integer_labels(labels, shape, of_all)
    where = checks.boolean_mask(where, shape, "loss", "where")
    named = {"features": features, "kernel": kernel, "labels": labels, "bias": bias}
    for name, array in (named | {"where": where}).items():
        checks.not_spread(array, name)
    like = checks.LossType(shape, compute_dtype(features.dtype), where)
    margin = read_margin(*given, like, "linear_as_softmax_loss")
    bad = (labels < 0) | (labels >= of_all)
    value = nan_where(bad if where is None else bad & where, margin.value)
    margin = dataclasses.replace(margin, value=value)
    if where is not None:
        # A row that is left out may hold NaN, which a factor of 0 would not stop.
        features = jnp.where(where[..., None], features, jnp.zeros((), features.dtype))
    return _Inputs(features, kernel, labels - first, margin, bias, where)


def _operands(
    features: ArrayLike, kernel: ArrayLike, bias: ArrayLike | None, layout: str
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """Returns features and kernel in one dtype, and the bias; refuses what misfits."""
    features = checks.floating_array(features, "features")
    kernel = checks.floating_array(kernel, "kernel")
    if features.ndim == 0:
        raise ValueError("`features` must have an axis of features; got a scalar.")
    width = features.shape[-1]
    if kernel.ndim != 2 or kernel.shape[layout.index("d")] != width:
        wanted = f"({width}, C)" if layout == "dc" else f"(C, {width})"
        raise ValueError(
            f"`kernel` must have the shape {wanted} for features of {width}; got "
            f"{kernel.shape}. A kernel of the other layout goes with "
            f'`kernel_layout="{layout[::-1]}"`.'
        )
    num_classes = kernel.shape[layout.index("c")]
    checks.at_least_one_class(num_classes)
    if bias is not None:
        bias = checks.floating_array(bias, "bias")
        if bias.shape != (num_classes,):
            raise ValueError(
                f"`bias` must have the shape ({num_classes},), a number a class; got "
                f"{bias.shape}."
            )
    dtype = features.dtype
    if dtype != kernel.dtype:
        double = jnp.float64 in (features.dtype, kernel.dtype)
        dtype = jnp.dtype(jnp.float64 if double else jnp.float32)
    return features.astype(dtype), kernel.astype(dtype), bias


def _dense_logits(
    features: jax.Array, kernel: jax.Array, bias: jax.Array | None, layout: str
) -> jax.Array:
    """Returns the logits of all classes, products summed in the compute dtype."""
    dtype = compute_dtype(features.dtype)
    axes = (((features.ndim - 1,), (layout.index("d"),)), ((), ()))
    logits = jax.lax.dot_general(features, kernel, axes, preferred_element_type=dtype)
    if bias is None:
        return logits
    return logits + bias.astype(dtype).reshape((1,) * (logits.ndim - 1) + (-1,))


def _class_mask(mask: ArrayLike | None, shape: tuple[int, ...]) -> jax.Array | None:
    """Returns the mask as [1, C] where it is the same for all rows, else as [N, C]."""
    if mask is None:
        return None
    array = checks.boolean_array(mask, "class_mask")
    # Refuses a wrong shape, without an array of the logits' size.
    jax.eval_shape(lambda: checks.boolean_mask(array, shape, "logits", "class_mask"))
    if math.prod(array.shape[:-1]) == 1:
        return jnp.broadcast_to(array.reshape(1, -1), (1, shape[-1]))
    return jnp.broadcast_to(array, shape).reshape(-1, shape[-1])


@functools.partial(jax.jit, static_argnames="program")
def _blocked(
    program: _passes.Program,
    features: jax.Array,
    layer: Layer,
    labels: jax.Array,
    margin: Margin,
    where: jax.Array | None,
) -> RowStatistics:
    """Lays rows out for the passes: on one axis, those that count first, padded."""
    shape, num_rows = labels.shape, labels.size
    if not num_rows:
        none = jnp.zeros(shape, margin.value.dtype)
        return RowStatistics(none, none == 0, none)
    features = features.reshape(num_rows, features.shape[-1])
    labels, margin = jax.tree.map(lambda rows: rows.reshape(-1), (labels, margin))
    order, num_valid = None, jnp.asarray(num_rows, jnp.int32)
    if where is not None:
        where = where.reshape(-1)
        order = jnp.argsort(~where, stable=True)
        num_valid = jnp.sum(where, dtype=jnp.int32)
    # Of a symbolic number of rows each chunk must be known to fit.
    known = isinstance(num_rows, int)
    chunk = ROW_SIZES[-1 if known else 0]
    spare = (num_rows + chunk - 1) // chunk * chunk - num_rows

    def lay_out(rows: jax.Array) -> jax.Array:
        rows = rows if order is None else rows[order]
        return jnp.pad(rows, [(0, spare)] + [(0, 0)] * (rows.ndim - 1))

    mask = layer.class_mask
    if mask is not None and mask.shape[0] > 1:
        layer = layer._replace(class_mask=lay_out(mask))
    # Each device differentiates its own rows and classes; what devices share is summed
    # up outside the gradient rule. What is the same along `axis_name` stays so.
    rows = *jax.tree.map(lay_out, (labels, margin)), num_valid
    operands = lay_out(features), layer
    axes = varying_axes((operands, rows))
    own = () if program.axis_name is None else (program.axis_name,)
    along = tuple(axis for axis in axes if axis not in own)
    operands = jax.tree.map(lambda leaf: as_varying(leaf, (*along, *own)), operands)
    rows = jax.tree.map(lambda leaf: as_varying(leaf, along), rows)
    static = _Static(program, num_rows if where is None and known else None)
    statistics = _cross_entropy(static, *operands, *rows)
    back = slice(num_rows) if order is None else jnp.argsort(order)
    return jax.tree.map(lambda rows: rows[back].reshape(shape), statistics)


class _Static(NamedTuple):
    """What shapes the program, and how many rows count where that is known."""

    program: _passes.Program
    num_valid: int | None


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _cross_entropy(
    static: _Static,
    features: jax.Array,
    layer: Layer,
    labels: jax.Array,
    margin: Margin,
    num_valid: jax.Array,
) -> RowStatistics:
    """The loss of each row, with the gradient rule below."""
    return _pass(static, features, layer, labels, margin, num_valid)[0]


def _pass(
    static: _Static,
    features: jax.Array,
    layer: Layer,
    labels: jax.Array,
    margin: Margin,
    num_valid: jax.Array,
) -> tuple[RowStatistics, tuple[Any, ...]]:
    """Returns the loss, and what the gradient needs: a few numbers a row."""
    rows = _rows(static, features, labels, margin, num_valid)
    found = _statistics(static.program, *jax.lax.stop_gradient((layer, rows)))
    saved = features, layer, labels, margin, num_valid, found
    loss = _dense.losses(static.program, layer, rows, found)
    return RowStatistics(loss, found.gap == jnp.inf, found.label_lead), saved


def _statistics(
    program: _passes.Program, layer: Layer, rows: _passes.Rows
) -> _passes.Statistics:
    found = _passes.classify_rows(program, layer, rows)
    return _passes.kept_sum(program, layer, rows, found)


def _forward(
    static: _Static,
    features: jax.Array,
    layer: Layer,
    labels: jax.Array,
    margin: Margin,
    num_valid: jax.Array,
) -> tuple[RowStatistics, tuple[Any, ...]]:
    """What `_pass` returns, where its gradient is asked for."""
    axis_name = static.program.axis_name
    if axis_name is not None and not is_tracked(axis_name):
        raise ValueError(
            f"`axis_name` {axis_name!r} has no gradient where JAX does not track what "
            "varies over devices, for it could be too small by their number; got "
            "`jax.shard_map` with `check_vma=False`, `jax.pmap` or `jax.vmap`. Use "
            "`jax.shard_map` with `check_vma=True`, its default."
        )
    return _pass(static, features, layer, labels, margin, num_valid)


def _backward(
    static: _Static, saved: tuple[Any, ...], cotangents: RowStatistics
) -> tuple[jax.Array, Layer, None, None, None]:
    """Returns the gradients of features and layer."""
    features, layer, labels, margin, num_valid, statistics = saved
    rows = _rows(static, features, labels, margin, num_valid)
    found = _dense.gradients(static.program, layer, rows, statistics, cotangents.loss)
    d_features = found.features.astype(features.dtype)
    return d_features, Layer(found.kernel, found.bias, None), None, None, None


_cross_entropy.defvjp(_forward, _backward)


def _rows(
    static: _Static,
    features: jax.Array,
    labels: jax.Array,
    margin: Margin,
    num_valid: jax.Array,
) -> _passes.Rows:
    count = num_valid if static.num_valid is None else static.num_valid
    return _passes.Rows(features, labels, margin, count)
