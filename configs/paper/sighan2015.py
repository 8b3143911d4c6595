"""SIGHAN 2015, wrong characters in Chinese and what they should be.

python -m train --config configs/paper/sighan2015.py --config.data.path=FOLDER \
  --config.model.pretrained=ENCODER --workdir DIR

FOLDER holds train, validation and test as .parquet, .jsonl or .csv with the columns
`tokens`, the characters of a sentence, and `tags`, for each the character that
should stand there, or O where it is right; F1 is over the corrected ones.
ENCODER is a folder with config.json, model.safetensors and
tokenizer.json; without the flag it is bert-base-chinese from the Hugging Face hub.
The paper: F1 72.8 with AS-Softmax, 70.8 with softmax.
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
        task="tokens",
        data=DataConfig(
            source="files",
            name="sighan2015",
            test="test",
            label_column="tags",
            tags="flat",
            max_length=192,
        ),
        model=ModelConfig(pretrained="bert-base-chinese", dropout=0.1),
        loss=LossConfig(name="as_softmax", delta=0.1),
        optimizer=OptimizerConfig(learning_rate=5e-5),
        training=TrainingConfig(epochs=10, batch_size=32),
    )
