"""A kernel as the Python source that the interpreter runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import isfinite
from typing import Any, assert_never

from convc.errors import IRError
from convc.loops import scalars
from convc.loops.interp_threads import Machine
from convc.loops.intrinsics import INTRINSICS, Effect
from convc.loops.ir import (
    COMPARISONS,
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
    Select,
    Stmt,
    Store,
    Var,
    walk,
)
from convc.loops.printer import print_expr, print_head
from convc.types import DType, evaluate

THREADS = (LoopKind.thread_x, LoopKind.thread_y, LoopKind.thread_z)
MAX_LOOPS = 15  # Python allows 20 nested loops in one function
MAX_HEIGHT = 40  # and 200 nested parentheses
Interval = tuple[int, int]


def translate(kernel: Kernel, symbols: Mapping[str, int], seed: int | None) -> Callable[..., None]:
    """A function of the parameters' memory, each a flat list of the interpreter's values."""
    return _Translator(kernel, symbols, seed).function()


class _Translator:
    """Emits lines of Python; `names` maps names in scope to Python names, `ranges` to what they may be."""

    def __init__(self, kernel: Kernel, symbols: Mapping[str, int], seed: int | None) -> None:
        self.kernel = kernel
        self.symbols = symbols
        self.lines: list[str] = []
        self.depth = 0
        self.loops = 0
        self.count = 0
        self.lazy = 0
        self.threaded = False
        self.stmt: Stmt | None = None
        self.buffers: dict[str, tuple[str, Buffer]] = {}
        self.names: dict[str, str] = {s: str(v) for s, v in symbols.items()}
        self.ranges: dict[str, Interval] = {s: (v, v) for s, v in symbols.items()}
        self.globals: dict[str, Any] = {
            "divide": scalars.divide,
            "fmin": scalars.minimum,
            "fmax": scalars.maximum,
            "machine": Machine(seed),
        }
        self.constants: dict[tuple[str, DType], str] = {}

    def function(self) -> Callable[..., None]:
        params = []
        for buffer in self.kernel.params:
            params.append(self.fresh("b"))
            self.buffers[buffer.name] = (params[-1], buffer)
        with self.function_body(f"def kernel({', '.join(params)}):"):
            self.emit("machine.start()")
            self.block(self.kernel.body)
        source = "\n".join(self.lines)
        exec(compile(source, f"<kernel {self.kernel.name}>", "exec"), self.globals)
        run: Callable[..., None] = self.globals["kernel"]
        return run

    # ------------------------------------------------------------ text

    def fresh(self, prefix: str) -> str:
        self.count += 1
        return f"{prefix}{self.count}"

    def emit(self, line: str) -> None:
        self.lines.append(" " * self.depth + line)

    @contextmanager
    def indented(self, head: str) -> Iterator[None]:
        self.emit(head)
        self.depth += 1
        yield
        self.depth -= 1

    @contextmanager
    def function_body(self, head: str) -> Iterator[None]:
        """A nested function: a generator in threaded code."""
        loops, self.loops = self.loops, 0
        with self.indented(head):
            if self.threaded:
                self.emit("if False: yield")
            yield
            self.emit("return")
        self.loops = loops

    def bind(self, value: Any, prefix: str = "g") -> str:
        """A global of the source."""
        name = self.fresh(prefix)
        self.globals[name] = value
        return name

    def fail(self, message: str) -> IRError:
        place = f" in: {print_head(self.stmt)}" if self.stmt is not None else ""
        return IRError(f"kernel {self.kernel.name}: {message}{place}")

    # ------------------------------------------------------------ statements

    def block(self, block: Block) -> None:
        names, ranges, buffers = dict(self.names), dict(self.ranges), dict(self.buffers)
        if not block:
            self.emit("pass")
        for stmt in block:
            self.stmt = stmt
            self.statement(stmt)
        self.names, self.ranges, self.buffers = names, ranges, buffers

    def statement(self, stmt: Stmt) -> None:
        match stmt:
            case For():
                self.for_(stmt)
            case If():
                with self.indented(f"if {self.text(stmt.condition)}:"):
                    self.block(stmt.then)
                if stmt.otherwise:
                    with self.indented("else:"):
                        self.block(stmt.otherwise)
            case Let():
                self.let(stmt)
            case Alloc():
                self.alloc(stmt.buffer)
            case Store():
                value = self.text(stmt.value)
                self.emit(f"{self.access(stmt.buffer, stmt.index)} = {value}")
            case Intrinsic():
                self.intrinsic(stmt)
            case Barrier():
                self.emit(f"yield 'barrier', {stmt.scope!r}, None" if self.threaded else "pass")
            case _:
                assert_never(stmt)

    def let(self, stmt: Let) -> None:
        value = self.text(stmt.value)
        interval = self.interval(stmt.value)
        name = self.fresh("v")
        self.emit(f"{name} = {value}")
        self.names[stmt.name] = name
        self.ranges.pop(stmt.name, None)
        if interval is not None:
            self.ranges[stmt.name] = interval

    def alloc(self, buffer: Buffer) -> None:
        name = self.fresh("b")
        size = evaluate(buffer.size, self.symbols)
        empty = scalars.value_of(float("nan") if buffer.dtype.is_float else 0x55, buffer.dtype)
        self.emit(f"{name} = [{self.bind(empty)}] * {size}")
        self.buffers[buffer.name] = (name, buffer)

    def for_(self, stmt: For) -> None:
        extent = self.text(stmt.extent)
        interval = self.interval(stmt.extent)
        name = self.fresh("v")
        self.names[stmt.var] = name
        self.ranges.pop(stmt.var, None)
        if interval is not None:
            self.ranges[stmt.var] = (0, max(interval[1] - 1, 0))
        if stmt.kind in THREADS and (self.threaded or _synchronises(stmt.body)):
            self.thread_loop(stmt, name, extent)
        elif self.loops < MAX_LOOPS:
            self.loops += 1
            with self.indented(f"for {name} in range({extent}):"):
                self.block(stmt.body)
            self.loops -= 1
        else:
            inner = self.fresh("body")
            with self.function_body(f"def {inner}({name}):"):
                self.block(stmt.body)
            call = f"yield from {inner}({name})" if self.threaded else f"{inner}({name})"
            self.emit(f"for {name} in range({extent}): {call}")

    def thread_loop(self, stmt: For, name: str, extent: str) -> None:
        outer, self.threaded = self.threaded, True
        body = self.fresh("thread")
        with self.function_body(f"def {body}({name}):"):
            self.block(stmt.body)
        self.threaded = outer
        spawned = f"{stmt.kind.value!r}, [{body}(i) for i in range({extent})]"
        self.emit(f"yield 'spawn', {spawned}" if outer else f"machine.run({spawned})")

    def intrinsic(self, stmt: Intrinsic) -> None:
        info = INTRINSICS.get(stmt.name)
        if info is None:
            raise self.fail(f"unknown special instruction {stmt.name!r}")
        windows = []
        for window in stmt.args:
            name, buffer = self.find(window.buffer)
            place = self.place_function(buffer, 1)
            index = "".join(self.text(i) + ", " for i in window.index)
            windows.append(f"({name}, {place}, ({index}))")
        kinds = [(w.sizes, self.find(w.buffer)[1].dtype) for w in stmt.args]
        call = self.bind((info, kinds, print_head(stmt)), "do")
        listed = f"[{', '.join(windows)}]"
        if self.threaded:
            self.emit(f"yield 'do', {call}, {listed}")
        elif info.collective:
            raise self.fail(f"{stmt.name} is executed by {info.lanes} threads, there are none")
        else:
            self.emit(f"machine.execute({call}, {listed})")

    # ------------------------------------------------------------ memory

    def find(self, name: str) -> tuple[str, Buffer]:
        if name not in self.buffers:
            raise self.fail(f"unknown buffer {name!r}")
        return self.buffers[name]

    def access(self, buffer_name: str, index: tuple[Expr, ...], width: int = 1) -> str:
        """The Python subscript of an element (or of a slice for a pack)."""
        name, buffer = self.find(buffer_name)
        if len(index) != len(buffer.shape):
            raise self.fail(f"{buffer_name} has {len(buffer.shape)} indices, got {len(index)}")
        texts = [self.text(i) for i in index]
        if width == 1 and self.inside(buffer, index) and self.plain(buffer, texts):
            parts = [self.position(buffer, d, t) for d, t in enumerate(texts)]
            return f"{name}[{' + '.join(p for p in parts if p) or '0'}]"
        call = f"{self.place_function(buffer, width)}({', '.join(texts)})"
        if width == 1:
            return f"{name}[{call}]"
        start = self.fresh("s")
        return f"{name}[({start} := {call}):{start} + {width}]"

    def inside(self, buffer: Buffer, index: tuple[Expr, ...]) -> bool:
        for dim, expr in enumerate(index):
            interval = self.interval(expr)
            low, high = self.logical_range(buffer, dim)
            if interval is None or interval[0] < low or interval[1] >= high:
                return False
        return True

    def logical_range(self, buffer: Buffer, dim: int) -> Interval:
        before, after = buffer.layout.border[dim]
        return -before, evaluate(buffer.shape[dim], self.symbols) + after

    def plain(self, buffer: Buffer, texts: list[str]) -> bool:
        """Whether no index would be computed twice."""
        uses = [sum(a.dim == d for a in buffer.layout.axes) for d in range(len(texts))]
        return all(n <= 1 or t.isalnum() for n, t in zip(uses, texts, strict=True))

    def position(self, buffer: Buffer, dim: int, text: str) -> str:
        """What an index adds to the place in memory."""
        before = buffer.layout.border[dim][0]
        base = f"({text} + {before})" if before else text if text.isalnum() else f"({text})"
        parts = []
        strides = buffer.layout.strides(buffer.shape)
        for axis, stride in zip(buffer.layout.axes, strides, strict=True):
            if axis.dim != dim:
                continue
            part = base if axis.divide == 1 else f"{base} // {axis.divide}"
            if axis.modulus is not None:
                part = f"{part} % {axis.modulus}"
            step = evaluate(stride, self.symbols)
            parts.append(part if step == 1 else f"({part}) * {step}")
        return " + ".join(parts)

    def place_function(self, buffer: Buffer, width: int) -> str:
        """A function from an index to the place in memory, which raises outside the buffer."""
        name = self.fresh("place")
        rank = len(buffer.shape)
        args = [f"i{d}" for d in range(rank)]
        checks = []
        for dim, arg in enumerate(args):
            low, high = self.logical_range(buffer, dim)
            checks.append(f"{low} <= {arg} < {high}")
        parts = [self.position(buffer, d, a) for d, a in enumerate(args)]
        size = evaluate(buffer.size, self.symbols)
        where = f"place = {' + '.join(p for p in parts if p) or '0'}"
        reject = self.bind(self.rejection(buffer, width))
        source = [
            f"def {name}({', '.join(args)}):",
            f" if {' and '.join(checks) or 'True'}:",
            f"  {where}",
            f"  if place <= {size - width}: return place",
            f" {reject}({', '.join(args)})",
        ]
        exec("\n".join(source), self.globals)
        return name

    def rejection(self, buffer: Buffer, width: int) -> Callable[..., None]:
        ranges = [self.logical_range(buffer, d) for d in range(len(buffer.shape))]
        shown = ", ".join(f"{low}:{high}" for low, high in ranges)
        head = print_head(self.stmt) if self.stmt is not None else ""
        what = f"{buffer.name}[{shown}]" + (f" (pack of {width})" if width > 1 else "")
        kernel = self.kernel.name

        def reject(*index: int) -> None:
            raise IRError(f"kernel {kernel}: index {list(index)} is outside {what} in: {head}")

        return reject

    # ------------------------------------------------------------ expressions

    def text(self, expr: Expr) -> str:
        """An expression as Python; deep ones leave lines before it."""
        return self.expr(expr)[0]

    def expr(self, expr: Expr) -> tuple[str, int]:
        """The Python text and how deep its parentheses nest."""
        match expr:
            case Const():
                return self.const(expr), 0
            case Var():
                if expr.name not in self.names:
                    raise self.fail(f"unknown name {expr.name!r}")
                return self.names[expr.name], 0
            case Load():
                return self.access(expr.buffer, expr.index, expr.width), 3
            case Binary():
                return self.flat(*self.binary(expr))
            case Select():
                return self.select(expr)
            case Cast():
                return self.cast(expr)
            case Call():
                operands = [a.dtype for a in expr.args]
                made = scalars.function(expr.function, expr.dtype, operands)
                texts, heights = zip(*map(self.expr, expr.args), strict=True)
                return self.flat(f"{self.bind(made, 'f')}({', '.join(texts)})", max(heights) + 1)
            case Reduce():
                raise self.fail(f"a reduction left in the kernel: {print_expr(expr)}")
        assert_never(expr)

    def flat(self, text: str, height: int) -> tuple[str, int]:
        """Computes a deep expression in a line of its own, unless it might not be evaluated at all."""
        if height < MAX_HEIGHT or self.lazy:
            return text, height
        name = self.fresh("e")
        self.emit(f"{name} = {text}")
        return name, 0

    def const(self, constant: Const) -> str:
        value = scalars.value_of(constant.value, constant.dtype)
        if not constant.dtype.is_float:
            return str(value) if value >= 0 else f"({value})"
        if constant.dtype is DType.float64 and isfinite(value):
            return f"({value!r})"
        key = (repr(float(value)), constant.dtype)
        if key not in self.constants:
            self.constants[key] = self.bind(value, "k")
        return self.constants[key]

    def select(self, expr: Select) -> tuple[str, int]:
        condition, height = self.expr(expr.condition)
        self.lazy += 1
        then, then_height = self.expr(expr.then)
        otherwise, else_height = self.expr(expr.otherwise)
        self.lazy -= 1
        height = max(height, then_height, else_height) + 1
        return self.flat(f"({then} if {condition} else {otherwise})", height)

    def cast(self, expr: Cast) -> tuple[str, int]:
        value, height = self.expr(expr.value)
        source, target = expr.value.dtype, expr.dtype
        if source is target:
            return value, height
        if source.is_integer and target is INDEX and source is not DType.uint64:
            return value, height
        made = self.bind(scalars.cast(source, target), "c")
        return self.flat(f"{made}({value})", height + 1)

    def binary(self, expr: Binary) -> tuple[str, int]:
        (a, left), (b, right) = self.expr(expr.a), self.expr(expr.b)
        height = max(left, right) + 1
        dtype, op = expr.a.dtype, expr.op
        if op in ("min", "max"):
            prefix = "f" if dtype.is_float else ""
            return f"{prefix}{op}({a}, {b})", height
        if op in COMPARISONS or op in ("&", "|", "^", ">>"):
            return f"({a} {op} {b})", height
        if dtype.is_float:
            if op == "/" and dtype is DType.float64:
                return f"divide({a}, {b})", height
            return f"({a} {op} {b})", height
        plain = f"({a} {op} {b})"
        if op == "%" or dtype is INDEX and self.interval(expr) is not None:
            return plain, height
        bits = 8 * dtype.itemsize
        mask, half = (1 << bits) - 1, 1 << (bits - 1)
        if not dtype.is_signed:
            return f"({plain} & {mask})", height + 1
        return f"((({a} {op} {b}) + {half} & {mask}) - {half})", height + 2

    # ------------------------------------------------------------ ranges

    def interval(self, expr: Expr) -> Interval | None:
        """What an index expression may be, where that is evident."""
        match expr:
            case Const():
                return (int(expr.value), int(expr.value)) if expr.dtype is INDEX else None
            case Var():
                return self.ranges.get(expr.name)
            case Binary():
                return self.binary_interval(expr)
            case Select():
                a, b = self.interval(expr.then), self.interval(expr.otherwise)
                return None if a is None or b is None else (min(a[0], b[0]), max(a[1], b[1]))
            case _:
                return None

    def binary_interval(self, expr: Binary) -> Interval | None:
        a, b = self.interval(expr.a), self.interval(expr.b)
        if a is None or b is None:
            return None
        match expr.op:
            case "+":
                return a[0] + b[0], a[1] + b[1]
            case "-":
                return a[0] - b[1], a[1] - b[0]
            case "*":
                products = [x * y for x in a for y in b]
                return min(products), max(products)
            case "//" if b[0] == b[1] > 0:
                return a[0] // b[0], a[1] // b[0]
            case "%" if b[0] == b[1] > 0:
                return a if a[0] >= 0 and a[1] < b[0] else (0, b[0] - 1)
            case "min":
                return min(a[0], b[0]), min(a[1], b[1])
            case "max":
                return max(a[0], b[0]), max(a[1], b[1])
        return None


def _synchronises(block: Block) -> bool:
    """Whether threads meet in a block, or have copies in flight: they must run side by side."""
    for stmt in walk(block):
        if isinstance(stmt, Barrier):
            return True
        info = INTRINSICS.get(stmt.name) if isinstance(stmt, Intrinsic) else None
        if info is not None and (info.collective or info.effect is not Effect.now):
            return True
    return False
