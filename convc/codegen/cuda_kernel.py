"""One kernel of scheduled loop IR as a CUDA C++ `__global__` function.

Block and thread loops become the grid and the block; `parallel` loops become blocks of one thread each. Statements
outside of the thread loops run on every thread of the block, so there only allocations, bindings, loops, branches
and barriers may stand. Thread loops that follow one another get a barrier between them. Shared memory past
48 KB becomes dynamic.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import assert_never

from convc.codegen.cuda_expr import ExpressionWriter
from convc.codegen.cuda_prelude import C_TYPES
from convc.codegen.cuda_share import repeated
from convc.errors import IRError
from convc.loops.intrinsics import problems
from convc.loops.ir import (
    INDEX,
    Alloc,
    Barrier,
    Block,
    Buffer,
    Const,
    Expr,
    For,
    If,
    Intrinsic,
    Kernel,
    Let,
    Load,
    LoopKind,
    Role,
    Space,
    Stmt,
    Store,
    Var,
    Window,
    binary,
    walk,
)
from convc.loops.simplify import SYMBOL_RANGE, bounds, loop_range, refine
from convc.loops.walking import expressions, subexpressions
from convc.types import DType

STATIC_SHARED_LIMIT = 48 * 1024
MAX_THREADS = 1024
MAX_BLOCKS = {"x": 2**31 - 1, "y": 65535, "z": 65535}
LINE = 110  # where long statements of the source are wrapped
_BLOCKS = {LoopKind.block_x: "x", LoopKind.block_y: "y", LoopKind.block_z: "z"}
_THREADS = {LoopKind.thread_x: "x", LoopKind.thread_y: "y", LoopKind.thread_z: "z"}
_RESERVED = {
    "alignas", "auto", "bool", "break", "case", "char", "class", "const", "continue", "default", "delete", "do",
    "double", "else", "enum", "extern", "false", "float", "for", "goto", "half", "if", "inline", "int", "long", "new",
    "operator", "private", "public", "register", "return", "short", "signed", "sizeof", "static", "struct", "switch",
    "template", "this", "true", "typedef", "typename", "union", "unsigned", "using", "virtual", "void", "volatile",
    "while", "stream", "config", "and", "or", "not", "xor", "y0", "y1", "yn", "j0", "j1", "jn",
    "threadIdx", "blockIdx", "blockDim", "gridDim", "main",
}  # fmt: skip


@dataclass(frozen=True)
class Launch:
    """How a kernel is launched: blocks per grid axis, threads per block axis, dynamic shared bytes."""

    grid: tuple[Expr, Expr, Expr]
    block: tuple[int, int, int]
    dynamic_shared: int

    @property
    def threads(self) -> int:
        return math.prod(self.block)


def launch_of(kernel: Kernel) -> Launch:
    """The launch that a kernel's loops ask for; IRError where no launch can give it."""
    grid: dict[str, Expr] = {}
    block: dict[str, int] = {}
    for loop in (s for s in walk(kernel.body) if isinstance(s, For)):
        if loop.kind in _BLOCKS:
            axis = _BLOCKS[loop.kind]
            grid[axis] = binary("max", grid.get(axis, loop.extent), loop.extent)
        if loop.kind is LoopKind.parallel:
            if not grid.keys() <= {"x"} or any(k in _BLOCKS for k in _kinds(kernel)):
                raise IRError(f"kernel {kernel.name}: parallel and block loops in one kernel")
            grid["x"] = binary("*", grid.get("x", Const(1, INDEX)), loop.extent)
        if loop.kind in _THREADS:
            axis = _THREADS[loop.kind]
            block[axis] = max(block.get(axis, 1), _constant_extent(kernel, loop))
    one = Const(1, INDEX)
    for axis, extent in grid.items():
        _check_grid_extent(kernel, axis, extent)
    launch = Launch(
        (grid.get("x", one), grid.get("y", one), grid.get("z", one)),
        (block.get("x", 1), block.get("y", 1), block.get("z", 1)),
        _dynamic_shared(kernel),
    )
    if launch.threads > MAX_THREADS:
        raise IRError(
            f"kernel {kernel.name}: at most {MAX_THREADS} threads per block, got {launch.threads}"
        )
    return launch


def _kinds(kernel: Kernel) -> set[LoopKind]:
    return {s.kind for s in walk(kernel.body) if isinstance(s, For)}


