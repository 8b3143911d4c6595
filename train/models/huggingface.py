"""What the files of Hugging Face call the parts of an encoder.

One table says, for each `model_type`, where config.json keeps its sizes and what
model.safetensors calls its weights; a file an architecture has the rows.
"""

import json
from collections.abc import Mapping
from typing import Any

import tokenizers

from ..config import nearest
from ..errors import DataError
from . import bert, convnext, deberta, modernbert, vit, wav2vec2
from .family import EncoderConfig, Family, TextEncoderConfig, TransformerConfig
from .layers import ACTIVATIONS

FAMILIES: Mapping[str, Family] = {
    **bert.FAMILIES,
    **modernbert.FAMILIES,
    **deberta.FAMILIES,
    **vit.FAMILIES,
    **convnext.FAMILIES,
    **wav2vec2.FAMILIES,
}
# Parameter of a module of ours -> the weight's name; others stand for themselves.
_LEAVES = {
    "embedding": "weight",
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
}
# Axes of a kernel -> the order of them in a file: outputs, inputs, and places last.
_KERNEL_AXES = {2: (1, 0), 3: (2, 1, 0), 4: (3, 2, 0, 1)}
# What endings of names were once -> what they are.
_OLD_ENDINGS = {
    "LayerNorm.gamma": "LayerNorm.weight",
    "LayerNorm.beta": "LayerNorm.bias",
    ".weight_g": ".parametrizations.weight.original0",
    ".weight_v": ".parametrizations.weight.original1",
}
# The `model_type` of an exported encoder with a classifier of its pooled states.
POOLED = "pooled_encoder"
# What an exported folder says beside the encoder's own keys.
_EXPORTED = (
    *("classifier_pooling", "encoder_type", "auto_map", "pooling", "problem_type"),
    "label_threshold",
)
# Of tokenizers, by role: BERT's name and RoBERTa's.
_SPECIAL = {
    "unk": ("[UNK]", "<unk>"),
    "cls": ("[CLS]", "<s>"),
    "sep": ("[SEP]", "</s>"),
    "mask": ("[MASK]", "<mask>"),
}


def parse_config(text: str, place: str) -> Any:
    """Returns the encoder's shape.

    Args:
      text: the content of a config.json.
      place: where it came from, for messages.

    Raises:
      DataError: it is not the configuration of an encoder that is known here.
    """
    content = _parse_object(text, place)
    model_type: Any = content.get("model_type")
    if model_type == POOLED:
        model_type = content.get("encoder_type")
    if model_type not in FAMILIES:
        cure = nearest(str(model_type), FAMILIES)
        raise DataError(f"{place}: `model_type` is {model_type!r}; {cure}")
    family = FAMILIES[model_type]
    _check_fixed(family, content, place)
    fields = {f: _size(content, key, place) for f, key in family.sizes.items()}
    fields |= {f: content.get(*pair) for f, pair in family.options.items()}
    try:
        fields |= family.more(content)
    except ValueError as error:
        raise DataError(f"{place}: {error}; take another encoder") from error
    config = family.config(model_type=model_type, source=text, **fields)
    _check_activation(fields["activation"], place)
    if isinstance(config, TransformerConfig):
        _check_heads(config, place)
    _check_whole(family, fields, place)
    return config


def weight_names(config: EncoderConfig, path: tuple[str | int, ...]) -> tuple[str, ...]:
    """Returns what model.safetensors calls a parameter, without prefix.

    Args:
      config: of the encoder.
      path: of the parameter in the encoder's tree.

    Returns:
      The names of the tensors that, side by side on the last axis, are the parameter.
    """
    number = next((part for part in path if isinstance(part, int)), 0)
    name = ".".join("{}" if isinstance(part, int) else str(part) for part in path)
    known = FAMILIES[config.model_type].modules
    suffix = ""
    if name not in known:
        name, _, leaf = name.rpartition(".")
        suffix = f".{_LEAVES[leaf]}"
    places = config.block_names(number)
    return tuple(part.format(number, **places) + suffix for part in known[name])


def file_axes(path: tuple[str | int, ...], rank: int) -> tuple[int, ...]:
    """Returns the order that the axes of a parameter have in a file.

    Args:
      path: of the parameter in the encoder's tree.
      rank: its number of axes.
    """
    return _KERNEL_AXES[rank] if path[-1] == "kernel" else tuple(range(rank))


