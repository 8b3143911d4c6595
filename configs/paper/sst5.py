"""SST-5, five grades of sentiment in sentences of film reviews.

python -m train --config configs/paper/sst5.py --config.data.path=FOLDER \
  --config.model.pretrained=ENCODER --workdir DIR

FOLDER holds train, validation and test as .parquet, .jsonl or .csv with the columns
`text` and `label`, whole sentences alone.
ENCODER is a folder with config.json, model.safetensors and
tokenizer.json; without the flag it is bert-base-cased from the Hugging Face hub.
The paper: 53.1 % test accuracy with AS-Softmax, 51.9 % with softmax, BERT.
Of the authors' settings these are known, from the one command that they publish:
bert-base-cased, 7 epochs, batches of 16, a rate of 2e-5, delta 0.1 without a warm-up,
windows of at most 2 mini-batches, and an evaluation each 200 steps, the best of which
by accuracy is kept. Ours: float32 (theirs is float16), dropout, weight decay, and the
learning rate's warm-up over a tenth of training.
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
        data=DataConfig(source="files", name="sst5", test="test", max_length=128),
        model=ModelConfig(pretrained="bert-base-cased", pooling="cls", dropout=0.1),
        loss=LossConfig(name="as_softmax", delta=0.1),
        optimizer=OptimizerConfig(learning_rate=2e-5),
        training=TrainingConfig(
            epochs=7,
            batch_size=16,
            window="settled_ratio",
            max_mini_steps=2,
            evaluate_steps=200,
        ),
    )