def _constant_extent(kernel: Kernel, loop: For) -> int:
    if not isinstance(loop.extent, Const):
        raise IRError(
            f"kernel {kernel.name}: the {loop.kind.value} loop {loop.var} needs a constant extent"
        )
    return int(loop.extent.value)


def _check_grid_extent(kernel: Kernel, axis: str, extent: Expr) -> None:
    for part in subexpressions(extent):
        if isinstance(part, Load) or isinstance(part, Var) and part.name not in kernel.symbols:
            raise IRError(f"kernel {kernel.name}: the grid may depend on symbols only")
    limit = MAX_BLOCKS[axis]
    if isinstance(extent, Const) and extent.value > limit:
        raise IRError(
            f"kernel {kernel.name}: at most {limit} blocks along {axis}, got {extent.value}"
        )


def _shared_buffers(kernel: Kernel) -> list[Buffer]:
    return [b for b in kernel.buffers().values() if b.space is Space.shared]


def _bytes(buffer: Buffer) -> int:
    if not isinstance(buffer.size, int):
        raise IRError(f"local buffer {buffer.name}: expected a constant size, got {buffer.size}")
    return buffer.size * buffer.dtype.itemsize


def _aligned(size: int) -> int:
    return -(-size // 128) * 128


def _dynamic_shared(kernel: Kernel) -> int:
    """All shared bytes if they are too many for static arrays, else 0."""
    sizes = [_bytes(b) for b in _shared_buffers(kernel)]
    return sum(map(_aligned, sizes)) if sum(sizes) > STATIC_SHARED_LIMIT else 0


# ---------------------------------------------------------------- statements


@dataclass
class KernelWriter:
    """Writes one kernel, line by line."""

    kernel: Kernel
    launch: Launch
    lines: list[str] = field(default_factory=list)
    depth: int = 1
    names: dict[str, str] = field(default_factory=dict)
    intrinsics: dict[tuple[str, tuple[DType, ...]], None] = field(default_factory=dict)
    in_threads: bool = False
    temporaries: int = 0

    def __post_init__(self) -> None:
        self.buffers = self.kernel.buffers()
        self.used = {
            e.name
            for s in walk(self.kernel.body)
            for x in expressions(s)
            for e in subexpressions(x)
            if isinstance(e, Var)
        }
        self.dynamic = _dynamic_offsets(self.kernel) if self.launch.dynamic_shared else {}
        self.expr = ExpressionWriter(self.buffers, self.name)
        self.expr.ranges = dict.fromkeys(self.kernel.symbols, SYMBOL_RANGE)
        self.has_threads = any(kind in _THREADS for kind in _kinds(self.kernel))

    def name(self, name: str, wish: str | None = None) -> str:
        """A C++ identifier for a name of the IR, the same each time."""
        if name not in self.names:
            plain = re.sub(r"\W", "_", wish or name)
            if (
                plain in _RESERVED
                or plain.startswith(("convc_", "__"))
                or not re.match("[A-Za-z_]", plain)
            ):
                plain = f"v_{plain}"
            while plain in self.names.values():
                plain += "_"
            self.names[name] = plain
        return self.names[name]

    def emit(self, line: str) -> None:
        self.lines.append("  " * self.depth + line)

    @contextmanager
    def scope(self, opening: str | None, closing: str = "}") -> Iterator[None]:
        """An indented block; what is known about variables ends with it."""
        if opening is not None:
            self.emit(opening)
        ranges, self.depth = self.expr.ranges, self.depth + 1
        self.expr.ranges = dict(ranges)
        yield
        self.expr.ranges, self.depth = ranges, self.depth - 1
        self.emit(closing)

    def write(self) -> str:
        symbols = [f"int64_t {self.name(s)}" for s in self.kernel.symbols]
        params = ", ".join(
            [*(parameter(b, self.name(b.name)) for b in self.kernel.params), *symbols]
        )
        bounds = f"__launch_bounds__({self.launch.threads})"
        self.block(self.kernel.body)
        notes = [f"// {printable(', '.join(v for _, v in self.kernel.notes))}"]
        head = f'extern "C" __global__ void {bounds} {symbol(self.kernel)}(\n    {params}) {{'
        return "\n".join([*(notes if self.kernel.notes else []), head, *self.lines, "}\n"])

    def block(self, block: Block) -> None:
        previous: Stmt | None = None
        for stmt in block:
            if previous is not None and _has_threads(previous) and _has_threads(stmt):
                self.emit("__syncthreads();")
            self.stmt(stmt, last=stmt is block[-1])
            previous = stmt

    def stmt(self, stmt: Stmt, last: bool) -> None:
        match stmt:
            case For():
                self._for(stmt, last)
            case If():
                self._if(stmt)
            case Let():
                self._let(stmt)
            case Alloc():
                self._alloc(stmt.buffer)
            case Store():
                self._check_placed("a store")
                with self._shared(*stmt.index, stmt.value):
                    element = self.expr.element(stmt.buffer, stmt.index)
                    self.emit(f"{element} = {self.expr.text(stmt.value)};")
            case Intrinsic():
                self._check_placed(stmt.name)
                self._intrinsic(stmt)
            case Barrier():
                self.emit({"block": "__syncthreads();", "warp": "__syncwarp();"}[stmt.scope])
            case _:
                assert_never(stmt)

    def _check_placed(self, what: str) -> None:
        if self.has_threads and not self.in_threads:
            raise IRError(f"kernel {self.kernel.name}: {what} stands outside of the thread loops")

    def _for(self, loop: For, last: bool) -> None:
        match loop.kind:
            case LoopKind.serial | LoopKind.unrolled | LoopKind.vectorized:
                self._counted(loop)
            case LoopKind.parallel:
                with self._variables(last):
                    self._parallel(loop)
            case LoopKind.block_x | LoopKind.block_y | LoopKind.block_z:
                self._block_loop(loop, last)
            case LoopKind.thread_x | LoopKind.thread_y | LoopKind.thread_z:
                self._thread_loop(loop, last)
            case _:
                assert_never(loop.kind)

    def _counted(self, loop: For) -> None:
        if loop.kind is not LoopKind.serial:
            self.lines.append("#pragma unroll")
        var = self.name(loop.var)
        extent = self.expr.text(loop.extent)
        with self.scope(f"for (int64_t {var} = 0; {var} < {extent}; ++{var}) {{"):
            self._know(loop)
            self.block(loop.body)
            if not self.in_threads and _has_threads(loop) and loop.body[-1] != Barrier():
                self.emit("__syncthreads();")

    @contextmanager
    def _variables(self, last: bool) -> Iterator[None]:
        """A scope for the index variables of blocks or threads: the one around it, where nothing follows."""
        if last:
            yield
            return
        with self.scope("{"):
            yield

    def _know(self, loop: For) -> None:
        self.expr.ranges[loop.var] = loop_range(loop.extent, self.expr.ranges)

    def _bind(self, loop: For, value: str) -> None:
        self._know(loop)
        if loop.var in self.used:
            self.emit(f"const int64_t {self.name(loop.var)} = {value};")

    def _parallel(self, loop: For) -> None:
        """A nest of parallel loops: blocks, linearised row-major."""
        nest = [loop]
        while len(nest[-1].body) == 1 and isinstance(inner := nest[-1].body[0], For):
            if inner.kind is not LoopKind.parallel:
                break
            nest.append(inner)
        inner_size: Expr = Const(1, INDEX)
        values = []
        for each in reversed(nest):
            value = "int64_t(blockIdx.x)"
            if inner_size != Const(1, INDEX):
                value += f" / ({self.expr.text(inner_size)})"
            values.append(value if each is loop else f"{value} % ({self.expr.text(each.extent)})")
            inner_size = binary("*", inner_size, each.extent)
        for each, value in zip(nest, reversed(values), strict=True):
            self._bind(each, value)
        self.block(nest[-1].body)

    def _block_loop(self, loop: For, last: bool) -> None:
        axis = _BLOCKS[loop.kind]
        partial = loop.extent != self.launch.grid["xyz".index(axis)]
        opening = f"if (blockIdx.{axis} < {self.expr.text(loop.extent)}) {{"
        with self.scope(opening) if partial else self._variables(last):
            self._bind(loop, f"blockIdx.{axis}")
            self.block(loop.body)

    def _thread_loop(self, loop: For, last: bool) -> None:
        axis = _THREADS[loop.kind]
        extent = _constant_extent(self.kernel, loop)
        partial = extent < self.launch.block["xyz".index(axis)]
        if partial and any(isinstance(s, Barrier) for s in walk(loop.body)):
            raise IRError(
                f"kernel {self.kernel.name}: a barrier in a loop over {extent} of the block's threads can't be met"
            )
        outermost, self.in_threads = self.in_threads, True
        with (
            self.scope(f"if (threadIdx.{axis} < {extent}) {{") if partial else self._variables(last)
        ):
            self._bind(loop, f"threadIdx.{axis}")
            self.block(loop.body)
        self.in_threads = outermost

    def _if(self, stmt: If) -> None:
        with self._shared(stmt.condition):
            opening = f"if ({self.expr.text(stmt.condition)}) {{"
        with self.scope(opening, "} else {" if stmt.otherwise else "}"):
            self.expr.ranges = refine(self.expr.ranges, stmt.condition)
            self.block(stmt.then)
        if stmt.otherwise:
            with self.scope(None):
                self.block(stmt.otherwise)

    def _let(self, stmt: Let) -> None:
        if stmt.name not in self.used:
            return
        packed = isinstance(stmt.value, Load) and stmt.value.width > 1
        c_type = "auto" if packed else C_TYPES[stmt.value.dtype]
        with self._shared(stmt.value):
            self.emit(f"const {c_type} {self.name(stmt.name)} = {self.expr.text(stmt.value)};")
        if stmt.value.dtype is INDEX:
            self.expr.ranges[stmt.name] = bounds(stmt.value, self.expr.ranges)

    def _alloc(self, buffer: Buffer) -> None:
        size = _bytes(buffer) // buffer.dtype.itemsize
        name, c_type = self.name(buffer.name), C_TYPES[buffer.dtype]
        if buffer.name in self.dynamic:
            at = self.dynamic[buffer.name]
            self.emit(
                f"{c_type} *{name} = reinterpret_cast<{c_type} *>(convc_dynamic_shared() + {at});"
            )
        elif buffer.space is Space.shared:
            self.emit(f"__shared__ __align__(16) {c_type} {name}[{size}];")
        elif size == 1:
            self.expr.scalars.add(buffer.name)
            self.emit(f"{c_type} {name};")
        else:
            self.emit(f"{'alignas(16) ' if self._windowed(buffer) else ''}{c_type} {name}[{size}];")

    def _windowed(self, buffer: Buffer) -> bool:
        stmts = (s for s in walk(self.kernel.body) if isinstance(s, Intrinsic))
        return any(w.buffer == buffer.name for s in stmts for w in s.args)

    def _intrinsic(self, stmt: Intrinsic) -> None:
        found = problems(stmt, self.buffers)
        if found:
            raise IRError(f"kernel {self.kernel.name}: {'; '.join(found)}")
        dtypes = tuple(self.buffers[w.buffer].dtype for w in stmt.args)
        self.intrinsics[stmt.name, dtypes] = None
        pointers = list(map(self._pointer, stmt.args))
        wide = sum(map(len, pointers)) + 2 * self.depth > LINE - 30
        separator = ",\n" + "  " * (self.depth + 2) if wide else ", "
        self.emit(f"convc_{stmt.name}({separator.join(pointers)});")

    def _pointer(self, window: Window) -> str:
        element = self.expr.element(window.buffer, window.index)
        return element[: -len("[0]")] if element.endswith("[0]") else f"&{element}"

    @contextmanager
    def _shared(self, *roots: Expr) -> Iterator[None]:
        """Computes what the expressions repeat into constants that hold while the statement is written."""
        for value in repeated(roots):
            if isinstance(value.expr, Load) and value.expr.buffer in self.expr.scalars:
                continue
            packed = isinstance(value.expr, Load) and value.expr.width > 1
            c_type = "auto" if packed else C_TYPES[value.expr.dtype]
            text = self.expr.text(value.expr)
            self.temporaries += 1
            name = self.name(f"t{self.temporaries} (repeated)", f"t{self.temporaries}")
            self.emit(f"const {c_type} {name} = {text};")
            self.expr.shared.update(dict.fromkeys(value.ids, name))
        yield
        self.expr.shared.clear()


def _has_threads(stmt: Stmt) -> bool:
    return any(isinstance(s, For) and s.kind in _THREADS for s in walk((stmt,)))


def _dynamic_offsets(kernel: Kernel) -> dict[str, int]:
    offsets, total = {}, 0
    for buffer in _shared_buffers(kernel):
        offsets[buffer.name] = total
        total += _aligned(_bytes(buffer))
    return offsets


def printable(text: str) -> str:
    """A text as it may stand in a comment: nothing in it ends or continues the line."""
    return re.sub(r"[^ -~]|\\", "_", text)


def symbol(kernel: Kernel) -> str:
    """The name of a kernel's device function."""
    return f"convc_kernel_{kernel.name}"


def parameter(buffer: Buffer, name: str) -> str:
    return f"{'const ' if buffer.role is Role.in_ else ''}{C_TYPES[buffer.dtype]} *{name}"
