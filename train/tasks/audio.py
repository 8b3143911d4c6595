"""Recordings, for one class."""

import dataclasses
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from ..command.notices import notice
from ..config import Config
from ..data.examples import Encoded, InputSpec
from ..data.media import decode_column
from ..data.recordings import decode_audio
from ..data.records import Records
from ..errors import ConfigError
from ..models.audio_cnn import FRAME_SECONDS, AudioCnn
from ..targets.one_class import OneClass
from .task import Task

MODELS = {"cnn": AudioCnn}


@dataclasses.dataclass(frozen=True)
class AudioCodec:
    """Recordings as waveforms of one length; nothing is learned from training.

    Attributes:
      column: of the recordings.
      sample_rate: that they are resampled to, in samples a second.
      seconds: that they are cut or padded to.
      bad_files: `refuse` or `skip` what cannot be decoded.
    """

    column: str
    sample_rate: int
    seconds: float
    bad_files: str

    @classmethod
    def fit(cls, config: Config, train: Records) -> Self:
        """Takes the configuration as it is.

        Raises:
          ConfigError: it asks for what audio does not have.
        """
        data = config.data
        if data.augment:
            raise ConfigError(
                f"`data.augment`: {','.join(data.augment)} is for images; audio has no "
                "augmentation: leave it empty"
            )
        if data.seconds < FRAME_SECONDS:
            raise ConfigError(
                f"`data.seconds`: {data.seconds:g} is shorter than the {FRAME_SECONDS} "
                "of one frame of the spectrogram; raise it"
            )
        return cls._of(config)

    @classmethod
    def load(cls, config: Config, folder: Path) -> Self:
        """Takes the configuration as it is."""
        return cls._of(config)

    @classmethod
    def _of(cls, config: Config) -> Self:
        data = config.data
        column = data.input_column or "audio"
        return cls(column, data.sample_rate, data.seconds, data.bad_files)

    vocabulary: ClassVar[tuple[str, ...]] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The column that it reads."""
        return (self.column,)

    def files(self) -> dict[str, str]:
        """Returns nothing: the configuration says it all."""
        return {}

    def spec(self, num_classes: int) -> InputSpec:
        """Returns what the model must know."""
        return InputSpec((self._samples,), num_classes, sample_rate=self.sample_rate)

    def encode(self, records: Records) -> Encoded:
        """Returns waveforms, float32 [n, samples]; says how many are cut.

        Raises:
          DataError: a recording cannot be decoded.
        """
        cut: list[bool] = []

        def decode(content: Any) -> np.ndarray:
            waveform = decode_audio(
                content, sample_rate=self.sample_rate, samples=self._samples
            )
            cut.append(waveform.cut)  # threads may append at once: lists allow it
            return waveform.samples

        waveforms, kept = decode_column(
            records,
            self.column,
            decode,
            shape=(self._samples,),
            dtype=np.dtype(np.float32),
            bad_files=self.bad_files,
        )
        if any(cut):
            notice(
                f"{records.split}: {sum(cut)} of {len(cut)} recordings are longer than "
                f"{self.seconds:g} s, and cut; --config.data.seconds sets it"
            )
        return Encoded(waveforms, kept=kept)

    @property
    def _samples(self) -> int:
        return round(self.seconds * self.sample_rate)


TASK = Task(models=MODELS, codec=AudioCodec, target=OneClass())
