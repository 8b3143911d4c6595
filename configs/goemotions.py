"""GoEmotions, 28 emotions of short comments, any number each: a pretrained encoder.

python -m train --config configs/goemotions.py --config.data.path=FOLDER \
  --config.model.pretrained=ENCODER --workdir DIR

FOLDER holds train.parquet, validation.parquet and test.parquet with the columns `text`
and `labels`, a list; without the flag it is $AS_SOFTMAX_DATA/goemotions. ENCODER is a
folder with config.json, model.safetensors and tokenizer.json; without the flag it is
MiniLM from the Hugging Face hub.
Cost: 5 minutes on two CPU cores for two epochs of 8,000 examples
(--config.data.train_examples=8000 --config.training.epochs=2). Score of those: 54.4 %
micro and 30.4 % macro F1 on test, the mean of three seeds (softmax: 54.7 and 30.9 %).
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
            name="goemotions",
            test="test",
            label_column="labels",
            max_length=48,
        ),
        model=ModelConfig(
            pretrained="sentence-transformers/all-MiniLM-L6-v2", dropout=0.1
        ),
        loss=LossConfig(name="multi_label_as_softmax", logit_margin=3.0),
        optimizer=OptimizerConfig(learning_rate=5e-5),
        training=TrainingConfig(epochs=3, batch_size=32, group_by_length=True),
    )
