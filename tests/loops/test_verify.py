from __future__ import annotations

from dataclasses import replace

import pytest

from convc.errors import IRError
from convc.loops.ir import (
    INDEX,
    Alloc,
    Binary,
    Block,
    Buffer,
    Call,
    Cast,
    Const,
    Expr,
    For,
    If,
    Kernel,
    Let,
    Load,
    LoopKind,
    Reduce,
    Role,
    Select,
    Space,
    Store,
    Var,
)
from convc.loops.parser import parse_kernel
from convc.loops.verify import verify_kernel
from convc.types import Dim, DType

F32, I32, BOOL = DType.float32, DType.int32, DType.bool
X = Buffer("x", F32, (Dim.symbol("N"), 4), role=Role.in_)
Y = Buffer("y", F32, (Dim.symbol("N"), 4), role=Role.out)
ZERO, ONE, TRUE = Const(0, INDEX), Const(1.0, F32), Const(True, BOOL)
T = Buffer("t", F32, (4,), space=Space.stack)
R = Buffer("r", F32, (4,), space=Space.register)
P = Buffer("p", DType.int8, (4,), space=Space.stack)


def store(value: Expr) -> Block:
    return (Store("y", (ZERO, ZERO), value),)


GOOD = """
kernel good(in x: float32[N, 4], in w: int8[8] constant, out y: float32[N, 4]) {
  for n in N parallel {
    for m in 1 parallel {
      alloc r: float32[4] register
      for j in 4 unrolled { let s: float32 = x[n, j] * 2.0  r[j] = exp(s) }
      for j in 4 vectorized { y[n, j] = select(r[j] < 1.0, r[j], float32(dot_s8s8(0i32, w[0]x4, w[4]x4))) }
      if 0 < n { alloc t: float32[4] stack  t[n] = 0.0 } else { alloc t: float32[4] stack  t[n] = 0.0 }
    }
  }
}
"""


def test_a_good_kernel_passes() -> None:
    verify_kernel(parse_kernel(GOOD))


