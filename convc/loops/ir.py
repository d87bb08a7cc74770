"""The loop IR: kernels as loop nests over typed buffers. It knows no graph, no operator and no target.

    kernel    = "kernel" NAME "(" { param "," } ")" "{" { "note" STRING STRING } { stmt } "}"
    param     = role NAME ":" type [ layout ] [ space ]            role = "in" | "out" | "inout"
    type      = DTYPE "[" { extent "," } "]"                       extent = INT | polynomial over symbols
    layout    = [ "@" "(" { axis "," } ")" ] [ "border" "(" { INT ":" INT "," } ")" ]
    axis      = "d" DIM [ "/" INT ] [ "%" INT ] [ ":" INT ]        (index // divide) % modulus, padded to extent
    space     = "global" | "constant" | "stack" | "shared" | "register"
    stmt      = "for" NAME "in" expr [ kind ] block                kind = "parallel" | "vectorized" | "unrolled" …
              | "if" expr block [ "else" block ]
              | "let" NAME ":" DTYPE "=" expr
              | "alloc" NAME ":" type [ layout ] space
              | NAME "[" { expr "," } "]" "=" expr
              | "do" NAME "(" { window "," } ")"                   a special instruction (loops/intrinsics.py)
              | "barrier" [ "(" scope ")" ]                        scope = "block" (if none is given) | "warp"
    window    = NAME "[" { expr "+:" INT "," } "]"
    expr      = literal | NAME | NAME "[" { expr "," } "]" [ "x" INT ] | expr OP expr | "select(c, a, b)"
              | DTYPE "(" expr ")" | FUNCTION "(" { expr "," } ")" | "bitcast(" expr "," DTYPE ")"
              | "min(a, b)" | "max(a, b)" | COMBINER "[" { NAME ":" extent "," } "]" "(" expr ")"
    literal   = "3" int64 | "0.5" "inf" "nan" float32 | "true" "false" bool | others by suffix: 3u8 0.5f64 inf_f64

Operators bind as in Python, comparisons loosest; `x4` after a load touches its bracket; `#` begins a comment. An index
counts from inside a border, so memory begins at index -before: an axis holds `(index + before) // divide % modulus`.

Meaning. Loops run from 0 to extent-1. A buffer's indices are logical; its `Layout` maps them to memory, so a
layout can change without touching a statement. `vectorized` loops have a constant extent, and their iterations are
independent: a generator runs them as lanes. `unrolled` loops have a constant extent and are walked by the generator.
`parallel` loops stand at the top of a kernel, perfectly nested, with independent iterations: a generator makes them
the kernel's tasks. Register buffers are indexed by constants, unrolled variables and lanes. Nothing is contracted or
reassociated: a fused multiply-add is the function `fma`.
"""

from __future__ import annotations

import enum
import functools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Union

from convc.frozen import frozen
from convc.types import Dim, DType, Extent, Shape

INDEX = DType.int64


# ---------------------------------------------------------------- expressions


class Arithmetic:
    """Python operators on expressions, so that formulas read like mathematics."""

    __slots__ = ("_simplified", "_variables")
    _variables: tuple[str, ...]
    """What `walking.variables` found."""
    _simplified: tuple[object, Expr]
    """What `simplify.simplify` made of it last, behind the ranges that this was for."""

    def __add__(self, other: Operand) -> Expr:
        return binary("+", self, other)

    def __radd__(self, other: Operand) -> Expr:
        return binary("+", other, self)

    def __sub__(self, other: Operand) -> Expr:
        return binary("-", self, other)

    def __rsub__(self, other: Operand) -> Expr:
        return binary("-", other, self)

    def __mul__(self, other: Operand) -> Expr:
        return binary("*", self, other)

    def __rmul__(self, other: Operand) -> Expr:
        return binary("*", other, self)

    def __truediv__(self, other: Operand) -> Expr:
        return binary("/", self, other)

    def __rtruediv__(self, other: Operand) -> Expr:
        return binary("/", other, self)

    def __floordiv__(self, other: Operand) -> Expr:
        return binary("//", self, other)

    def __mod__(self, other: Operand) -> Expr:
        return binary("%", self, other)

    def __neg__(self) -> Expr:
        return binary("-", 0, self)

    def __and__(self, other: Operand) -> Expr:
        return binary("&", self, other)

    def __or__(self, other: Operand) -> Expr:
        return binary("|", self, other)

    def __lt__(self, other: Operand) -> Expr:
        return binary("<", self, other)

    def __le__(self, other: Operand) -> Expr:
        return binary("<=", self, other)

    def __gt__(self, other: Operand) -> Expr:
        return binary("<", other, self)

    def __ge__(self, other: Operand) -> Expr:
        return binary("<=", other, self)

    def eq(self, other: Operand) -> Expr:
        return binary("==", self, other)

    def ne(self, other: Operand) -> Expr:
        return binary("!=", self, other)


