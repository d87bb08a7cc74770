"""What a context keeps from call to call, by name in logical order; and its files.

A saved state is the same for every machine and for C (convc_state.h), little-endian:

    offset  bytes
    0       8      magic "CVCSTATE"
    8       4      format version
    12      4      CRC-32 of the whole file, with zeros here
    16      8      bytes of the whole file
    24      32     whose state it is: `state_fingerprint` of the model
    56      8      the number of states
    64      …      each state in the model's order: C-contiguous, zeros behind it up to a multiple of 8 bytes
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from convc_runtime.arrays import numpy_dtype
from convc_runtime.description import Description, StateInfo
from convc_runtime.errors import InputError, StateError
from convc_runtime.memory import zeroed
from convc_runtime.writing import write_whole

MAGIC = b"CVCSTATE"
VERSION = 1
_HEADER = struct.Struct("<8sIIQ32sQ")
METRIC = "metric"
"""The kind of states that `reset_metrics` begins anew."""


def state_fingerprint(description: Description) -> bytes:
    """32 bytes that say whose state it is: by the model's name and each state's name, kind, dtype and shape."""
    lines = [f"convc state {VERSION}", description.name]
    lines += [f"{s.kind} {s}" for s in description.states]
    return hashlib.sha256("\n".join(lines).encode()).digest()


class State:
    """A block of memory that holds a model's states, from its first values on.

    The block is in the order that the kernels like; names and shapes are the model's. Nothing here locks: what changes
    the state must not meet anything else that uses it.
    """

    def __init__(self, description: Description, weights: np.ndarray) -> None:
        self._description = description
        self._states = {s.name: s for s in description.states}
        self._first = weights[description.initial_offset :][: description.initial_size]
        self._block = zeroed(description.state_size)
        self._block[: self._first.size] = self._first

    @property
    def states(self) -> tuple[StateInfo, ...]:
        """What there is to get and set."""
        return tuple(self._states.values())

    def view(self, name: str) -> np.ndarray:
        """A state as an array over its own memory, which calls change. InputError for a name that is no state."""
        if name not in self._states:
            raise InputError(
                f"no state {name!r}: expected one of {', '.join(self._states) or 'none'}"
            )
        info = self._states[name]
        dtype = numpy_dtype(info.dtype)
        return np.ndarray(info.shape, dtype, self._block.data, info.offset, info.strides)

    def get(self, name: str) -> np.ndarray:
        """A copy of a state, C-contiguous."""
        return np.array(self.view(name), order="C")

    def set(self, name: str, values: Any) -> None:
        """Gives a state new values, of its own shape. InputError for others."""
        state = self.view(name)
        array = np.asarray(values)
        if isinstance(values, int) and state.dtype.kind in "iu":
            limits = np.iinfo(state.dtype)
            if not limits.min <= values <= limits.max:
                raise InputError(f"state {name}: {values} is no {state.dtype}")
            array = array.astype(state.dtype)
        if array.shape != state.shape:
            raise InputError(f"state {name}: expected shape {state.shape}, got {array.shape}")
        if not np.can_cast(array.dtype, state.dtype, "same_kind"):
            raise InputError(f"state {name}: expected {state.dtype}, got {array.dtype}")
        state[...] = array

    def reset(self) -> None:
        """Gives every state its first value: the artifact's, or zeros."""
        self._block[self._first.size :] = 0
        self._block[: self._first.size] = self._first

    def reset_metrics(self) -> None:
        """Gives the metrics' sums their first values."""
        for info in self._states.values():
            if info.kind == METRIC:
                first, here = self._first[info.offset : info.end], slice(info.offset, info.end)
                self._block[here] = 0
                self._block[here][: first.size] = first

    def state_bytes(self) -> bytes:
        """The whole state, as its file holds it."""
        arrays = [self.get(name) for name in self._states]
        return packed(arrays, state_fingerprint(self._description))

    def set_state_bytes(self, data: bytes) -> None:
        """Takes over what `state_bytes` gave. StateError, with nothing changed, if it is damaged or another model's."""
        self._take(data, "the state")

    def save_state(self, path: str | os.PathLike[str]) -> None:
        """Writes the whole state to a file, which is complete or not there. WriteError otherwise."""
        write_whole(path, self.state_bytes())

    def load_state(self, path: str | os.PathLike[str]) -> None:
        """Takes over a file of `save_state`, or of C. StateError, with nothing changed, if it can't be."""
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise StateError(f"can't read {path}: {error.strerror or error}") from None
        self._take(data, str(path))

    def _take(self, data: bytes, title: str) -> None:
        whose = (self._description.name, state_fingerprint(self._description))
        for info, array in zip(self.states, unpacked(data, self.states, whose, title), strict=True):
            self.view(info.name)[...] = array


def packed(arrays: Sequence[np.ndarray], fingerprint: bytes) -> bytes:
    """States in order as their file's bytes."""
    parts = []
    for array in arrays:
        data = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        parts.append(data + bytes(-len(data) % 8))
    body = b"".join(parts)
    header = [MAGIC, VERSION, 0, _HEADER.size + len(body), fingerprint, len(arrays)]
    header[2] = zlib.crc32(body, zlib.crc32(_HEADER.pack(*header)))
    return _HEADER.pack(*header) + body


def unpacked(
    data: bytes, states: Sequence[StateInfo], whose: tuple[str, bytes], title: str
) -> list[np.ndarray]:
    """A file's bytes as arrays for a model's states; `whose` is its name and fingerprint. StateError otherwise."""
    if data[: len(MAGIC)] != MAGIC:
        raise StateError(f"{title}: not a saved state (it begins with {data[:8]!r})")
    if len(data) < _HEADER.size:
        raise StateError(f"{title}: truncated: {len(data)} bytes, expected at least {_HEADER.size}")
    _, version, checksum, size, fingerprint, count = _HEADER.unpack_from(data)
    if version != VERSION:
        raise StateError(f"{title}: format version {version}, this runtime reads {VERSION}")
    if len(data) != size:
        kind = "truncated" if len(data) < size else "altered"
        raise StateError(f"{title}: {kind}: {len(data)} bytes, expected {size}")
    start = _HEADER.pack(MAGIC, version, 0, size, fingerprint, count)
    if zlib.crc32(memoryview(data)[_HEADER.size :], zlib.crc32(start)) != checksum:
        raise StateError(f"{title}: altered: its checksum is not the recorded one")
    name, expected = whose
    if fingerprint != expected or count != len(states):
        raise StateError(
            f"{title}: another model's state: its fingerprint is {fingerprint[:4].hex()}, "
            f"that of {name} is {expected[:4].hex()}"
        )
    return _arrays(data, states, title)


def _arrays(data: bytes, states: Sequence[StateInfo], title: str) -> list[np.ndarray]:
    at, found = _HEADER.size, []
    for info in states:
        dtype = numpy_dtype(info.dtype)
        count = int(np.prod(info.shape, dtype=np.int64))
        if at + count * dtype.itemsize > len(data):
            raise StateError(f"{title}: altered: it ends before the state {info.name}")
        stored = np.frombuffer(data, dtype.newbyteorder("<"), count, at)
        found.append(stored.reshape(info.shape))
        at += -(-count * dtype.itemsize // 8) * 8
    return found
