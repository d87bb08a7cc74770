"""What the objects of a program are known by: equal keys mean equal code."""

from __future__ import annotations

from typing import Any

from convc import driver, keras
from convc.codegen import llvm
from convc.codegen.llvm_module import llvm_text
from convc.graph.ir import Builder
from convc.ops.reduce import ReduceMax, ReduceMin
from convc.program.ir import Program
from convc.program.printer import print_program
from convc.target import TARGETS
from convc.types import Dim, DType, TensorType

V2 = TARGETS["x86-64-v2"]


def program(operator: Any) -> Program:
    """Of one node, which has the same name whatever it does."""
    builder = Builder("net")
    x = builder.input("x", TensorType(DType.float32, (Dim.symbol("N"), 4, 8)))
    y = builder.add(operator((1,)), x, name="y")
    return driver.plan_graphs("net", {"predict": builder.finish([y])}, V2).program


def test_entries_that_call_other_code_are_other_objects() -> None:
    """The text of a program names its kernels, and doesn't tell what is in them."""
    programs = [program(operator) for operator in (ReduceMax, ReduceMin)]
    assert print_program(programs[0]) == print_program(programs[1])
    units = [llvm.Units(V2, "net").of_program(p) for p in programs]
    first, second = ({u.name: u for u in some}["entries"] for some in units)
    assert first.text() != second.text()
    assert first.identity != second.identity


def test_a_short_units_identity_gives_the_code_of_its_text() -> None:
    """What a worker makes of a kernel's loop IR is what this process makes of the LLVM text."""
    target = TARGETS["x86-64-avx2"]
    image = keras.Input((12, 12, 8), name="image")
    hidden = keras.layers.Conv2D(24, 3, padding="same", activation="relu", name="conv")(image)
    graphs = keras.Model(image, keras.layers.DepthwiseConv2D(3, name="deep")(hidden)).graphs()
    program = driver.plan_graphs("net", graphs, target).program
    units = [u for u in llvm.Units(target, "net").of_program(program) if u.short]
    assert units
    for unit in units:
        assert len(unit.identity) < len(unit.text())
        assert llvm_text(unit.identity, target) == unit.text() == llvm_text(unit.text(), target)
