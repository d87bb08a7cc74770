"""Pickles of plain data, read without Python's unpickler: nothing in a file is ever called.

A batch of CIFAR is a pickled dict of lists, byte strings, numbers and one numpy array. This reader knows the opcodes
that such data takes (protocols 0 to 5, https://github.com/python/cpython/blob/main/Lib/pickletools.py) and the three
names that numpy's arrays are written with; for anything else it raises InputFileError.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convc.errors import InputFileError

MOST_BYTES = 256 << 20
"""Of a file: CIFAR-100's training batch, the largest, has 155 MB."""

DTYPES = {
    f"{kind}{size}"
    for kind, sizes in {"u": "1248", "i": "1248", "f": "248"}.items()
    for size in sizes
}


class _NotPlainError(ValueError):
    """Why a pickle isn't plain data."""


@dataclass(frozen=True)
class _Name:
    """A name that the pickle wants imported: it is only looked at."""

    module: str
    name: str


@dataclass
class _Dtype:
    """numpy.dtype(code), and the byte order that its state says."""

    code: str
    order: str = "|"

    def set_state(self, state: Any) -> None:
        if (
            not isinstance(state, tuple)
            or len(state) < 2
            or _text(state[1]) not in ("<", ">", "|", "=")
        ):
            raise _NotPlainError("a dtype with an unknown state")
        self.order = _text(state[1])

    def numpy(self) -> np.dtype[Any]:
        return np.dtype(self.code if self.order == "|" else f"{self.order}{self.code}")


class _Array:
    """A numpy array between its REDUCE, which makes an empty one, and its BUILD, which fills it."""

    def __init__(self) -> None:
        self.value: np.ndarray[Any, Any] | None = None

    def set_state(self, state: Any) -> None:
        match state:
            case (
                int(),
                tuple() as shape,
                _Dtype() as dtype,
                bool() | int() as fortran,
                bytes() as data,
            ):
                kind = dtype.numpy()
            case _:
                raise _NotPlainError("an array with an unknown state")
        if not all(type(e) is int and 0 <= e <= MOST_BYTES for e in shape) or len(shape) > 8:
            raise _NotPlainError(f"an array of shape {shape}")
        count = 1
        for extent in shape:
            count *= extent
        if count * kind.itemsize != len(data):
            raise _NotPlainError(f"{len(data)} bytes for an array {kind} of shape {shape}")
        order: Any = "F" if fortran else "C"
        self.value = np.frombuffer(data, kind).reshape(shape, order=order)


_MARK = object()
_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")


