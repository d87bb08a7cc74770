"""Weights that are computed where they are wanted: in parts that stay in a cache, straight into their place.

    expr = ["source", INT]                  an array of the model, by its number
         | ["constant", INT]                one that the compiler made
         | ["transpose", [INT, …], expr]
         | ["reshape", [INT, …], expr]
         | ["scale", INT, expr]             times a constant that broadcasts, in the weight's dtype
         | ["filter", INT, expr]            a constant matrix on the taps of each filter (Winograd's), in float64
         | ["pack", INT, expr]              padded and laid out for the parameter that reads it

That is how compilations.py writes them down. What passes do to the weights of convolutions and products is one such
expression per weight, whose result depends on the weight's bytes and whose form doesn't: who looks at the numbers
(`numpy.asarray`) is noted in the sources. So a program whose sources nobody looked at is the program of every model
that differs in those sources alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeGuard, cast

import numpy as np
from convc_runtime.cpu import available_cpus
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import NDArray

from convc.loops.ir import Buffer
from convc.loops.memory import pack, pack_part, part_step, physical_size

Dense = NDArray[Any]

_PART = 1 << 17
"""Elements of a part: it and what is made of it stay in a second-level cache."""

_SMALL = 1 << 22
"""Bytes of weights below which threads aren't worth their start."""

_LEAST = 16
"""Elements that a dimension must have to be cut into parts."""


