"""CLINC with its out-of-scope requests as the 151st class.

python -m train --config configs/paper/clinc_oos.py --config.data.path=FOLDER \
  --config.model.pretrained=ENCODER --workdir DIR

FOLDER holds train, validation and test as .parquet, .jsonl or .csv with the columns
`text` and `label`.
ENCODER is a folder with config.json, model.safetensors and
tokenizer.json; without the flag it is bert-base-cased from the Hugging Face hub.
The paper: 89.1 % test accuracy with AS-Softmax, 88.6 % with softmax, BERT.
No setting of the authors' for this set is public: the margin is that of
SST-5, the rest is ours.
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
        data=DataConfig(source="files", name="clinc_oos", test="test", max_length=48),
        model=ModelConfig(pretrained="bert-base-cased", pooling="cls", dropout=0.1),
        loss=LossConfig(name="as_softmax", delta=0.1),
        optimizer=OptimizerConfig(learning_rate=5e-5),
        training=TrainingConfig(epochs=7, batch_size=32),
    )
