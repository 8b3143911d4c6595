"""Every function of logits under JAX's modes: exports, debugging, maps and meshes.

A new row of `LOSSES` is held to this with its companions, without a line here. All rows
take minutes: they are long tests, or those of each night; one row is quick.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from battery import (
    CLASSES,
    ROWS,
    TABLE,
    assert_close,
    cotangents,
    depends_on_shape,
    draw,
    extras_of,
    id_of,
    is_quick,
    picked,
    rows_of,
)
from jax import export
from jax.experimental import checkify
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from as_softmax_jax.losses import as_softmax_kept, count_active

KINDS = ("loss", "gradient", "settled", "probs", "kept")
QUICK = "as_softmax-logit_margin"


def function_of(row, kind):
    """f(logits, target, where, class_mask) of a loss and its companions, or None."""
    found = row.settled if kind == "settled" else row.probs
    if kind in ("loss", "gradient"):
        found = row.function
    elif kind == "kept":
        found = as_softmax_kept if row.name == "as_softmax" else None
    if found is None:
        return None
    takes_target = kind != "probs" or row.name == "as_softmax"
    extras = extras_of(row)

    def f(logits, target, where, class_mask):
        arrays = (logits, target) if takes_target else (logits,)
        masks = {"where": where, "class_mask": class_mask}
        own = extras_for(row, extras, logits.shape[0])
        return found(*arrays, **row.loss_keywords, **masks, **own)

    if kind != "gradient":
        return f
    return jax.grad(lambda o, *rest: jnp.sum(f(o, *rest) * cotangents(o)[0]))


def extras_for(row, extras, size):
    """Extra inputs for any number of rows, which all have those of the first."""

    def wide(array):
        return jnp.broadcast_to(array[:1], (size, *array.shape[1:]))

    return rows_of(row, extras, wide)


def marks(row):
    """Which tests a row belongs to, besides all."""
    if id_of(row) == QUICK:
        return ()
    return (pytest.mark.long, *[pytest.mark.every] * (not is_quick(row)))


every_function = pytest.mark.parametrize(
    "function",
    [
        pytest.param((row, kind), id=f"{id_of(row)}-{kind}", marks=marks(row))
        for row in TABLE
        for kind in KINDS
        if function_of(row, kind)
    ],
)


def inputs_of(row, padded=False):
    """Logits, target, where and class mask; with padding, rows 0 to 2 are left out."""
    logits, target = draw(row)
    where = jnp.ones(ROWS, bool)
    if padded:
        where = ~picked(0, 1, 2)
        target = target.at[0].set(-100).at[1].set(77)
    return logits, target, where, jnp.arange(CLASSES)[None] != 3


@every_function
def test_exports_with_a_symbolic_batch(function):
    row, kind = function
    f, args = jax.jit(function_of(row, kind)), inputs_of(row)
    (batch,) = export.symbolic_shape("b")
    shapes = [
        jax.ShapeDtypeStruct((batch if len(a) == ROWS else 1, *a.shape[1:]), a.dtype)
        for a in args
    ]
    exported = export.export(f)(*shapes)
    some = [a[:3] if len(a) == ROWS else a for a in args]
    for arrays in (args, some):
        expected = f(*arrays)
        np.testing.assert_allclose(exported.call(*arrays), expected, 1e-6, 1e-6)


def test_counts_export_with_a_symbolic_batch():
    (batch,) = export.symbolic_shape("b")
    shape = jax.ShapeDtypeStruct((batch,), bool)
    exported = export.export(jax.jit(count_active))(shape, shape)
    num_valid, num_active = exported.call(~picked(1, 2), ~picked(0))
    assert (num_valid, num_active) == (7, 2)


@every_function
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("mode", ["checkify", "jitted", "eager", "no jit"])
def test_debugging_modes_find_no_nan(function, mode, padded):
    row, kind = function
    f, args = function_of(row, kind), inputs_of(row, padded)
    if mode == "checkify":
        error, _ = jax.jit(checkify.checkify(f, errors=checkify.nan_checks))(*args)
        assert error.get() is None
        return
    with jax.debug_nans(True):
        if mode == "no jit":
            with jax.disable_jit():
                f(*args)
        else:
            (f if mode == "eager" else jax.jit(f))(*args)


@pytest.mark.parametrize(
    "row",
    [pytest.param(row, id=id_of(row), marks=marks(row)) for row in TABLE],
)
def test_debugging_modes_find_the_nan_of_a_bad_row(row):
    logits, target, where, mask = inputs_of(row)
    target = target.at[0].set(-100)
    f = function_of(row, "loss")
    with jax.debug_nans(True), pytest.raises(FloatingPointError):
        f(logits, target, where, mask)
    error, _ = checkify.checkify(f, errors=checkify.nan_checks)(
        logits, target, where, mask
    )
    assert "nan generated" in error.get()


ROW_SPECS = (P("data"), P("data"), P("data"), P())


SHARED = ("logits", "target and where", "all but a keyword")


def spreads(value):
    """Whether a keyword's value may be a little more in some rows."""
    return isinstance(value, float) and np.isfinite(value)


