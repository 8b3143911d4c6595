"""CLINC150, 150 intents of short requests: MiniLM, a pretrained encoder of 6 layers.

python -m train --config configs/clinc150_minilm.py --config.data.path=FOLDER \
  --config.model.pretrained=ENCODER --workdir DIR

FOLDER holds train.parquet, validation.parquet and test.parquet with the columns `text`
and `label`; without the flag it is $AS_SOFTMAX_DATA/clinc150. ENCODER is a folder with
config.json, model.safetensors and tokenizer.json; without the flag it is MiniLM from
the Hugging Face hub.
Cost: 9 minutes on two CPU cores. Score: 96.3 % test accuracy, the mean of three seeds
(softmax: 96.1 %).
"""

from train.config import (
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    TrainingConfig,
)


def get_config() -> Config:
    return Config(
        task="text",
        data=DataConfig(source="files", name="clinc150", test="test", max_length=32),
        model=ModelConfig(
            pretrained="sentence-transformers/all-MiniLM-L6-v2", dropout=0.1
        ),
        loss=LossConfig(name="as_softmax", logit_margin=2.0),
        optimizer=OptimizerConfig(learning_rate=1e-4),
        training=TrainingConfig(epochs=3, batch_size=32),
    )
