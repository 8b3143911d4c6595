"""Handwritten digits: AS-Softmax and a small convolutional network.

python -m train --config configs/digits.py --workdir runs/digits

Cost: 10 seconds, compilation included, on two busy CPU cores.
Score: 99.3 % test accuracy, the mean of three seeds (softmax: 99.4 %; three seeds on
300 images tell no difference).
"""

from train.config import (
    Config,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    TrainingConfig,
)


def get_config() -> Config:
    return Config(
        task="image",
        model=ModelConfig(dropout=0.5),
        loss=LossConfig(name="as_softmax", logit_margin=2.0),
        optimizer=OptimizerConfig(learning_rate=6e-3),
        training=TrainingConfig(epochs=20, batch_size=32),
    )
