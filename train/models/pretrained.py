"""Folders of pretrained encoders: found, read, and written again after training."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import tokenizers
from flax import nnx
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ..config import ModelConfig
from ..data.pointers import HEAD, pointer
from ..errors import ConfigError, DataError
from .family import EncoderConfig, Reads, TextEncoderConfig
from .huggingface import (
    FAMILIES,
    exported_config,
    exported_tokenizer_config,
    file_axes,
    parse_config,
    plain_name,
    weight_names,
)

CONFIG, TOKENIZER = "config.json", "tokenizer.json"
PREPROCESSOR = "preprocessor_config.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
# Never a pickle: loading one runs whatever code it holds.
_DOWNLOADED = [
    *(CONFIG, TOKENIZER, PREPROCESSOR),
    *(WEIGHTS, INDEX, "model-*.safetensors"),
]


class Weights(NamedTuple):
    """What a folder's files hold."""

    params: dict[str | int, Any]  # nested as the encoder's, float32
    unused: tuple[str, ...]  # names of tensors that the encoder has no place for


def find_folder(name: str) -> Path:
    """Returns the folder of an encoder, downloaded where it is not here.

    Args:
      name: a folder, or the name of a model on the Hugging Face hub.

    Raises:
      ConfigError: there is no such folder, and the hub does not give it.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_absolute() or name.startswith((".", "~")):
        raise ConfigError(
            f"`model.pretrained`: no folder {name}; name one with {CONFIG}, {WEIGHTS} "
            f"and {TOKENIZER}, or {PREPROCESSOR} in place of that"
        )
    try:
        import huggingface_hub
    except ImportError as error:
        raise ConfigError(
            f"`model.pretrained`: no folder {name}, and to ask the hub for it takes "
            "huggingface_hub; pip install 'as_softmax_jax[hub]', or name a folder"
        ) from error
    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=_DOWNLOADED))
    # The hub's errors come from several libraries and share no base.
    except Exception as error:
        raise ConfigError(
            f"`model.pretrained`: no folder {name}, and the hub does not give it "
            f"({type(error).__name__}); check name and network, or download it "
            "elsewhere and name its folder"
        ) from error


def read_encoder_config(folder: Path, reads: Reads = "text") -> Any:
    """Returns the shape of a folder's encoder.

    Args:
      folder: of the encoder.
      reads: what the task has for it.

    Raises:
      DataError: config.json is missing, or not of an encoder that is known here.
      ConfigError: it reads something else.
    """
    config = parse_config(read_text(folder, CONFIG), str(folder / CONFIG))
    found = FAMILIES[config.model_type].reads
    if found != reads:
        fit = [name for name, family in FAMILIES.items() if family.reads == reads]
        raise ConfigError(
            f"`model.pretrained`: {folder} has an encoder of {found} "
            f"({config.model_type}), and this task is of {reads}; for it there are "
            f"{', '.join(fit)}"
        )
    return config


def load_weights(folder: Path, config: EncoderConfig) -> Weights:
    """Returns the encoder's parameters from a folder's safetensors files.

    Args:
      folder: with model.safetensors, or with shards and their index.
      config: of the encoder, as `read_encoder_config` gives it.

    Returns:
      The parameters, nested as `nnx.to_pure_dict` has those of the network, and the
      names of tensors in the files that were not used.

    Raises:
      DataError: a file is missing or damaged, or tensors are missing or misshapen.
    """
    stored = _locate_tensors(folder, config)
    wanted = {path: weight_names(config, path) for path, _ in _parameters(config)}
    missing = [n for names in wanted.values() for n in names if n not in stored]
    if missing:
        raise DataError(
            f"{folder}: the weights lack {_listed(missing)}; take the files that "
            f"belong to its {CONFIG}"
        )
    used = {name for names in wanted.values() for name in names}
    tensors = _read_tensors({name: stored[name] for name in sorted(used)})
    params: dict[str | int, Any] = {}
    for path, shape in _parameters(config):
        value = _assemble(folder, config, path, shape, tensors)
        _place(params, path, value)
    unused = sorted(stored[name][1] for name in stored.keys() - used)
    return Weights(params, tuple(unused))


def export_encoder(
    folder: Path,
    config: TextEncoderConfig,
    params: Mapping[str, Any],
    *,
    classes: Sequence[str | int],
    pooling: str | None,
    tokenizer: tokenizers.Tokenizer,
    max_length: int,
    temperature: float,
    threshold: float | None,
) -> None:
    """Writes a trained classifier as a folder that transformers loads.

    Its logits are those of the network over the temperature, so that their softmax, or
    their sigmoid where there may be several labels, is the calibrated probability. With
    one row of logits a token, transformers has the class. Otherwise the folder holds
    the code of one, which pools as the network does.

    Args:
      folder: made where it is not there.
      config: of the encoder.
      params: of an `PooledEncoder`.
      classes: their names, in the order of the logits.
      pooling: mean or cls; None: logits are of each token.
      tokenizer: of the encoder.
      max_length: tokens a text at most.
      temperature: divides the logits.
      threshold: the probability above which a label is given, where there may be
        several; None: there is one.

    Raises:
      ConfigError: logits are of each token, for which transformers has no such class.
    """
    tensors = classifier_tensors(params["head"]["linear"], temperature)
    tensors |= dict(encoder_tensors(config, params["encoder"]))
    # safetensors writes a buffer as it lies, whatever its strides say.
    tensors = {n: np.ascontiguousarray(v, np.float32) for n, v in tensors.items()}
    _check_tags(config, pooling)
    names = [str(name) for name in classes]
    texts = {
        CONFIG: exported_config(
            config, classes=names, pooling=pooling, threshold=threshold
        ),
        TOKENIZER: tokenizer.to_str(pretty=True),
        "tokenizer_config.json": exported_tokenizer_config(
            tokenizer, config, max_length
        ),
    }
    if pooling:
        code = Path(__file__).with_name("pooled_encoder.py")
        texts[code.name] = code.read_text(encoding="utf-8")
    folder.mkdir(parents=True, exist_ok=True)
    # transformers refuses a file that does not say which library's layout it has.
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def _check_tags(config: EncoderConfig, pooling: str | None) -> None:
    """Refuses tags where transformers' class for them has more than a linear layer."""
    if not pooling and not FAMILIES[config.model_type].tags:
        raise ConfigError(
            f"--workdir: transformers' class for tags by {config.model_type} has a "
            "layer more, which was not trained; predict with train.predict, or take "
            "an encoder of another family"
        )