BAD: dict[str, tuple[Block, str]] = {
    "undefined name": (store(Var("a", F32)), r"unknown name 'a' in: y\[0, 0\] = a"),
    "undefined buffer": (store(Load("z", (ZERO,), F32)), "unknown buffer 'z'"),
    "name out of its block": (
        (If(TRUE, (Let("a", ONE),)), *store(Var("a", F32))), "unknown name 'a'"),
    "loop variable after its loop": ((For("i", ZERO, ()), *store(Cast(Var("i"), F32))), "unknown name 'i'"),
    "name used as another dtype": ((Let("a", ONE), *store(Cast(Var("a"), F32))), "a is float32, used as int64"),
    "wrong rank of a load": (store(Load("x", (ZERO,), F32)), "x has 2 dimensions, got 1 indices"),
    "wrong rank of a store": ((Store("y", (ZERO,), ONE),), "y has 2 dimensions, got 1 indices"),
    "load of another dtype": (store(Load("x", (ZERO, ZERO), I32)), "is float32, used as int32"),
    "store of another dtype": (store(Const(1, I32)), "the value for y must be float32, 1i32 is int32"),
    "mixed operands": (store(Binary("+", ONE, Const(1, I32))), "operands of float32 and int32"),
    "mixed branches": (store(Select(TRUE, ONE, Const(1, I32))), "the second branch of a select must be float32"),
    "condition of a select": (store(Select(ZERO, ONE, ONE)), "the condition of a select must be bool, 0 is int64"),
    "condition of an if": ((If(ONE, ()),), "a condition must be bool, 1.0 is float32"),
    "index that isn't int64": ((Store("y", (ZERO, Const(0, I32)), ONE),), "an index of y must be int64"),
    "extent that isn't int64": ((For("i", Const(4, I32), ()),), "a loop's extent must be int64"),
    "negative extent": ((For("i", Const(-4, INDEX), ()),), "a loop's extent is negative: -4"),
    "division of floats": (store(Binary("//", ONE, ONE)), "'//' is not for float32"),
    "true division of integers": (store(Cast(Binary("/", ZERO, ZERO), F32)), "'/' is not for int64"),
    "order of booleans": (store(Select(Binary("<", TRUE, TRUE), ONE, ONE)), "'<' is not for bool"),
    "bits of floats": (store(Binary("&", ONE, ONE)), "'&' is not for float32"),
    "unknown operator": (store(Binary("**", ONE, ONE)), r"unknown operator '\*\*'"),
    "store to an input": ((Store("x", (ZERO, ZERO), ONE),), "x is an input: it can't be written"),
    "varying extent": (
        (For("i", Var("N"), (), LoopKind.vectorized),),
        "the extent of a loop that is vectorized must be a constant in: for i in N vectorized"),
    "bound twice": ((Let("a", ONE), Let("a", ONE)), "the name 'a' is bound already"),
    "loop shadows a symbol": ((For("N", ZERO, ()),), "the name 'N' is bound already"),
    "duplicate buffer": ((Alloc(T), Alloc(T)), r"the buffer name t: float32\[4\] stack is taken already"),
    "buffer like a parameter": ((Alloc(replace(T, name="x")),), "the buffer name x: .* is taken already"),
    "other buffer of a name": (
        (If(TRUE, (Alloc(T),), (Alloc(replace(T, shape=(5,))),)),), r"the buffer name t: float32\[5\]"),
    "local buffer in global memory": ((Alloc(replace(T, space=Space.global_)),), "expected stack, shared"),
    "alloc with a role": ((Alloc(replace(T, role=Role.in_)),), "an allocated buffer has the role local"),
    "alloc of unknown size": ((Alloc(replace(T, shape=(Dim.symbol("M"),))),), "unknown symbols M"),
    "register by a serial variable": (
        (Alloc(R), For("i", Const(4, INDEX), (Store("r", (Var("i"),), ONE),))),
        "register buffer r: expected an index of constants, unrolled variables and lanes, got i"),
    "register by a let of one": (
        (Alloc(R), For("i", Const(4, INDEX), (Let("a", Var("i") + 1), Store("r", (Var("a"),), ONE)))),
        "register buffer r"),
    "reduction": (store(Reduce("sum", (("c", 3),), ONE)), "a reduction must be lowered to loops"),
    "parallel inside serial": (
        (For("i", ZERO, (For("j", ZERO, (), LoopKind.parallel),)),), "parallel loops stand at the top"),
    "parallel beside another statement": (
        (Let("a", ONE), For("i", ZERO, (), LoopKind.parallel)), "parallel loops stand at the top"),
    "unknown function": (store(Call("sinus", (ONE,), F32)), "unknown function 'sinus'"),
    "function of another dtype": (store(Cast(Call("exp", (ONE,), DType.float64), F32)), "gives float32, used"),
    "operand of a function": (store(Call("exp", (Const(1, I32),), F32)), "exp: expected a float, got int32"),
    "pack outside a dot": (
        (Alloc(P), *store(Cast(Load("p", (ZERO,), DType.int8, 4), F32))), "a pack is only an operand of a dot"),
    "pack of the wrong width": (
        (Alloc(P), *store(Cast(Call("dot_s8s8", (Const(0, I32), *[Load("p", (ZERO,), DType.int8, 2)] * 2), I32), F32))),
        r"dot_s8s8: expected \(int32, int8x4, int8x4\), got \(int32, int8x2, int8x2\)"),
    "constant of another kind": (store(Const(1, F32)), "the float32 constant 1 is a int"),
    "constant out of range": (store(Cast(Const(300, DType.uint8), F32)), "the constant 300 is beyond uint8"),
}  # fmt: skip


@pytest.mark.parametrize("case", list(BAD))
def test_a_breach_is_named_with_its_statement(case: str) -> None:
    body, message = BAD[case]
    with pytest.raises(IRError, match=f"^kernel bad: .*{message}"):
        verify_kernel(Kernel("bad", (X, Y), body))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("do prefetchh(x[0 +: 1, 0 +: 1])", "unknown special instruction 'prefetchh'"),
        ("do prefetch(x[0 +: 1])", "expected 2 window sizes, got 1"),
        ("do prefetch(x[i +: 1, 0 +: 1])", "unknown name 'i'"),
        ("barrier(galaxy)", "expected a scope of block or warp, got 'galaxy'"),
    ],
)
def test_special_instructions_are_checked(text: str, message: str) -> None:
    kernel = parse_kernel(f"kernel k(in x: float32[4, 4]) {{ for i in 4 {{ {text} }} }}")
    (loop,) = kernel.body
    assert isinstance(loop, For)
    kernel = replace(kernel, body=loop.body)  # so that i is unknown
    with pytest.raises(IRError, match=message):
        verify_kernel(kernel)


@pytest.mark.parametrize(
    ("param", "message"),
    [
        (replace(X, role=Role.local), "parameter x has no role"),
        (replace(X, space=Space.stack), "parameter x: expected global or constant memory"),
    ],
)
def test_parameters_have_roles_in_global_memory(param: Buffer, message: str) -> None:
    with pytest.raises(IRError, match=message):
        verify_kernel(Kernel("bad", (param,), ()))
