"""A model as a C library: read-only tables in the layout of convc.h, an ELF file and its headers."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import convc_runtime
import numpy as np
from convc_runtime import Description, EntryInfo, StateInfo, TensorInfo, state_fingerprint
from convc_runtime.description import terms
from convc_runtime.writing import write_atomically, write_whole

from convc.codegen.elf import Library, Pointer, object_file, shared_library
from convc.codegen.link import Image
from convc.codegen.llvm_entry import REQUIREMENT_CODE
from convc.errors import UnsupportedError

ABI_VERSION = 1
STATE_HEADERS = "convc_state"
# DLPack's type codes: signed, unsigned, float, bfloat, bool.
_CODES = {"int": 0, "uint": 1, "float": 2, "bfloat": 4, "bool": 6}
# convc_state_kind.
_KINDS = {"parameter": 1, "statistic": 2, "optimizer": 3, "metric": 4, "control": 5}
# The code refers to nothing in the weights, but a linker places both in one 2 GB image.
_LARGEST = (1 << 31) - (1 << 24)


def write_library(
    path: Path, description: Description, image: Image, weights: np.ndarray, identifier: str
) -> list[Path]:
    """Write a shared library and the headers of a C program that uses it. Returns the files.

    C knows the model as `identifier`: nothing else of it is visible, whatever names its code was linked with.
    """
    library = _library(path, description, image, weights, identifier)
    write_atomically(path, shared_library(library, path.name))
    return [path, *write_headers(path.parent, description, identifier)]


def write_object(
    path: Path, description: Description, image: Image, weights: np.ndarray, identifier: str
) -> list[Path]:
    """Write an object to link into a program, and its headers. Returns the files. `identifier` as above."""
    write_atomically(path, object_file(_library(path, description, image, weights, identifier)))
    return [path, *write_headers(path.parent, description, identifier)]


def write_headers(folder: Path, description: Description, identifier: str) -> list[Path]:
    """Write `<identifier>.h` and the runtime's headers that it needs."""
    own = folder / f"{identifier}.h"
    write_whole(own, header(description, identifier).encode())
    files = [own]
    for source in convc_runtime.headers():
        if source.stem == STATE_HEADERS and not description.states:
            continue
        target = folder / source.name
        if target.resolve() != source.resolve():
            write_whole(target, source.read_bytes())
            files.append(target)
    return files


def header(description: Description, name: str) -> str:
    """The generated header: the model's symbol `<name>_model`, its entries by name, its tensors as comments."""
    lines = [
        f"/* {_comment(description.name)}, a model compiled by {_comment(description.compiler) or 'convc'}. */",
        f"#ifndef CONVC_MODEL_{name}_H",
        f"#define CONVC_MODEL_{name}_H",
        "",
        f'#include "{STATE_HEADERS if description.states else "convc"}.h"',
        "",
        "#ifdef __cplusplus",
        'extern "C" {',
        "#endif",
        "",
        f"extern const convc_model {name}_model;",
        "",
        "#ifdef __cplusplus",
        "}",
        "#endif",
        "",
    ]
    for i, entry in enumerate(description.entries):
        lines.append("/*")
        lines += [f" * input   {_comment(str(t))}" for t in entry.inputs]
        lines += [f" * output  {_comment(str(t))}" for t in entry.outputs]
        required = description.extra.get("requirements", {}).get(entry.name, ())
        lines += [f" * fails for data that need more, status {REQUIREMENT_CODE + k}: {_comment(text)}"
                  for k, text in enumerate(required)]  # fmt: skip
        lines += [f" * workspace bytes: {_comment(str(entry.workspace))}", " */"]
        lines += [f"#define {name.upper()}_{_word(entry.name)} {i}", ""]
    if description.states:
        lines += [f"/* The state of a context, {description.state_size} bytes:", " *"]
        lines += [f" * {s.kind:<10} {_comment(str(s))}" for s in description.states]
        lines += [" */", ""]
    return "\n".join([*lines, "#endif", ""])


def _comment(text: str) -> str:
    return text.replace("*/", "* /")


def _word(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name).upper()


def _library(
    path: Path, description: Description, image: Image, weights: np.ndarray, identifier: str
) -> Library:
    if weights.size > _LARGEST:
        raise UnsupportedError(
            f"{path}: {weights.size} bytes of weights don't fit into a {path.suffix} file "
            f"(at most {_LARGEST}): save a .cvc file instead"
        )
    tables = _Tables(description.symbols)
    tables.model(description, image, weights.size)
    pointers = tuple(sorted(tables.pointers, key=lambda p: p.offset))
    return Library(image, bytes(tables.data), pointers, weights, f"{identifier}_model")


