"""TensorBoard's event files, written without TensorBoard: protobuf messages in TFRecord frames.

The messages are `Event` and `Summary` of tensorflow/core/util/event.proto and framework/summary.proto; the frames
are those of tensorflow/core/lib/io/record_writer.h.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from convc.errors import OutputError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Protobuf's wire types."""

CASTAGNOLI = 0x82F63B78
"""The reflected polynomial of CRC-32C (RFC 3720, appendix B.4)."""


def crc_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (CASTAGNOLI if value & 1 else 0)
        table.append(value)
    return table


_TABLE = crc_table()


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> bytes:
    """The checksum as frames have it: rotated, plus a constant, so that data with checksums in them do well."""
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def field(number: int, kind: int, value: Any) -> bytes:
    """One field of a message."""
    key = varint(number << 3 | kind)
    match kind:
        case 0:
            return key + varint(int(value))
        case 1:
            return key + struct.pack("<d", value)
        case 5:
            return key + struct.pack("<f", value)
        case _:
            data = value.encode() if isinstance(value, str) else value
            return key + varint(len(data)) + data


def scalar(tag: str, value: float) -> bytes:
    """A `Summary.Value` of one number."""
    return field(1, BYTES, tag) + field(2, FIXED32, value)


def histogram(tag: str, values: Any, bins: int = 30) -> bytes:
    """A `Summary.Value` of how often values occur in equally wide ranges."""
    values = np.asarray(values, np.float64).ravel()
    values = values[np.isfinite(values)]
    if not values.size:
        values = np.zeros(1)
    counts, edges = np.histogram(values, bins)
    numbers = (values.min(), values.max(), values.size, values.sum(), np.square(values).sum())
    message = b"".join(field(k + 1, FIXED64, float(v)) for k, v in enumerate(numbers))
    message += field(6, BYTES, struct.pack(f"<{bins}d", *edges[1:]))
    message += field(7, BYTES, struct.pack(f"<{bins}d", *counts.astype(np.float64)))
    return field(1, BYTES, tag) + field(5, BYTES, message)


class EventWriter:
    """Appends events to a new file in a folder that TensorBoard watches."""

    def __init__(self, folder: Path) -> None:
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            taken = len(list(folder.glob(f"{name}.*")))
            self._file = (folder / f"{name}.{taken}").open("ab")
        except OSError as error:
            raise OutputError(f"can't write {folder}: {error.strerror or error}") from None
        self._event(field(3, BYTES, "brain.Event:2"))

    def write(self, step: int, values: Sequence[bytes]) -> None:
        """One event with the values (of `scalar` or `histogram`) of a step."""
        summary = b"".join(field(1, BYTES, v) for v in values)
        self._event(field(2, VARINT, step) + field(5, BYTES, summary))

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def _event(self, rest: bytes) -> None:
        data = field(1, FIXED64, time.time()) + rest
        length = struct.pack("<Q", len(data))
        self._file.write(length + masked(length) + data + masked(data))
