"""A hypothesis strategy for random, well-formed kernels: every node, dtype and kind of layout."""

from __future__ import annotations

import math

from hypothesis import strategies as st

from convc.loops.functions import FUNCTIONS
from convc.loops.ir import (
    COMPARISONS,
    INDEX,
    Alloc,
    Axis,
    Barrier,
    Binary,
    Block,
    Buffer,
    Call,
    Cast,
    Const,
    Expr,
    For,
    If,
    Intrinsic,
    Kernel,
    Layout,
    Let,
    Load,
    LoopKind,
    Reduce,
    Role,
    Select,
    Space,
    Stmt,
    Store,
    Var,
    Window,
)
from convc.loops.scalars import limits
from convc.types import Dim, DType, Extent

N, M = Dim.symbol("N"), Dim.symbol("M")
EXTENTS: tuple[Extent, ...] = (1, 4, 7, N, 2 * N + 1, N * M - 3)
NUMBER_OPS = ("+", "-", "*", "min", "max")
INTEGER_OPS = (*NUMBER_OPS, "//", "%", "&", "|", "^", "<<", ">>")
FLOAT_FUNCTIONS = ("sqrt", "exp", "tanh", "round", "pow", "fma", "abs")


@st.composite
def kernels(draw: st.DrawFn) -> Kernel:
    return _Maker(draw).kernel()


@st.composite
def expressions(draw: st.DrawFn) -> Expr:
    """Expressions over the index variables i and j and the float32 buffer x of two dimensions."""
    maker = _Maker(draw)
    maker.names = {"i": INDEX, "j": INDEX}
    maker.buffers = {"x": Buffer("x", DType.float32, (4, 4))}
    return maker.expr(draw(st.sampled_from(list(DType))), 4)