def plain_name(config: EncoderConfig, name: str) -> str:
    """Returns a tensor's name without the prefix, and with today's endings.

    Args:
      config: of the encoder.
      name: as the file has it.
    """
    name = name.removeprefix(FAMILIES[config.model_type].prefix)
    for old, new in _OLD_ENDINGS.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def exported_config(
    config: EncoderConfig,
    *,
    classes: list[str],
    pooling: str | None,
    threshold: float | None,
) -> str:
    """Returns the config.json of an encoder with a classifier of ours.

    Args:
      config: of the encoder; fields of its file that do not matter here are kept.
      classes: their names, in the order of the logits.
      pooling: mean or cls; None: logits are of each token.
      threshold: the probability above which a label is given, where there may be
        several; None: there is one.
    """
    content = _plain_config(config, classes, "ForTokenClassification")
    if pooling:
        # The classes of transformers pool by a layer that was not trained.
        module, kind = "pooled_encoder", "PooledEncoderForSequenceClassification"
        several = "single" if threshold is None else "multi"
        content |= {
            "model_type": POOLED,
            "encoder_type": config.model_type,
            "architectures": [kind],
            "auto_map": {
                "AutoConfig": f"{module}.PooledEncoderConfig",
                "AutoModelForSequenceClassification": f"{module}.{kind}",
            },
            "pooling": pooling,
            "problem_type": f"{several}_label_classification",
        }
    if threshold is not None:
        content["label_threshold"] = threshold
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def sentence_config(
    config: EncoderConfig, *, classes: list[str], threshold: float | None
) -> str:
    """Returns the config.json of an encoder alone; for the arguments see above."""
    content = _plain_config(config, classes, "Model")
    if threshold is not None:
        content["label_threshold"] = threshold
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def exported_tokenizer_config(
    tokenizer: tokenizers.Tokenizer, config: TextEncoderConfig, max_length: int
) -> str:
    """Returns the tokenizer_config.json that goes with a tokenizer.json.

    Args:
      tokenizer: of the encoder.
      config: of the encoder, which knows the token of padding.
      max_length: tokens a text at most.
    """
    known = tokenizer.get_vocab(with_added_tokens=True)
    special = {
        f"{role}_token": next((t for t in names if t in known), None)
        for role, names in _SPECIAL.items()
    }
    content = {
        # Of this class, transformers takes the file as it is.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": max_length,
        "pad_token": tokenizer.id_to_token(config.pad_token_id),
        **{role: token for role, token in special.items() if token is not None},
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _plain_config(
    config: EncoderConfig, classes: list[str], kind: str
) -> dict[str, Any]:
    """Returns the encoder's own keys, with the classes' names, for a class of a kind.

    The number of classes follows from id2label, and the numbers are float32 now.
    """
    content = json.loads(config.source)
    for key in ("num_labels", "torch_dtype", "dtype", *_EXPORTED):
        content.pop(key, None)
    return content | {
        "model_type": config.model_type,
        "architectures": [FAMILIES[config.model_type].class_name + kind],
        "id2label": {str(i): name for i, name in enumerate(classes)},
        "label2id": {name: i for i, name in enumerate(classes)},
    }


def _parse_object(text: str, place: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{place}:{error.lineno}: not JSON: {error.msg}; fetch the file again"
        ) from error
    if not isinstance(content, dict):
        raise DataError(f"{place}: not a JSON object; fetch the file again")
    return content


def _size(content: Mapping[str, Any], key: str, place: str) -> int:
    value = content.get(key)
    if type(value) is not int or value < 1:
        raise DataError(
            f"{place}: `{key}` is {value!r}; it must be a whole number above 0"
        )
    return value


def _check_fixed(family: Family, content: Mapping[str, Any], place: str) -> None:
    """Refuses a network that computes something else than those known here."""
    for key, (known, default) in family.fixed.items():
        value = content.get(key, default)
        if value != known:
            raise DataError(
                f"{place}: `{key}` is {value!r}, and {known!r} alone is known; "
                "take another encoder"
            )


def _check_activation(name: Any, place: str) -> None:
    if name not in ACTIVATIONS:
        cure = nearest(str(name), ACTIVATIONS)
        raise DataError(f"{place}: no activation {name!r}; {cure}")


def _check_heads(config: TransformerConfig, place: str) -> None:
    """Refuses values that do not fit each other or the network."""
    if config.width % config.heads:
        raise DataError(
            f"{place}: a width of {config.width} does not divide into {config.heads} "
            "heads; fetch the file again"
        )
    epsilon = config.layer_norm_epsilon
    if type(epsilon) not in (int, float) or epsilon < 0:
        raise DataError(
            f"{place}: `layer_norm_eps` is {epsilon!r}; it must be a number, 0 or more"
        )


def _check_whole(family: Family, fields: Mapping[str, Any], place: str) -> None:
    """Refuses what must be a whole number and is none."""
    for field in ("pad_token_id", "type_vocabulary_size"):
        if field not in family.options:
            continue
        key, value = family.options[field][0], fields[field]
        if type(value) is not int or value < 0:
            raise DataError(
                f"{place}: `{key}` is {value!r}; it must be a whole number, 0 or more"
            )
