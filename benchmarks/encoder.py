"""A pretrained encoder against transformers on PyTorch: same numbers, and how fast.

    pip install torch transformers          # never dependencies of the project
    python benchmarks/encoder.py --folder FOLDER            # writes docs/benchmarks.md
    python benchmarks/encoder.py --folder FOLDER --dry-run  # prints its tables

FOLDER has config.json, model.safetensors and tokenizer.json of a BERT or RoBERTa.
Contenders alternate call by call, on as many threads as there are cores; a figure is a
median, and a ratio is the median of the rounds' ratios.
"""

import argparse
import functools
import os
import statistics
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
import transformers
from flax import nnx
from report import machine, write_section

from train.config import ModelConfig
from train.data.examples import InputSpec
from train.models.pretrained import (
    export_encoder,
    find_folder,
    load_weights,
    read_encoder_config,
)
from train.recipe.network import Network

BATCH, CLASSES, LEARNING_RATE, PARITY_LENGTH = 32, 150, 2e-5, 64


def draw_batch(vocabulary_size, length, seed=0):
    """Draws tokens [n, length], padded by up to half with -1, and labels [n]."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(1000, vocabulary_size, (BATCH, length))
    lengths = rng.integers(length // 2, length + 1, BATCH)
    tokens[np.arange(length)[None] >= lengths[:, None]] = -1
    return tokens.astype(np.int32), rng.integers(0, CLASSES, BATCH).astype(np.int32)


class TorchClassifier(torch.nn.Module):
    """The contender: transformers' encoder, the mean over real tokens, a linear layer.

    Args:
      folder: of the encoder.
      rate: of dropout everywhere.
    """

    def __init__(self, folder, rate):
        super().__init__()
        self.encoder = transformers.AutoModel.from_pretrained(
            folder,
            hidden_dropout_prob=rate,
            attention_probs_dropout_prob=rate,
            add_pooling_layer=False,
            dtype=torch.float32,
        )
        self.dropout = torch.nn.Dropout(rate)
        self.head = torch.nn.Linear(self.encoder.config.hidden_size, CLASSES)

    def hidden(self, tokens):
        """Returns the last hidden states and the mask."""
        mask = tokens >= 0
        ids = tokens.clamp(min=0)
        return self.encoder(ids, attention_mask=mask.long())[0], mask[..., None]

    def forward(self, tokens):
        """Returns logits [n, classes]."""
        hidden, mask = self.hidden(tokens)
        pooled = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)
        return self.head(self.dropout(pooled))


def torch_contenders(folder, rate, tokens, labels):
    """Returns name -> a call without arguments that does the work once."""
    model = TorchClassifier(folder, rate)
    model.train(rate > 0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    tokens, labels = torch.tensor(tokens).long(), torch.tensor(labels).long()

    def forward():
        with torch.no_grad():
            model(tokens)

    def backward():
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(tokens), labels).backward()

    def step():
        backward()
        optimizer.step()

    return {"forward": forward, "forward and backward": backward, "step": step}


def build(folder, rate, *, per_token=False):
    """Returns the network without its parameters, and the parameters."""
    encoder = read_encoder_config(folder)
    spec = InputSpec((PARITY_LENGTH,), CLASSES, per_token=per_token, encoder=encoder)
    config = ModelConfig(dropout=rate, pretrained=str(folder))
    network = Network("text", spec, config, "linear")
    params = network.init(nnx.Rngs(0)) | {
        "encoder": load_weights(folder, encoder).params
    }
    return network, jax.tree.map(jnp.asarray, params)


def jax_contenders(folder, rate, tokens, labels):
    """Returns name -> a call without arguments that does the work once."""
    network, params = build(folder, rate)
    optimizer = optax.adamw(LEARNING_RATE)

    def loss(params, key):
        rngs = nnx.Rngs(dropout=key) if rate else None
        logits = network.logits(params, tokens, rngs=rngs)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean()

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def update(params, state, key):
        grads = jax.grad(loss)(params, key)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    held = [jax.tree.map(jnp.copy, params), optimizer.init(params)]
    forward, backward = jax.jit(loss), jax.jit(jax.value_and_grad(loss))
    key = jax.random.key(0)

    def step():
        held[:] = update(*held, key)
        return held[0]

    return {
        "forward": lambda: forward(params, key),
        "forward and backward": lambda: backward(params, key),
        "step": step,
    }


def alternate(first, second, rounds):
    """Calls both in turn; returns the seconds of each call of each."""
    seconds = [], []
    for round_ in range(rounds + 2):
        for function, times in zip((first, second), seconds, strict=True):
            start = time.perf_counter()
            jax.block_until_ready(function())
            if round_ >= 2:  # The first calls compile, and fill caches.
                times.append(time.perf_counter() - start)
    return seconds


def measure(folder, length, rate, rounds):
    """Yields one row of the table for each kind of work."""
    vocabulary_size = read_encoder_config(folder).vocabulary_size
    batch = draw_batch(vocabulary_size, length)
    theirs, ours = (
        contenders(folder, rate, *batch)
        for contenders in (torch_contenders, jax_contenders)
    )
    for name in theirs:
        times = alternate(theirs[name], ours[name], rounds)
        medians = [statistics.median(part) * 1e3 for part in times]
        ratio = statistics.median(a / b for a, b in zip(*times, strict=True))
        yield (
            f"| {length} | {rate} | {name} | {medians[0]:.0f} ms "
            f"| {medians[1]:.0f} ms | {ratio:.2f} |"
        )


def largest_difference(ours, theirs, mask):
    """Returns the largest difference where there are tokens."""
    return float(np.abs(np.asarray(ours) - theirs.detach().numpy())[mask].max())


def parity(folder):
    """Yields lines on hidden states, and on logits of an exported folder."""
    encoder = read_encoder_config(folder)
    tokens, _ = draw_batch(encoder.vocabulary_size, PARITY_LENGTH)
    mask = tokens >= 0
    network, params = build(folder, 0.0, per_token=True)
    theirs, _ = TorchClassifier(folder, 0.0).eval().hidden(torch.tensor(tokens).long())
    # Per token, and without dropout, the features are the hidden states.
    output = network.apply(params, tokens, rngs=None)
    difference = largest_difference(output.features, theirs, mask)
    yield f"| hidden states | {difference:.1e} |"
    with tempfile.TemporaryDirectory() as exported:
        export_encoder(
            Path(exported),
            encoder,
            params,
            classes=range(CLASSES),
            pooling=None,
            tokenizer=(folder / "tokenizer.json").read_text(encoding="utf-8"),
        )
        loaded = transformers.AutoModelForTokenClassification.from_pretrained(exported)
    ids = torch.tensor(np.where(mask, tokens, encoder.pad_token_id)).long()
    logits = loaded.eval()(ids, attention_mask=torch.tensor(mask).long()).logits
    difference = largest_difference(output.logits(), logits, mask)
    yield f"| logits of tokens, after export | {difference:.1e} |"


def main():
    """Measures both, and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", required=True, help="or a name on the hub")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--dry-run", action="store_true", help="print, do not write")
    flags = parser.parse_args()
    torch.set_num_threads(os.cpu_count())
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    folder = find_folder(flags.folder)
    lines = [
        f"{machine()}, torch {torch.__version__}, transformers "
        f"{transformers.__version__}; batch {BATCH}, float32.",
        "",
        "| largest difference in | |",
        "|---|---:|",
        *parity(folder),
        "",
        "| length | dropout | work | PyTorch | JAX | PyTorch / JAX |",
        "|---:|---:|---|---:|---:|---:|",
    ]
    print("\n".join(lines), flush=True)
    for length in (16, 24):
        for rate in (0.0, 0.1):
            for row in measure(folder, length, rate, flags.rounds):
                lines.append(row)
                print(row, flush=True)
    if not flags.dry_run:
        write_section("encoder", "\n".join(lines))


if __name__ == "__main__":
    main()
