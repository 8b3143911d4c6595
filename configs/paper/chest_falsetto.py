"""Chest voice and falsetto, of sung notes.

python -m train --config configs/paper/chest_falsetto.py --config.data.path=FOLDER \
  --workdir DIR

FOLDER holds train, validation and test, each with a folder of sound files a class.
The paper fine-tunes a pretrained network; this is a small one from scratch on log-mel
features, with settings of ours, for comparing losses and not for the paper's score.
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
            source="folders",
            name="chest_falsetto",
            test="test",
            sample_rate=16000,
            seconds=3.0,
        ),
        model=ModelConfig(width=32, depth=4, dropout=0.2),
        loss=LossConfig(name="as_softmax", delta=0.1),
        optimizer=OptimizerConfig(learning_rate=1e-3),
        training=TrainingConfig(epochs=40, batch_size=32),
    )
