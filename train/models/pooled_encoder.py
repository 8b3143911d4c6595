"""An encoder whose hidden states are pooled before the classifier, for transformers.

`train.export` puts this file into the folders that it writes. transformers has no such
class of its own, and runs this one where it is told to trust it:
`pipeline("text-classification", FOLDER, trust_remote_code=True)`.
"""

from typing import Any

import torch
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

_OWN_KEYS = {"model_type", "architectures", "auto_map", "encoder_type", "pooling"}


class PooledEncoderConfig(PretrainedConfig):
    """The encoder's own keys, its `model_type` as `encoder_type`, and the pooling."""

    model_type = "pooled_encoder"

    def __init__(
        self, encoder_type: str = "bert", pooling: str = "mean", **options: Any
    ):
        super().__init__(**options)
        self.encoder_type = encoder_type
        self.pooling = pooling


class PooledEncoderForSequenceClassification(PreTrainedModel):
    """Logits from the mean of all tokens' hidden states, or from the first token's."""

    config_class = PooledEncoderConfig

    def __init__(self, config: PooledEncoderConfig):
        super().__init__(config)
        keys = {k: v for k, v in config.to_dict().items() if k not in _OWN_KEYS}
        encoder = AutoModel.from_config(
            AutoConfig.for_model(config.encoder_type, **keys)
        )
        # Its weights were not trained, and hidden states do not depend on it.
        if hasattr(encoder, "pooler"):
            encoder.pooler = None
        self.encoder_name = encoder.base_model_prefix
        self.add_module(self.encoder_name, encoder)
        self.classifier = torch.nn.Linear(
            encoder.config.hidden_size, encoder.config.num_labels
        )
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        **_: Any,
    ) -> SequenceClassifierOutput:
        """Returns logits [n, classes].

        Args:
          input_ids: [n, length].
          attention_mask: [n, length], 0 where there is no token; None: nowhere.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        encoder = getattr(self, self.encoder_name)
        states = encoder(input_ids, attention_mask=attention_mask).last_hidden_state
        if self.config.pooling == "cls":
            pooled = states[:, 0]
        else:
            real = attention_mask.unsqueeze(-1).to(states.dtype)
            pooled = (states * real).sum(1) / real.sum(1).clamp(min=1)
        return SequenceClassifierOutput(logits=self.classifier(pooled))
