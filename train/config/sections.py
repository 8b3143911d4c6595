"""The sections of a configuration, their keys, defaults and ranges."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

# The keys of `loss` that say how far a rival may lie below the label and keep an
# example active: a difference of logits, or of probabilities.
MARGINS = ("logit_margin", "delta")


def _number(default: float | None, low: float, high: float = math.inf) -> Any:
    """A field whose value must be in [low, high], or None where that is its default."""
    return dataclasses.field(default=default, metadata={"range": (low, high)})


def _choice(default: str, *names: str) -> Any:
    """A field whose value must be one of `names`."""
    return dataclasses.field(default=default, metadata={"names": names})


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What is read, and how it becomes batches."""

    # digits, files, folders or tfds; memory for what Python hands over; see train/data.
    source: str = "digits"
    # A folder; empty: the folder `name` under $AS_SOFTMAX_DATA. For tfds: its data_dir.
    path: str = ""
    # Also the data set's name in TFDS.
    name: str = ""
    # Where the splits are: files (the ending .parquet, .jsonl, .csv or .tsv may be left
    # out, and a * stands for several), folders, or splits of TFDS such as train[:90%].
    # An empty test: none.
    train: str = "train"
    validation: str = "validation"
    test: str = ""
    # With an empty validation, this share of the training examples becomes it.
    validation_share: float = _number(0.1, 0.0, 0.9)
    # Part the training examples in so many, alike in labels: one, by its number from 0,
    # is the test split, the next one validation, and no file of these is read; 0: no.
    folds: int = _number(0, 0)
    fold: int = _number(0, 0)
    # Leave the test split out, as while settings are searched for.
    held_back: bool = False
    # Train on so many of the training examples, drawn at random; 0: on all.
    train_examples: int = _number(0, 0)
    # How often an example is trained on. Empty: as often as it is there; classes: each
    # class as often as any other; sqrt: by the square roots of their counts.
    balance: str = _choice("", "", "classes", "sqrt")
    # What its loss counts. balanced: inversely to how often its class is there; sqrt:
    # to the square root of that; times the weight column, where one is named.
    class_weights: str = _choice("", "", "balanced", "sqrt")
    weight_column: str = ""
    # Empty: the task's own name for it: text, tokens, image or audio.
    input_column: str = ""
    label_column: str = "label"
    # Several labels an example as a column of 0 and 1 a class, in place of that column.
    label_columns: tuple[str, ...] = ()
    # Empty: every column but the label.
    feature_columns: tuple[str, ...] = ()
    # Of a table: columns of text are categories, and blanks are filled in. False: both
    # are refused.
    mixed_columns: bool = False
    # Parts the entries of a list where a file holds it as text, as CSV does.
    separator: str = "|"
    # What the tags of tokens are: entities as B-X, I-X and O, or any names and O.
    tags: str = _choice("bio", "bio", "flat")
    # Text is cut after this many tokens; a vocabulary of ours has this size.
    max_length: int = _number(32, 1)
    vocabulary_size: int = _number(4096, 16)
    # The side of the square that images are scaled to; 0: that of the first one.
    image_size: int = _number(0, 0)
    # Of the training images, at random: flip, crop.
    augment: tuple[str, ...] = ()
    # Audio is resampled to so many samples a second, and cut or padded to `seconds`.
    sample_rate: int = _number(16000, 1000)
    seconds: float = _number(1.0, 0.01)
    # What to do with an image or audio file that cannot be decoded.
    bad_files: str = _choice("refuse", "refuse", "skip")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network. An empty name: the first model that the task knows."""

    name: str = ""
    width: int = _number(32, 1)
    depth: int = _number(2, 0)
    heads: int = _number(4, 1)
    dropout: float = _number(0.0, 0.0, 0.99)
    compute_dtype: str = _choice("float32", "float32", "bfloat16")
    # For the model `pretrained`: a folder with config.json, model.safetensors and
    # tokenizer.json, or the name of one on the Hugging Face hub.
    pretrained: str = ""
    pooling: str = _choice("mean", "mean", "cls")
    # The output layer. Empty: linear, or cosine where the loss takes cosines. blocked:
    # training never holds the logits of all classes, for many thousands of them.
    head: str = _choice("", "", "linear", "cosine", "blocked")
    # Of the blocked head's classes, those that a step trains, drawn anew each time
    # with all labels of the batch among them (Partial FC); 1: all.
    class_share: float = _number(1.0, 1e-6, 1.0)
    # Recompute activations in the backward pass: less memory, more time.
    remat: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The loss, by its name in `as_softmax_jax.losses.LOSSES`."""

    name: str = "as_softmax"
    # The margin of the losses that have one: in logits, or else in probability, as the
    # paper has it. None of the two: the first that the loss takes, at the value that
    # its row of the table has.
    logit_margin: float | None = _number(None, 0.0)
    delta: float | None = _number(None, 0.0, 1.0)
    # The share of training over which the margin falls from that of softmax, infinity
    # or 1, to its value.
    logit_margin_warmup: float = _number(0.0, 0.0, 1.0)
    delta_warmup: float = _number(0.0, 0.0, 1.0)
    # The share of training, at its end, over which the margin goes back to softmax's.
    margin_end_share: float = _number(0.0, 0.0, 1.0)
    # Margins of single classes, in place of the margin and in its unit:
    # `--config.loss.class_margins.O=0.5`.
    class_margins: Mapping[str, float] = dataclasses.field(default_factory=dict)
    # Else a class has the margin times (n_max / n) ** power, n being how often it is a
    # training label and n_max the most that one is; a delta is 1 at most.
    class_margin_power: float = _number(0.0, 0.0)
    # The loss's other keywords, those that are no field of this section:
    # `--config.loss.options.smoothing=0.1`.
    options: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The optimizer and its schedule, which runs by examples seen."""

    name: str = _choice("adamw", "adamw", "sgd")
    learning_rate: float = _number(1e-3, 0.0)
    schedule: str = _choice("linear", "constant", "linear", "cosine")
    # The share of training over which the learning rate rises from 0.
    warmup: float = _number(0.1, 0.0, 1.0)
    weight_decay: float = _number(0.01, 0.0)
    # Used by sgd.
    momentum: float = _number(0.9, 0.0, 1.0)
    # The largest global norm of a gradient; 0: no clipping.
    clip_norm: float = _number(1.0, 0.0)
    # Of the moving average of the parameters over gradient steps, which is evaluated
    # and kept in their place; 0: none.
    ema_decay: float = _number(0.0, 0.0, 0.999999)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How long, in which batches, and how gradients accumulate."""

    # What is trained on: plain: every example; compact: those that a pass without
    # gradient finds active, see CompactConfig; else a choice that others make, see
    # SelectionConfig.
    mode: str = _choice(
        "plain", "plain", "compact", "random", "selective_backprop", "infobatch"
    )
    epochs: int = _number(10, 1)
    batch_size: int = _number(64, 1)
    # Batches of texts of about one length: less padding, and order is less random.
    group_by_length: bool = False
    # Epochs between evaluations; or mini-steps, where that is not 0.
    evaluate_every: int = _number(1, 1)
    evaluate_steps: int = _number(0, 0)
    # The rule for windows of gradient accumulation; none: a step each batch.
    window: str = _choice("none", "none", "settled_ratio", "active_count")
    window_scale: float = _number(1.0, 1e-3)
    window_max_growth: int = _number(1, 0)
    window_target: int = _number(64, 1)
    max_mini_steps: int = _number(8, 1)
    # The validation metric whose best checkpoint is kept; empty: the task's own.
    metric: str = ""
    # Stop after so many evaluations without a better one; 0: never.
    patience: int = _number(0, 0)
    # End the run after so many batches in a row whose loss or gradient is not finite;
    # each is left out. 0: never.
    max_bad_steps: int = _number(20, 0)
    # Mini-steps between checkpoints to resume from; 0: at evaluations alone.
    checkpoint_every: int = _number(0, 0)
    # Of these, so many of the newest are kept, in case one cannot be read.
    keep_checkpoints: int = _number(2, 1)
    # In the end, list so many training examples whose label the network contradicts
    # most, which takes a pass over all of them; 0: none.
    suspicious_rows: int = _number(20, 0)
    # What is told of the run beside its folder: tensorboard, wandb, mlflow.
    loggers: tuple[str, ...] = ("tensorboard",)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompactConfig:
    """How `training.mode=compact` finds active examples, and when it does not try."""

    # With a smaller share of settled examples in the last epoch, train plainly. About
    # what a pass without gradient costs of a whole step.
    break_even: float = _number(0.25, 0.0, 1.0)
    # While training is plain, decide anew whenever so many examples have passed; 0: at
    # the beginning of an epoch alone.
    decide_every: int = _number(2048, 0)
    # Examples that a pass without gradient takes at once; 0: training.batch_size.
    batch_size: int = _number(0, 0)
    # Examples that are looked at under one set of parameters, sorted by length; 0: as
    # many as fill the next batch, so that none is active by parameters of before.
    look_rows: int = _number(0, 0)
    # Of such a pass. Empty: bfloat16 on a GPU or TPU, on a CPU model.compute_dtype.
    compute_dtype: str = _choice("", "", "float32", "bfloat16")
    # Batches of active examples may shrink to this, as fewer are active, so that there
    # are more gradient steps; 0, or above training.batch_size: they keep their size.
    min_batch_size: int = _number(16, 0)
    # Dropout may unsettle what is settled without it: an example that leads by less
    # than the margin and this, in the margin's unit, is trained on, too. None: 0.3 in
    # probability, 0 in logits.
    slack: float | None = _number(None, 0.0)
    # The learning rate of a batch times the square root of k, at most 2, where it
    # stands for k times the examples that it holds.
    scale_learning_rate: bool = False
    # An approximation: an example whose lead is not used up so soon, at the speed at
    # which leads fall, is not looked at for up to so many epochs; 0: every one is.
    max_skipped_epochs: int = _number(0, 0)
    # This share of the skipped examples is looked at anyway, to see what is missed.
    # Once clearly more than 2 % of those are active, nothing is skipped any more.
    audit_share: float = _number(0.02, 0.0, 1.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SelectionConfig:
    """What other modes than plain and compact choose, for any loss."""

    # The share of the examples that are trained on: at random, or in the mean where
    # selective_backprop draws them by the rank of their loss.
    share: float = _number(0.5, 1e-3, 1.0)
    # Epochs between passes of selective_backprop that find the losses; between them it
    # goes by the last ones.
    look_every: int = _number(1, 1)
    # infobatch leaves out this share of the examples whose loss is below the mean, and
    # weighs the others of those up, until this share of training is left.
    pruned_share: float = _number(0.5, 0.0, 0.99)
    whole_share: float = _number(0.125, 0.0, 1.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """Devices along each axis of the mesh; data 0: all that `model` leaves."""

    data: int = _number(0, 0)
    model: int = _number(1, 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that decides a run."""

    task: str = "image"
    seed: int = _number(0, 0, 2**32 - 1)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    compact: CompactConfig = dataclasses.field(default_factory=CompactConfig)
    selection: SelectionConfig = dataclasses.field(default_factory=SelectionConfig)
    mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)