class _Reader:
    """The stack machine: a method per kind of opcode."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "STOP":
                return self.pop()
            if opcode.name in _IGNORED:
                continue
            if opcode.name in _PUSHED:
                self.stack.append(argument)
                continue
            if opcode.name not in _ACTIONS:
                raise _NotPlainError(f"opcode {opcode.name}")
            _ACTIONS[opcode.name](self, argument)
        raise _NotPlainError("no end")

    def pop(self) -> Any:
        if not self.stack:
            raise _NotPlainError("an empty stack")
        return self.stack.pop()

    def top(self, kind: type) -> Any:
        if not self.stack or not isinstance(self.stack[-1], kind):
            raise _NotPlainError(f"no {kind.__name__} to add to")
        return self.stack[-1]

    def marked(self) -> list[Any]:
        """What was pushed since the last mark."""
        for at in range(len(self.stack) - 1, -1, -1):
            if self.stack[at] is _MARK:
                found = self.stack[at + 1 :]
                del self.stack[at:]
                return found
        raise _NotPlainError("no mark")

    def tuple_of(self, count: int) -> None:
        self.stack.append(tuple([self.pop() for _ in range(count)][::-1]))

    def append(self, items: list[Any]) -> None:
        self.top(list).extend(items)

    def set_items(self, items: list[Any]) -> None:
        target = self.top(dict)
        if len(items) % 2:
            raise _NotPlainError("a key without a value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_text(key)] = value

    def make_dict(self) -> None:
        items = self.marked()
        self.stack.append({})
        self.set_items(items)

    def put(self, key: int) -> None:
        value = self.pop()
        self.stack.append(value)
        self.memo[key] = value

    def get(self, key: int) -> None:
        if key not in self.memo:
            raise _NotPlainError("an unknown memo")
        self.stack.append(self.memo[key])

    def name(self, text: str) -> None:
        module, _, name = text.partition(" ")
        self.stack.append(_Name(module, name))

    def stack_name(self) -> None:
        name, module = self.pop(), self.pop()
        self.stack.append(_Name(_text(module), _text(name)))

    def reduce(self) -> None:
        arguments, function = self.pop(), self.pop()
        match function, arguments:
            case _Name("numpy", "dtype"), (bytes() | str() as code, *_) if _text(code) in DTYPES:
                self.stack.append(_Dtype(_text(code)))
            case _Name(module, "_reconstruct"), (_Name("numpy", "ndarray"), *_) if (
                module in _MODULES
            ):
                self.stack.append(_Array())
            case _Name("_codecs", "encode"), (str() as text, "latin1" | b"latin1"):
                self.stack.append(text.encode("latin1"))
            case _Name(module, name), _:
                raise _NotPlainError(f"a call of {module}.{name}")
            case _:
                raise _NotPlainError("a call")

    def build(self) -> None:
        state = self.pop()
        if not self.stack or not isinstance(self.stack[-1], (_Dtype, _Array)):
            raise _NotPlainError("a state for something else than an array")
        self.stack[-1].set_state(state)


def _text(value: Any) -> str:
    match value:
        case str():
            return value
        case bytes():
            return value.decode("latin1")
        case _:
            raise _NotPlainError(f"{type(value).__name__} in the place of a text")


_IGNORED = {"PROTO", "FRAME"}
_PUSHED = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT", "BINUNICODE",
    "SHORT_BINUNICODE", "UNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
}  # fmt: skip
_ACTIONS: dict[str, Callable[[_Reader, Any], None]] = {
    "NONE": lambda r, _: r.stack.append(None),
    "NEWTRUE": lambda r, _: r.stack.append(True),
    "NEWFALSE": lambda r, _: r.stack.append(False),
    # Python 2's str: genops gives Latin-1 text, or for protocol 0 the escaped ASCII that stood between quotes.
    "BINSTRING": lambda r, text: r.stack.append(text.encode("latin1")),
    "SHORT_BINSTRING": lambda r, text: r.stack.append(text.encode("latin1")),
    "STRING": lambda r, text: r.stack.append(text.encode("latin1")),
    "MARK": lambda r, _: r.stack.append(_MARK),
    "EMPTY_LIST": lambda r, _: r.stack.append([]),
    "EMPTY_DICT": lambda r, _: r.stack.append({}),
    "EMPTY_TUPLE": lambda r, _: r.stack.append(()),
    "LIST": lambda r, _: r.stack.append(r.marked()),
    "TUPLE": lambda r, _: r.stack.append(tuple(r.marked())),
    "TUPLE1": lambda r, _: r.tuple_of(1),
    "TUPLE2": lambda r, _: r.tuple_of(2),
    "TUPLE3": lambda r, _: r.tuple_of(3),
    "DICT": lambda r, _: r.make_dict(),
    "APPEND": lambda r, _: r.append([r.pop()]),
    "APPENDS": lambda r, _: r.append(r.marked()),
    "SETITEM": lambda r, _: r.set_items([r.pop(), r.pop()][::-1]),
    "SETITEMS": lambda r, _: r.set_items(r.marked()),
    "PUT": lambda r, key: r.put(key),
    "BINPUT": lambda r, key: r.put(key),
    "LONG_BINPUT": lambda r, key: r.put(key),
    "MEMOIZE": lambda r, _: r.put(len(r.memo)),
    "GET": lambda r, key: r.get(key),
    "BINGET": lambda r, key: r.get(key),
    "LONG_BINGET": lambda r, key: r.get(key),
    "GLOBAL": lambda r, text: r.name(text),
    "STACK_GLOBAL": lambda r, _: r.stack_name(),
    "REDUCE": lambda r, _: r.reduce(),
    "BUILD": lambda r, _: r.build(),
}


def read_plain_pickle(path: Path) -> dict[str, Any]:
    """The dict in a file: keys are text, values numbers, bytes, texts, arrays and lists."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise InputFileError(f"can't read {path}: {error.strerror or error}") from None
    if len(data) > MOST_BYTES:
        raise InputFileError(f"{path}: larger than {MOST_BYTES} bytes")
    try:
        found = _Reader().run(data)
    except (ValueError, OverflowError, MemoryError) as error:
        raise InputFileError(f"{path}: expected a pickle of plain data: {error}") from None
    if not isinstance(found, dict):
        raise InputFileError(f"{path}: expected a pickled dict, got {type(found).__name__}")
    return {key: finished(path, value) for key, value in found.items()}


def finished(path: Path, value: Any) -> Any:
    """An array in the place of what stands for it; InputFileError for a value that is neither plain nor an array."""
    match value:
        case _Array(value=np.ndarray() as array):
            return array
        case None | bool() | int() | float() | str() | bytes() | list():
            return value
        case _:
            raise InputFileError(f"{path}: expected plain data, got {type(value).__name__}")
