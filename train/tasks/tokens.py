"""Text that comes as words, for a tag each."""

from collections.abc import Sequence
from typing import Any

from ..command.lines import escaped
from ..data.examples import Encoded, InputSpec
from ..data.names import shown
from ..data.records import Records
from ..data.tokenizer import encode_words
from ..errors import DataError
from ..targets.labels import list_values
from ..targets.tags import Tags
from .task import Task
from .text import MODELS, TextCodec


class TokenCodec(TextCodec):
    """Words as token ids; a word is read off at its first piece."""

    _default_column = "tokens"

    def spec(self, num_classes: int) -> InputSpec:
        """Returns what the model must know: that it answers at each token."""
        return super().spec(num_classes)._replace(per_token=True)

    def encode(self, records: Records) -> Encoded:
        """Returns token ids int32 [n, length], lengths and first pieces."""
        rows = self._rows(records, self.column)
        return encode_words(
            self.tokenizer, rows, max_length=self.max_length, split=records.split
        )

    @staticmethod
    def _rows(records: Records, column: str) -> Sequence[Any]:
        """Returns the words of each row, or refuses the first that has none as such."""
        # Words hold no spaces, so a file that has text for a list parts it there.
        rows = list_values(records, column, " ")
        for k, row in enumerate(rows):
            if not all(isinstance(word, str) for word in row):
                raise DataError(
                    f"{records.origin}: row {records.number(k)} of token column "
                    f"`{escaped(column)}` is {shown(row)}; it must be a list of words: "
                    "name another column with --config.data.input_column, or correct "
                    "the row"
                )
            records.refuse_broken_text(k, column, row)
        return rows

    @staticmethod
    def _as_text(row: Any) -> str:
        return " ".join(row)


TASK = Task(models=MODELS, codec=TokenCodec, target=Tags())
