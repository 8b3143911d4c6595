"""CIFAR-10 with a long tail: the first class has 100 times as many images as the last.

python -m train --config configs/cifar10_long_tail.py --config.data.path=FOLDER \
  --workdir DIR

FOLDER is that of cifar10.py. Of the 45,000 images that are left for training about
11,000 stay, 4,500 of airplanes and 45 of trucks; validation and test have as many of
each class.
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
        task="image",
        data=DataConfig(
            source="files",
            name="cifar10",
            validation="",
            test="test",
            augment=("flip", "crop"),
            imbalance=100.0,
        ),
        model=ModelConfig(width=32, depth=3, dropout=0.1),
        loss=LossConfig(name="as_softmax", logit_margin=2.0),
        optimizer=OptimizerConfig(learning_rate=2e-3),
        training=TrainingConfig(epochs=10, batch_size=64),
    )
