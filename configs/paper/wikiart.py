"""WikiArt, the styles of paintings.

python -m train --config configs/paper/wikiart.py --config.data.path=FOLDER \
  --workdir DIR

FOLDER holds train, validation and test, each with a folder of images a style.
The paper fine-tunes a pretrained network; this is ResNet-18 from scratch, with
settings of ours, for comparing losses and not for the paper's score.
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
            name="wikiart",
            test="test",
            image_size=224,
            augment=("flip", "crop"),
        ),
        model=ModelConfig(name="resnet18", compute_dtype="bfloat16"),
        loss=LossConfig(name="as_softmax", delta=0.1),
        optimizer=OptimizerConfig(
            name="sgd", learning_rate=0.1, schedule="cosine", weight_decay=1e-4
        ),
        training=TrainingConfig(epochs=30, batch_size=128),
    )
