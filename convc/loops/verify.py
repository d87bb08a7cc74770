"""Checks a kernel against the rules of the loop IR, one statement at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NoReturn, assert_never

from convc.errors import IRError
from convc.loops.functions import FUNCTIONS, result_dtype
from convc.loops.intrinsics import INTRINSICS, problems
from convc.loops.ir import (
    BINARY_OPS,
    INDEX,
    Alloc,
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
)
from convc.loops.printer import print_buffer, print_expr, print_head
from convc.loops.scalars import limits
from convc.loops.walking import subexpressions
from convc.types import DType, symbols_of

STATIC_KINDS = (LoopKind.vectorized, LoopKind.unrolled)
SCOPES = ("block", "warp")
BITWISE = ("&", "|", "^")


def verify_kernel(kernel: Kernel) -> None:
    """Raises IRError that names the kernel, the rule and the statement, at the first breach."""
    _Verifier(kernel).run()


@dataclass(frozen=True)
class _Name:
    """A variable in scope; `static` if a generator knows its value while it walks the kernel."""

    dtype: DType
    static: bool


class _Verifier:
    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.stmt: Stmt | None = None
        self.names = {s: _Name(INDEX, False) for s in kernel.symbols}
        self.buffers: dict[str, Buffer] = {}
        self.declared: dict[str, Buffer] = {}

    def run(self) -> None:
        for buffer in self.kernel.params:
            if buffer.role is Role.local:
                self.fail(f"parameter {buffer.name} has no role (in, out or inout)")
            if buffer.space not in (Space.global_, Space.constant):
                self.fail(f"parameter {buffer.name}: expected global or constant memory")
            self.declare(buffer)
        self.block(self.kernel.body, top=True)

    def fail(self, message: str) -> NoReturn:
        place = f" in: {print_head(self.stmt)}" if self.stmt is not None else ""
        raise IRError(f"kernel {self.kernel.name}: {message}{place}")

    # ------------------------------------------------------------ statements

    def block(self, block: Block, *, top: bool = False) -> None:
        """`top` where a parallel loop may stand, if it is the block's only statement."""
        names, buffers = dict(self.names), dict(self.buffers)
        for stmt in block:
            self.stmt = stmt
            self.statement(stmt, top and len(block) == 1)
        self.names, self.buffers = names, buffers

    def statement(self, stmt: Stmt, top: bool) -> None:
        match stmt:
            case For():
                self.for_(stmt, top)
            case If():
                self.expect(stmt.condition, DType.bool, "a condition")
                self.block(stmt.then)
                self.block(stmt.otherwise)
            case Let():
                self.expr(stmt.value)
                self.bind(stmt.name, _Name(stmt.value.dtype, self.is_static(stmt.value)))
            case Alloc():
                self.alloc(stmt.buffer)
            case Store():
                buffer = self.writable(stmt.buffer)
                self.index(buffer, stmt.index)
                self.expect(stmt.value, buffer.dtype, f"the value for {buffer.name}")
            case Intrinsic():
                self.intrinsic(stmt)
            case Barrier():
                if stmt.scope not in SCOPES:
                    self.fail(f"expected a scope of {' or '.join(SCOPES)}, got {stmt.scope!r}")
            case _:
                assert_never(stmt)

    def for_(self, stmt: For, top: bool) -> None:
        self.expect(stmt.extent, INDEX, "a loop's extent")
        if isinstance(stmt.extent, Const) and stmt.extent.value < 0:
            self.fail(f"a loop's extent is negative: {stmt.extent.value}")
        if stmt.kind in STATIC_KINDS and not isinstance(stmt.extent, Const):
            self.fail(f"the extent of a loop that is {stmt.kind.value} must be a constant")
        parallel = stmt.kind is LoopKind.parallel
        if parallel and not top:
            self.fail("parallel loops stand at the top of a kernel, perfectly nested")
        outer = self.names
        self.names = dict(outer)
        self.bind(stmt.var, _Name(INDEX, stmt.kind in STATIC_KINDS))
        self.block(stmt.body, top=parallel)
        self.names = outer

    def bind(self, name: str, meaning: _Name) -> None:
        if name in self.names:
            self.fail(f"the name {name!r} is bound already")
        self.names[name] = meaning

    def alloc(self, buffer: Buffer) -> None:
        if buffer.role is not Role.local:
            self.fail(f"an allocated buffer has the role local, got {buffer.role.value}")
        if buffer.space not in (Space.stack, Space.shared, Space.register):
            self.fail(f"expected stack, shared or register memory, got {buffer.space.value}")
        unknown = symbols_of(buffer.shape) - set(self.kernel.symbols)
        if unknown:
            self.fail(f"unknown symbols {', '.join(sorted(unknown))}")
        self.declare(buffer)

    def declare(self, buffer: Buffer) -> None:
        """Blocks side by side may allocate the same buffer; different ones need different names."""
        rank = len(buffer.shape)
        if len(buffer.layout.border) != rank:
            self.fail(f"{buffer.name}: expected {rank} borders, got {len(buffer.layout.border)}")
        if any(axis.dim >= rank for axis in buffer.layout.axes):
            self.fail(f"{buffer.name}: its layout has an axis beyond its {rank} dimensions")
        try:
            buffer.layout.extents(buffer.shape)
        except ValueError as error:
            self.fail(f"{buffer.name}: {error}")
        other = self.declared.get(buffer.name, buffer)
        if buffer.name in self.buffers or other != buffer:
            self.fail(f"the buffer name {print_buffer(buffer, with_role=False)} is taken already")
        self.declared[buffer.name] = self.buffers[buffer.name] = buffer

    def intrinsic(self, stmt: Intrinsic) -> None:
        faults = problems(stmt, self.buffers)
        if faults:
            self.fail(faults[0])
        for window in stmt.args:
            self.index(self.buffers[window.buffer], window.index)
        for position in INTRINSICS[stmt.name].written:
            self.writable(stmt.args[position].buffer)

    # ------------------------------------------------------------ buffers

    def buffer(self, name: str) -> Buffer:
        if name not in self.buffers:
            self.fail(f"unknown buffer {name!r}")
        return self.buffers[name]

    def writable(self, name: str) -> Buffer:
        buffer = self.buffer(name)
        if buffer.role is Role.in_ or buffer.space is Space.constant:
            self.fail(f"{name} is an input: it can't be written")
        return buffer

    def index(self, buffer: Buffer, index: tuple[Expr, ...]) -> None:
        if len(index) != len(buffer.shape):
            self.fail(f"{buffer.name} has {len(buffer.shape)} dimensions, got {len(index)} indices")
        for expr in index:
            self.expect(expr, INDEX, f"an index of {buffer.name}")
            if buffer.space is Space.register and not self.is_static(expr):
                self.fail(
                    f"register buffer {buffer.name}: expected an index of constants, unrolled "
                    f"variables and lanes, got {print_expr(expr)}"
                )

    def is_static(self, expr: Expr) -> bool:
        return not any(
            isinstance(e, Load) or (isinstance(e, Var) and not self.names[e.name].static)
            for e in subexpressions(expr)
        )

    # ------------------------------------------------------------ expressions

    def expect(self, expr: Expr, dtype: DType, what: str) -> None:
        self.expr(expr)
        if expr.dtype is not dtype:
            self.fail(f"{what} must be {dtype.value}, {print_expr(expr)} is {expr.dtype.value}")

    def expr(self, expr: Expr) -> None:
        match expr:
            case Const():
                self.const(expr)
            case Var():
                self.var(expr)
            case Load():
                if expr.width != 1:
                    self.fail(f"a pack is only an operand of a dot function: {print_expr(expr)}")
                self.load(expr)
            case Binary():
                self.binary(expr)
            case Select():
                self.expect(expr.condition, DType.bool, "the condition of a select")
                self.expr(expr.then)
                self.expect(expr.otherwise, expr.then.dtype, "the second branch of a select")
            case Cast():
                self.expr(expr.value)
            case Call():
                self.call(expr)
            case Reduce():
                self.fail(f"a reduction must be lowered to loops: {print_expr(expr)}")
            case _:
                assert_never(expr)

    def const(self, constant: Const) -> None:
        value, dtype = constant.value, constant.dtype
        kind = bool if dtype is DType.bool else int if dtype.is_integer else float
        if type(value) is not kind:
            self.fail(f"the {dtype.value} constant {value!r} is a {type(value).__name__}")
        if kind is int and not limits(dtype)[0] <= value <= limits(dtype)[1]:
            self.fail(f"the constant {value} is beyond {dtype.value}")

    def var(self, var: Var) -> None:
        if var.name not in self.names:
            self.fail(f"unknown name {var.name!r}")
        bound = self.names[var.name].dtype
        if bound is not var.dtype:
            self.fail(f"{var.name} is {bound.value}, used as {var.dtype.value}")

    def load(self, load: Load) -> None:
        buffer = self.buffer(load.buffer)
        self.index(buffer, load.index)
        if load.dtype is not buffer.dtype:
            self.fail(f"{print_expr(load)} is {buffer.dtype.value}, used as {load.dtype.value}")

    def binary(self, expr: Binary) -> None:
        if expr.op not in BINARY_OPS:
            self.fail(f"unknown operator {expr.op!r}")
        self.expr(expr.a)
        self.expr(expr.b)
        a, b = expr.a.dtype, expr.b.dtype
        if a is not b:
            self.fail(f"{print_expr(expr)}: operands of {a.value} and {b.value}")
        if expr.op in ("==", "!=") or _allowed(expr.op, a):
            return
        self.fail(f"{print_expr(expr)}: {expr.op!r} is not for {a.value}")

    def call(self, expr: Call) -> None:
        function = FUNCTIONS.get(expr.function)
        packs = function is not None and function.kind == "dot"
        operands = []
        for arg in expr.args:
            self.expr(replace(arg, width=1) if packs and isinstance(arg, Load) else arg)
            operands.append((arg.dtype, arg.width if isinstance(arg, Load) else 1))
        try:
            dtype = result_dtype(expr.function, operands, expr.dtype)
        except IRError as error:
            self.fail(str(error))
        if dtype is not expr.dtype:
            self.fail(f"{print_expr(expr)} gives {dtype.value}, used as {expr.dtype.value}")


def _allowed(op: str, dtype: DType) -> bool:
    """Whether an operator other than == and != has a meaning for a dtype."""
    if op in BITWISE:
        return not dtype.is_float
    if dtype is DType.bool:
        return False
    if op == "/":
        return dtype.is_float
    if op in ("//", "%", "<<", ">>"):
        return dtype.is_integer
    return True
