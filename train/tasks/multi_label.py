"""Text of any number of words, for any number of classes."""

from ..targets.multi_label import MultiLabel
from .task import Task
from .text import MODELS, TextCodec

TASK = Task(models=MODELS, codec=TextCodec, target=MultiLabel())
