"""What the files of Hugging Face call the parts of an encoder.

One table says, for each kind of encoder, where config.json keeps its sizes and what
model.safetensors calls its weights.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import tokenizers

from ..config import nearest
from ..errors import DataError
from .encoder import ACTIVATIONS, EncoderConfig


@dataclasses.dataclass(frozen=True)
class Family:
    """Names of one network's parts.

    Attributes:
      class_name: of its classes in transformers, `BertModel` for instance.
      prefix: before the names of weights, where the file holds more than an encoder.
      sizes: field of `EncoderConfig` -> key of config.json, which must be there.
      options: field of `EncoderConfig` -> key of config.json and its default.
      modules: module of ours -> modules whose weights, side by side, are its own.
    """

    class_name: str
    prefix: str
    sizes: Mapping[str, str]
    options: Mapping[str, tuple[str, Any]]
    modules: Mapping[str, tuple[str, ...]]


_BERT = Family(
    class_name="Bert",
    prefix="bert.",
    sizes={
        "vocabulary_size": "vocab_size",
        "width": "hidden_size",
        "depth": "num_hidden_layers",
        "heads": "num_attention_heads",
        "intermediate_size": "intermediate_size",
        "position_table_size": "max_position_embeddings",
    },
    options={
        "type_vocabulary_size": ("type_vocab_size", 2),
        "layer_norm_epsilon": ("layer_norm_eps", 1e-12),
        "activation": ("hidden_act", "gelu"),
        "pad_token_id": ("pad_token_id", 0),
    },
    modules={
        "words": ("embeddings.word_embeddings",),
        "positions": ("embeddings.position_embeddings",),
        "types": ("embeddings.token_type_embeddings",),
        "norm": ("embeddings.LayerNorm",),
        "blocks.{}.query_key_value": (
            "encoder.layer.{}.attention.self.query",
            "encoder.layer.{}.attention.self.key",
            "encoder.layer.{}.attention.self.value",
        ),
        "blocks.{}.output": ("encoder.layer.{}.attention.output.dense",),
        "blocks.{}.attention_norm": ("encoder.layer.{}.attention.output.LayerNorm",),
        "blocks.{}.expand": ("encoder.layer.{}.intermediate.dense",),
        "blocks.{}.contract": ("encoder.layer.{}.output.dense",),
        "blocks.{}.feed_forward_norm": ("encoder.layer.{}.output.LayerNorm",),
    },
)
_ROBERTA = dataclasses.replace(
    _BERT,
    class_name="Roberta",
    prefix="roberta.",
    options={**_BERT.options, "pad_token_id": ("pad_token_id", 1)},
)
_DISTILBERT = Family(
    class_name="DistilBert",
    prefix="distilbert.",
    sizes={
        "vocabulary_size": "vocab_size",
        "width": "dim",
        "depth": "n_layers",
        "heads": "n_heads",
        "intermediate_size": "hidden_dim",
        "position_table_size": "max_position_embeddings",
    },
    options={
        "activation": ("activation", "gelu"),
        "pad_token_id": ("pad_token_id", 0),
    },
    modules={
        "words": ("embeddings.word_embeddings",),
        "positions": ("embeddings.position_embeddings",),
        "norm": ("embeddings.LayerNorm",),
        "blocks.{}.query_key_value": (
            "transformer.layer.{}.attention.q_lin",
            "transformer.layer.{}.attention.k_lin",
            "transformer.layer.{}.attention.v_lin",
        ),
        "blocks.{}.output": ("transformer.layer.{}.attention.out_lin",),
        "blocks.{}.attention_norm": ("transformer.layer.{}.sa_layer_norm",),
        "blocks.{}.expand": ("transformer.layer.{}.ffn.lin1",),
        "blocks.{}.contract": ("transformer.layer.{}.ffn.lin2",),
        "blocks.{}.feed_forward_norm": ("transformer.layer.{}.output_layer_norm",),
    },
)
FAMILIES = {
    "bert": _BERT,
    "roberta": _ROBERTA,
    "xlm-roberta": dataclasses.replace(_ROBERTA, class_name="XLMRoberta"),
    "distilbert": _DISTILBERT,
}
# Parameter of ours -> the weight's name, and whether it is transposed there.
_LEAVES = {
    "embedding": ("weight", False),
    "kernel": ("weight", True),
    "scale": ("weight", False),
    "bias": ("bias", False),
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
# What only other networks of the same name do -> the values that are harmless.
_FIXED = {
    "position_embedding_type": ("absolute",),
    "is_decoder": (False,),
    "add_cross_attention": (False,),
}


def parse_config(text: str, place: str) -> EncoderConfig:
    """Returns the encoder's shape.

    Args:
      text: the content of a config.json.
      place: where it came from, for messages.

    Raises:
      DataError: it is not the configuration of an encoder that is known here.
    """
    content = _parse_object(text, place)
    model_type = content.get("model_type")
    if model_type == POOLED:
        model_type = content.get("encoder_type")
    if model_type not in FAMILIES:
        cure = nearest(str(model_type), FAMILIES)
        raise DataError(f"{place}: `model_type` is {model_type!r}; {cure}")
    family = FAMILIES[model_type]
    _check_fixed(content, place)
    # A family without keys for these two has no types, and BERT's epsilon.
    fields: dict[str, Any] = {"type_vocabulary_size": 0, "layer_norm_epsilon": 1e-12}
    fields |= {f: _size(content, key, place) for f, key in family.sizes.items()}
    fields |= {f: content.get(*pair) for f, pair in family.options.items()}
    pad = fields["pad_token_id"]
    fields["position_offset"] = pad + 1 if "roberta" in model_type else 0
    config = EncoderConfig(model_type=model_type, source=text, **fields)
    _check(config, place)
    return config


def weight_names(
    config: EncoderConfig, path: tuple[str | int, ...]
) -> tuple[tuple[str, ...], bool]:
    """Returns what model.safetensors calls a parameter, without prefix.

    Args:
      config: of the encoder.
      path: of the parameter in the encoder's tree.

    Returns:
      The names of the tensors that, side by side on the last axis, are the parameter,
      and whether each is transposed.
    """
    *modules, leaf = path
    block = next((part for part in modules if isinstance(part, int)), None)
    module = ".".join("{}" if isinstance(m, int) else str(m) for m in modules)
    suffix, transposed = _LEAVES[str(leaf)]
    parts = FAMILIES[config.model_type].modules[module]
    return tuple(f"{part.format(block)}.{suffix}" for part in parts), transposed


def plain_name(config: EncoderConfig, name: str) -> str:
    """Returns a tensor's name without the prefix, and with today's names of norms.

    Args:
      config: of the encoder.
      name: as the file has it.
    """
    name = name.removeprefix(FAMILIES[config.model_type].prefix)
    name = name.replace("LayerNorm.gamma", "LayerNorm.weight")
    return name.replace("LayerNorm.beta", "LayerNorm.bias")


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
    content = json.loads(config.source)
    # The number of classes follows from id2label, and the numbers are float32 now.
    for key in ("num_labels", "torch_dtype", "dtype", *_EXPORTED):
        content.pop(key, None)
    class_name = FAMILIES[config.model_type].class_name + "ForTokenClassification"
    content |= {
        "model_type": config.model_type,
        "architectures": [class_name],
        "id2label": {str(i): name for i, name in enumerate(classes)},
        "label2id": {name: i for i, name in enumerate(classes)},
    }
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


def exported_tokenizer_config(
    tokenizer: tokenizers.Tokenizer, config: EncoderConfig, max_length: int
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


def _check_fixed(content: Mapping[str, Any], place: str) -> None:
    """Refuses a network that computes something else than those known here."""
    for key, allowed in _FIXED.items():
        value = content.get(key, allowed[0])
        if value not in allowed:
            raise DataError(
                f"{place}: `{key}` is {value!r}, and {allowed[0]!r} alone is known; "
                "take another encoder"
            )


def _check(config: EncoderConfig, place: str) -> None:
    """Refuses values that do not fit each other or the network."""
    if config.activation not in ACTIVATIONS:
        raise DataError(
            f"{place}: no activation {config.activation!r}; "
            f"{nearest(str(config.activation), ACTIVATIONS)}"
        )
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
    whole = {"pad_token_id": config.pad_token_id}
    whole["type_vocab_size"] = config.type_vocabulary_size
    for key, value in whole.items():
        if type(value) is not int or value < 0:
            raise DataError(
                f"{place}: `{key}` is {value!r}; it must be a whole number, 0 or more"
            )
