"""The length of MP3 files, which decoders guess where no header tells it.

A file is a row of frames, each with its own bit rate; the first one may hold a table
with their number. Without it decoders take the first frame's bit rate for all, and read
a file of variable rate in part. The frames can be counted, and the table be written.
"""

import struct
from typing import NamedTuple

# By the two bits that tell the version of MPEG: 2.5, 2 and 1.
_SAMPLE_RATES = {
    0: (11025, 12000, 8000),
    2: (22050, 24000, 16000),
    3: (44100, 48000, 32000),
}
_LOW = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_HIGH = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KILOBITS = {0: _LOW, 2: _LOW, 3: _HIGH}
# The bits of a frame's third byte that tell its sample rate.
_RATE_BITS = 0b00001100


class _Frame(NamedTuple):
    """What a frame's header says."""

    size: int  # in bytes
    kilobits: int
    side: int  # bytes of side information, behind which a table begins


def with_length(content: bytes) -> bytes:
    """Returns a recording that tells its length, if it is an MP3 of variable rate.

    Args:
      content: of a file, of any kind; all others come back as they are.
    """
    start = _after_tags(content)
    first = _frame(content, start)
    if first is None or _is_table(content, start, first):
        return content
    sizes, position = set(), start
    count = 0
    while frame := _frame(content, position):
        position += frame.size
        count += 1
        sizes.add(frame.kilobits)
    if len(sizes) < 2:
        return content  # Of a constant rate, the guess is right.
    return _table(content[start : start + 4], count) + content[start:]


def _after_tags(content: bytes) -> int:
    """Returns where the first frame lies: behind the text that ID3v2 puts before it."""
    if content[:3] != b"ID3" or len(content) < 10:
        return 0
    a, b, c, d = content[6:10]
    return 10 + (a << 21 | b << 14 | c << 7 | d)


def _frame(content: bytes, position: int) -> _Frame | None:
    """Returns what a frame of layer III says at a position; None: there is none."""
    header = content[position : position + 4]
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, header[1] >> 1 & 3
    bits, rate, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if version == 1 or layer != 1 or bits in (0, 15) or rate == 3:
        return None
    kilobits, is_first = _KILOBITS[version][bits], version == 3
    samples_a_byte = 144_000 if is_first else 72_000
    size = samples_a_byte * kilobits // _SAMPLE_RATES[version][rate] + padding
    is_mono = header[3] >> 6 == 3
    sides = {(True, True): 17, (True, False): 32, (False, True): 9}
    return _Frame(size, kilobits, sides.get((is_first, is_mono), 17))


def _is_table(content: bytes, position: int, frame: _Frame) -> bool:
    """Whether a frame tells how many follow."""
    inside = content[position : position + frame.size]
    at = 4 + frame.side
    return inside[at : at + 4] in (b"Xing", b"Info") or inside[36:40] == b"VBRI"


def _table(header: bytes, count: int) -> bytes:
    """Returns a frame of silence that says how many follow.

    Args:
      header: of the first of these.
      count: of them.
    """
    for bits in range(1, 15):
        # Without a checksum, at the least bit rate that has room.
        own = bytes(
            [header[0], header[1] | 1, bits << 4 | header[2] & _RATE_BITS, header[3]]
        )
        frame = _frame(own, 0)
        assert frame is not None, "the first frame has such a header"
        content = own + bytes(frame.side) + b"Xing" + struct.pack(">II", 1, count)
        if frame.size >= len(content):
            return content.ljust(frame.size, b"\0")
    raise AssertionError("the largest frames have room")
