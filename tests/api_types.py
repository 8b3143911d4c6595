"""What a type checker says of the public API: mypy reads this file, nothing runs it."""

from typing import assert_type

import jax

from as_softmax_jax import as_softmax_loss, compact_value_and_grad, losses
from as_softmax_jax.transforms import LossSums

Params = dict[str, jax.Array]


def per_example_loss(params: Params, batch: Params) -> jax.Array:
    return as_softmax_loss(batch["x"] @ params["w"], batch["y"], logit_margin=2.0)


def losses_return_arrays(logits: jax.Array, labels: jax.Array) -> None:
    assert_type(as_softmax_loss(logits, labels, delta=0.1), jax.Array)
    assert_type(losses.softmax_loss(logits, labels, axis=(0, 1)), jax.Array)
    assert_type(losses.LOSSES["focal"].function(logits, labels, gamma=2.0), jax.Array)


def implementations_are_known_by_name(logits: jax.Array, labels: jax.Array) -> None:
    as_softmax_loss(logits, labels, delta=0.1, implementation="mosaic_gpu")
    as_softmax_loss(logits, labels, delta=0.1, implementation="cuda")  # type: ignore[arg-type]


def compaction_returns_sums_and_a_gradient(params: Params, batch: Params) -> None:
    f = compact_value_and_grad(per_example_loss, capacities=(8,))
    sums, grads = f(params, batch, where=batch["y"] >= 0)
    assert_type(sums, LossSums)
    assert_type(grads, Params)
    g = compact_value_and_grad(
        lambda params, batch: (per_example_loss(params, batch), batch),
        capacities=(8,),
        has_aux=True,
    )
    (sums, _), grads = g(params, batch)
    assert_type(sums, LossSums)
    assert_type(grads, Params)
