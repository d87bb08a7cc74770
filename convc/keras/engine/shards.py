"""Weights over several HDF5 files: `x.weights.json` names them, and which of them has which layer's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from convc.errors import InputFileError, UsageError
from convc.keras.engine import archive, hdf5, saving_h5
from convc.keras.engine.hdf5 import Hdf5
from convc.keras.engine.tensor import Array

SUFFIX = ".weights.json"
_MOST = 1000


class Shards:
    """The files together, each opened when something in it is asked for; `name` is what errors call them."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self.name = str(path)
        self._folder, self._stack = path.parent, stack
        self._open: dict[str, Hdf5] = {}
        found = archive.parsed(path.read_bytes(), self.name).get("weight_map")
        if not isinstance(found, dict):
            raise InputFileError(f"{path}: it has no weight_map, so it names no files of weights")
        self._map = {str(k).strip("/"): _names(path, v) for k, v in found.items()}
        if len({name for names in self._map.values() for name in names}) > _MOST:
            raise InputFileError(f"{path}: it names more than {_MOST} files")

    def names(self, path: str = "") -> list[str]:
        """The names in a group, in whichever files it is."""
        inside = [k for k in self._map if not path or k == path or k.startswith(f"{path}/")]
        if path in self._map:
            return [name for file in self._files(path) for name in file.names(path)]
        after = len(path) + 1 if path else 0
        return list(dict.fromkeys(k[after:].partition("/")[0] for k in inside))

    def shape(self, path: str) -> tuple[int, ...] | None:
        found = self._having(path)
        return None if found is None else found.shape(path)

    def array(self, path: str) -> Array:
        found = self._having(path)
        if found is None:
            raise InputFileError(f"{self.name}: there is no array at {path}")
        return found.array(path)

    def _having(self, path: str) -> Hdf5 | None:
        group = path.rpartition("/")[0]
        return next((f for f in self._files(group) if f.shape(path) is not None), None)

    def _files(self, group: str) -> Iterator[Hdf5]:
        for name in self._map.get(group, ()):
            if name not in self._open:
                path = self._folder / name
                if not path.is_file():
                    raise InputFileError(
                        f"{self.name} names the file {name}, which isn't beside it"
                    )
                self._open[name] = self._stack.enter_context(hdf5.opened(path, str(path)))
            yield self._open[name]


def _names(path: Path, value: Any) -> list[str]:
    """The files of an entry, which must be beside the one that names them."""
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise InputFileError(
            f"{path}: weight_map: expected names of files; received {str(value)[:60]!r}"
        )
    for name in names:
        if PurePosixPath(name.replace("\\", "/")).name != name or name in ("", ".", ".."):
            raise InputFileError(f"{path}: file {name!r} isn't beside it")
    return names


@contextmanager
def opened(path: Path) -> Iterator[Shards]:
    """The files of a `.weights.json`; InputFileError if it is none."""
    with ExitStack() as stack:
        yield Shards(path, stack)


def planned(
    arrays: dict[str, Array], gigabytes: float, stem: str
) -> tuple[list[dict[str, Array]], str]:
    """The arrays of each file, none larger than so many GiB, and the text that names the files.

    Arrays of one layer stay together; UsageError if they alone are too large.
    """
    limit = gigabytes * 1024**3
    groups: dict[str, dict[str, Array]] = {}
    for place, array in arrays.items():
        groups.setdefault(place.rpartition("/")[0], {})[place] = array
    files: list[dict[str, Array]] = [{}]
    weight_map: dict[str, list[str]] = {}
    size = 0
    for group, own in groups.items():
        needed = sum(a.nbytes for a in own.values())
        if needed > limit:
            raise UsageError(
                f"save_weights: max_shard_size is {limit:,.0f} bytes; {group} alone takes {needed:,}"
            )
        if size + needed > limit:
            files.append({})
            size = 0
        files[-1].update(own)
        size += needed
        weight_map[f"/{group}"] = [f"{stem}_{len(files) - 1:05d}.weights.h5"]
    total = sum(a.nbytes for a in arrays.values())
    found = {"metadata": {"total_size": total}, "weight_map": weight_map}
    return files, json.dumps(found, indent=4)


def write(file: Any, arrays: dict[str, Array]) -> None:
    """Puts the arrays of a file into an open h5py one."""
    for place, array in arrays.items():
        saving_h5.put(file, place, array)
