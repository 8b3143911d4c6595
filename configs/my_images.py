"""Your own pictures: a small convolutional network on folders by class.

python -m train --config configs/my_images.py --config.data.path=FOLDER --workdir DIR

FOLDER holds a folder `train`, in it a folder a class, in it pictures of any size,
which are scaled to squares. A tenth of them becomes the validation split; with a
folder `validation` of the same kind: --config.data.validation=validation. Turning
left and right does no harm to most things, but to digits and letters:
--config.data.augment=flip,crop. On a GPU or TPU: --config.model.name=resnet18
--config.model.compute_dtype=bfloat16. Cost: two minutes for a thousand pictures on
two CPU cores. Score: depends on your data.
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
            source="folders",
            train="train",
            validation="",
            image_size=64,
        ),
        model=ModelConfig(width=32, depth=3, dropout=0.1),
        loss=LossConfig(name="as_softmax", logit_margin=2.0),
        optimizer=OptimizerConfig(learning_rate=2e-3),
        training=TrainingConfig(epochs=20, batch_size=32),
    )
