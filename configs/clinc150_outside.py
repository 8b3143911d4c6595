"""CLINC150 with 30 of its 150 intents left out: what features say of unseen classes.

python -m train --config configs/clinc150_outside.py --config.data.path=FOLDER \
  --config.model.pretrained=ENCODER --workdir DIR

FOLDER and ENCODER are those of clinc150_minilm.py. The test requests of the 30 intents
are told apart from those of the other 120 by the answers' confidence, and from each
other by the features (docs/how_to/unknown_classes.md).
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
            name="clinc150",
            test="test",
            max_length=32,
            train_examples=5000,
            outside_classes=30,
        ),
        model=ModelConfig(
            pretrained="sentence-transformers/all-MiniLM-L6-v2", dropout=0.1
        ),
        loss=LossConfig(name="as_softmax", logit_margin=2.0),
        optimizer=OptimizerConfig(learning_rate=1e-4),
        training=TrainingConfig(epochs=3, batch_size=32),
    )
