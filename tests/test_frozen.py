"""Values: equal by their fields, hashed once, closed to the type checker, and variables one object each."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from typing import Any

from convc.frozen import frozen
from convc.loops.ir import INDEX, Binary, Const, Load, Var
from convc.types import DType


@frozen
class Pair:
    """Two numbers."""

    a: int
    b: int = 2


def test_values_are_equal_and_hashed_by_their_fields() -> None:
    assert Pair(1) == Pair(1, 2)
    assert hash(Pair(1)) == hash(Pair(1, 2))
    assert Pair(1) != Pair(1, 3)
    assert repr(Pair(1)) == "Pair(a=1, b=2)"
    assert not hasattr(Pair(1), "__dict__")


def test_a_kept_hash_stays_with_its_value() -> None:
    value = Pair(1)
    assert len({value, Pair(1), Pair(1, 3)}) == 2
    other = replace(value, b=3)
    assert other == Pair(1, 3)
    assert hash(other) == hash(Pair(1, 3)) != hash(value)


def test_copies_have_no_hash_of_another_process() -> None:
    value: Any = Load("x", (Var("i"),), DType.float32)
    hash(value)
    for copied in (pickle.loads(pickle.dumps(value)), copy.deepcopy(value)):
        assert copied == value
        assert copied._hash is None  # which Python draws anew for texts in each process


def test_zeros_of_other_signs_are_other_constants() -> None:
    zero, negative = Const(0.0, DType.float32), Const(-0.0, DType.float32)
    assert zero == Const(0.0, DType.float32) != negative
    assert Const(0, INDEX) == Const(0, INDEX) != zero


def test_expressions_are_values() -> None:
    def index(number: int) -> Load:
        return Load("x", (Binary("+", Var("i"), Const(number, INDEX)),), DType.float32)

    assert index(3) == index(3)
    assert len({index(3), index(3), index(4)}) == 2


def test_there_is_one_variable_of_a_name_and_dtype() -> None:
    assert Var("i") is Var("i", INDEX)
    assert Var("i") != Var("i", DType.float32)
    assert Var("i") != Var("j")
    assert copy.deepcopy(Var("i")) is Var("i")
    assert pickle.loads(pickle.dumps(Var("t", DType.float32))) is Var("t", DType.float32)
