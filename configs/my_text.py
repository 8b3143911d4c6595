"""Your own texts, one class each: a small Transformer, or a pretrained encoder.

python -m train --config configs/my_text.py --config.data.path=FOLDER --workdir DIR
python -m train --config configs/my_text.py --config.data.path=FOLDER \
  --config.model.pretrained=ENCODER --config.optimizer.learning_rate=1e-4 \
  --config.training.epochs=4 --workdir DIR

FOLDER holds train.csv with the columns `text` and `label`; Parquet, JSON Lines and
TSV work alike (--config.data.train=train.parquet), and so do other names of columns
(--config.data.input_column, --config.data.label_column). A tenth of the rows becomes
the validation split; --config.data.validation=validation.csv names one. ENCODER is a
folder with config.json, model.safetensors and tokenizer.json, or the name of one on
the Hugging Face hub. `train.init` chooses sizes, rate and epochs by the data; here
they suit a few thousand short texts. Cost: a minute for them on two CPU cores. Score:
depends on your data.
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
        data=DataConfig(
            source="files",
            train="train.csv",
            validation="",
            max_length=64,
        ),
        model=ModelConfig(width=128, depth=1, heads=4, dropout=0.3),
        loss=LossConfig(name="as_softmax", logit_margin=2.0),
        optimizer=OptimizerConfig(learning_rate=2e-3),
        training=TrainingConfig(epochs=15, batch_size=32, group_by_length=True),
    )
