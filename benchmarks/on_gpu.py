"""Everything that a GPU can say of this library, in one run of under eight minutes.

    python benchmarks/on_gpu.py                       # writes on_gpu.json and on_gpu.md
    python benchmarks/on_gpu.py --to-page on_gpu.json # puts its tables into docs/

It needs a checkout, jax for the device and optax. Kernels, losses and output layers are
held to float64, and timed against optax and against what the device copies and
multiplies at best; compact training of an encoder of BERT-base's size is timed against
plain training, in bfloat16, on synthetic texts. With `--seconds-in-all` gone it starts
nothing more, and says what it left out. Any other device will do, slower.
"""

import argparse
import dataclasses
import functools
import itertools
import json
import sys
import time
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

sys.path.insert(0, str(Path(__file__).parents[1]))

import heads
import losses
from report import machine, write_section
from roofline import Ceilings, measure_ceilings
from timing import alternate

from as_softmax_jax import (
    as_softmax_loss,
    compact_value_and_grad,
    linear_as_softmax_loss,
)

MARGINS = losses.MARGINS
# A kernel that the device has; an output layer's takes narrow numbers on a GPU.
KERNELS = {"gpu": "mosaic_gpu", "tpu": "mosaic_tpu"}
# Lengths of short requests in word pieces, drawn from the quantiles of real ones.
LENGTHS = (5, 7, 8, 9, 10, 11, 12, 14, 16, 32)


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What is run: the sizes of the pages, or tiny ones."""

    losses: tuple = tuple((*shape, "partial") for shape in losses.SHAPES)
    heads: tuple = ((50_000, "hard", 0.0), (50_000, "hard", 0.9))
    layers: int = 12
    width: int = 768
    batch: int = 256
    vocabulary: int = 30_522
    classes: int = 150
    shares: tuple = (0.0, 0.5, 0.9)
    checked: tuple = (5, 1000, 32_000)
    ceilings: tuple = (8192, 1024)  # side of the matrices, megabytes copied


TINY = Sizes(
    losses=((16, 40, "partial"),),
    heads=((50, "hard", 0.5),),
    layers=2,
    width=64,
    batch=16,
    vocabulary=50,
    classes=5,
    shares=(0.5,),
    checked=(33,),
    ceilings=(64, 1),
)


# --- Right values -------------------------------------------------------------------


class Truth(NamedTuple):
    """In float64, of the mean loss."""

    loss: np.ndarray  # [n]
    gradient: np.ndarray  # [n, c] by the logits
    clear: (
        np.ndarray
    )  # [n] bool: no class lies so near the margin that rounding decides


def truth(logits, labels, keyword, margin):
    """Returns what is right for some logits."""
    o, rows = np.asarray(logits, np.float64), np.arange(len(labels))
    exps = np.exp(o - o.max(1, keepdims=True))
    p = exps / exps.sum(1, keepdims=True)
    compared = o if keyword == "logit_margin" else p
    lead = compared[rows, labels][:, None] - compared
    kept = lead <= margin
    kept[rows, labels] = True
    gradient = np.where(kept, exps, 0)
    gradient /= gradient.sum(1, keepdims=True)
    loss = -np.log(gradient[rows, labels])
    gradient[rows, labels] -= 1
    clear = np.abs(lead - margin).min(1) > 1e-5 * np.abs(compared).max()
    return Truth(loss, gradient / len(labels), clear)


def largest_errors(program, arguments, right, gradient):
    """Returns the largest error of the losses, and of the gradient over its largest."""
    (_, losses_), slope = jax.jit(jax.value_and_grad(program, has_aux=True))(*arguments)
    off = np.abs(np.asarray(losses_, np.float64) - right.loss)[right.clear]
    wrong = np.abs(np.asarray(slope, np.float64) - gradient)[right.clear]
    return float(off.max()), float(wrong.max() / np.abs(gradient).max())


def loss_errors(form, dtype, keyword, margin, c, n=96):
    """Returns the errors of the loss on logits; rows are hard, partial and settled."""
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(n, c)) * 2, rng.integers(0, c, n)
    easy = np.arange(n) % 3 == 0
    logits[easy, labels[easy]] = 12.0
    logits, labels = jnp.asarray(logits, dtype), labels.astype(np.int32)
    right = truth(logits, labels, keyword, margin)

    def mean(o):
        keywords = {keyword: margin, "implementation": form}
        value = as_softmax_loss(o, labels, **keywords)
        return value.mean(), value

    return largest_errors(mean, (logits,), right, right.gradient)


def head_errors(form, dtype, keyword, margin, c, n=96, d=128):
    """Returns the errors of an output layer with its loss."""
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.normal(size=(n, d)) * 2, dtype)
    w = jnp.asarray(rng.normal(size=(d, c)) / np.sqrt(d), dtype)
    logits = np.asarray(x, np.float64) @ np.asarray(w, np.float64)
    labels = np.where(np.arange(n) % 3 == 0, logits.argmax(1), 0).astype(np.int32)
    right = truth(logits, labels, keyword, margin)

    def mean(x, w):
        keywords = {keyword: margin, "implementation": form}
        value = linear_as_softmax_loss(x, w, labels, **keywords)
        return value.mean(), value

    gradient = right.gradient @ np.asarray(w, np.float64).T
    return largest_errors(mean, (x, w), right, gradient)


def check(clock, sizes):
    """Holds every form to float64; returns a line each."""
    forms = ["xla", *filter(None, [KERNELS.get(jax.default_backend())])]
    found = []
    for form, c, dtype, keyword in itertools.product(
        forms, sizes.checked, ("float32", "bfloat16"), MARGINS
    ):
        for op, errors in (("loss", loss_errors), ("head", head_errors)):
            if (op, form, dtype) == ("head", "mosaic_gpu", "float32"):
                continue  # a GPU's kernel for it takes narrow numbers
            if clock.gone(f"errors of the {op} by {form} at {c} classes"):
                continue
            own, plain = (
                errors(name, dtype, keyword, MARGINS[keyword], c)
                for name in (form, "reference")
            )
            found.append(Checked(op, form, dtype, keyword, c, own, plain))
            print(found[-1], flush=True)
    return found


class Checked(NamedTuple):
    """Errors of one form against float64, beside those of the plain formula."""

    op: str
    form: str
    dtype: str
    margin: str
    classes: int
    own: tuple[float, float]  # of the loss, and of the gradient over its largest entry
    plain: tuple[float, float]

    @property
    def right(self):
        """Whether it errs no more than the plain form, but for some roundings."""
        eps = float(jnp.finfo(self.dtype).eps)
        slack = 4e-6, 4 * max(eps, 1e-6)
        pairs = zip(self.own, self.plain, slack, strict=True)
        return all(own <= 2 * plain + s for own, plain, s in pairs)


# --- Compact training of an encoder -------------------------------------------------


def draw_encoder(sizes):
    """Draws the parameters of an encoder, its layers stacked, and its output layer."""
    w, layers = sizes.width, sizes.layers
    keys = iter(jax.random.split(jax.random.key(0), 8))

    def matrix(*shape):
        return jax.random.normal(next(keys), shape) / np.sqrt(shape[-2])

    layer = {
        "qkv": matrix(layers, w, 3 * w),
        "out": matrix(layers, w, w),
        "up": matrix(layers, w, 4 * w),
        "down": matrix(layers, 4 * w, w),
        "norms": jnp.ones((layers, 2, w)),
    }
    return {
        "words": matrix(sizes.vocabulary, w),
        "places": matrix(max(LENGTHS), w),
        "layers": layer,
        "head": matrix(w, sizes.classes),
    }


def logits_of(params, tokens):
    """Returns the logits of texts, tokens [n, length], -1 where there is none."""
    there = tokens >= 0
    words = params["words"][jnp.maximum(tokens, 0)] + params["places"][None]
    bias = jnp.where(there, 0.0, -1e9)[:, None, None, :]

    def normed(x, scale):
        x = x.astype(jnp.float32)
        x = (x - x.mean(-1, keepdims=True)) * jax.lax.rsqrt(x.var(-1)[..., None] + 1e-6)
        return (x * scale).astype(jnp.bfloat16)

    def layer(x, p):
        num_heads = x.shape[-1] // 64
        m = {k: v.astype(jnp.bfloat16) for k, v in p.items()}
        y = normed(x, p["norms"][0]) @ m["qkv"]
        q, k, v = jnp.moveaxis(y.reshape(*x.shape[:2], 3, num_heads, 64), 2, 0)
        scores = jnp.einsum("nqhd,nkhd->nhqk", q, k).astype(jnp.float32) / 8 + bias
        mixed = jnp.einsum(
            "nhqk,nkhd->nqhd", jax.nn.softmax(scores).astype(jnp.bfloat16), v
        )
        x = x + mixed.reshape(x.shape) @ m["out"]
        x = x + jax.nn.gelu(normed(x, p["norms"][1]) @ m["up"]) @ m["down"]
        return x, None

    x, _ = jax.lax.scan(layer, words.astype(jnp.bfloat16), params["layers"])
    share = there / jnp.maximum(there.sum(-1, keepdims=True), 1)
    pooled = jnp.einsum("nl,nlw->nw", share.astype(jnp.bfloat16), normed(x, 1.0))
    return (pooled @ params["head"].astype(jnp.bfloat16)).astype(jnp.float32)


def draw_texts(sizes, params, share):
    """Draws texts, and labels by which a share of them is settled at a margin of 0."""
    rng = np.random.default_rng(0)
    lengths = rng.choice(LENGTHS, sizes.batch)
    tokens = rng.integers(0, sizes.vocabulary, (sizes.batch, max(LENGTHS)))
    tokens[np.arange(max(LENGTHS))[None] >= lengths[:, None]] = -1
    tokens = jnp.asarray(tokens, jnp.int32)
    logits = jax.jit(logits_of)(params, tokens)
    easy = jnp.arange(sizes.batch) < round(share * sizes.batch)
    labels = jnp.where(easy, logits.argmax(-1), logits.argmin(-1))
    return {"tokens": tokens, "labels": labels.astype(jnp.int32)}


class Trained(NamedTuple):
    """Seconds of a whole step, plain and compact."""

    settled: float  # the share that the compact step found
    plain: float
    compact: float


def training_steps(params, capacities):
    """Returns two steps (params, state, batch) -> the same and who was active."""
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-9))

    def row_losses(params, batch):
        logits = logits_of(params, batch["tokens"])
        return as_softmax_loss(logits, batch["labels"], logit_margin=0.0)

    def plain(params, batch):
        def mean(params):
            value = row_losses(params, batch)
            return value.mean(), jnp.sum(value != 0)

        (_, active), grads = jax.value_and_grad(mean, has_aux=True)(params)
        return active, grads

    compacted = compact_value_and_grad(row_losses, capacities=capacities)

    def compact(params, batch):
        sums, grads = compacted(params, batch)
        return sums.num_active, grads

    def step(gradients, params, state, batch):
        active, grads = gradients(params, batch)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, active

    steps = {
        name: jax.jit(functools.partial(step, f), donate_argnums=(0, 1))
        for name, f in (("plain", plain), ("compact", compact))
    }
    return optimizer, steps


def time_training(clock, sizes, seconds):
    """Times plain and compact steps in turn, for each share of settled texts."""
    batch, found = sizes.batch, []
    capacities = tuple(sorted({max(batch // k, 1) for k in (16, 8, 4, 2)} - {batch}))
    params = draw_encoder(sizes)
    optimizer, steps = training_steps(params, capacities)
    state = optimizer.init(params)
    for share in sizes.shares:
        if clock.gone(f"training with {share:.0%} settled"):
            continue
        texts = draw_texts(sizes, params, share)
        held = {"params": params, "state": state, "active": None}

        def run(step, texts=texts, held=held):
            held["params"], held["state"], held["active"] = step(
                held["params"], held["state"], texts
            )
            return held["active"]

        functions = {k: functools.partial(run, s) for k, s in steps.items()}
        medians = alternate(functions, (), seconds, least=3)
        settled = 1 - int(functions["compact"]()) / batch
        params, state = held["params"], held["state"]
        found.append(Trained(settled, medians["plain"], medians["compact"]))
        print(found[-1], flush=True)
    return found


# --- The run ------------------------------------------------------------------------


class Clock:
    """Says when the time is up, and keeps what was not begun.

    Args:
      seconds: in all.
    """

    def __init__(self, seconds):
        self._end = time.perf_counter() + seconds
        self.left_out = []

    def gone(self, what):
        """Returns whether `what` is not to be begun any more."""
        if time.perf_counter() < self._end:
            return False
        self.left_out.append(what)
        return True


def measure(sizes, seconds, seconds_in_all):
    """Runs everything; returns it as JSON can hold it."""
    clock = Clock(seconds_in_all)
    ceilings = measure_ceilings(*sizes.ceilings)
    checked = check(clock, sizes)
    of_losses, of_heads = [], []
    for n, c, kind in sizes.losses:
        if not clock.gone(f"losses at [{n}, {c}]"):
            of_losses.append(losses.measure(n, c, kind, ceilings, seconds))
            print(losses.row(of_losses[-1]), flush=True)
    trained = time_training(clock, sizes, seconds)
    for c, kind, share in sizes.heads:
        if not clock.gone(f"heads of {c} classes, {share:.0%} settled"):
            of_heads.append(heads.measure(c, kind, share, ceilings, seconds))
            print(heads.row(of_heads[-1]), flush=True)
    return {
        "machine": machine(),
        "ceilings": ceilings._asdict(),
        "checked": [c._asdict() for c in checked],
        "losses": [f._asdict() for f in of_losses],
        "heads": [f._asdict() for f in of_heads],
        "training": [t._asdict() for t in trained],
        "left_out": clock.left_out,
    }


def page(found):
    """Returns the tables of a run."""
    checked = [Checked(**line) for line in found["checked"]]
    wrong = [str(c) for c in checked if not c.right]
    said = f"{len(wrong)} of {len(checked)} forms err more than the plain formula"
    out = "; ".join(found["left_out"])
    lines = [
        "## On an accelerator",
        "",
        f"{found['machine']}; {Ceilings(**found['ceilings'])}. "
        "`python benchmarks/on_gpu.py`",
        "",
        f"Against float64: {said}{': ' + '; '.join(wrong) if wrong else ''}.",
        *([f"Left out for want of time: {out}."] if out else []),
        "",
        *losses.table([losses.Figures(**f) for f in found["losses"]]),
        "",
        *heads.table([heads.Figures(**f) for f in found["heads"]]),
        "",
        "An encoder of BERT-base's size in bfloat16 on short texts, whole steps with "
        "clipping and AdamW:",
        "",
        "| settled | plain | compact | ratio |",
        "|---:|---:|---:|---:|",
    ]
    for line in found["training"]:
        t = Trained(**line)
        lines.append(
            f"| {t.settled:.0%} | {t.plain * 1e3:.1f} ms | {t.compact * 1e3:.1f} ms "
            f"| {t.compact / t.plain:.2f} |"
        )
    return "\n".join(lines)


def main():
    """Measures, or puts what was measured into the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default="on_gpu", help="without ending")
    parser.add_argument("--seconds", type=float, default=1.0, help="per row")
    parser.add_argument("--seconds-in-all", type=float, default=400.0)
    parser.add_argument("--tiny", action="store_true", help="sizes for a test")
    parser.add_argument("--to-page", help="a JSON file to put into docs/benchmarks.md")
    flags = parser.parse_args()
    if flags.to_page:
        found = json.loads(Path(flags.to_page).read_text(encoding="utf-8"))
        write_section("on_gpu", page(found))
        return
    sizes = TINY if flags.tiny else Sizes()
    found = measure(sizes, flags.seconds, flags.seconds_in_all)
    for ending, text in ((".json", json.dumps(found, indent=1)), (".md", page(found))):
        Path(flags.output + ending).write_text(text + "\n", encoding="utf-8")
    print(page(found))


if __name__ == "__main__":
    main()