def may_spread(row, shared):
    """Whether something is left that devices do not share."""
    floats = [v for v in row.loss_keywords.values() if spreads(v)]
    return bool(floats) or shared != "all but a keyword"


@pytest.mark.parametrize(
    ("row", "shared"),
    [
        pytest.param(row, shared, id=f"{id_of(row)}-{shared}", marks=marks(row))
        for row in TABLE
        for shared in SHARED
        # What a batch decides, or draws, is not of a device's own part of it.
        if row.row_local and not depends_on_shape(row) and may_spread(row, shared)
    ],
)
@pytest.mark.parametrize("check_vma", [True, False])
def test_what_devices_share_gets_the_sum_of_their_gradients(row, shared, check_vma):
    logits, target, where, mask = inputs_of(row)
    keywords = {
        k: jnp.linspace(v, 1.2 * v, ROWS) if spreads(v) else v
        for k, v in row.loss_keywords.items()
    }
    extras = extras_of(row)
    names = [k for k, v in keywords.items() if isinstance(v, jax.Array)]
    values = tuple(keywords[name] for name in names)
    if shared == "logits":
        logits, spread = logits[:1], (False, True, True)
    elif shared == "target and where":
        target, where, spread = target[:1], where[:1], (True, False, False)
    else:
        logits, target, where = logits[:1], target[:1], where[:1]
        spread = (False, False, False)

    def losses(logits, target, where, *values):
        size = values[0].shape[0] if values else max(len(logits), len(target))

        def wide(array):
            return jnp.broadcast_to(array, (size, *array.shape[1:]))

        own = keywords | dict(zip(names, values, strict=True))
        own |= extras_for(row, extras, size)
        arrays = wide(logits), wide(target)
        return row.function(*arrays, where=wide(where), class_mask=mask, **own)

    specs = [P("data") if part else P() for part in spread] + [P("data")] * len(values)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    spread_losses = jax.shard_map(
        losses,
        mesh=mesh,
        in_specs=tuple(specs),
        out_specs=P("data"),
        check_vma=check_vma,
    )

    def gradient(f):
        def total(o):
            return jnp.vdot(f(o, target, where, *values), weights)

        return jax.jit(jax.value_and_grad(total))(logits)

    weights = jnp.linspace(0.5, 2, ROWS)
    assert_close(gradient(spread_losses), gradient(losses), 2e-6, 1e-5)


@every_function
def test_a_mesh_with_explicit_axes(function):
    row, kind = function
    f, args = jax.jit(function_of(row, kind)), inputs_of(row, padded=True)
    expected = f(*args)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        spread = [
            jax.device_put(a, NamedSharding(mesh, spec))
            for a, spec in zip(args, ROW_SPECS, strict=True)
        ]
        np.testing.assert_allclose(f(*spread), expected, 2e-6, 2e-6)
