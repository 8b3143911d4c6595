"""EURLEX57K, the EUROVOC concepts of EU laws, about five of 4,000 a law.

python -m train --config configs/paper/eurlex.py --config.data.path=FOLDER \
  --config.model.pretrained=ENCODER --workdir DIR

FOLDER holds train, validation and test as .parquet, .jsonl or .csv with the columns
`text` and `labels`, a list. A law may have ten concepts, so the margin is 0.05:
a row with 1 / delta labels or more could never settle.
ENCODER is a folder with config.json, model.safetensors and
tokenizer.json; without the flag it is bert-base-uncased from the Hugging Face hub.
The paper: macro F1 48.3 and micro F1 69.0 with AS-Softmax, 46.9 and 68.7 with softmax.
No setting of the authors' for this set is public: all are ours.
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
        task="multi_label",
        data=DataConfig(
            source="files",
            name="eurlex",
            test="test",
            label_column="labels",
            max_length=512,
        ),
        model=ModelConfig(
            pretrained="bert-base-uncased", pooling="cls", dropout=0.1, remat=True
        ),
        loss=LossConfig(name="multi_label_as_softmax", delta=0.05),
        optimizer=OptimizerConfig(learning_rate=3e-5),
        training=TrainingConfig(epochs=20, batch_size=16),
    )
