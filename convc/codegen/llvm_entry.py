"""The functions that applications call: an entry runs its steps in order on the memory that its call brings.

`int32_t entry(const convc_call *call)`: see convc.h. Places are computed from the symbols at run time.
"""

from __future__ import annotations

from collections.abc import Callable

from convc.codegen.llvm_function import Function
from convc.errors import IRError
from convc.loops.ir import Binary, Const, Expr, For, Kernel, LoopKind, Stmt, Var
from convc.program.ir import Argument, Entry, Program, RegionKind, Step
from convc.types import Dim, Extent

# Byte offsets of convc_call's members.
_WEIGHTS, _WORKSPACE, _INPUTS, _OUTPUTS, _SYMBOLS, _PARALLEL_FOR, _POOL, _STATE = range(8, 72, 8)

# A step of less work than this (multiply-adds and the like) is over before a second thread has begun.
_PARALLEL_WORK = 20_000


def entry_function(
    program: Program, entry: Entry, name: str, kernel_name: Callable[[str], str]
) -> str:
    """The text of an entry's LLVM function, named `name`; `kernel_name` gives each kernel's function."""
    return _EntryWriter(program, entry, name, kernel_name).write()


class _EntryWriter:
    def __init__(
        self, program: Program, entry: Entry, name: str, kernel_name: Callable[[str], str]
    ) -> None:
        self.program = program
        self.entry = entry
        self.kernel_name = kernel_name
        self.f = Function(f"define hidden i32 @{name}(ptr %call) #0")
        self.regions = {r.name: r for r in program.regions}
        self.symbols: dict[str, str] = {}

    def write(self) -> str:
        f = self.f
        self.weights = self.member(_WEIGHTS)
        self.workspace = self.member(_WORKSPACE)
        self.state = self.member(_STATE) if self.program.states else ""
        self.parallel_for = self.member(_PARALLEL_FOR)
        self.pool = self.member(_POOL)
        self.alone = f.emit(f"icmp eq ptr {self.parallel_for}, null")
        values = self.member(_SYMBOLS)
        for i, symbol in enumerate(self.program.symbols):
            self.symbols[symbol] = f.emit(f"load i64, ptr {self.moved(values, 8 * i)}")
        self.caller: dict[str, str] = {}
        for offset, ports in ((_INPUTS, self.entry.inputs), (_OUTPUTS, self.entry.outputs)):
            table = self.member(offset)
            for i, port in enumerate(ports):
                self.caller[port.region] = f.emit(f"load ptr, ptr {self.moved(table, 8 * i)}")
        slots = max((len(self.slots(s)) for s in self.entry.steps), default=1)
        self.args = f.alloca("i64", slots)
        for step in self.entry.steps:
            self.step(step)
        f.block.terminator = "ret i32 0"
        return f.text()

    def member(self, offset: int) -> str:
        return self.f.emit(f"load ptr, ptr {self.moved('%call', offset)}")

    def moved(self, pointer: str, offset: int | str) -> str:
        if offset in (0, "0"):
            return pointer
        return self.f.once(f"getelementptr i8, ptr {pointer}, i64 {offset}")

    def slots(self, step: Step) -> list[Argument | str]:
        """What the kernel's argument array holds: places, then symbols."""
        kernel = self.program.kernels[step.kernel]
        return [*step.args, *kernel.symbols]

    def step(self, step: Step) -> None:
        kernel = self.program.kernels[step.kernel]
        for i, slot in enumerate(self.slots(step)):
            at = self.moved(self.args, 8 * i)
            if isinstance(slot, Argument):
                self.f.do(f"store ptr {self.place(slot)}, ptr {at}")
            else:
                self.f.do(f"store i64 {self.symbols[slot]}, ptr {at}")
        name = self.kernel_name(step.kernel)
        tasks = self.extent(task_count(kernel))
        if tasks == "1":
            self.f.do(f"call void @{name}(ptr {self.args}, i64 0, i64 1)")
            return
        work = self.extent(work_of(kernel))
        small = self.f.emit(f"icmp slt i64 {work}, {_PARALLEL_WORK}")
        here = self.f.emit(f"or i1 {self.alone}, {small}")
        direct, shared, after = (self.f.new_block(n) for n in ("direct", "shared", "after"))
        self.f.block.terminator = f"br i1 {here}, label %{direct.label}, label %{shared.label}"
        direct.lines.append(f"call void @{name}(ptr {self.args}, i64 0, i64 {tasks})")
        shared.lines.append(
            f"call void {self.parallel_for}(ptr {self.pool}, ptr @{name}, ptr {self.args}, i64 {tasks})"
        )
        direct.terminator = shared.terminator = f"br label %{after.label}"
        self.f.continue_in(after)

    def place(self, argument: Argument) -> str:
        region = self.regions[argument.region]
        if region.kind in (RegionKind.input, RegionKind.output):
            return self.moved(self.caller[region.name], argument.offset)
        if region.offset is None:
            raise IRError(f"program {self.program.name}: the region {region.name} has no offset")
        bases = {RegionKind.weight: self.weights, RegionKind.state: self.state}
        base = bases.get(region.kind, self.workspace)
        return self.moved(base, self.extent(region.offset + argument.offset))

    def extent(self, extent: Extent) -> str:
        """An extent as an i64 value."""
        if not isinstance(extent, Dim):
            return str(extent)
        total = ""
        for monomial, coefficient in extent.terms:
            term = str(coefficient)
            for symbol in monomial:
                term = self.f.once(f"mul i64 {term}, {self.symbols[symbol]}")
            total = self.f.once(f"add i64 {total}, {term}") if total else term
        return total


def task_count(kernel: Kernel) -> Extent:
    """The tasks of a kernel: the product of the parallel loops at its top."""
    total: Extent = 1
    block = kernel.body
    while len(block) == 1 and isinstance(block[0], For) and block[0].kind is LoopKind.parallel:
        total = total * extent_of(block[0])
        block = block[0].body
    return total


def work_of(kernel: Kernel) -> Extent:
    """Element operations of a kernel, roughly: its largest nest of loops, vectors counted by lane."""
    return _work(kernel.body)


def _work(block: tuple[Stmt, ...]) -> Extent:
    best: Extent = 1
    for stmt in block:
        if isinstance(stmt, For):
            inner = _work(stmt.body)
            extent: Extent = 1
            try:
                extent = extent_of(stmt)
            except IRError:
                extent = 1
            best = _more(best, inner * extent)
    return best


def _more(a: Extent, b: Extent) -> Extent:
    """The one that grows faster, by its largest coefficient."""
    return a if _weight(a) >= _weight(b) else b


def _weight(extent: Extent) -> int:
    return max((c for _, c in extent.terms), default=0) if isinstance(extent, Dim) else extent


def extent_of(loop: For) -> Extent:
    """A loop's extent as a polynomial; IRError if it isn't one."""
    return _polynomial(loop.extent)


def _polynomial(expr: Expr) -> Extent:
    match expr:
        case Const():
            return int(expr.value)
        case Var():
            return Dim.symbol(expr.name)
        case Binary(op="*"):
            return _polynomial(expr.a) * _polynomial(expr.b)
        case Binary(op="+"):
            return _polynomial(expr.a) + _polynomial(expr.b)
        case _:
            raise IRError(f"a loop extent that is no polynomial: {expr}")
