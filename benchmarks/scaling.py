"""What a training step sends and holds on a mesh: computed, and read off the program.

    python benchmarks/scaling.py              # its tables into docs/scaling.md
    python benchmarks/scaling.py --dry-run    # prints them

The step is the trainer's own, of a perceptron with a blocked output layer, compiled for
eight forced CPU devices. Only the ten million classes at the end are run.
"""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

import argparse
import math
import re
import resource
import time
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from report import machine

from as_softmax_jax import active_count_window, adaptive_multi_steps
from as_softmax_jax.transforms import window_specs
from train.comparison.sections import write_section
from train.config import (
    Config,
    MeshConfig,
    ModelConfig,
    OptimizerConfig,
    TrainingConfig,
)
from train.data.examples import Examples, InputSpec, TaskData
from train.recipe.mesh import put_batch
from train.recipe.recipe import make_recipe
from train.training.state import create_state
from train.training.steps import BatchInfo, train_step

PAGE = Path(__file__).parents[1] / "docs" / "scaling.md"
INPUTS, WIDTH = 64, 256
MOMENT = BatchInfo(np.int32(1), np.bool_(True), np.bool_(False))
MOVED = r"all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"
MILLION = 1_000_000

_create = jax.jit(create_state, static_argnames="num_rows")
_step = jax.jit(train_step, donate_argnums=1)


class Setting(NamedTuple):
    """One shape of the step."""

    data: int
    model: int
    rows: int = 1024
    classes: int = 100_000
    share: float = 1.0  # of the classes that a step trains


class Cost(NamedTuple):
    """Bytes of one device: sent in a step, kept between steps, and used in one."""

    sent: float
    kept: float
    used: float = 0.0


def make(setting, *, width=WIDTH, depth=1, optimizer="adamw", rate=1e-3):
    """The recipe of a setting, and data of its shapes."""
    config = Config(
        task="features",
        model=ModelConfig(
            width=width, depth=depth, head="blocked", class_share=setting.share
        ),
        optimizer=OptimizerConfig(name=optimizer, warmup=0.0, learning_rate=rate),
        training=TrainingConfig(batch_size=setting.rows),
        mesh=MeshConfig(data=setting.data, model=setting.model),
    )
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((setting.rows, INPUTS if depth else width), np.float32)
    labels = rng.integers(0, setting.classes, setting.rows, np.int32)
    spec = InputSpec(inputs.shape[1:], setting.classes)
    data = TaskData({"train": Examples(inputs, labels)}, (), spec, {})
    return make_recipe(config, data), data


def compiled(recipe, data):
    """The training step of a recipe, compiled without making its arrays."""
    seed, train = np.uint32(0), data.splits["train"]
    places = _create.lower(recipe, seed).compile().output_shardings
    shapes = jax.eval_shape(lambda s: create_state(recipe, s), seed)

    def placed(leaf, place):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)

    rows = NamedSharding(recipe.mesh, P("data"))
    batch = jax.tree.map(lambda leaf: placed(leaf, rows), batch_of(train))
    return _step.lower(
        recipe, jax.tree.map(placed, shapes, places), batch, MOMENT
    ).compile()


def batch_of(examples):
    """All examples as one batch."""
    where = np.ones(len(examples), bool)
    return {"inputs": examples.inputs, "labels": examples.labels, "where": where}


def sent_bytes(text):
    """The bytes that a device sends in a program's collectives, as rings do them."""
    total = 0.0
    for line in text.splitlines():
        found = re.search(rf"= (.*?) ({MOVED})(?:-start)?\(", line)
        if found:
            size, count = result_bytes(found[1]), group_size(line)
            rounds = 2 if found[2] == "all-reduce" else 1
            total += rounds * (count - 1) / count * size
    return total


def result_bytes(text):
    """The bytes of a result, from its types: (f32[8,4]{1,0}, s32[])."""
    widths = {"f32": 4, "s32": 4, "u32": 4, "bf16": 2, "pred": 1}
    return sum(
        widths[kind] * math.prod(int(n) for n in shape.split(",") if n)
        for kind, shape in re.findall(r"(f32|s32|u32|bf16|pred)\[([\d,]*)\]", text)
    )


def group_size(line):
    """How many devices a collective is between; XLA has three ways to write it."""
    listed = re.search(r"replica_groups=\{\{([\d,]+)\}", line)
    if listed:
        return len(listed[1].split(","))
    counted = re.search(r"replica_groups=\[\d+,(\d+)\]", line)
    if counted:
        return int(counted[1])
    axes = dict(re.findall(r"'(axis_\d)'=(\d+)", line))
    between = re.search(r"\{((?:'axis_\d',? ?)+)\}", line)
    return math.prod(int(axes[name]) for name in re.findall(r"axis_\d", between[1]))


def measured(setting):
    """What the compiled program of a setting sends, keeps and uses."""
    program = compiled(*make(setting))
    memory = program.memory_analysis()
    kept = memory.argument_size_in_bytes
    return Cost(sent_bytes(program.as_text()), kept, memory.temp_size_in_bytes)


def computed(setting):
    """The same from the shapes; docs/scaling.md has the sums in words."""
    data, model, rows, classes, share = setting
    here = rows / data

    def ring(devices, size):
        return 2 * (devices - 1) / devices * size

    # The hidden layer and the output layer, each split over `model`; 4 bytes a number.
    hidden = 4 * (INPUTS * WIDTH / model + WIDTH)
    output = 4 * (WIDTH + 1) * classes / model
    gradients = ring(data, hidden + share * output)
    # Hidden activations are gathered and their gradient summed up; four numbers a row.
    rows_sent = 1.5 * ring(model, 4 * here * WIDTH) + ring(model, 4 * 4 * here)
    batch = here * (4 * INPUTS + 4 + 1)
    # The parameters and Adam's two moments.
    return Cost(gradients + rows_sent, 3 * (hidden + output) + batch)


