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

    # Where the data are: digits, files, folders, tfds or huggingface; memory, as Python
    # hands over.
    source: str = "digits"
    # Their folder; empty: the folder `data.name` under $AS_SOFTMAX_DATA. Of tfds: its
    # data_dir.
    path: str = ""
    # The data set's name: of its folder, in TFDS, or on the Hugging Face hub.
    name: str = ""
    # Of a data set on the hub: which of several, such as one of its languages.
    subset: str = ""
    # The training split: a file (the ending .parquet, .jsonl, .csv or .tsv may be left
    # out, and a * stands for several), a folder, or one of TFDS such as train[:90%].
    train: str = "train"
    # The validation split, likewise; empty: a share of the training examples.
    validation: str = "validation"
    # The test split, likewise; empty: none.
    test: str = ""
    # The share of the training examples that an empty `data.validation` stands for.
    validation_share: float = _number(0.1, 0.0, 0.9)
    # Part the training examples in so many, alike in labels, for the test split and
    # validation, and read no file of these; 0: no.
    folds: int = _number(0, 0)
    # The part that is the test split, from 0; the next one is validation.
    fold: int = _number(0, 0)
    # Leave the test split out, as while settings are searched for.
    held_back: bool = False
    # Train on so many of the training examples, drawn at random; 0: on all.
    train_examples: int = _number(0, 0)
    # Thin the training examples out to a long tail: the first class keeps this many
    # times as many as the last one, and counts fall from class to class by one factor;
    # 1: no.
    imbalance: float = _number(1.0, 1.0)
    # Give this share of the training examples the label of another class, always the
    # same ones, to see what a loss makes of wrong labels; 0: no.
    wrong_labels: float = _number(0.0, 0.0, 1.0)
    # A split of examples of no known class, named as the test split is: it is told how
    # well the network's confidence keeps them apart from those of the test split.
    outside: str = ""
    # In place of that: so many classes, drawn at random, are left out of training and
    # validation, and their test examples are what is outside; it is also told how well
    # features find those of one class among them.
    outside_classes: int = _number(0, 0)
    # Of an ordinal task: the classes from the lowest to the highest. Empty: labels are
    # whole numbers, and in their order.
    class_order: tuple[str, ...] = ()
    # Classes come one part after another: so many parts of the classes in their order,
    # and in each part of the epochs one more; 0: all from the start.
    class_stages: int = _number(0, 0)
    # How often an example is trained on. Empty: as often as it is there; classes: each
    # class as often as any other; sqrt: by the square roots of their counts.
    balance: str = _choice("", "", "classes", "sqrt")
    # What the loss of an example counts. balanced: inversely to how often its class is
    # there; sqrt: to the square root of that; effective: to the effective number of
    # its examples, (1 - b^n) / (1 - b) with b = 0.9999.
    class_weights: str = _choice("", "", "balanced", "sqrt", "effective")
    # The share of training after which classes have these weights; before it, 1 each.
    class_weights_from: float = _number(0.0, 0.0, 1.0)
    # A column of weights of the examples; their class's weight is a factor, too.
    weight_column: str = ""
    # The column that is predicted from; empty: the task's own name for it, text,
    # tokens, image or audio.
    input_column: str = ""
    # The column that is predicted.
    label_column: str = "label"
    # Several labels an example as a column of 0 and 1 a class, in place of the label
    # column.
    label_columns: tuple[str, ...] = ()
    # The columns of numbers; empty: every column but the label.
    feature_columns: tuple[str, ...] = ()
    # Of a table: columns of text are categories, and blanks are filled in. False: both
    # are refused.
    mixed_columns: bool = False
    # Parts the entries of a list where a file holds it as text, as CSV does.
    separator: str = "|"
    # What the tags of tokens are: entities as B-X, I-X and O, or any names and O.
    tags: str = _choice("bio", "bio", "flat")
    # Text is cut after this many tokens.
    max_length: int = _number(32, 1)
    # The size of a vocabulary that is made from the training texts.
    vocabulary_size: int = _number(4096, 16)
    # The side of the square that images are scaled to; 0: that of the first one, or the
    # pretrained encoder's own.
    image_size: int = _number(0, 0)
    # What is done to training images at random: flip, crop.
    augment: tuple[str, ...] = ()
    # Audio is resampled to so many samples a second.
    sample_rate: int = _number(16000, 1000)
    # Audio is cut or padded to this length.
    seconds: float = _number(1.0, 0.01)
    # What to do with an image or audio file that cannot be decoded.
    bad_files: str = _choice("refuse", "refuse", "skip")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network."""

    # The network's name; empty: the first one that the task knows.
    name: str = ""
    # The width of hidden layers.
    width: int = _number(32, 1)
    # How many layers or blocks there are.
    depth: int = _number(2, 0)
    # The attention heads of a Transformer.
    heads: int = _number(4, 1)
    # The share of activations that training leaves out.
    dropout: float = _number(0.0, 0.0, 0.99)
    # Of activations and products; parameters and losses are float32.
    compute_dtype: str = _choice("float32", "float32", "bfloat16")
    # For the model `pretrained`: a folder with config.json, model.safetensors and, of
    # text, tokenizer.json, else preprocessor_config.json; or the name of one on the
    # Hugging Face hub.
    pretrained: str = ""
    # What an encoder's answer is made of: the mean over tokens, patches or frames, or
    # the first token's state, where there is one that stands for all.
    pooling: str = _choice("mean", "mean", "cls")
    # What of the pretrained encoder training leaves as it is: nothing where empty, its
    # embeddings, or the whole encoder, so that the output layer alone is trained.
    freeze: str = _choice("", "", "embeddings", "encoder")
    # LoRA: in place of the pretrained encoder's parameters a change of some of its
    # matrices is trained, the product of two of this rank; 0: no.
    lora_rank: int = _number(0, 0)
    # The change counts this over the rank times.
    lora_alpha: float = _number(16.0, 0.0)
    # The matrices of each block that change: query, key, value, output (of attention),
    # expand, contract (of the feed-forward network).
    lora_targets: tuple[str, ...] = ("query", "value")
    # The output layer. Empty: what the loss takes: linear, cosine where it takes
    # cosines, distance where it takes distances, thresholds where it takes those
    # between ordered classes. fourier: neighbours of ordered classes have alike
    # probabilities. blocked, and blocked_cosine for margins on cosines: training never
    # holds the logits of all classes, for many thousands of them.
    head: str = _choice(
        *("", "", "linear", "cosine", "distance", "thresholds", "fourier"),
        *("blocked", "blocked_cosine"),
    )
    # How many vectors a class of the cosine heads has, of which the nearest counts.
    sub_centers: int = _number(1, 1)
    # The share of the blocked head's classes that a step trains, drawn anew each time
    # with all labels of the batch among them (Partial FC); 1: all.
    class_share: float = _number(1.0, 1e-6, 1.0)
    # Recompute activations in the backward pass: less memory, more time.
    remat: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The loss and its margin."""

    # Its name in `as_softmax_jax.losses.LOSSES`.
    name: str = "as_softmax"
    # The margin of the losses that have one, in logits. Neither this nor `loss.delta`:
    # the first margin that the loss takes, at the value that its row of the table has.
    logit_margin: float | None = _number(None, 0.0)
    # The margin in probability, as the paper has it.
    delta: float | None = _number(None, 0.0, 1.0)
    # The share of training over which `loss.logit_margin` falls from that of softmax,
    # infinity, to its value.
    logit_margin_warmup: float = _number(0.0, 0.0, 1.0)
    # The share of training over which `loss.delta` falls from that of softmax, 1.
    delta_warmup: float = _number(0.0, 0.0, 1.0)
    # The share of training, at its end, over which the margin goes back to softmax's.
    margin_end_share: float = _number(0.0, 0.0, 1.0)
    # Margins of single classes by their names, in place of the margin and in its unit:
    # `--config.loss.class_margins.O=0.5`.
    class_margins: Mapping[str, float] = dataclasses.field(default_factory=dict)
    # Rare classes get a larger margin: the margin times (n_max / n) to this power, n
    # being how often a class is a training label and n_max the most that one is; a
    # delta is 1 at most.
    class_margin_power: float = _number(0.0, 0.0)
    # The loss's other keywords, those that are no key of this section:
    # `--config.loss.options.smoothing=0.1`.
    options: Mapping[str, float | str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The optimizer and its schedule, which runs by examples seen."""

    # The optimizer.
    name: str = _choice("adamw", "adamw", "sgd")
    # The largest learning rate, after the warm-up.
    learning_rate: float = _number(1e-3, 0.0)
    # How the learning rate falls to 0 after the warm-up, or that it does not.
    schedule: str = _choice("linear", "constant", "linear", "cosine")
    # The share of training over which the learning rate rises from 0.
    warmup: float = _number(0.1, 0.0, 1.0)
    # AdamW's decay of weights; biases and norms have none.
    weight_decay: float = _number(0.01, 0.0)
    # The momentum of sgd.
    momentum: float = _number(0.9, 0.0, 1.0)
    # The largest global norm of a gradient; 0: no clipping.
    clip_norm: float = _number(1.0, 0.0)
    # The learning rate's factor from each block of a pretrained encoder to the one
    # below it, and to the embeddings; the output layer has the whole rate. 1: one rate.
    layer_decay: float = _number(1.0, 0.0, 1.0)
    # The decay of a moving average of the parameters over gradient steps, which is
    # evaluated and kept in their place; 0: none.
    ema_decay: float = _number(0.0, 0.0, 0.999999)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How long, in which batches, and how gradients accumulate."""

    # What is trained on. plain: every example; compact: those that a pass without
    # gradient finds active, see `compact`; else what others choose, see `selection`.
    mode: str = _choice(
        "plain", "plain", "compact", "random", "selective_backprop", "infobatch"
    )
    # Passes over the training examples.
    epochs: int = _number(10, 1)
    # Examples of a mini-batch, over all devices.
    batch_size: int = _number(64, 1)
    # Batches of texts of about one length: less padding, and order is less random.
    group_by_length: bool = False
    # Epochs between evaluations.
    evaluate_every: int = _number(1, 1)
    # Mini-steps between evaluations, in place of epochs; 0: by epochs.
    evaluate_steps: int = _number(0, 0)
    # The rule for windows of gradient accumulation; none: a step each batch.
    window: str = _choice("none", "none", "settled_ratio", "active_count")
    # Of settled_ratio: the paper's lambda.
    window_scale: float = _number(1.0, 1e-3)
    # Of settled_ratio: by how many mini-steps a window may exceed the last one.
    window_max_growth: int = _number(1, 0)
    # Of active_count: the active examples of a window.
    window_target: int = _number(64, 1)
    # The longest window; the paper's is 2.
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
    # So many of the newest checkpoints are kept, in case one cannot be read.
    keep_checkpoints: int = _number(2, 1)
    # In the end, list so many training examples whose label the network contradicts
    # most, which takes a pass over all of them; 0: none.
    suspicious_rows: int = _number(20, 0)
    # What is told of the run beside its folder: tensorboard, wandb, mlflow.
    loggers: tuple[str, ...] = ("tensorboard",)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompactConfig:
    """How `training.mode=compact` finds active examples, and when it does not try."""

    # With a smaller share of settled examples, train plainly. About what a pass without
    # gradient costs of a whole step.
    break_even: float = _number(0.25, 0.0, 1.0)
    # While training is plain, decide anew whenever so many examples have passed; 0: at
    # the beginning of an epoch alone.
    decide_every: int = _number(2048, 0)
    # Examples that a pass without gradient takes at once; 0: training.batch_size.
    batch_size: int = _number(0, 0)
    # Examples that are looked at under one set of parameters, sorted by length; 0: as
    # many as fill the next batch, so that none is active by parameters of before.
    look_rows: int = _number(0, 0)
    # Of the pass without gradient. Empty: bfloat16 on a GPU or TPU, on a CPU
    # model.compute_dtype.
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
    # weighs the others of those up.
    pruned_share: float = _number(0.5, 0.0, 0.99)
    # The share of training, at its end, in which infobatch leaves nothing out.
    whole_share: float = _number(0.125, 0.0, 1.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """Devices along each axis of the mesh."""

    # Devices that share the rows of a batch; 0: all that `mesh.model` leaves.
    data: int = _number(0, 0)
    # Devices that share wide layers and the classes of the output layer.
    model: int = _number(1, 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that decides a run."""

    # What is predicted from what: text, multi_label, tokens, next_token, image, audio
    # or features.
    task: str = "image"
    # Of the initial parameters, the order of the examples and dropout.
    seed: int = _number(0, 0, 2**32 - 1)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    compact: CompactConfig = dataclasses.field(default_factory=CompactConfig)
    selection: SelectionConfig = dataclasses.field(default_factory=SelectionConfig)
    mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)
