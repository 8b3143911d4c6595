"""Free Spoken Digit Dataset, ten digits by six speakers: a small network on log-mels.

python -m train --config configs/fsdd.py --config.data.path=FOLDER --workdir DIR

FOLDER holds train.parquet and test.parquet with the columns `audio`, {bytes, path},
and `label`; without the flag it is $AS_SOFTMAX_DATA/fsdd. A tenth of the training
examples is held out for validation.
Cost: 90 seconds on two busy CPU cores. Score: 99.9 % test accuracy, the mean of three
seeds (softmax: 99.7 %).
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
        task="audio",
        data=DataConfig(
            source="files",
            name="fsdd",
            validation="",
            test="test",
            sample_rate=8000,
            seconds=1.0,
        ),
        model=ModelConfig(width=16, depth=3, dropout=0.1),
        loss=LossConfig(name="as_softmax", logit_margin=2.0),
        optimizer=OptimizerConfig(learning_rate=3e-3),
        training=TrainingConfig(epochs=8, batch_size=32),
    )
