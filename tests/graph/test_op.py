"""Registering operators: the name, and the facets that must be there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from convc.graph.op import OPERATORS, Op, no_gradient, register
from convc.ops.conv import Conv2d, ConvTranspose2d
from convc.ops.elementwise import Log1p
from convc.ops.pool import MaxPool2d
from convc.types import TensorType


def test_names_are_snake_case() -> None:
    names = {cls: cls.mnemonic for cls in (Conv2d, ConvTranspose2d, MaxPool2d, Log1p)}
    assert list(names.values()) == ["conv2d", "conv_transpose2d", "max_pool2d", "log1p"]
    assert all(OPERATORS[name] is cls for cls, name in names.items())


def test_an_operator_without_a_facet_is_refused() -> None:
    class Untyped(Op):
        def reference(self, x: Any) -> Any:
            return x

    class Underivable(Op):
        def infer(self, x: TensorType) -> tuple[TensorType]:
            return (x,)

        def reference(self, x: Any) -> Any:
            return x

    class Unloopable(Underivable):
        gradient = no_gradient

    with pytest.raises(TypeError, match="operator Untyped lacks the facet 'infer'"):
        register(Untyped)
    with pytest.raises(TypeError, match="operator Underivable lacks the facet 'gradient'"):
        register(Underivable)
    with pytest.raises(
        TypeError,
        match="operator Unloopable lacks a facet: 'formula', 'decompose', 'loops' or 'procedure'",
    ):
        register(Unloopable)
    assert not {"untyped", "underivable", "unloopable"} & OPERATORS.keys()


def test_a_name_can_be_taken_once() -> None:
    @dataclass(frozen=True)
    class Another(MaxPool2d):
        pass

    Another.__name__ = "MaxPool2d"
    with pytest.raises(TypeError, match="operator max_pool2d is registered twice"):
        register(Another)
    assert OPERATORS["max_pool2d"] is MaxPool2d


def test_attributes_are_the_fields() -> None:
    assert MaxPool2d((3, 3)).attributes == {
        "kernel": (3, 3),
        "stride": (2, 2),
        "padding": ((0, 0), (0, 0)),
        "dilation": (1, 1),
    }
