"""Your own recordings: a convolutional network on spectrograms of folders by class.

python -m train --config configs/my_audio.py --config.data.path=FOLDER --workdir DIR

FOLDER holds a folder `train`, in it a folder a class, in it recordings (wav, flac,
ogg, mp3) of any rate; of each the first second is heard (--config.data.seconds). A
tenth becomes the validation split; with a folder `validation` of the same kind:
--config.data.validation=validation. Cost: two minutes for a thousand seconds on two
CPU cores. Score: depends on your data.
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
            train="train",
            validation="",
            sample_rate=16000,
            seconds=1.0,
        ),
        model=ModelConfig(width=16, depth=3, dropout=0.1),
        loss=LossConfig(name="as_softmax", logit_margin=2.0),
        optimizer=OptimizerConfig(learning_rate=3e-3),
        training=TrainingConfig(epochs=15, batch_size=32),
    )
