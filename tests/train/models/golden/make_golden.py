"""Makes the golden folders: tiny random models, and what transformers makes of them.

    pip install torch transformers
    python tests/train/models/golden/make_golden.py

Each folder holds config.json and model.safetensors as `save_pretrained` writes them,
and outputs.npz with `tokens` (-1 where there is no token), the last `hidden` states
and, for a model with a classifier, its `logits`.
"""

from pathlib import Path

import numpy as np
import torch
import transformers

HERE = Path(__file__).parent
VOCABULARY, CLASSES, LENGTHS = 60, 3, (12, 7, 1, 9)
# Weights are so large that a wrong name or a missing transposition cannot hide.
STANDARD_DEVIATION = 0.4


def make_models():
    """Returns folder -> model: bare and with a classifier, of each family."""
    sizes = {
        "vocab_size": VOCABULARY,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 24,
        "max_position_embeddings": 20,
    }
    distilbert_sizes = {
        "vocab_size": VOCABULARY,
        "dim": 16,
        "n_layers": 2,
        "n_heads": 4,
        "hidden_dim": 24,
        "max_position_embeddings": 20,
    }
    roberta = transformers.RobertaConfig(
        **sizes,
        hidden_act="gelu_new",
        layer_norm_eps=1e-5,
        type_vocab_size=1,
        num_labels=CLASSES,
    )
    distilbert = transformers.DistilBertConfig(**distilbert_sizes, num_labels=CLASSES)
    return {
        "bert": transformers.BertModel(transformers.BertConfig(**sizes)),
        "roberta": transformers.RobertaForTokenClassification(roberta),
        "distilbert": transformers.DistilBertForTokenClassification(distilbert),
    }


def make_tokens(pad):
    """Returns tokens [n, length], -1 after each sequence's end, none of them `pad`."""
    tokens = torch.randint(0, VOCABULARY - 1, (len(LENGTHS), max(LENGTHS)))
    tokens += tokens >= pad
    lengths = torch.tensor(LENGTHS)[:, None]
    return torch.where(torch.arange(max(LENGTHS)) < lengths, tokens, -1)


def write(name, model):
    """Fills the model with random numbers, runs it and writes its folder."""
    model.eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, STANDARD_DEVIATION)
        tokens = make_tokens(model.config.pad_token_id)
        mask = tokens >= 0
        ids = torch.where(mask, tokens, model.config.pad_token_id)
        outputs = model(ids, attention_mask=mask.long(), output_hidden_states=True)
    arrays = {"tokens": tokens.int(), "hidden": outputs.hidden_states[-1]}
    if "logits" in outputs:
        arrays["logits"] = outputs.logits
    model.save_pretrained(HERE / name, safe_serialization=True)
    arrays = {key: value.numpy() for key, value in arrays.items()}
    np.savez(HERE / name / "outputs.npz", **arrays)


def main():
    """Writes every folder."""
    torch.manual_seed(0)
    for name, model in make_models().items():
        write(name, model)


if __name__ == "__main__":
    main()