class _Maker:
    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.names: dict[str, DType] = {}
        self.buffers: dict[str, Buffer] = {}
        self.count = 0

    def one(self, *choices: str) -> str:
        return self.draw(st.sampled_from(choices))

    def fresh(self, prefix: str) -> str:
        self.count += 1
        return f"{prefix}{self.count}"

    def kernel(self) -> Kernel:
        params = tuple(self.buffer(False) for _ in range(self.draw(st.integers(1, 3))))
        notes = self.draw(st.lists(st.tuples(st.text(max_size=4), st.text(max_size=4)), max_size=2))
        kernel = Kernel("k", params, (), tuple(notes))
        self.names = dict.fromkeys(kernel.symbols, INDEX)
        return Kernel("k", params, self.block(3), tuple(notes))

    def buffer(self, local: bool) -> Buffer:
        shape = tuple(self.draw(st.lists(st.sampled_from(EXTENTS), max_size=3)))
        symbols = {s for s, dtype in self.names.items() if dtype is INDEX}
        if local:
            shape = tuple(e for e in shape if not isinstance(e, Dim) or e.symbols <= symbols)
        local_spaces = [Space.stack, Space.shared, Space.register]
        spaces = local_spaces if local else [Space.global_, Space.constant]
        roles = [Role.local] if local else [Role.in_, Role.out, Role.inout]
        buffer = Buffer(
            self.fresh("b"),
            self.draw(st.sampled_from(list(DType))),
            shape,
            self.layout(len(shape)),
            self.draw(st.sampled_from(spaces)),
            self.draw(st.sampled_from(roles)),
        )
        self.buffers[buffer.name] = buffer
        return buffer

    def layout(self, rank: int) -> Layout:
        axes = [Axis(d) for d in self.draw(st.permutations(range(rank)))]
        if rank and self.draw(st.booleans()):
            dim = self.draw(st.integers(0, rank - 1))
            axes += [Axis(dim, 16), Axis(dim, 1, 16, self.draw(st.sampled_from([None, 20])))]
        pairs = st.tuples(st.integers(0, 3), st.integers(0, 3))
        border = self.draw(st.lists(pairs, min_size=rank, max_size=rank))
        return Layout(tuple(axes), tuple(border))

    def block(self, depth: int) -> Block:
        names, buffers = dict(self.names), dict(self.buffers)
        count = self.draw(st.integers(0, 3))
        block = tuple(self.statement(depth) for _ in range(count))
        self.names, self.buffers = names, buffers
        return block

    def statement(self, depth: int) -> Stmt:
        kinds = ["let", "alloc", "store", "do", "barrier", "for", "if"]
        match self.one(*(kinds if depth else kinds[:5])):
            case "for":
                var, extent = self.fresh("i"), self.expr(INDEX, 2)
                outer = dict(self.names)
                self.names[var] = INDEX
                body = self.block(depth - 1)
                self.names = outer
                return For(var, extent, body, self.draw(st.sampled_from(list(LoopKind))))
            case "if":
                condition = self.expr(DType.bool, 2)
                return If(condition, self.block(depth - 1), self.block(depth - 1))
            case "let":
                let = Let(self.fresh("v"), self.expr(self.draw(st.sampled_from(list(DType))), 3))
                self.names[let.name] = let.value.dtype
                return let
            case "alloc":
                return Alloc(self.buffer(True))
            case "store":
                buffer = self.draw(st.sampled_from(list(self.buffers.values())))
                return Store(buffer.name, self.index(buffer, 2), self.expr(buffer.dtype, 3))
            case "do":
                buffer = self.draw(st.sampled_from(list(self.buffers.values())))
                sizes = tuple(self.draw(st.integers(1, 16)) for _ in buffer.shape)
                window = Window(buffer.name, self.index(buffer, 1), sizes)
                return Intrinsic("prefetch", (window,) * self.draw(st.integers(0, 2)))
        return Barrier(self.one("block", "warp"))

    def index(self, buffer: Buffer, depth: int) -> tuple[Expr, ...]:
        return tuple(self.expr(INDEX, depth) for _ in buffer.shape)

    def expr(self, dtype: DType, depth: int) -> Expr:
        leaves = ["const"]
        if dtype in self.names.values():
            leaves.append("var")
        if any(b.dtype is dtype for b in self.buffers.values()):
            leaves.append("load")
        inner = ["binary", "select", "cast", "call", "reduce"] if depth else []
        match self.one(*leaves, *inner):
            case "const":
                return self.const(dtype)
            case "var":
                names = [n for n, d in self.names.items() if d is dtype]
                return Var(self.one(*names), dtype)
            case "load":
                fitting = [b for b in self.buffers.values() if b.dtype is dtype]
                buffer = self.draw(st.sampled_from(fitting))
                return Load(buffer.name, self.index(buffer, max(depth - 1, 0)), dtype)
            case "select":
                condition = self.expr(DType.bool, depth - 1)
                return Select(condition, self.expr(dtype, depth - 1), self.expr(dtype, depth - 1))
            case "cast":
                source = self.draw(st.sampled_from(list(DType)))
                return Cast(self.expr(source, depth - 1), dtype)
            case "reduce":
                return self.reduce(dtype, depth)
            case "call":
                return self.call(dtype, depth)
        return self.binary(dtype, depth)

    def const(self, dtype: DType) -> Const:
        if dtype is DType.bool:
            return Const(self.draw(st.booleans()), dtype)
        if dtype.is_integer:
            return Const(self.draw(st.integers(*limits(dtype))), dtype)
        special = st.sampled_from([math.nan, math.inf, -math.inf, -0.0])
        return Const(self.draw(st.floats(allow_nan=False) | special), dtype)

    def reduce(self, dtype: DType, depth: int) -> Expr:
        outer = dict(self.names)
        axes = ((self.fresh("r"), self.draw(st.sampled_from(EXTENTS))), (self.fresh("r"), 3))
        self.names.update((name, INDEX) for name, _ in axes)
        value = self.expr(dtype, depth - 1)
        self.names = outer
        return Reduce(self.one("sum", "max", "min", "prod"), axes, value)

    def call(self, dtype: DType, depth: int) -> Expr:
        if dtype is DType.bool:
            return Call("isnan", (self.expr(DType.float32, depth - 1),), dtype)
        if dtype.is_float and self.draw(st.booleans()):
            name = self.one(*FLOAT_FUNCTIONS)
            args = tuple(self.expr(dtype, depth - 1) for _ in range(FUNCTIONS[name].arity))
            return Call(name, args, dtype)
        same_size = [d for d in DType if d.itemsize == dtype.itemsize and d is not DType.bool]
        source = self.draw(st.sampled_from(same_size))
        return Call("bitcast", (self.expr(source, depth - 1),), dtype)

    def binary(self, dtype: DType, depth: int) -> Expr:
        if dtype is DType.bool:
            operands = self.draw(st.sampled_from(list(DType)))
            ops: tuple[str, ...] = (
                COMPARISONS if operands is not DType.bool else ("&", "|", "^", "==", "!=")
            )
        else:
            operands = dtype
            ops = (*NUMBER_OPS, "/") if dtype.is_float else INTEGER_OPS
        return Binary(
            self.one(*ops), self.expr(operands, depth - 1), self.expr(operands, depth - 1)
        )
