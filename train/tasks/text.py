"""Text of any number of words, for one class."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import tokenizers

from ..command.lines import escaped
from ..config import Config
from ..data.examples import Encoded, InputSpec
from ..data.names import shown
from ..data.records import Records
from ..data.tokenizer import encode_texts, read_tokenizer, train_tokenizer
from ..errors import ConfigError, DataError
from ..models.encoder import PooledEncoder
from ..models.family import TextEncoderConfig
from ..models.huggingface import parse_config
from ..models.pretrained import find_folder, read_encoder_config
from ..models.transformer import Transformer
from ..targets.one_class import OneClass
from .task import PRETRAINED, Task, model_name

MODELS = {"transformer": Transformer, PRETRAINED: PooledEncoder}


@dataclasses.dataclass(frozen=True)
class TextCodec:
    """Documents as token ids, by the encoder's tokenizer or one of our own.

    Attributes:
      column: of the documents.
      max_length: tokens a document at most.
      tokenizer: of the pretrained encoder, or trained on the training split.
      encoder: the shape of the pretrained encoder; None from scratch.
    """

    column: str
    max_length: int
    tokenizer: tokenizers.Tokenizer
    encoder: TextEncoderConfig | None

    @classmethod
    def fit(cls, config: Config, train: Records) -> Self:
        """Reads the pretrained encoder's tokenizer, or trains one."""
        if model_name(MODELS, config.model) == PRETRAINED:
            folder = find_folder(config.model.pretrained)
            tokenizer = read_tokenizer(folder / "tokenizer.json")
            return cls._make(config, tokenizer, read_encoder_config(folder))
        texts = cls._rows(train, config.data.input_column or cls._default_column)
        tokenizer = train_tokenizer(
            map(cls._as_text, texts), vocabulary_size=config.data.vocabulary_size
        )
        return cls._make(config, tokenizer, None)

    @classmethod
    def load(cls, config: Config, folder: Path) -> Self:
        """Reads what a run's folder keeps."""
        tokenizer = read_tokenizer(folder / "tokenizer.json")
        kept = folder / "encoder.json"
        encoder = None
        if kept.exists():
            encoder = parse_config(kept.read_text(encoding="utf-8"), str(kept))
        return cls._make(config, tokenizer, encoder)

    @classmethod
    def _make(
        cls,
        config: Config,
        tokenizer: tokenizers.Tokenizer,
        encoder: TextEncoderConfig | None,
    ) -> Self:
        length = config.data.max_length
        if encoder is not None and length > encoder.max_positions:
            raise ConfigError(
                f"`data.max_length`: {length} tokens, and the pretrained encoder reads "
                f"{encoder.max_positions} at most; lower it"
            )
        column = config.data.input_column or cls._default_column
        return cls(column, length, tokenizer, encoder)

    @property
    def columns(self) -> tuple[str, ...]:
        """The column that it reads."""
        return (self.column,)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The tokens, by number."""
        ids = self.tokenizer.get_vocab()
        return tuple(sorted(ids, key=ids.__getitem__))

    def files(self) -> dict[str, str]:
        """Returns the tokenizer, and the shape of the encoder."""
        files = {"tokenizer.json": self.tokenizer.to_str(pretty=True)}
        if self.encoder is not None:
            files["encoder.json"] = self.encoder.source
        return files

    def spec(self, num_classes: int) -> InputSpec:
        """Returns what the model must know."""
        return InputSpec(
            (self.max_length,),
            num_classes,
            vocabulary_size=self.tokenizer.get_vocab_size(),
            encoder=self.encoder,
        )

    def encode(self, records: Records) -> Encoded:
        """Returns token ids int32 [n, length], and the lengths."""
        texts = self._rows(records, self.column)
        return encode_texts(
            self.tokenizer, texts, max_length=self.max_length, split=records.split
        )

    _default_column = "text"

    @staticmethod
    def _rows(records: Records, column: str) -> Sequence[Any]:
        """Returns the documents, or refuses the first row that is none."""
        texts = records.column(column).tolist()
        for row, text in enumerate(texts):
            if not isinstance(text, str):
                raise DataError(
                    f"{records.origin}: row {records.number(row)} of text column "
                    f"`{escaped(column)}` is {shown(text)}; it must be text: name "
                    "another column with --config.data.input_column, or correct the row"
                )
            records.refuse_broken_text(row, column, [text])
        return texts

    @staticmethod
    def _as_text(row: Any) -> str:
        return row


TASK = Task(models=MODELS, codec=TextCodec, target=OneClass())
