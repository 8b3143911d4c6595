"""The typed configuration: its fields, its files, its overrides, its refusals.

A configuration file is a Python file with a function `get_config()` that returns a
`Config` and names only what differs from the defaults below. Overrides are flags
of the form `--config.loss.delta=0.2`.
"""

import ast
import dataclasses
import difflib
import math
import re
import traceback
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from train.errors import ConfigError

if TYPE_CHECKING:
    from as_softmax_jax.losses import Loss

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

    # digits, files, folders or tfds; see train/data.
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


# The type of a number that may be left open, and how a flag does so.
_OPTIONAL, _NONE = float | None, "none"
# What older files hold in place of a value of today: key -> old value -> value.
_OLD_VALUES = {"model.head": {"dense": ""}}


def keywords_of_field() -> dict[str, tuple[str, ...]]:
    """Returns which keywords of a loss each field of `LossConfig` is about.

    The margins have fields of their own, `{margin}_warmup`, and fields that either
    margin has. Other keywords are options.
    """
    names = {field.name for field in dataclasses.fields(LossConfig)}
    of_margins = names - {"name", "options"}
    return {
        name: tuple(m for m in MARGINS if name in (m, f"{m}_warmup")) or MARGINS
        for name in sorted(of_margins)
    }


def row_of_margin(row: "Loss", given: Mapping[str, Any]) -> "Loss":
    """Returns the row of the margin that is given; none: of the recommended one.

    Args:
      row: of the table of losses.
      given: the keys of `loss` and their values; one that is None is not given.
    """
    return next(
        (row.by_margin[m] for m in row.margins if given.get(m) is not None), row
    )


def with_margin(config: Config) -> Config:
    """Returns the configuration with its margin written out where nobody gave one.

    What is stored then means the same under a later default.
    """
    # Not at the top: whoever only reads a configuration does without JAX.
    from as_softmax_jax.losses import LOSSES

    if config.loss.name not in LOSSES:
        return config
    given = {m: getattr(config.loss, m) for m in MARGINS}
    row = row_of_margin(LOSSES[config.loss.name], given)
    if row.margin is None or given[row.margin] is not None:
        return config
    return _replace(config, f"loss.{row.margin}", float(row.keywords[row.margin]))


def unread_fields(row: "Loss") -> dict[str, Any]:
    """Returns the fields of `LossConfig` that a loss does not read, at their defaults.

    Args:
      row: of the loss and its margin, see `row_of_margin`.
    """
    default = LossConfig()
    return {
        field: getattr(default, field)
        for field, keywords in keywords_of_field().items()
        if not any(keyword in row.keywords for keyword in keywords)
    }


def default_slack(*, logits: bool) -> float:
    """Returns the slack of compact training where none is given.

    Args:
      logits: whether leads are in logits, not in probability.
    """
    # In logits none: the examples trained on are then exactly the unsettled ones.
    return 0.0 if logits else 0.3


def nearest(name: str, names: Iterable[str]) -> str:
    """Returns the end of a refusal: the nearest right name, or all of them.

    Args:
      name: what was asked for.
      names: what there is.
    """
    names = sorted(names)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean `{close[0]}`?"
    return "it can be " + ", ".join(f"`{n}`" for n in names)


def keys(section: Any = Config, prefix: str = "") -> dict[str, Any]:
    """Returns the type of every key, `loss.delta` for instance, of a dataclass.

    Args:
      section: a dataclass whose fields are values or further sections.
      prefix: of the keys.
    """
    found: dict[str, Any] = {}
    for name, kind in typing.get_type_hints(section).items():
        if dataclasses.is_dataclass(kind):
            found |= keys(kind, f"{prefix}{name}.")
        else:
            found[prefix + name] = kind
    return found