class Deferred(NDArrayOperatorsMixin):
    """An array that isn't computed yet: shape and dtype of one, and its numbers when it is asked for them.

    It quacks: transposes and reshapes are deferred too, whatever else arrays can do computes it first.
    """

    __slots__ = ("dtype", "shape")
    __hash__ = object.__hash__

    def __init__(self, shape: Sequence[int], dtype: np.dtype[Any]) -> None:
        self.shape = tuple(shape)
        self.dtype = dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self.size * self.itemsize

    def sources(self) -> Iterator[Source]:
        """The model's arrays that it is made of."""
        raise NotImplementedError

    def axis(self) -> int | None:
        """The dimension along which parts are computed best, None if only the whole is."""
        raise NotImplementedError

    def part(self, axis: int | None, start: int, stop: int) -> Dense:
        """Elements start … stop - 1 along a dimension; the whole for None. Nobody may write to it."""
        raise NotImplementedError

    def transpose(self, perm: Sequence[int]) -> Dense:
        return as_array(Transposed(self, perm))

    def reshape(self, shape: Sequence[int] | int) -> Dense:
        extents = (shape,) if isinstance(shape, int) else tuple(shape)
        if -1 in extents:
            rest = self.size // max(1, -math.prod(extents))
            extents = tuple(rest if e == -1 else e for e in extents)
        return as_array(self if extents == self.shape else Reshaped(self, extents))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Dense:
        for source in self.sources():
            source.seen = True
        return np.array(self.part(None, 0, 0), dtype)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        inputs = tuple(np.asarray(i) if isinstance(i, Deferred) else i for i in inputs)
        return getattr(ufunc, method)(*inputs, **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(np.asarray(self), name)

    def __getitem__(self, index: Any) -> Any:
        return np.asarray(self)[index]

    def __len__(self) -> int:
        return self.shape[0]


class Source(Deferred):
    """An array of the model. `seen` is whether somebody looked at its numbers before it was evaluated."""

    __slots__ = ("array", "seen")

    def __init__(self, array: Dense) -> None:
        super().__init__(array.shape, array.dtype)
        self.array, self.seen = array, False

    def sources(self) -> Iterator[Source]:
        yield self

    def axis(self) -> int | None:
        strides = [
            s if e >= _LEAST else 0 for s, e in zip(self.array.strides, self.shape, strict=True)
        ]
        return strides.index(max(strides)) if any(strides) else None

    def part(self, axis: int | None, start: int, stop: int) -> Dense:
        return _slice(self.array, axis, start, stop)


class _Of(Deferred):
    """One that is made of another."""

    __slots__ = ("of",)

    def __init__(self, of: Deferred, shape: Sequence[int]) -> None:
        super().__init__(shape, of.dtype)
        self.of = of

    def sources(self) -> Iterator[Source]:
        return self.of.sources()

    def axis(self) -> int | None:
        return self.of.axis()


class Transposed(_Of):
    __slots__ = ("perm",)

    def __init__(self, of: Deferred, perm: Sequence[int]) -> None:
        super().__init__(of, [of.shape[p] for p in perm])
        self.perm = tuple(int(p) for p in perm)

    def axis(self) -> int | None:
        axis = self.of.axis()
        return None if axis is None else self.perm.index(axis)

    def part(self, axis: int | None, start: int, stop: int) -> Dense:
        inner = None if axis is None else self.perm[axis]
        return self.of.part(inner, start, stop).transpose(self.perm)


class Reshaped(_Of):
    """In logical order. Only the whole is computed, unless dimensions of extent 1 are all that comes or goes."""

    __slots__ = ("_axes",)

    def __init__(self, of: Deferred, shape: Sequence[int]) -> None:
        super().__init__(of, shape)
        old = [d for d, e in enumerate(of.shape) if e != 1]
        new = [d for d, e in enumerate(self.shape) if e != 1]
        same = [of.shape[d] for d in old] == [self.shape[d] for d in new]
        self._axes = dict(zip(new, old, strict=True)) if same else {}

    def axis(self) -> int | None:
        axis = self.of.axis()
        return next((new for new, old in self._axes.items() if old == axis), None)

    def part(self, axis: int | None, start: int, stop: int) -> Dense:
        if axis is None or axis not in self._axes:
            return _slice(self.of.part(None, 0, 0).reshape(self.shape), axis, start, stop)
        shape = [stop - start if d == axis else e for d, e in enumerate(self.shape)]
        return self.of.part(self._axes[axis], start, stop).reshape(shape)


class Scaled(_Of):
    """Times a factor of the same rank and dtype, which broadcasts to it."""

    __slots__ = ("factor",)

    def __init__(self, of: Deferred, factor: Dense) -> None:
        super().__init__(of, of.shape)
        self.factor = factor

    def part(self, axis: int | None, start: int, stop: int) -> Dense:
        factor = self.factor
        if axis is not None and factor.shape[axis] != 1:
            factor = _slice(factor, axis, start, stop)
        return np.asarray(np.multiply(self.of.part(axis, start, stop), factor))


class Filtered(_Of):
    """u[t, 0, c, o] of filters [o, c, r, s]: a matrix [t, r * s] on each, summed in float64 and rounded once."""

    __slots__ = ("matrix",)

    def __init__(self, of: Deferred, matrix: Dense) -> None:
        outputs, inputs, *_ = of.shape
        super().__init__(of, (len(matrix), 1, inputs, outputs))
        self.matrix = matrix

    def axis(self) -> int | None:
        return 2

    def part(self, axis: int | None, start: int, stop: int) -> Dense:
        if axis is not None and axis < 2:
            return _slice(self.part(None, 0, 0), axis, start, stop)
        inner = None if axis is None else 3 - axis
        return filtered(self.of.part(inner, start, stop), self.matrix)


class Packed(_Of):
    """Flat, in the layout of the parameter that reads it, zeros where it is longer than the weight."""

    __slots__ = ("buffer",)

    def __init__(self, of: Deferred, buffer: Buffer) -> None:
        super().__init__(of, (physical_size(buffer, {}),))
        self.buffer = buffer

    def axis(self) -> int | None:
        return None

    def part(self, axis: int | None, start: int, stop: int) -> Dense:
        out = np.zeros(self.shape, self.dtype)
        for first, last in self.cuts():
            self.write(out, first, last)
        return _slice(out, axis, start, stop)

    def cuts(self) -> list[tuple[int, int]]:
        """The ranges along the value's axis that are computed one by one."""
        axis = self.of.axis()
        step = None if axis is None else part_step(self.buffer, axis)
        if axis is None or step is None:
            return [(0, 0)]
        extent = self.of.shape[axis]
        width = max(1, _PART * extent // max(1, self.of.size))
        width = max(step, width // step * step)
        return [(s, min(extent, s + width)) for s in range(0, extent, width)]

    def write(self, out: Dense, start: int, stop: int) -> None:
        """Computes one of the `cuts` into the whole's memory, which is zero."""
        if stop == 0:
            pack(padded(self.of.part(None, 0, 0), self.buffer), self.buffer, {}, out)
            return
        axis = self.of.axis()
        assert axis is not None
        pack_part(self.of.part(axis, start, stop), self.buffer, out, axis, start)


class Constant(Deferred):
    """An array that the compiler made: nobody minds who looks at it."""

    __slots__ = ("array",)

    def __init__(self, array: Dense) -> None:
        super().__init__(array.shape, array.dtype)
        self.array = array

    def sources(self) -> Iterator[Source]:
        return iter(())

    def axis(self) -> int | None:
        return None

    def part(self, axis: int | None, start: int, stop: int) -> Dense:
        return _slice(self.array, axis, start, stop)


def as_array(value: Deferred) -> Dense:
    """The same object, for those who take arrays."""
    return cast(Dense, value)


def is_deferred(value: object) -> TypeGuard[Deferred]:
    return isinstance(value, Deferred)


def deferred(array: Dense | Deferred) -> Deferred:
    return array if isinstance(array, Deferred) else Constant(array)


def padded(array: Dense, buffer: Buffer) -> Dense:
    """An array with zeros behind it up to the parameter's shape."""
    missing = [int(e) - n for e, n in zip(buffer.shape, array.shape, strict=True)]  # type: ignore[arg-type]
    return np.pad(array, [(0, m) for m in missing]) if any(missing) else array


def filtered(weight: Dense, matrix: Dense) -> Dense:
    """`Filtered` of an array, in parts that stay in a cache."""
    outputs, inputs, high, wide = weight.shape
    taps = weight.transpose(2, 3, 1, 0).reshape(high * wide, inputs * outputs)
    u = np.empty((len(matrix), inputs * outputs), weight.dtype)
    for start in range(0, inputs * outputs, 2048):
        part = slice(start, start + 2048)
        columns = np.array(taps[:, part], np.float64, order="C")
        # No BLAS: its threads would wait for each other.
        u[:, part] = np.einsum("tk,kn->tn", matrix, columns)
    return u.reshape(-1, 1, inputs, outputs)


def evaluate_into(
    block: NDArray[np.uint8], parts: Sequence[tuple[int, Deferred]], threads: int | None = None
) -> None:
    """Computes arrays into a block of zeros, each at its offset in bytes; by default with up to four threads."""
    if threads is None:
        threads = min(4, available_cpus())
    jobs = [job for offset, value in parts for job in _jobs(block, offset, value)]
    if threads < 2 or block.size < _SMALL:
        for out, value, cut in jobs:
            _compute(out, value, cut)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda job: _compute(*job), jobs):
            pass


def _jobs(
    block: NDArray[np.uint8], offset: int, value: Deferred
) -> Iterator[tuple[Dense, Deferred, tuple[int, int]]]:
    out = block[offset : offset + value.nbytes].view(value.dtype).reshape(value.shape)
    for cut in value.cuts() if isinstance(value, Packed) else [(0, 0)]:
        yield out, value, cut


def _compute(out: Dense, value: Deferred, cut: tuple[int, int]) -> None:
    if isinstance(value, Packed):
        value.write(out, *cut)
    else:
        out[...] = value.part(None, 0, 0)


def _slice(array: Dense, axis: int | None, start: int, stop: int) -> Dense:
    if axis is None:
        return array
    return array[(slice(None),) * axis + (slice(start, stop),)]