@frozen
class Const(Arithmetic):
    """A number of a dtype. 0.0 and -0.0 are two: kernels that differ there only are not one."""

    value: Union[int, float, bool]
    dtype: DType

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Const):
            return NotImplemented
        if self.dtype is not other.dtype:
            return False
        if self.value is other.value:  # one NaN too
            return True
        same_sign = self.value != 0 or math.copysign(1, self.value) == math.copysign(1, other.value)
        return self.value == other.value and same_sign

    def __hash__(self) -> int:
        return hash(self.value)


@frozen
class Var(Arithmetic):
    """A loop variable, a symbol of the shapes, or the name that a `Let` binds.

    There is one object for a name and a dtype, so that Python compares and hashes it by identity.
    """

    name: str
    dtype: DType = INDEX

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __new__(cls, name: str, dtype: DType = INDEX) -> Var:
        key = (name, dtype)
        return _VARIABLES.get(key) or _VARIABLES.setdefault(key, object.__new__(cls))

    def __getnewargs__(self) -> tuple[str, DType]:
        return self.name, self.dtype


_VARIABLES: dict[tuple[str, DType], Var] = {}


@frozen
class Load(Arithmetic):
    """One element at a logical index; with width > 1, that many neighbours in memory as a pack for a dot function."""

    buffer: str
    index: tuple[Expr, ...]
    dtype: DType
    width: int = 1


# "min" and "max" return NaN if either operand is NaN, as numpy and ONNX do, and the first of two equals, +0 and -0 too.
COMPARISONS = ("<", "<=", "==", "!=")
BINARY_OPS = ("+", "-", "*", "/", "//", "%", "min", "max", "&", "|", "^", "<<", ">>", *COMPARISONS)


@frozen
class Binary(Arithmetic):
    """`//` and `%` round towards minus infinity and are for integers; `/` is for floats; `>>` follows the sign."""

    op: str
    a: Expr
    b: Expr

    @property
    def dtype(self) -> DType:
        expr: Expr = self
        while isinstance(expr, Binary):
            if expr.op in COMPARISONS:
                return DType.bool
            expr = expr.a
        return expr.dtype


@frozen
class Select(Arithmetic):
    """`then` where the condition holds, else `otherwise`. Only the chosen one is evaluated, so it may guard a load."""

    condition: Expr
    then: Expr
    otherwise: Expr

    @property
    def dtype(self) -> DType:
        return self.then.dtype


@frozen
class Cast(Arithmetic):
    """A value conversion: to nearest even between floats, towards zero and saturating from float to integer."""

    value: Expr
    dtype: DType


@frozen
class Call(Arithmetic):
    """A scalar function of loops/functions.py (fma, sqrt, exp, dot_u8s8, …)."""

    function: str
    args: tuple[Expr, ...]
    dtype: DType


@frozen
class Reduce(Arithmetic):
    """A reduction over new loop variables. It stands in formulas only: lowering makes loops of it."""

    combiner: str  # "sum", "max", "min", "prod"
    axes: tuple[tuple[str, Extent], ...]
    value: Expr

    @property
    def dtype(self) -> DType:
        return self.value.dtype