def growth(settings):
    """The table of some settings."""
    lines = [
        "| data x model | rows | classes | sent a step: computed | compiled "
        "| kept on a device: computed | compiled | used beside in a step |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for setting in settings:
        sums, found = computed(setting), measured(setting)
        share = "" if setting.share == 1.0 else f", {setting.share:.0%} a step"
        lines.append(
            f"| {setting.data} x {setting.model} | {setting.rows:,} "
            f"| {setting.classes:,}{share} | {mega(sums.sent)} | {mega(found.sent)} "
            f"| {mega(sums.kept)} | {mega(found.kept)} | {mega(found.used)} |"
        )
        print(lines[-1], flush=True)
    return "\n".join(lines)


def mega(size):
    """A number of bytes in MB."""
    return f"{size / 1e6:.3g} MB"


def window_sentence(length=8, size=MILLION):
    """What `adaptive_multi_steps(axis_name=...)` sends, in a sentence."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    transform = {
        name: adaptive_multi_steps(
            optax.sgd(0.1), active_count_window(64), max_mini_steps=8, axis_name=name
        )
        for name in (None, "data")
    }
    params = jnp.zeros(size)
    state = jax.eval_shape(transform[None].init, params)
    specs = window_specs(state, "data")
    init = jax.shard_map(
        transform["data"].init, mesh=mesh, in_specs=P(), out_specs=specs
    )

    def step(params, state, gradient, count):
        updates, state = transform["data"].update(
            gradient[0], state, params, num_valid=count[0], num_active=count[0]
        )
        return optax.apply_updates(params, updates), state

    spread = jax.shard_map(
        step,
        mesh=mesh,
        in_specs=(P(), specs, P("data"), P("data")),
        out_specs=(P(), specs),
    )
    counts = jnp.ones(8, jnp.int32)
    arguments = params, jax.eval_shape(init, params), jnp.zeros((8, size)), counts
    text = jax.jit(spread).lower(*arguments).compile().as_text()
    parts = re.split(r"\n(?=(?:ENTRY )?%)", text)
    always = sum(sent_bytes(part) for part in parts if part.startswith("ENTRY"))
    closing = sum(map(sent_bytes, parts)) - always
    return (
        f"With {size:,} parameters on 8 devices the compiled program sends "
        f"{always:.0f} bytes of counts in a mini-step, and {mega(closing)} of "
        f"gradients in the branch that closes a window: "
        f"{mega(closing + length * always)} in a window of {length} mini-steps, in "
        f"place of {mega(length * closing)}."
    )


def run(setting, steps, **options):
    """Trains some steps; returns the losses, the parameters, seconds and memory."""
    recipe, data = make(setting, depth=0, optimizer="sgd", rate=10.0, **options)
    program, state = compiled(recipe, data), _create(recipe, np.uint32(0))
    batch, losses, times = (
        put_batch(recipe.mesh, batch_of(data.splits["train"])),
        [],
        [],
    )
    for _ in range(steps):
        start = time.perf_counter()
        state = program(state, batch, MOMENT)
        losses.append(float(state.sums.loss) / setting.rows)
        times.append(time.perf_counter() - start)
    return losses, state.params, times, program.memory_analysis()


def ten_million_sentence(rows=128, width=32):
    """Ten million classes on eight devices, in sentences."""
    classes = 10 * MILLION
    losses, _, times, memory = run(Setting(1, 8, rows, classes), 3, width=width)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    alone = compiled(
        *make(Setting(1, 1, rows, classes), width=width, depth=0, optimizer="sgd")
    ).memory_analysis()
    shares = [
        getattr(memory, name) / getattr(alone, name)
        for name in ("argument_size_in_bytes", "temp_size_in_bytes")
    ]
    small = [
        run(Setting(1, model, rows, classes // 50), 3, width=width) for model in (1, 8)
    ]
    (one, params, *_), (eight, others, *_) = small
    worst = max(
        float(np.max(np.abs(np.asarray(a) - np.asarray(b))) / np.max(np.abs(a)))
        for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(others), strict=True)
    )
    apart = max(abs(a - b) / abs(a) for a, b in zip(one, eight, strict=True))
    return (
        f"{classes:,} classes, {width} features, {rows} rows, SGD with momentum, the "
        f"classes over 8 devices: the loss of three steps is "
        f"{', '.join(f'{loss:.4f}' for loss in losses)}, a step takes "
        f"{min(times):.1f} s on this machine's cores, and the process holds "
        f"{peak:.1f} GiB at most. A device keeps {shares[0]:.4f} of what one alone "
        f"would, and uses {shares[1]:.4f} beside. With {classes // 50:,} classes, "
        f"after three steps on one device and on eight, losses are {apart:.0e} apart "
        f"and parameters {worst:.0e}, relative to the largest of each array."
    )


def main():
    """Makes the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dry-run", action="store_true", help="print, do not write")
    flags = parser.parse_args()
    meshes = [Setting(1, 1), Setting(8, 1), Setting(4, 2), Setting(2, 4), Setting(1, 8)]
    classes = [Setting(2, 4, classes=n) for n in (10_000, MILLION)]
    rows = [Setting(2, 4, rows=n) for n in (256, 4096)]
    content = "\n\n".join(
        [
            f"{machine()}; `python benchmarks/scaling.py`.",
            growth([*meshes, *classes, *rows, Setting(2, 4, share=0.1)]),
            window_sentence(),
            ten_million_sentence(),
        ]
    )
    print(content)
    if not flags.dry_run:
        write_section(PAGE, "scaling", content)


if __name__ == "__main__":
    main()
