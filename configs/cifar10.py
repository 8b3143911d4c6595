"""CIFAR-10, ten kinds of small photographs: a small convolutional network.

python -m train --config configs/cifar10.py --config.data.path=FOLDER --workdir DIR

FOLDER holds train.parquet and test.parquet with the columns `image`, {bytes, path},
and `label`; without the flag it is $AS_SOFTMAX_DATA/cifar10. A tenth of the training
examples is held out for validation. On a GPU or TPU: --config.model.name=resnet18
--config.model.compute_dtype=bfloat16 --config.training.epochs=60.
Cost: 2.5 minutes on two CPU cores with --config.data.train_examples=10000
--config.training.epochs=6. Score of that: 63.9 % test accuracy, the mean of three
seeds (softmax: 64.0 %).
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
        ),
        model=ModelConfig(width=32, depth=3, dropout=0.1),
        loss=LossConfig(name="as_softmax", logit_margin=2.0),
        optimizer=OptimizerConfig(learning_rate=2e-3),
        training=TrainingConfig(epochs=10, batch_size=64),
    )