def load(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Reads a configuration file, applies overrides and checks the whole.

    Args:
      path: a Python file that defines `get_config()`.
      overrides: flags of the form `--config.loss.delta=0.2`.

    Returns:
      The configuration, every value of its type and in its range.

    Raises:
      ConfigError: the file or a flag is not right; the message says where.
    """
    config, overrides = _run_file(Path(path).expanduser()), list(overrides)
    for flag in overrides:
        config = override(config, flag)
    _refuse_two_margins({m for flag in overrides if (m := _margin_set_by(flag))})
    check(config)
    return config


def override(config: Config, flag: str) -> Config:
    """Returns `config` with one `--config.key=value` applied, not yet checked.

    A margin takes the place of the other one, which the file may have set.

    Raises:
      ConfigError: the flag is no such flag, its key is unknown, or its value of
        another type.
    """
    key, text = _parts(flag)
    known = keys()
    section, name = _split_entry(key)
    if known.get(section) == Mapping[str, float] and name:
        entries = dict(_get(config, section))
        entries[name] = _parse(text, float, key)
        return _replace(config, section, entries)
    if key not in known or known[key] == Mapping[str, float]:
        raise ConfigError(f"unknown key `{key}`; {nearest(key, known)}")
    if margin := _margin_set_by(flag):
        for other in {*MARGINS} - {margin}:
            config = _replace(config, f"loss.{other}", None)
    return _replace(config, key, _parse(text, known[key], key))


def check(config: Any, prefix: str = "") -> None:
    """Refuses a value of the wrong type or out of its range.

    Args:
      config: a configuration or a section of it.
      prefix: of the keys in messages.

    Raises:
      ConfigError: names the key, what it is and what it must be.
    """
    hints = typing.get_type_hints(type(config))
    if isinstance(config, LossConfig):
        _refuse_two_margins({m for m in MARGINS if getattr(config, m) is not None})
    for field in dataclasses.fields(config):
        key, value, kind = prefix + field.name, getattr(config, field.name), hints
        if dataclasses.is_dataclass(kind[field.name]):
            _check_type(value, kind[field.name], key)
            check(value, key + ".")
        else:
            _check_type(value, kind[field.name], key)
            _check_range(value, field.metadata, key)


def as_dict(config: Config) -> dict[str, Any]:
    """Returns the configuration as JSON would give it back."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: plain(inner) for name, inner in value.items()}
        return list(value) if isinstance(value, tuple) else value

    return plain(dataclasses.asdict(config))


def from_dict(plain: Mapping[str, Any], kind: Any = Config) -> Any:
    """Returns the configuration that `as_dict` gave; a missing key has its default.

    A value that older files have in place of one of today counts as that.

    Args:
      plain: nested dicts as JSON gives them.
      kind: the dataclass to make of them.

    Raises:
      ConfigError: a key is unknown, or a value not of its type.
    """
    config = _from_plain(plain, kind, prefix="")
    check(config)
    return config


def flatten(section: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested settings under dotted keys; an empty section has none."""
    found: dict[str, Any] = {}
    for name, value in section.items():
        if isinstance(value, Mapping):
            found |= flatten(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def settings(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a stored configuration under dotted keys.

    A key that came later has its default; one that is gone stays. What the loss does
    not read has its default, and a margin that nobody gave its value: equal settings
    are equal runs.

    Args:
      plain: nested dicts as `as_dict` gave them, now or in an older version.
    """
    found = flatten(as_dict(Config())) | flatten(plain)
    for key, values in _OLD_VALUES.items():
        found[key] = values.get(found[key], found[key])
    return _as_read(found)


def _as_read(found: dict[str, Any]) -> dict[str, Any]:
    """Returns settings as the loss reads them; those of no known loss as they are."""
    # Not at the top: whoever only reads a configuration does without JAX.
    from as_softmax_jax.losses import LOSSES

    name = found["loss.name"]
    if not isinstance(name, str) or name not in LOSSES:
        return found
    row = row_of_margin(LOSSES[name], {m: found[f"loss.{m}"] for m in MARGINS})
    for field, default in unread_fields(row).items():
        inside = f"loss.{field}."
        found = {k: v for k, v in found.items() if not k.startswith(inside)}
        if not isinstance(default, Mapping):
            found[f"loss.{field}"] = default
    if row.margin is not None and found[f"loss.{row.margin}"] is None:
        found[f"loss.{row.margin}"] = row.keywords[row.margin]
    if found["compact.slack"] is None:
        found["compact.slack"] = default_slack(logits=row.margin_in_logits)
    return found


def first_difference(held: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """Returns `loss.delta: 0.1 there, 0.2 asked for`; nothing where both agree.

    Args:
      held: settings under dotted keys.
      asked: others.
    """
    for key in sorted(held.keys() | asked.keys()):
        if (key in held, held.get(key)) != (key in asked, asked.get(key)):
            shown = (repr(c[key]) if key in c else "nothing" for c in (held, asked))
            return "{}: {} there, {} asked for".format(key, *shown)
    return ""


def _from_plain(plain: Mapping[str, Any], kind: Any, prefix: str) -> Any:
    """Returns a section of a configuration, not yet checked."""
    hints, values = typing.get_type_hints(kind), {}
    for name, value in plain.items():
        if name not in hints:
            raise ConfigError(f"unknown key `{name}`; {nearest(name, hints)}")
        if dataclasses.is_dataclass(hints[name]):
            value = _from_plain(value, hints[name], f"{prefix}{name}.")
        elif isinstance(value, str):
            value = _OLD_VALUES.get(prefix + name, {}).get(value, value)
        values[name] = tuple(value) if isinstance(value, list) else value
    return kind(**values)


def _run_file(path: Path) -> Config:
    """Runs a configuration file and returns what its `get_config()` returns."""
    try:
        source = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"--config: cannot read {path}: {error.strerror}; name a Python file "
            "such as configs/digits.py"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text; save the file as UTF-8") from error
    try:
        code = compile(ast.parse(source, str(path)), str(path), "exec")
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        what = getattr(error, "msg", None) or error
        raise ConfigError(f"{path}:{line}: syntax error: {what}; correct it") from error
    return _call_get_config(code, path)


def _call_get_config(code: Any, path: Path) -> Config:
    """Executes the compiled file; an error in it becomes one line with its place."""
    namespace: dict[str, Any] = {"__name__": path.stem, "__file__": str(path)}
    try:
        exec(code, namespace)
        get_config = namespace.get("get_config")
        config = get_config() if callable(get_config) else None
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(path)]
        place = f"{path}:{lines[-1]}" if lines else str(path)
        raise ConfigError(f"{place}: {_reason(error)}") from error
    if not isinstance(config, Config):
        raise ConfigError(
            f"{path}: define get_config() that returns train.config's Config"
        )
    return config


def _reason(error: Exception) -> str:
    """Returns an exception as one line, with the nearest key for an unknown one."""
    unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if unknown:
        names = {part for key in keys() for part in key.split(".")}
        return f"unknown key `{unknown[1]}`; {nearest(unknown[1], names)}"
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _parts(flag: str) -> tuple[str, str]:
    """Returns the key and the text of a flag; refuses what is none."""
    match = re.fullmatch(r"--config\.([^=]+)=(.*)", flag, flags=re.DOTALL)
    if not match:
        raise ConfigError(f"unknown flag {flag!r}; write --config.loss.delta=0.2")
    return match[1], match[2]


def _split_entry(key: str) -> tuple[str, str]:
    """Returns `loss.options` and `k` of `loss.options.k`; a name may hold dots."""
    section, field, name = [*key.split(".", 2), "", ""][:3]
    return f"{section}.{field}", name


def _margin_set_by(flag: str) -> str:
    """Returns the margin that a flag gives; empty: none."""
    key, text = _parts(flag)
    name = key.removeprefix("loss.")
    given = key != name and name in MARGINS and text.lower() != _NONE
    return name if given else ""


def _refuse_two_margins(given: set[str]) -> None:
    if len(given) > 1:
        first, second = (f"`loss.{name}`" for name in MARGINS)
        raise ConfigError(
            f"{first} and {second}: a loss takes one margin; leave out {second} for a "
            f"margin in logits, or {first} for one in probability"
        )


def _get(config: Any, key: str) -> Any:
    """Returns the value at a dotted key."""
    for name in key.split("."):
        config = getattr(config, name)
    return config


def _replace(config: Any, key: str, value: Any) -> Any:
    """Returns `config` with the value at a dotted key replaced."""
    name, _, rest = key.partition(".")
    if rest:
        value = _replace(getattr(config, name), rest, value)
    return dataclasses.replace(config, **{name: value})


def _parse(text: str, kind: Any, key: str) -> Any:
    """Returns the text of a flag as a value of the field's type."""
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if kind == tuple[str, ...]:
            return tuple(part for part in text.split(",") if part)
        if kind == _OPTIONAL:
            return None if text.lower() == _NONE else float(text)
        return kind(text)
    except (ValueError, KeyError) as error:
        raise ConfigError(
            f"`{key}` must be {_type_name(kind)}; got {text!r}"
        ) from error


def _check_type(value: Any, kind: Any, key: str) -> None:
    """Refuses a value that is not of the field's type; an int serves as a float."""
    if kind == Mapping[str, float]:
        right = isinstance(value, Mapping) and all(
            isinstance(v, int | float) and math.isfinite(v) for v in value.values()
        )
    elif kind == tuple[str, ...]:
        right = isinstance(value, tuple) and all(isinstance(v, str) for v in value)
    elif kind == _OPTIONAL and value is None:
        right = True
    elif kind in (float, _OPTIONAL):
        right = type(value) in (int, float) and math.isfinite(value)
    else:
        right = type(value) is kind
    if not right:
        raise ConfigError(f"`{key}` must be {_type_name(kind)}; got {value!r}")


def _type_name(kind: Any) -> str:
    """Returns a type as a user would name it."""
    names: dict[Any, str] = {
        int: "a whole number",
        float: "a finite number",
        _OPTIONAL: "a finite number or none",
        bool: "true or false",
        str: "text",
        tuple[str, ...]: "names separated by commas (a tuple in a file)",
        Mapping[str, float]: "a dict of names and finite numbers",
    }
    return names.get(kind) or f"a {kind.__name__}"


def _check_range(value: Any, metadata: Mapping[str, Any], key: str) -> None:
    """Refuses a value outside its field's range or list of names."""
    if "range" in metadata and value is not None:
        low, high = metadata["range"]
        if not low <= value <= high:
            top = "" if math.isinf(high) else f" and at most {high}"
            raise ConfigError(f"`{key}` must be at least {low}{top}; got {value}")
    if "names" in metadata and value not in metadata["names"]:
        raise ConfigError(f"`{key}`: no {value!r}; {nearest(value, metadata['names'])}")
