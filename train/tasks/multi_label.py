"""Text of any number of words, for any number of classes."""

from train.targets.multi_label import MultiLabel
from train.tasks.task import Task
from train.tasks.text import MODELS, TextCodec

TASK = Task(models=MODELS, codec=TextCodec, target=MultiLabel())
