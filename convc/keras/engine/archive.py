"""`.keras` files: a zip archive of metadata.json, config.json and model.weights.h5."""

from __future__ import annotations

import io
import json
import time
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from convc.errors import InputFileError
from convc.keras.engine import saving_h5
from convc.keras.engine.hdf5 import h5py
from convc.keras.engine.tensor import Array

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
ASSETS, VOCABULARY = "assets/", "vocabulary.txt"
_LARGEST_JSON = 256 << 20
_SPREAD = 200
_MEMBERS = 100_000


@dataclass(frozen=True)
class Archive:
    """What a file holds: the model's config, and the weights as the bytes of an HDF5 file."""

    config: dict[str, Any]
    weights: bytes | None
    version: str
    """The version of Keras that wrote it."""
    vocabularies: Mapping[str, str]
    """The vocabularies that layers learned, a line for each item, by the layer's place among the weights."""


def read(path: Path) -> Archive:
    """The parts of a file; nothing is unpacked to disk. InputFileError says what is wrong with it."""
    try:
        with zipfile.ZipFile(path) as archive:
            _check_names(path, archive)
            config = parsed(_member(path, archive, CONFIG, _LARGEST_JSON), f"{path}: {CONFIG}")
            about = _member(path, archive, METADATA, _LARGEST_JSON) or b"{}"
            version = str(parsed(about, f"{path}: {METADATA}").get("keras_version", "3"))
            vocabularies = dict(_vocabularies(path, archive))
            return Archive(config, _member(path, archive, WEIGHTS), version, vocabularies)
    except InputFileError:
        raise
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, OSError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputFileError(f"{path} is not a readable .keras file: {reason}") from None
    except (
        NotImplementedError,
        RuntimeError,
    ) as error:  # compression and encryption that zipfile lacks
        raise InputFileError(f"{path} is not a readable .keras file: {error}") from None


def _vocabularies(path: Path, archive: zipfile.ZipFile) -> Iterator[tuple[str, str]]:
    for name in archive.namelist():
        if name.startswith(ASSETS) and name.endswith(f"/{VOCABULARY}"):
            text = _member(path, archive, name, _LARGEST_JSON) or b""
            place = name.removeprefix(ASSETS).removesuffix(VOCABULARY)
            try:
                yield place, text.decode("utf-8")
            except UnicodeDecodeError as error:
                raise InputFileError(f"{path}: {name} is not UTF-8 text: {error}") from None


def _check_names(path: Path, archive: zipfile.ZipFile) -> None:
    names = archive.namelist()
    if len(names) > _MEMBERS:
        raise InputFileError(f"{path}: {len(names):,} files in one archive")
    for name in names:
        pure = PurePosixPath(name.replace("\\", "/"))
        if pure.is_absolute() or ".." in pure.parts or ":" in pure.parts[:1]:
            raise InputFileError(f"{path}: file {name!r} in it points outside of it")
    for needed in (CONFIG, METADATA, WEIGHTS):
        if names.count(needed) > 1:
            raise InputFileError(f"{path}: {needed} is there {names.count(needed)} times")
    if CONFIG not in names:
        raise InputFileError(f"{path}: it has no {CONFIG}, so it is no Keras model")
    if WEIGHTS not in names and any(n.startswith("model.weights") for n in names):
        raise InputFileError(f"{path}: its weights aren't in {WEIGHTS}; other forms aren't read")


def _member(
    path: Path, archive: zipfile.ZipFile, name: str, largest: int | None = None
) -> bytes | None:
    """The bytes of a file in the archive, refused before they are read where they say too much."""
    if name not in archive.namelist():
        return None
    info = archive.getinfo(name)
    limit = info.compress_size * _SPREAD + (1 << 20)
    if info.file_size > (limit if largest is None else min(limit, largest)):
        raise InputFileError(
            f"{path}: {name} says {info.file_size:,} bytes, packed in {info.compress_size:,}: refused as a zip bomb"
        )
    with archive.open(info) as stream:
        return stream.read(info.file_size)


def parsed(text: bytes | str | None, what: str) -> dict[str, Any]:
    """A JSON object; InputFileError if it isn't one."""
    try:
        found = json.loads(text or b"")
    except (ValueError, UnicodeDecodeError) as error:
        raise InputFileError(f"{what} is not readable JSON: {error}") from None
    except RecursionError:
        raise InputFileError(f"{what} nests too deep") from None
    if not isinstance(found, dict):
        raise InputFileError(f"{what}: expected a JSON object")
    return found


def write(
    model: Any, path: Path, config: dict[str, Any], version: str, optimizer: Sequence[Array] = ()
) -> None:
    """Writes the three files of a `.keras` archive, stored as they are; `optimizer` is its state."""
    metadata = {"keras_version": version, "date_saved": time.strftime("%Y-%m-%d@%H:%M:%S")}
    weights = io.BytesIO()
    with h5py().File(weights, "w") as file:
        saving_h5.write(model, file)
        for number, array in enumerate(optimizer):
            file.create_dataset(f"optimizer/vars/{number}", data=array)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(METADATA, json.dumps(metadata))
        archive.writestr(CONFIG, json.dumps(config))
        archive.writestr(WEIGHTS, weights.getbuffer())
