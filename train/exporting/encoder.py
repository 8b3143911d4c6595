"""A fine-tuned encoder as a folder of Hugging Face: two layouts."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import save_file
from scipy.special import expit
from tokenizers import Tokenizer

from ..command.names import command_line
from ..errors import ConfigError
from ..models.family import TextEncoderConfig
from ..models.heads import as_linear
from ..models.huggingface import (
    FAMILIES,
    exported_tokenizer_config,
    plain_name,
    sentence_config,
)
from ..models.pretrained import (
    CONFIG,
    TOKENIZER,
    WEIGHTS,
    classifier_tensors,
    encoder_tensors,
    export_encoder,
)
from ..recipe.network import HEAD
from ..storage import as_json
from ..workdir.finished_run import FinishedRun
from .loading import HERE, Loading

# The names under which every version of sentence-transformers finds its parts.
_MODULES = {"": "Transformer", "1_Pooling": "Pooling", "2_Dense": "Dense"}


class _Classifier(NamedTuple):
    """What both layouts hold of a run."""

    encoder: TextEncoderConfig
    params: dict[str, Any]  # with a linear output layer
    classes: list[str]
    tokenizer: Tokenizer
    max_length: int
    temperature: float
    threshold: float | None  # a probability, where there may be several labels


def write_transformers(finished: FinishedRun, folder: Path) -> Loading:
    """Writes a folder from which transformers gives the run's answers.

    Raises:
      ConfigError: the run's model is no pretrained encoder, or gives cosines.
    """
    made = _classifier(finished)
    network = finished.scorer.network
    per_token = network.spec.per_token
    export_encoder(
        folder,
        made.encoder,
        made.params,
        classes=made.classes,
        pooling=None if per_token else network.model.pooling,
        tokenizer=made.tokenizer,
        max_length=made.max_length,
        temperature=made.temperature,
        threshold=made.threshold,
    )
    return _loading_by_pipeline(made, per_token=per_token)


def write_sentence_transformers(finished: FinishedRun, folder: Path) -> Loading:
    """Writes a folder whose scores sentence-transformers gives, with no code in it.

    It knows pooling by the mean and a linear layer on top, which transformers does not.

    Raises:
      ConfigError: as above, or the run gives tags.
    """
    made = _classifier(finished)
    network = finished.scorer.network
    if network.spec.per_token:
        raise ConfigError(
            "--format sentence-transformers: it has no layer on each token; --format "
            "transformers holds tags, and takes no trust"
        )
    head = classifier_tensors(made.params[HEAD]["linear"], made.temperature)
    width = made.encoder.width
    dense = {f"linear.{name.rpartition('.')[2]}": value for name, value in head.items()}
    named = encoder_tensors(made.encoder, made.params["encoder"])
    encoder = {plain_name(made.encoder, name): value for name, value in named}
    texts = {
        CONFIG: sentence_config(
            made.encoder, classes=made.classes, threshold=made.threshold
        ),
        TOKENIZER: made.tokenizer.to_str(pretty=True),
        "tokenizer_config.json": exported_tokenizer_config(
            made.tokenizer, made.encoder, made.max_length
        ),
        "modules.json": as_json(_modules()),
        "sentence_bert_config.json": as_json({"max_seq_length": made.max_length}),
        "1_Pooling/config.json": as_json(
            {
                "word_embedding_dimension": width,
                "pooling_mode_cls_token": network.model.pooling == "cls",
                "pooling_mode_mean_tokens": network.model.pooling == "mean",
            }
        ),
        "2_Dense/config.json": as_json(
            {
                "in_features": width,
                "out_features": len(made.classes),
                "bias": True,
                "activation_function": "torch.nn.modules.linear.Identity",
            }
        ),
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    for part, tensors in (("", encoder), ("2_Dense", dense)):
        tensors = {n: np.ascontiguousarray(v, np.float32) for n, v in tensors.items()}
        save_file(tensors, folder / part / WEIGHTS, metadata={"format": "pt"})
    return _loading_by_sentence(made)


def _classifier(finished: FinishedRun) -> _Classifier:
    """Returns what is written; refuses what is no pretrained encoder."""
    network = finished.scorer.network
    if network.spec.encoder is None:
        raise ConfigError(
            f"--workdir: the model of {finished.workdir} is no pretrained encoder, and "
            "has no form that transformers knows; --format stablehlo takes every "
            f"model, and so does {command_line('predict')}"
        )
    if FAMILIES[network.spec.encoder.model_type].reads != "text":
        raise ConfigError(
            f"--workdir: the encoder of {finished.workdir} reads no text, and others "
            "are not written for transformers yet; --format stablehlo takes every "
            f"model, and so does {command_line('predict')}"
        )
    params = dict(network.merged(finished.params))
    linear = as_linear(network.head, params[HEAD])
    if linear is None:
        raise ConfigError(
            f"--workdir: the output layer of {finished.workdir}, {network.head}, is no "
            "linear one, and transformers has no other; --format stablehlo takes every "
            f"model, and so does {command_line('predict')}"
        )
    params[HEAD] = linear
    temperature, threshold = finished.calibration
    several = finished.scorer.objective.row.target == "multi_hot"
    return _Classifier(
        network.spec.encoder,
        params,
        [str(name) for name in finished.classes],
        Tokenizer.from_str(finished.codec.files()[TOKENIZER]),
        finished.config.data.max_length,
        temperature,
        expit(threshold / temperature).item() if several else None,
    )


def _modules() -> list[dict[str, Any]]:
    return [
        {
            "idx": k,
            "name": str(k),
            "path": path,
            "type": f"sentence_transformers.models.{kind}",
        }
        for k, (path, kind) in enumerate(_MODULES.items())
    ]


def _inputs(made: _Classifier) -> str:
    return f"texts, of which the first {made.max_length} tokens are read"


def _loading_by_pipeline(made: _Classifier, *, per_token: bool) -> Loading:
    task = "token-classification" if per_token else "text-classification"
    trust = "" if per_token else ", trust_remote_code=True, truncation=True"
    several = made.threshold is not None
    everything = ", top_k=None" if several else ""
    notes = ["Scores are calibrated: the temperature is part of the classifier."]
    files = [("model.safetensors", "the encoder and the classifier")]
    if several:
        notes.append(
            "Labels whose score is above `label_threshold` of config.json, "
            f"{made.threshold:.4g}, are the answer."
        )
    if not per_token:
        notes.append(
            "transformers has no class that pools hidden states as this model does; "
            "`pooled_encoder.py` is one, and `trust_remote_code=True` lets it run. "
            "Read it first: it is short."
        )
        files.append(("pooled_encoder.py", "the class that pools"))
    return Loading(
        library="transformers",
        packages=("transformers", "torch"),
        lines=(
            "from transformers import pipeline",
            f'answer = pipeline("{task}", "{HERE}"{trust}{everything})',
            'answer(["a text", "another text"])',
        ),
        notes=tuple(notes),
        inputs=_inputs(made),
        files=(
            *files,
            ("config.json", "the encoder's shape, and the classes"),
            ("tokenizer.json, tokenizer_config.json", "the tokenizer"),
        ),
    )


def _loading_by_sentence(made: _Classifier) -> Loading:
    several = made.threshold is not None
    squash = "scores.sigmoid()" if several else "scores.softmax(dim=-1)"
    notes = [
        "`model.encode` gives scores, not embeddings: the last layer is the "
        "classifier, and the temperature is part of it. No code of this folder runs.",
        "`model[0].auto_model.config.id2label` has the classes by number. That a "
        "`pooler` is missing, as loading reports, changes nothing: no score is made of "
        "it.",
    ]
    if several:
        notes.append(
            "Labels whose probability is above `label_threshold` of config.json, "
            f"{made.threshold:.4g}, are the answer."
        )
    return Loading(
        library="sentence-transformers",
        packages=("sentence-transformers",),
        lines=(
            "from sentence_transformers import SentenceTransformer",
            f'model = SentenceTransformer("{HERE}")',
            'scores = model.encode(["a text"], convert_to_tensor=True)',
            f"probabilities = {squash}",
        ),
        notes=tuple(notes),
        inputs=_inputs(made),
        files=(
            ("model.safetensors", "the encoder"),
            ("2_Dense", "the classifier"),
            ("config.json", "the encoder's shape, and the classes"),
            ("tokenizer.json, tokenizer_config.json", "the tokenizer"),
        ),
    )