class _Tables:
    """The structs of convc.h as bytes, with a list of the pointers in them."""

    def __init__(self, symbols: Sequence[str]) -> None:
        self.data = bytearray()
        self.pointers: list[Pointer] = []
        self._symbols = list(symbols)
        self._texts: dict[str, int] = {}

    def model(self, description: Description, image: Image, weights: int) -> None:
        """`convc_model`, at offset 0, and everything that it points to."""
        name = description.identifier
        size = 8 + 4 * 4 + 5 * 8 + 8 + 8 + 7 * 8 + 5 * 8 + 32
        self._reserve(size)
        struct.pack_into(
            "<QIIII", self.data, 0, size, ABI_VERSION, len(description.symbols), len(description.entries),
            len(description.cpu_features),
        )  # fmt: skip
        self._point(24, "tables", self._text(description.name))
        self._point(32, "tables", self._texts_array(description.symbols))
        self._point(40, "tables", self._texts_array(description.cpu_features))
        self._point(48, "weights", 0)
        self._point(56, "tables", self._entries(description.entries, image))
        struct.pack_into("<Q", self.data, 64, weights)
        self._point(72, "tables", self._text(description.compiler))
        functions = (
            "check",
            "run",
            "invoke",
            "pool_size",
            "pool_create",
            "pool_destroy",
            "pool_for",
        )
        for i, function in enumerate(functions):
            self._point(80 + 8 * i, "code", image.symbols[f"{name}_{function}"])
        if description.states:
            self._state(description)

    def _state(self, description: Description) -> None:
        """The end of `convc_model`, which is about state."""
        struct.pack_into("<i", self.data, 136, len(description.states))
        self._point(144, "tables", self._states(description.states))
        struct.pack_into("<Q", self.data, 152, description.state_size)
        if description.initial_size:
            self._point(160, "weights", description.initial_offset)
            struct.pack_into("<Q", self.data, 168, description.initial_size)
        self.data[176:208] = state_fingerprint(description)

    def _states(self, states: Sequence[StateInfo]) -> int:
        size = 56
        start = self._reserve(size * len(states))
        for i, state in enumerate(states):
            at, rank = start + size * i, len(state.shape)
            code, bits = dlpack_type(state.dtype)
            numbers = self._reserve(16 * rank)
            struct.pack_into(f"<{2 * rank}q", self.data, numbers, *state.shape, *state.strides)
            struct.pack_into("<Q", self.data, at, size)
            self._point(at + 8, "tables", self._text(state.name))
            struct.pack_into("<BBHi", self.data, at + 16, code, bits, 1, rank)
            self._point(at + 24, "tables", numbers)
            self._point(at + 32, "tables", numbers + 8 * rank)
            struct.pack_into("<Qi", self.data, at + 40, state.offset, _KINDS.get(state.kind, 0))
        return start

    def _entries(self, entries: Sequence[EntryInfo], image: Image) -> int:
        size = 72
        start = self._reserve(size * len(entries))
        for i, entry in enumerate(entries):
            at = start + size * i
            inputs, outputs = self._tensors(entry.inputs), self._tensors(entry.outputs)
            struct.pack_into("<Q", self.data, at, size)
            self._point(at + 8, "tables", self._text(entry.name))
            struct.pack_into("<ii", self.data, at + 16, len(entry.inputs), len(entry.outputs))
            self._point(at + 24, "tables", inputs)
            self._point(at + 32, "tables", outputs)
            struct.pack_into("<qqq", self.data, at + 40, *self._extent(entry.workspace))
            self._point(at + 64, "code", image.symbols[entry.function])
        return start

    def _tensors(self, tensors: Sequence[TensorInfo]) -> int:
        size = 32
        start = self._reserve(size * len(tensors))
        for i, tensor in enumerate(tensors):
            at = start + size * i
            code, bits = dlpack_type(tensor.dtype)
            extents = self._reserve(24 * len(tensor.shape))
            for d, extent in enumerate(tensor.shape):
                struct.pack_into("<qqq", self.data, extents + 24 * d, *self._extent(extent))
            struct.pack_into("<Q", self.data, at, size)
            self._point(at + 8, "tables", self._text(tensor.name))
            struct.pack_into("<BBHi", self.data, at + 16, code, bits, 1, len(tensor.shape))
            self._point(at + 24, "tables", extents)
        return start

    def _extent(self, extent: int | str) -> tuple[int, int, int]:
        """`convc_extent`: constant, coefficient, index of the symbol or -1."""
        constant, coefficient, symbol = 0, 0, -1
        for number, symbols in terms(extent):
            if not symbols:
                constant += number
                continue
            index = self._symbols.index(symbols[0])
            if len(symbols) > 1 or symbol not in (-1, index):
                raise UnsupportedError(
                    f"the extent {extent} can't be said in C: expected a number plus a multiple of one symbol"
                )
            coefficient, symbol = coefficient + number, index
        return constant, coefficient, symbol

    def _texts_array(self, texts: Sequence[str]) -> int:
        start = self._reserve(8 * len(texts))
        for i, text in enumerate(texts):
            self._point(start + 8 * i, "tables", self._text(text))
        return start

    def _text(self, text: str) -> int:
        if text not in self._texts:
            data = text.encode() + b"\0"
            self._texts[text] = self._reserve(len(data))
            self.data[self._texts[text] : self._texts[text] + len(data)] = data
        return self._texts[text]

    def _reserve(self, size: int) -> int:
        """Zeroed bytes, aligned to 8; the offset of the first."""
        at = len(self.data)
        self.data += bytes(-(-size // 8) * 8)
        return at

    def _point(self, offset: int, piece: str, target: int) -> None:
        self.pointers.append(Pointer(offset, piece, target))


def dlpack_type(dtype: str) -> tuple[int, int]:
    """DLPack's type code and the bits of one element, for a dtype's name."""
    if dtype == "bool":
        return _CODES["bool"], 8
    kind = dtype.rstrip("0123456789")
    return _CODES[kind], int(dtype[len(kind) :])
