"""Element types, symbolic dimensions and tensor types: the vocabulary that every IR shares."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Mapping
from typing import Any, Union

import ml_dtypes
import numpy as np

from convc.frozen import frozen


class _Facts:
    """What an element type knows of itself, filled in below."""

    numpy: np.dtype[Any]
    """The numpy (or ml_dtypes) dtype of one element."""
    itemsize: int
    """Bytes per element in memory (bool takes one)."""
    is_float: bool
    is_integer: bool
    is_signed: bool


class DType(_Facts, enum.Enum):
    """An element type. The value is its name in every text format."""

    float64 = "float64"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"
    int64 = "int64"
    int32 = "int32"
    int16 = "int16"
    int8 = "int8"
    uint64 = "uint64"
    uint32 = "uint32"
    uint16 = "uint16"
    uint8 = "uint8"
    bool = "bool"

    # Plain attributes and the identity's hash: the compiler asks for them a million times per network.
    __hash__ = object.__hash__

    @staticmethod
    def of(dtype: object) -> DType:
        """The DType of a name, a numpy dtype or a DType; ValueError for one convc has not."""
        if isinstance(dtype, DType):
            return dtype
        if isinstance(dtype, np.dtype) and dtype in _BY_NUMPY:
            return _BY_NUMPY[dtype]
        name = dtype if isinstance(dtype, str) else np.dtype(dtype).name  # type: ignore[call-overload]
        try:
            return DType(name)
        except ValueError:
            known = ", ".join(d.value for d in DType)
            raise ValueError(f"unknown dtype {name!r}: expected one of {known}") from None


_BY_NUMPY: dict[np.dtype[Any], DType] = {}

for _dtype in DType:
    _dtype.numpy = np.dtype(ml_dtypes.bfloat16 if _dtype is DType.bfloat16 else _dtype.value)
    _dtype.itemsize = _dtype.numpy.itemsize
    _BY_NUMPY[_dtype.numpy] = _dtype
    _dtype.is_float = "float" in _dtype.value
    _dtype.is_integer = "int" in _dtype.value
    _dtype.is_signed = _dtype is not DType.bool and not _dtype.value.startswith("u")


@frozen
class Dim:
    """A dimension that isn't a plain number: an integer polynomial over named symbols.

    `terms` maps each monomial (its symbols, sorted, with repeats) to a nonzero coefficient.
    Arithmetic gives back an `int` whenever the result is constant, so `Extent` is either an `int`
    or a truly symbolic `Dim`.
    """

    terms: tuple[tuple[tuple[str, ...], int], ...]

    @staticmethod
    def symbol(name: str) -> Dim:
        return Dim((((name,), 1),))

    @property
    def symbols(self) -> frozenset[str]:
        return frozenset(s for monomial, _ in self.terms for s in monomial)

    def __add__(self, other: Extent) -> Extent:
        if not isinstance(other, (int, Dim, np.integer)):  # a tensor, which knows better
            return NotImplemented
        if other == 0:
            return self
        return _from_terms([*self.terms, *_terms(other)])

    def __radd__(self, other: int) -> Extent:
        return self + other

    def __neg__(self) -> Extent:
        return self * -1

    def __sub__(self, other: Extent) -> Extent:
        return self + other * -1

    def __rsub__(self, other: int) -> Extent:
        return self * -1 + other

    def __mul__(self, other: Extent) -> Extent:
        if isinstance(other, int):
            return Dim(tuple([(m, c * other) for m, c in self.terms])) if other else 0
        if not isinstance(other, (Dim, np.integer)):
            return NotImplemented
        products = [
            (tuple(sorted((*m, *n))), a * b) for m, a in self.terms for n, b in _terms(other)
        ]
        return _from_terms(products)

    def __rmul__(self, other: int) -> Extent:
        return self * other

    def __floordiv__(self, other: Extent) -> Extent:
        """The exact quotient by an integer or by a single monomial; ValueError if it isn't exact."""
        divisor = _terms(other)
        if len(divisor) != 1:
            raise ValueError(f"({self}) // ({other}): the divisor must be a number or one product")
        symbols, number = divisor[0]
        quotient = []
        for monomial, coefficient in self.terms:
            rest = list(monomial)
            for s in symbols:
                if s not in rest:
                    raise ValueError(f"{other} does not divide {self}")
                rest.remove(s)
            if coefficient % number:
                raise ValueError(f"{other} does not divide {self}")
            quotient.append((tuple(rest), coefficient // number))
        return _from_terms(quotient)

    def evaluate(self, values: Mapping[str, int]) -> int:
        """The number for given values of all symbols; KeyError names a missing one."""
        return sum(c * math.prod(values[s] for s in m) for m, c in self.terms)

    def __str__(self) -> str:
        parts = []
        for monomial, coefficient in self.terms:
            factors = list(monomial)
            if coefficient != 1 or not factors:
                factors.insert(0, str(coefficient))
            parts.append("*".join(factors))
        return " + ".join(parts)

    __repr__ = __str__


Extent = Union[int, Dim]
Shape = tuple[Extent, ...]


def _terms(extent: Extent) -> tuple[tuple[tuple[str, ...], int], ...]:
    if isinstance(extent, Dim):
        return extent.terms
    return (((), extent),) if extent else ()


def _from_terms(terms: Iterable[tuple[tuple[str, ...], int]]) -> Extent:
    total: dict[tuple[str, ...], int] = {}
    for monomial, coefficient in terms:
        total[monomial] = total.get(monomial, 0) + coefficient
    kept = sorted(((m, c) for m, c in total.items() if c), key=lambda t: (-len(t[0]), t[0]))
    if not kept:
        return 0
    if len(kept) == 1 and not kept[0][0]:
        return kept[0][1]
    return Dim(tuple(kept))


def evaluate(extent: Extent, values: Mapping[str, int]) -> int:
    """An extent as a number, given values for its symbols."""
    return extent.evaluate(values) if isinstance(extent, Dim) else extent


def size_of(shape: Iterable[Extent]) -> Extent:
    """The number of elements of a shape."""
    total: Extent = 1
    for extent in shape:
        total = total * extent
    return total


def symbols_of(shape: Iterable[Extent]) -> frozenset[str]:
    """The symbols that a shape mentions."""
    return frozenset(s for e in shape if isinstance(e, Dim) for s in e.symbols)


@frozen
class TensorType:
    """The dtype and the logical shape of a tensor."""

    dtype: DType
    shape: Shape

    @property
    def rank(self) -> int:
        return len(self.shape)

    def evaluate(self, values: Mapping[str, int]) -> TensorType:
        """The same type with numbers for its symbols."""
        return TensorType(self.dtype, tuple(evaluate(e, values) for e in self.shape))

    def __str__(self) -> str:
        return f"{self.dtype.value}[{', '.join(map(str, self.shape))}]"
