"""Text of any number of words, for the token that follows each."""

from ..data.examples import InputSpec
from ..models.transformer import Transformer
from ..targets.next_token import NextToken
from .task import Task
from .text import TextCodec


class NextTokenCodec(TextCodec):
    """Documents as token ids; every token of the vocabulary is a class."""

    def spec(self, num_classes: int) -> InputSpec:
        """Returns what the model must know: that it looks back alone."""
        return super().spec(num_classes)._replace(per_token=True, causal=True)


TASK = Task(
    models={"transformer": Transformer}, codec=NextTokenCodec, target=NextToken()
)
