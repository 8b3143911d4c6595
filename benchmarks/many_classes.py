"""Peak memory of a margin loss over very many classes, on one device and on eight.

    python benchmarks/many_classes.py
    python benchmarks/many_classes.py --classes 100000 --width 64

ArcFace on cosines, with the gradients of features and kernel. Each number of devices
has a process of its own, whose largest resident size is shown; the last line is how far
apart they are. Logits of all classes would take what the column says, several times.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np


def draw(rows, width, classes):
    """Features, near their label's class in the first half, a kernel and labels."""
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((width, classes), np.float32)
    labels = rng.integers(0, classes, rows, np.int32)
    features = rng.standard_normal((rows, width), np.float32)
    features[: rows // 2] += kernel[:, labels[: rows // 2]].T
    return features, kernel, labels


def run(flags):
    """Computes loss and gradients, and keeps what is to be compared in a file."""
    import jax
    from jax.sharding import AxisType, NamedSharding
    from jax.sharding import PartitionSpec as P

    from as_softmax_jax.heads import linear_margin_softmax_loss

    axis = "model" if flags.devices > 1 else None
    mesh = jax.make_mesh((flags.devices,), ("model",), axis_types=(AxisType.Auto,))
    specs = P(), P(None, axis), P()

    def losses(features, kernel, labels):
        return linear_margin_softmax_loss(
            features, kernel, labels, angle=0.5, scale=64.0, axis_name=axis
        )

    losses = jax.shard_map(losses, mesh=mesh, in_specs=specs, out_specs=P())

    def mean(features, kernel, labels):
        loss = losses(features, kernel, labels)
        return loss.mean(), loss

    places = [NamedSharding(mesh, spec) for spec in specs]
    arrays = draw(flags.rows, flags.width, flags.classes)
    labels = arrays[2]
    arrays = jax.tree.map(jax.device_put, arrays, tuple(places))
    both = jax.jit(jax.value_and_grad(mean, (0, 1), has_aux=True))
    (_, loss), (d_features, d_kernel) = jax.block_until_ready(both(*arrays))
    some = np.r_[labels, np.arange(1000)]
    np.savez(flags.keep, loss=loss, d_features=d_features, d_kernel=d_kernel[:, some])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    logits = 4 * flags.rows * flags.classes / 2**30
    kernel = 4 * flags.width * flags.classes / 2**30
    print(
        f"| {flags.devices} | {flags.classes:,} | {flags.rows} x {flags.width} "
        f"| {kernel:.2f} GiB | {logits:.2f} GiB | {peak:.2f} GiB "
        f"| {np.mean(loss):.4f} |"
    )


def main():
    """Runs one and eight devices, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--classes", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--devices", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--keep", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.devices:
        run(flags)
        return
    print("| devices | classes | rows x width | kernel | logits | peak memory | loss |")
    print("|---:|---:|---:|---:|---:|---:|---:|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        kept = [Path(folder) / f"{devices}.npz" for devices in (1, 8)]
        for devices, keep in zip((1, 8), kept, strict=True):
            count = f"--xla_force_host_platform_device_count={devices}"
            subprocess.run(
                [
                    *(sys.executable, *sys.argv),
                    f"--devices={devices}",
                    f"--keep={keep}",
                ],
                env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": count},
                check=True,
            )
        one, eight = (np.load(keep) for keep in kept)
        apart = max(
            np.abs(one[name] - eight[name]).max() / np.abs(one[name]).max()
            for name in one.files
        )
    print(f"\nLosses and gradients are {apart:.0e} apart, of the largest of each.")


if __name__ == "__main__":
    main()
