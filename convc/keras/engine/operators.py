"""Python's operators on tensors and variables, as the functions of `convc.keras.ops` that they mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from convc.types import Dim

FUNCTIONS: dict[str, Callable[..., Any]] = {}
"""The functions of convc.keras.ops by name; that package fills it in, Python's operators look it up."""


def function(name: str) -> Callable[..., Any]:
    return FUNCTIONS[name]


def binary(name: str, a: Any, b: Any) -> Any:
    """An operator's result, or NotImplemented for operands that are no tensors."""
    for operand in (a, b):
        if not isinstance(
            operand, (Operators, np.ndarray, np.generic, int, float, bool, list, tuple, Dim)
        ):
            return NotImplemented
    return FUNCTIONS[name](a, b)


class Operators:
    """Python's operators on tensors and variables; what would need a number raises a ModelError."""

    __array_priority__ = 1000

    def __add__(self, other: Any) -> Any:
        return binary("add", self, other)

    def __radd__(self, other: Any) -> Any:
        return binary("add", other, self)

    def __sub__(self, other: Any) -> Any:
        return binary("subtract", self, other)

    def __rsub__(self, other: Any) -> Any:
        return binary("subtract", other, self)

    def __mul__(self, other: Any) -> Any:
        return binary("multiply", self, other)

    def __rmul__(self, other: Any) -> Any:
        return binary("multiply", other, self)

    def __truediv__(self, other: Any) -> Any:
        return binary("true_divide", self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return binary("true_divide", other, self)

    def __floordiv__(self, other: Any) -> Any:
        return binary("floor_divide", self, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return binary("floor_divide", other, self)

    def __mod__(self, other: Any) -> Any:
        return binary("mod", self, other)

    def __rmod__(self, other: Any) -> Any:
        return binary("mod", other, self)

    def __pow__(self, other: Any) -> Any:
        return binary("power", self, other)

    def __rpow__(self, other: Any) -> Any:
        return binary("power", other, self)

    def __matmul__(self, other: Any) -> Any:
        return binary("matmul", self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return binary("matmul", other, self)

    def __lt__(self, other: Any) -> Any:
        return binary("less", self, other)

    def __le__(self, other: Any) -> Any:
        return binary("less_equal", self, other)

    def __gt__(self, other: Any) -> Any:
        return binary("greater", self, other)

    def __ge__(self, other: Any) -> Any:
        return binary("greater_equal", self, other)

    def __eq__(self, other: object) -> Any:
        return binary("equal", self, other)

    def __ne__(self, other: object) -> Any:
        return binary("not_equal", self, other)

    __hash__ = object.__hash__

    def __and__(self, other: Any) -> Any:
        return binary("logical_and", self, other)

    def __or__(self, other: Any) -> Any:
        return binary("logical_or", self, other)

    def __xor__(self, other: Any) -> Any:
        return binary("logical_xor", self, other)

    def __invert__(self) -> Any:
        return function("logical_not")(self)

    def __neg__(self) -> Any:
        return function("negative")(self)

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return function("absolute")(self)

    def __getitem__(self, key: Any) -> Any:
        return function("get_item")(self, key)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        name = str(ufunc.__name__)
        if method != "__call__" or name not in FUNCTIONS or kwargs:
            self._refuse(f"numpy.{name}")
        return FUNCTIONS[name](*inputs)

    def __bool__(self) -> bool:
        return bool(self._value("bool()", "use convc.keras.ops.where for a choice by value"))

    def __float__(self) -> float:
        return float(self._value("float()", "").item())

    def __int__(self) -> int:
        return int(self._value("int()", "").item())

    def __index__(self) -> int:
        return int(self._value("an index", "").item())

    def __iter__(self) -> Any:
        shape = function("convert_to_tensor")(self).shape
        if not shape or shape[0] is None:
            self._refuse(
                "iteration", "index its axes, or use convc.keras.ops functions over whole tensors"
            )
        return iter([self[k] for k in range(shape[0])])

    def __contains__(self, item: Any) -> NoReturn:
        self._refuse("'in'")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.asarray(self._value("conversion to a numpy array", ""), dtype=dtype)

    def __round__(self, digits: int | None = None) -> Any:
        return round(self._value("round()", "use convc.keras.ops.round").item(), digits)

    def numpy(self) -> Any:
        """The values, if they don't depend on a model input: an array, or a numpy scalar without axes."""
        return self._value(".numpy()", "")[()]

    def _value(self, what: str, instead: str) -> Any:
        """The values as an array, for `what`; a ModelError, with what to do `instead`, if they aren't known."""
        raise NotImplementedError

    def _refuse(self, what: str, instead: str = "") -> NoReturn:
        """Says that `what` can't be traced."""
        raise NotImplementedError
