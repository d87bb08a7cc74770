"""Programs print and parse back to the same thing, and the parser points at what it refuses."""

from __future__ import annotations

import re

import numpy as np
import pytest

from convc.errors import IRError
from convc.loops.parser import parse_kernel
from convc.program.ir import (
    Argument,
    Cut,
    Entry,
    Port,
    Program,
    Region,
    RegionKind,
    Share,
    Step,
)
from convc.program.parser import parse_program
from convc.program.printer import print_program, print_share
from convc.types import Dim, DType, TensorType
from tests.program.programs import TEXT, parsed, two_layers

M, N = Dim.symbol("M"), Dim.symbol("N")


def test_a_program_parses_back_with_its_kernels() -> None:
    program = two_layers()
    text = print_program(program, kernels=True)
    again = parse_program(text, weights=program.weights)
    assert again == program
    assert again.weights.keys() == program.weights.keys()
    assert print_program(again, kernels=True) == text


def test_kernels_may_stand_beside_the_text() -> None:
    program = two_layers()
    assert parse_program(print_program(program), program.kernels, program.weights) == program


def test_strange_names_survive() -> None:
    strange = 'a "quoted" / \\ name: π'
    kernel = parse_kernel(
        "kernel k(in x: float32[2], out y: float32[2]) { for i in 2 { y[i] = x[i] } }"
    )
    type = TensorType(DType.float32, (2,))
    program = Program(
        strange,
        (
            Region(strange, RegionKind.input, 8),
            Region("y", RegionKind.output, 8),
            Region("a", RegionKind.arena, 8 * N * N + 4, 64 * N),
        ),
        {"k": kernel},
        (
            Entry(
                "run it",
                (Port("in:0", type, strange),),
                (Port("class", type, "y"),),
                (Step("k", (Argument(strange), Argument("y", 0)), (strange, "b"), "a/b"),),
            ),
        ),
        arena=128 * N + 64,
    )
    assert parse_program(print_program(program, kernels=True)) == program


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("alone 1 x 40, 3200 ns", Share(Cut(1, 40), None, 3200, None)),
        ("share 36 x 64, 52000 ns", Share(Cut(36, 64), None, 52000, 1)),
        (
            "share N x 16 or 1 x 16*N if N >= 12, 524*N + 22 ns",
            Share(Cut(1, 16 * N), Cut(N, 16), 524 * N + 22, 12),
        ),
        ("share 4 x N if M*N >= 3, 2200*M*N ns", Share(Cut(4, N), None, 2200 * N * M, 3)),
    ],
)
def test_shares_parse_back(text: str, share: Share) -> None:
    assert print_share(share) == text
    line = 'copy("x", "t")'
    program = parsed(TEXT.replace(line, f'{line} {text} from "a"'))
    step = program.entries[0].steps[1]
    assert (step.share, step.layers) == (share, ("a",))
    assert parse_program(print_program(program), program.kernels, program.weights) == program


def test_a_kernel_may_be_called_share() -> None:
    program = parsed(re.sub(r"\bcopy\(", "share(", TEXT))
    assert program.entries[0].steps[1].kernel == "share"
    assert not any(step.share for step in program.entries[0].steps)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("program two", "graph two", "line 1, column 1: expected 'program', got 'graph'"),
        (
            'input "x"',
            'register "x"',
            "line 3, column 3: expected input, output, weight, state, arena or entry",
        ),
        ("16*N bytes", "16*N bits", "expected 'bytes', got 'bits'"),
        ("x: float32[N, 4]", "x: float31[N, 4]", "expected a dtype, got 'float31'"),
        ('copy("x", "t")', 'copy("x" + n, "t")', "expected an integer, got 'n'"),
        ('copy("x", "t")', 'copy("x", t)', "expected a region, got 't'"),
        ('copy("x", "t")', 'copy("x", "t") share 4, 9 ns', "expected 'x', got ','"),
        (
            'copy("x", "t")',
            'copy("x", "t") share 1 x N if M >= 2, 9*N ns',
            "expected a condition on N, as the time has it, got M",
        ),
        ("in x: float32[N, 4],", "in x: float32[N, 4] @(e0),", "line 12, column"),
    ],
)
def test_the_parser_names_the_place(old: str, new: str, message: str) -> None:
    assert old in TEXT
    with pytest.raises(IRError, match=re.escape(message)):
        parse_program(TEXT.replace(old, new, 1), weights={"w": np.ones(4, np.float32)})
