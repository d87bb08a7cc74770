"""The `.cvc` file: code, weights and description of one model, mapped as they are.

    offset  bytes
    0       8      magic "CVCMODEL"
    8       4      format version, little-endian as every number
    12      4      zero
    16      8      bytes of the header text
    24      8      bytes of the whole file
    32      32     SHA-256 of bytes 0-31 and of the header text
    64      …      the header: JSON {"description", "symbols": {name: offset in code},
                   "code": {"offset", "size", "hash"}, "weights": {the same}}
    …              code, then weights, each at a multiple of 4096 bytes, zeros between

Header and code are always checked before anything runs. The weights' hash is `fingerprint`, which
runs at memory speed (about 10 GB/s, SHA-256 at 1.8): it finds accidents, not forgery, and who can
forge weights can forge code as well.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from convc_runtime.description import Description, from_json, to_json
from convc_runtime.errors import ArtifactError, VersionError
from convc_runtime.memory import PAGE
from convc_runtime.writing import write_atomically

MAGIC = b"CVCMODEL"
VERSION = 1
_PROLOGUE = struct.Struct("<8sIIQQ")
_HEADER_AT = 64
_LANES = 8192
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Section:
    """Where a section lies in the file, in bytes, and its hash."""

    offset: int
    size: int
    hash: str


@dataclass(frozen=True)
class Contents:
    """The checked header of a file: what is in it and where."""

    description: Description
    symbols: Mapping[str, int]
    code: Section
    weights: Section


def fingerprint(data: np.ndarray) -> str:
    """64 hex digits for a uint8 array of one dimension.

    Each of 8192 lanes of 64 bits folds its words as state = (state xor word) * odd constant, so any
    change of one word changes the result; SHA-256 folds the lanes and the length.
    """
    state = np.arange(1, _LANES + 1, dtype=np.uint64)
    whole = data.size // (8 * _LANES) * (8 * _LANES)
    tail = np.zeros(8 * _LANES, np.uint8)
    tail[: data.size - whole] = data[whole:]
    for row in data[:whole].view("<u8").reshape(-1, _LANES):
        np.bitwise_xor(state, row, out=state)
        np.multiply(state, _FACTOR, out=state)
    state = (state ^ tail.view("<u8")) * _FACTOR
    return hashlib.sha256(state.astype("<u8").tobytes() + struct.pack("<Q", data.size)).hexdigest()


def write_artifact(
    path: str | os.PathLike[str],
    description: Description,
    code: bytes,
    symbols: Mapping[str, int],
    weights: np.ndarray,
) -> None:
    """Write a `.cvc` file at once or not at all. `weights` is a uint8 array of one dimension.

    The file replaces an older one only when it is complete and on the disk. WriteError otherwise.
    """
    path = Path(path)
    code_hash, weights_hash = hashlib.sha256(code).hexdigest(), fingerprint(weights)
    header, code_at, weights_at = _header(
        description, symbols, (len(code), code_hash), (weights.size, weights_hash)
    )
    prologue = _PROLOGUE.pack(MAGIC, VERSION, 0, len(header), weights_at + weights.size)
    digest = hashlib.sha256(prologue + header).digest()
    parts = [(0, prologue + digest + header), (code_at, code), (weights_at, weights.data)]
    write_atomically(path, parts)


def read_contents(file: BinaryIO, name: str) -> Contents:
    """Read and check the header of an open `.cvc` file; `name` stands in messages."""
    start = file.read(_HEADER_AT)
    if start[: len(MAGIC)] != MAGIC:
        raise ArtifactError(f"{name}: not a .cvc artifact (it begins with {start[:8]!r})")
    if len(start) < _HEADER_AT:
        raise ArtifactError(
            f"{name}: truncated: {len(start)} bytes, expected at least {_HEADER_AT}"
        )
    _, version, _, header_size, file_size = _PROLOGUE.unpack_from(start)
    if version != VERSION:
        what = "compile the model again" if version < VERSION else "install a newer convc-runtime"
        raise VersionError(
            f"{name}: format version {version}, this runtime reads version {VERSION}: {what}"
        )
    actual = os.fstat(file.fileno()).st_size
    if actual < file_size:
        raise ArtifactError(f"{name}: truncated: {actual} bytes, expected {file_size}")
    if actual > file_size:
        raise ArtifactError(f"{name}: altered: {actual} bytes, expected {file_size}")
    header = file.read(min(header_size, actual))
    if hashlib.sha256(start[:32] + header).digest() != start[32:]:
        raise ArtifactError(f"{name}: altered: the header's hash is not the recorded one")
    try:
        data = json.loads(header)
        return Contents(
            description=from_json(data["description"]),
            symbols=dict(data["symbols"]),
            code=Section(**data["code"]),
            weights=Section(**data["weights"]),
        )
    except (ArtifactError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"{name}: its header is another version's ({one_line(error)}): compile the model again"
        ) from None


def one_line(error: Exception) -> str:
    """What is wrong, for a message: a missing key by its name."""
    return f"it has no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())


def _header(
    description: Description,
    symbols: Mapping[str, int],
    code: tuple[int, str],
    weights: tuple[int, str],
) -> tuple[bytes, int, int]:
    """The header text and the offsets of code and weights in the file, which the text contains."""
    data: dict[str, Any] = {"description": to_json(description), "symbols": dict(symbols)}
    # Room for what the text says about the sections, which depends on its own length.
    room = len(json.dumps(data)) + 512
    code_at = _round_up(_HEADER_AT + room)
    weights_at = _round_up(code_at + code[0])
    data["code"] = {"offset": code_at, "size": code[0], "hash": code[1]}
    data["weights"] = {"offset": weights_at, "size": weights[0], "hash": weights[1]}
    return json.dumps(data).encode(), code_at, weights_at


def _round_up(size: int) -> int:
    return -(-size // PAGE) * PAGE
