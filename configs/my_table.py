"""Your own table of numbers and categories: a multi-layer perceptron.

python -m train --config configs/my_table.py --config.data.path=FOLDER --workdir DIR

FOLDER holds train.csv with a column `label`, every other column a feature: blanks are
filled in, and texts are categories. Parquet, JSON Lines and TSV work alike
(--config.data.train=train.parquet). A tenth of the rows becomes the validation split;
--config.data.validation=validation.csv names one. Cost: half a minute for a thousand
rows on two CPU cores. Score: depends on your data.
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
        task="features",
        data=DataConfig(
            source="files",
            train="train.csv",
            validation="",
            mixed_columns=True,
        ),
        model=ModelConfig(width=64, depth=2, dropout=0.1),
        loss=LossConfig(name="as_softmax", logit_margin=2.0),
        optimizer=OptimizerConfig(learning_rate=3e-3),
        training=TrainingConfig(epochs=40, batch_size=32, evaluate_every=2),
    )
