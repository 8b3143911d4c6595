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
from ..models.encoder import AudioEncoder
from ..models.huggingface import parse_config
from ..models.preprocessor import check_audio_preprocessor
from ..models.pretrained import find_folder, read_encoder_config
from ..targets.one_class import OneClass
from .task import PRETRAINED, Task, model_name

MODELS = {"cnn": AudioCnn, PRETRAINED: AudioEncoder}

_ENCODER = "encoder.json"


@dataclasses.dataclass(frozen=True)
class AudioCodec:
    """Recordings as waveforms of one length; nothing is learned of them.

    Attributes:
      column: of the recordings.
      sample_rate: that they are resampled to, in samples a second.
      seconds: that they are cut or padded to.
      bad_files: `refuse` or `skip` what cannot be decoded.
      encoder: the shape of the pretrained encoder; None from scratch.
    """

    column: str
    sample_rate: int
    seconds: float
    bad_files: str
    encoder: Any = None

    @classmethod
    def fit(cls, config: Config, train: Records) -> Self:
        """Takes the configuration as it is, and the pretrained encoder.

        Raises:
          ConfigError: it asks for what audio, or the encoder, does not have.
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
        if model_name(MODELS, config.model) != PRETRAINED:
            return cls._of(config, None)
        where = find_folder(config.model.pretrained)
        encoder = read_encoder_config(where, "audio")
        check_audio_preprocessor(where, data.sample_rate)
        codec = cls._of(config, encoder)
        if encoder.frames(codec._samples) < 1:
            raise ConfigError(
                f"`data.seconds`: {data.seconds:g} is shorter than one frame of this "
                "encoder; raise it"
            )
        return codec

    @classmethod
    def load(cls, config: Config, folder: Path) -> Self:
        """Takes the configuration as it is, and the encoder that the run kept."""
        file, encoder = folder / _ENCODER, None
        if file.exists():
            encoder = parse_config(file.read_text(encoding="utf-8"), str(file))
        return cls._of(config, encoder)

    @classmethod
    def _of(cls, config: Config, encoder: Any) -> Self:
        data = config.data
        column = data.input_column or "audio"
        return cls(column, data.sample_rate, data.seconds, data.bad_files, encoder)

    vocabulary: ClassVar[tuple[str, ...]] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The column that it reads."""
        return (self.column,)

    def files(self) -> dict[str, str]:
        """Returns the encoder; of all else the configuration says enough."""
        return {} if self.encoder is None else {_ENCODER: self.encoder.source}

    def spec(self, num_classes: int) -> InputSpec:
        """Returns what the model must know."""
        return InputSpec(
            (self._samples,),
            num_classes,
            sample_rate=self.sample_rate,
            encoder=self.encoder,
        )

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
