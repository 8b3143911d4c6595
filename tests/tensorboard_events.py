"""Reads the scalars of a file of TensorBoard events, without TensorBoard."""

import struct
from collections import defaultdict

from tensorboardX.proto.event_pb2 import Event


def scalars(file):
    """Returns (step, value) pairs by tag; checksums are not looked at."""
    found, content, start = defaultdict(list), file.read_bytes(), 0
    while start < len(content):
        (size,) = struct.unpack_from("<Q", content, start)
        # Length and its checksum, the event, and its checksum.
        event = Event.FromString(content[start + 12 : start + 12 + size])
        start += 12 + size + 4
        for value in event.summary.value:
            if value.HasField("simple_value"):
                found[value.tag].append((event.step, value.simple_value))
    return found