Expr = Union[Const, Var, Load, Binary, Select, Cast, Call, Reduce]
Operand = Union[Arithmetic, int, float, bool]


# ---------------------------------------------------------------- buffers


@frozen
class Axis:
    """One physical axis of a buffer: `(index[dim] // divide) % modulus`, with room for `extent` positions."""

    dim: int
    divide: int = 1
    modulus: int | None = None
    extent: int | None = None


@frozen
class Layout:
    """The physical axes of a buffer, outermost first, and the border around its logical box.

    `border[d] = (before, after)` lets index d run from -before to shape[d] + after - 1.
    """

    axes: tuple[Axis, ...]
    border: tuple[tuple[int, int], ...]

    @staticmethod
    def dense(rank: int) -> Layout:
        return _dense(rank)

    @staticmethod
    def permuted(order: Iterable[int]) -> Layout:
        """Dense, with the dimensions stored in the given order, outermost first."""
        axes = tuple(Axis(d) for d in order)
        return Layout(axes, ((0, 0),) * len(axes))

    def extents(self, shape: Shape) -> Shape:
        """The extent of each physical axis for a logical shape."""
        result: list[Extent] = []
        for axis in self.axes:
            before, after = self.border[axis.dim]
            logical = shape[axis.dim] + before + after
            if axis.extent is not None:
                result.append(axis.extent)
            elif axis.modulus is not None:
                result.append(axis.modulus)
            elif axis.divide == 1:
                result.append(logical)
            elif isinstance(logical, Dim):
                raise ValueError(f"a symbolic dimension can't be blocked: {logical}")
            else:
                result.append(-(-logical // axis.divide))
        return tuple(result)

    def strides(self, shape: Shape) -> Shape:
        """Elements between neighbours along each physical axis."""
        strides: list[Extent] = []
        total: Extent = 1
        for extent in reversed(self.extents(shape)):
            strides.append(total)
            total = total * extent
        return tuple(reversed(strides))

    def with_border(self, dim: int, before: int, after: int) -> Layout:
        border = list(self.border)
        border[dim] = (before, after)
        return replace(self, border=tuple(border))


@functools.cache
def _dense(rank: int) -> Layout:
    return Layout.permuted(range(rank))


@functools.lru_cache(maxsize=1 << 12)
def _strides(layout: Layout, shape: Shape) -> Shape:
    return layout.strides(shape)


@functools.lru_cache(maxsize=1 << 12)
def _size(layout: Layout, shape: Shape) -> Extent:
    return math.prod(layout.extents(shape), start=1)


class Space(enum.Enum):
    __hash__ = object.__hash__

    global_ = "global"
    constant = "constant"
    stack = "stack"
    shared = "shared"
    register = "register"


class Role(enum.Enum):
    __hash__ = object.__hash__

    in_ = "in"
    out = "out"
    inout = "inout"
    local = "local"


@frozen
class Buffer:
    """A named piece of memory with a logical shape."""

    name: str
    dtype: DType
    shape: Shape
    layout: Layout = None  # type: ignore[assignment]  # filled in below: dense
    space: Space = Space.global_
    role: Role = Role.local

    def __post_init__(self) -> None:
        if self.layout is None:
            object.__setattr__(self, "layout", Layout.dense(len(self.shape)))

    @property
    def strides(self) -> Shape:
        """Elements between neighbours along each physical axis."""
        return _strides(self.layout, self.shape)

    @property
    def size(self) -> Extent:
        """Elements in memory, border and padding included."""
        return _size(self.layout, self.shape)


# ---------------------------------------------------------------- statements


class LoopKind(enum.Enum):
    __hash__ = object.__hash__

    serial = "serial"
    parallel = "parallel"
    vectorized = "vectorized"
    unrolled = "unrolled"
    block_x = "block_x"
    block_y = "block_y"
    block_z = "block_z"
    thread_x = "thread_x"
    thread_y = "thread_y"
    thread_z = "thread_z"


@frozen
class For:
    var: str
    extent: Expr
    body: Block
    kind: LoopKind = LoopKind.serial


@frozen
class If:
    condition: Expr
    then: Block
    otherwise: Block = ()


@frozen
class Let:
    """Binds a name to a value for the rest of the block."""

    name: str
    value: Expr


@frozen
class Alloc:
    """A local buffer for the rest of the block; its content is undefined at first."""

    buffer: Buffer


@frozen
class Store:
    buffer: str
    index: tuple[Expr, ...]
    value: Expr


@frozen
class Window:
    """The elements `index .. index + sizes - 1` of a buffer: an operand of a special instruction."""

    buffer: str
    index: tuple[Expr, ...]
    sizes: tuple[int, ...]


@frozen
class Intrinsic:
    """A special instruction on windows of buffers: a row of loops/intrinsics.py."""

    name: str
    args: tuple[Window, ...]


@frozen
class Barrier:
    """Waits for all threads of the scope and makes their stores visible to one another."""

    scope: str = "block"


Stmt = Union[For, If, Let, Alloc, Store, Intrinsic, Barrier]
Block = tuple[Stmt, ...]


@dataclass(frozen=True)
class Kernel:
    """A function of buffers; the symbols of their shapes are its scalar parameters."""

    name: str
    params: tuple[Buffer, ...]
    body: Block
    notes: tuple[tuple[str, str], ...] = field(default=(), compare=False)

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        """The symbols of the parameters' shapes, sorted: scalar parameters, in this order."""
        return tuple(
            sorted(
                {s for b in self.params for e in b.shape if isinstance(e, Dim) for s in e.symbols}
            )
        )

    def buffers(self) -> dict[str, Buffer]:
        """Every buffer of the kernel by name: parameters and allocations."""
        found = {b.name: b for b in self.params}
        for stmt in walk(self.body):
            if isinstance(stmt, Alloc):
                found[stmt.buffer.name] = stmt.buffer
        return found


# ---------------------------------------------------------------- building


def const(value: Union[int, float, bool], dtype: DType) -> Const:
    """A constant, normalised so that equal constants compare equal."""
    if dtype is INDEX:
        return _index_constant(int(value))
    if dtype.is_float:
        return Const(float(value), dtype)
    return Const(bool(value) if dtype is DType.bool else int(value), dtype)


@functools.lru_cache(maxsize=1 << 12)
def _index_constant(value: int) -> Const:
    return Const(value, INDEX)


def index(extent: Extent | Expr) -> Expr:
    """An extent as an index expression."""
    if isinstance(extent, int):
        return _index_constant(extent)
    if not isinstance(extent, Dim):
        return extent
    total: Expr = Const(0, INDEX)
    for monomial, coefficient in extent.terms:
        term: Expr = Const(coefficient, INDEX)
        for symbol in monomial:
            term = binary("*", term, Var(symbol))
        total = binary("+", total, term)
    return total


def as_expr(value: Operand, dtype: DType) -> Expr:
    """An operand as an expression; a Python number takes the dtype."""
    if isinstance(value, Arithmetic):
        return value  # type: ignore[return-value]
    return const(value, dtype)


def binary(op: str, a: Operand, b: Operand) -> Expr:
    """`a op b`, with constants folded where that is exact for every input."""
    x: Expr = a if isinstance(a, Arithmetic) else const(a, b.dtype)  # type: ignore[assignment,union-attr]
    dtype = x.dtype
    y: Expr = b if isinstance(b, Arithmetic) else const(b, dtype)  # type: ignore[assignment]
    if isinstance(x, Const) and isinstance(y, Const) and (dtype is INDEX or dtype is DType.bool):
        folded = _fold(op, x.value, y.value)
        if folded is not None:
            return const(folded, DType.bool if op in COMPARISONS else dtype)
    if dtype is INDEX:
        return _simplify_integer(op, x, y)
    if dtype is DType.bool:
        return _simplify_boolean(op, x, y)
    return Binary(op, x, y)


def _fold(op: str, a: float, b: float) -> float | None:
    match op:
        case "+":
            return a + b
        case "-":
            return a - b
        case "*":
            return a * b
        case "//":
            return a // b if b else None
        case "%":
            return a % b if b else None
        case "min":
            return min(a, b)
        case "max":
            return max(a, b)
        case "<":
            return a < b
        case "<=":
            return a <= b
        case "==":
            return a == b
        case "!=":
            return a != b
        case "&":
            return int(a) & int(b)
        case "|":
            return int(a) | int(b)
    return None


def _simplify_integer(op: str, x: Expr, y: Expr) -> Expr:
    a = x.value if isinstance(x, Const) else None
    b = y.value if isinstance(y, Const) else None
    if op == "+" and (a == 0 or b == 0):
        return y if a == 0 else x
    if op == "-" and b == 0:
        return x
    if op == "*" and (a == 0 or b == 0):
        return Const(0, INDEX)
    if op == "*" and (a == 1 or b == 1):
        return y if a == 1 else x
    if op == "//" and b == 1:
        return x
    if op == "%" and b == 1:
        return Const(0, INDEX)
    if op in ("min", "max") and x == y:
        return x
    return Binary(op, x, y)


def _simplify_boolean(op: str, x: Expr, y: Expr) -> Expr:
    for this, other in ((x, y), (y, x)):
        if isinstance(this, Const) and op == "&":
            return other if this.value else this
        if isinstance(this, Const) and op == "|":
            return this if this.value else other
    return Binary(op, x, y)


def minimum(a: Operand, b: Operand) -> Expr:
    return binary("min", a, b)


def maximum(a: Operand, b: Operand) -> Expr:
    return binary("max", a, b)


def select(condition: Expr, then: Operand, otherwise: Operand) -> Expr:
    """`then if condition else otherwise`; a number takes the dtype of the other branch."""
    dtype = then.dtype if isinstance(then, Arithmetic) else otherwise.dtype  # type: ignore[attr-defined,union-attr]
    if isinstance(condition, Const):
        return as_expr(then if condition.value else otherwise, dtype)
    return Select(condition, as_expr(then, dtype), as_expr(otherwise, dtype))


def call(function: str, *args: Operand) -> Expr:
    """A function of the dtype of its first expression argument (isnan and isinf give bool)."""
    dtype: DType = next(a.dtype for a in args if isinstance(a, Arithmetic))  # type: ignore[attr-defined]
    result = DType.bool if function in ("isnan", "isinf") else dtype
    return Call(function, tuple(as_expr(a, dtype) for a in args), result)


def fma(a: Operand, b: Operand, c: Operand) -> Expr:
    """a * b + c with one rounding."""
    return call("fma", a, b, c)


def reduce(
    combiner: str, names: str, extents: Iterable[Extent], value: Callable[..., Expr]
) -> Reduce:
    """A reduction over the variables in `names` ("c r s"): `value` receives them as expressions."""
    axes = tuple(zip(names.split(), extents, strict=True))
    return Reduce(combiner, axes, value(*(Var(name) for name, _ in axes)))


# ---------------------------------------------------------------- walking


def blocks(stmt: Stmt) -> tuple[Block, ...]:
    """The blocks inside a statement."""
    match stmt:
        case For():
            return (stmt.body,)
        case If():
            return (stmt.then, stmt.otherwise)
        case Let() | Store() | Alloc() | Intrinsic() | Barrier():
            return ()


def walk(block: Block) -> Iterator[Stmt]:
    """Every statement of a block, outermost first."""
    return iter(_statements(block, []))


def _statements(block: Block, found: list[Stmt]) -> list[Stmt]:
    for stmt in block:
        found.append(stmt)
        if isinstance(stmt, For):
            _statements(stmt.body, found)
        elif isinstance(stmt, If):
            _statements(stmt.then, found)
            _statements(stmt.otherwise, found)
    return found
