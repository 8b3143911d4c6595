"""Your own tags of words, such as entities: a Transformer, or a pretrained encoder.

python -m train --config configs/my_tags.py --config.data.path=FOLDER --workdir DIR
python -m train --config configs/my_tags.py --config.data.path=FOLDER \
  --config.model.pretrained=ENCODER --config.optimizer.learning_rate=1e-4 \
  --config.training.epochs=4 --workdir DIR

FOLDER holds train.jsonl with the columns `tokens` and `tags`, lists of one length,
entities as B-X, I-X and O (other names, such as parts of speech:
--config.data.tags=flat). A tenth of the rows becomes the validation split;
--config.data.validation=validation.jsonl names one. ENCODER is a folder with
config.json, model.safetensors and tokenizer.json, or the name of one on the Hugging
Face hub. `train.init` chooses sizes, rate and epochs by the data; here they suit a
few thousand sentences. Cost: two minutes for them on two CPU cores. Score: depends on
your data.
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
        task="tokens",
        data=DataConfig(
            source="files",
            train="train.jsonl",
            validation="",
            label_column="tags",
            max_length=128,
        ),
        model=ModelConfig(width=128, depth=2, heads=4, dropout=0.2),
        loss=LossConfig(name="as_softmax", logit_margin=2.0),
        optimizer=OptimizerConfig(learning_rate=1e-3),
        training=TrainingConfig(epochs=10, batch_size=32, group_by_length=True),
    )
