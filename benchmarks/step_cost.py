"""What a gradient step costs before it has seen an example, fine-tuning an encoder.

    AS_SOFTMAX_DATA=FOLDER python benchmarks/step_cost.py
      --config.model.pretrained=ENCODER [--rounds 30] [--dry-run]

Times the trainer's own step on batches of several sizes, all of one length; the fixed
cost is where the line of least squares through their medians meets no example. Beside
that, the optimizer alone, in the trainer's form and as optax's parts make it. All take
turns, and parameters and state are donated. The table goes into docs/training_speed.md.
"""

import argparse
import functools
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from report import DOCS, machine, write_section

from train.command.cli import with_huge_pages
from train.config import load
from train.data.pipeline import read_batch
from train.loop import initial_state
from train.recipe.mesh import put_batch
from train.recipe.optimizer import decay_mask
from train.recipe.recipe import make_recipe
from train.tasks import prepare
from train.training.steps import BatchInfo, train_step

ROOT = Path(__file__).parents[1]
PAGE = DOCS / "training_speed.md"
SIZES = (2, 4, 8, 16, 32)
OURS, OPTAX = "the optimizer alone", "the same of optax's parts"
_NUM_EXAMPLES = {"examples_seen": 0, "num_seen": 32, "num_rows": 32}


def trainer_steps(recipe, examples):
    """The training step on the longest examples, by batch size: state to state."""
    jitted = jax.jit(train_step, donate_argnums=1)
    info = BatchInfo(np.int32(1), np.bool_(False), np.bool_(False))

    def step(batch, state):
        return jitted(recipe, state, batch, info)

    def batch(size):
        # With the very longest in each, so that all are cut to one length.
        rows = examples.order[-size:]
        return put_batch(recipe.mesh, read_batch(examples, rows, batch_size=size))

    return {size: functools.partial(step, batch(size)) for size in SIZES}


def optimizer_steps(recipe):
    """The optimizer alone, (params, state) to (params, state), in both forms."""
    rate = recipe.optimizer.learning_rate
    parts = optax.chain(
        optax.clip_by_global_norm(recipe.optimizer.clip_norm),
        optax.adamw(rate, weight_decay=recipe.optimizer.weight_decay, mask=decay_mask),
    )
    transforms = {
        OURS: recipe.transformation,
        OPTAX: optax.with_extra_args_support(parts),
    }

    def update(transform, grads, params, state):
        updates, state = transform.update(grads, state, params, **_NUM_EXAMPLES)
        return optax.apply_updates(params, updates), state

    return {
        name: (
            transform.init,
            jax.jit(functools.partial(update, transform), donate_argnums=(1, 2)),
        )
        for name, transform in transforms.items()
    }


def measure(overrides, rounds):
    """Returns median milliseconds by batch size and by form of the optimizer."""
    config = load(
        ROOT / "configs" / "clinc150_minilm.py",
        ["--config.loss.name=softmax", *overrides],
    )
    data = prepare(config)
    recipe, examples = make_recipe(config, data), data.splits["train"]
    state = initial_state(recipe, seed=0)
    params = jax.tree.map(jnp.copy, state.params)
    grads = jax.tree.map(lambda p: jnp.full_like(p, 1e-3), params)
    alone = {
        name: [step, jax.tree.map(jnp.copy, params), init(params)]
        for name, (init, step) in optimizer_steps(recipe).items()
    }
    times = {name: [] for name in (*SIZES, *alone)}
    steps = trainer_steps(recipe, examples)
    for _ in range(rounds + 1):
        for size, step in steps.items():
            start = time.perf_counter()
            state = jax.block_until_ready(step(state))
            times[size].append(time.perf_counter() - start)
        for name, held in alone.items():
            step, *before = held
            start = time.perf_counter()
            held[1:] = jax.block_until_ready(step(grads, *before))
            times[name].append(time.perf_counter() - start)
    num_params = sum(p.size for p in jax.tree.leaves(params))
    # The first round compiles.
    return num_params, {n: 1e3 * statistics.median(t[1:]) for n, t in times.items()}


def section(num_params, times, rounds):
    """The table in Markdown."""
    slope, fixed = np.polyfit(SIZES, [times[size] for size in SIZES], 1)
    rows = [f"| a step on {size} examples | {times[size]:.0f} |" for size in SIZES]
    rows += [f"| of that fixed, whatever the batch holds | {fixed:.0f} |"]
    rows += [f"| and for each example | {slope:.1f} |"]
    rows += [f"| {name} | {times[name]:.0f} |" for name in (OURS, OPTAX)]
    return "\n".join(
        [
            "### A gradient step",
            "",
            f"{machine()}. MiniLM, {num_params / 1e6:.1f} M parameters, texts of 32 "
            f"tokens, clipping and AdamW, float32; medians over {rounds} rounds in "
            "turn. `python benchmarks/step_cost.py --config.model.pretrained=ENCODER`",
            "",
            "| | milliseconds |",
            "|---|---:|",
            *rows,
        ]
    )


def main():
    """Measures, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--dry-run", action="store_true")
    flags, overrides = parser.parse_known_args()
    text = section(*measure(overrides, flags.rounds), flags.rounds)
    print(text)
    if not flags.dry_run:
        write_section("step_cost", text, PAGE)


if __name__ == "__main__":
    with_huge_pages()
    main()