def _parameters(
    config: EncoderConfig,
) -> list[tuple[tuple[str | int, ...], tuple[int, ...]]]:
    """Returns path and shape of each of the encoder's parameters."""
    network = FAMILIES[config.model_type].network
    abstract = nnx.eval_shape(lambda: network(config, ModelConfig(), rngs=nnx.Rngs(0)))
    tree = nnx.to_pure_dict(nnx.state(abstract, nnx.Param))
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [(tuple(k.key for k in path), leaf.shape) for path, leaf in leaves]


def _locate_tensors(folder: Path, config: EncoderConfig) -> dict[str, tuple[Path, str]]:
    """Returns plain name -> file and name there, of all tensors of a folder."""
    located: dict[str, tuple[Path, str]] = {}
    for file in _weight_files(folder):
        with _opened(file) as tensors:
            names = list(tensors.keys())
        located |= {plain_name(config, name): (file, name) for name in names}
    return located


def _weight_files(folder: Path) -> list[Path]:
    """Returns the file with the weights, or the shards that an index names."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if not (folder / INDEX).is_file():
        pickled = sorted(file.name for file in folder.glob("pytorch_model*.bin"))
        found = f"{pickled[0]}, a pickle, which is never loaded" if pickled else "none"
        raise DataError(
            f"{folder}: no {WEIGHTS} (found: {found}); write it where PyTorch is: "
            "AutoModel.from_pretrained(...).save_pretrained(..., "
            "safe_serialization=True)"
        )
    try:
        shards = set(json.loads(read_text(folder, INDEX))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{folder / INDEX}: no index of weights; fetch the file again"
        ) from error
    return [folder / str(shard) for shard in sorted(shards)]


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """Opens a safetensors file; a missing or damaged one is refused."""
    try:
        with safe_open(file, "numpy") as tensors:
            yield tensors
    except FileNotFoundError as error:
        raise DataError(
            f"{file}: no such file, though {INDEX} names it; fetch it"
        ) from error
    except (SafetensorError, OSError) as error:
        with file.open("rb") as content:
            stands_for = pointer(content.read(HEAD))
        reason = " ".join(str(error).split())
        raise DataError(
            f"{file}: "
            + (stands_for or f"damaged or cut short ({reason}); fetch the file again")
        ) from error


def _read_tensors(located: Mapping[str, tuple[Path, str]]) -> dict[str, np.ndarray]:
    """Returns the tensors by plain name; half precision becomes float32."""
    tensors = {}
    for file in sorted({file for file, _ in located.values()}):
        with _opened(file) as stored:
            for plain, (holder, name) in located.items():
                if holder == file:
                    tensors[plain] = stored.get_tensor(name).astype(np.float32)
    return tensors


def _assemble(
    folder: Path,
    config: EncoderConfig,
    path: tuple[str | int, ...],
    shape: tuple[int, ...],
    tensors: Mapping[str, np.ndarray],
) -> np.ndarray:
    """Returns one parameter from its tensors, each of the shape it must have."""
    names, axes = weight_names(config, path), file_axes(path, len(shape))
    own = (*shape[:-1], shape[-1] // len(names))
    expected = tuple(own[axis] for axis in axes)
    for name in names:
        if tensors[name].shape != expected:
            raise DataError(
                f"{folder}: `{name}` has shape {tensors[name].shape}; by {CONFIG} it "
                f"is {expected}; take the files that belong together"
            )
    parts = [tensors[name].transpose(np.argsort(axes)) for name in names]
    return np.ascontiguousarray(np.concatenate(parts, axis=-1))


def encoder_tensors(
    config: EncoderConfig, params: Mapping[str | int, Any]
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields prefixed names and tensors of the encoder: `_assemble` turned round."""
    prefix = FAMILIES[config.model_type].prefix
    for path, _ in _parameters(config):
        value: Any = params
        for key in path:
            value = value[key]
        names = weight_names(config, path)
        parts = np.split(np.asarray(value, np.float32), len(names), axis=-1)
        for name, part in zip(names, parts, strict=True):
            yield prefix + name, part.transpose(file_axes(path, part.ndim))


def classifier_tensors(
    head: Mapping[str, Any], temperature: float
) -> dict[str, np.ndarray]:
    """Returns the output layer, whose logits are divided by the temperature."""
    return {
        "classifier.weight": np.asarray(head["kernel"] / temperature).T,
        "classifier.bias": np.asarray(head["bias"] / temperature),
    }


def _place(tree: dict[str | int, Any], path: tuple[str | int, ...], value: Any) -> None:
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = value


def read_text(folder: Path, name: str) -> str:
    """Returns the content of one of a folder's files.

    Raises:
      DataError: it is missing, or no text.
    """
    try:
        return (folder / name).read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"{folder}: cannot read {name}: {error.strerror}; an encoder's folder has "
            f"{CONFIG}, {WEIGHTS} and {TOKENIZER}, or {PREPROCESSOR} in place of that"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{folder / name}: not UTF-8 text; fetch the file again"
        ) from error


def _listed(names: Sequence[str], most: int = 4) -> str:
    """Returns the first few names, and how many more there are."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f"`{name}`" for name in names[:most]) + rest
