"""A scheduled kernel as an LLVM function: `void kernel(ptr args, i64 begin, i64 end)`.

Register arrays become values and phis here, and loop invariants go to the level that they belong to, so no middle-end
pass is needed. `unrolled` loops are walked, `vectorized` ones become vectors: an expression that depends on the lane
is a vector, the others stay scalars until a vector needs them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from convc.codegen import llvm_ops
from convc.codegen.llvm_memory import MemoryWriter
from convc.codegen.llvm_ops import Value, constant_text
from convc.codegen.llvm_scope import Lane
from convc.loops.ir import (
    INDEX,
    Alloc,
    Barrier,
    Binary,
    Block,
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
from convc.loops.simplify import bounds, loop_range
from convc.loops.walking import subexpressions, substitute
from convc.target import Target


def kernel_function(kernel: Kernel, target: Target, name: str) -> str:
    """The text of the kernel's LLVM function."""
    return KernelWriter(kernel, target, name).write()


class KernelWriter(MemoryWriter):
    """Statements and expressions of a kernel, on top of its indices, registers and memory."""

    def write(self) -> str:
        for i, buffer in enumerate(self.kernel.params):
            slot = self.f.emit(f"getelementptr i8, ptr %args, i64 {8 * i}")
            self.pointers[buffer.name] = self.f.emit(f"load ptr, ptr {slot}")
        for i, symbol in enumerate(self.kernel.symbols, len(self.kernel.params)):
            slot = self.f.emit(f"getelementptr i8, ptr %args, i64 {8 * i}")
            self.names[symbol] = (Value(self.f.emit(f"load i64, ptr {slot}"), INDEX, 1), 0)
        self.tasks()
        self.f.block.terminator = "ret void"
        return self.f.text()

    # ------------------------------------------------------------ loops

    def tasks(self) -> None:
        """The parallel loops at the top: one loop over [begin, end), taken apart into their variables."""
        loops: list[For] = []
        body = self.kernel.body
        while len(body) == 1 and isinstance(body[0], For) and body[0].kind is LoopKind.parallel:
            loops.append(body[0])
            body = body[0].body
        if not loops:
            self.statements(body)
            return

        def run(task: str) -> None:
            rest = task
            for position, loop in reversed(list(enumerate(loops))):
                extent = self.scalar(loop.extent)
                self.ranges[loop.var] = loop_range(loop.extent, self.ranges)
                value = rest if position == 0 else self.f.emit(f"urem i64 {rest}, {extent}")
                self.names[loop.var] = (Value(value, INDEX, 1), self.f.depth)
                if position:
                    rest = self.f.emit(f"udiv i64 {rest}, {extent}")
            self.statements(body)

        self.counted_loop("%begin", "%end", frozenset(), run)

    def counted_loop(
        self,
        start: str,
        end: str,
        written: frozenset[str],
        run: Callable[[str], None],
        known: bool = False,
    ) -> None:
        """A loop from start to end-1 that carries the registers of the written buffers through phis."""
        before = self.f.block
        header, exit_ = self.f.new_block("loop"), self.f.new_block("exit")
        carried = [e for e in self.registers if e[0] in written]
        initial = {e: self.registers[e] for e in carried}
        if known:
            before.terminator = f"br label %{header.label}"
        else:
            test = self.f.emit(f"icmp slt i64 {start}, {end}")
            before.terminator = f"br i1 {test}, label %{header.label}, label %{exit_.label}"
        self.f.push(header)
        counter = self.f.phi(header, "i64")
        phis = {}
        for element in carried:
            type = initial[element].type
            phis[element] = self.f.phi(header, type)
            self.registers[element] = initial[element].renamed(phis[element])
        run(counter)
        following = self.f.emit(f"add nuw nsw i64 {counter}, 1")
        more = self.f.emit(f"icmp slt i64 {following}, {end}")
        last = self.f.block
        last.terminator = f"br i1 {more}, label %{header.label}, label %{exit_.label}"
        self.f.pop()
        self.f.continue_in(exit_)
        self.f.close_phi(counter, [(start, before.label), (following, last.label)])
        for element in carried:
            final = self.registers[element]
            self.f.close_phi(
                phis[element],
                [(initial[element].text, before.label), (final.text, last.label)],
            )
            if not known:
                merged = self.f.phi(exit_, final.type)
                self.f.close_phi(
                    merged,
                    [(initial[element].text, before.label), (final.text, last.label)],
                )
                self.registers[element] = final.renamed(merged)
        for element in [e for e in self.registers if e not in initial and e[0] in written]:
            del self.registers[element]

    def statements(self, block: Block) -> None:
        for stmt in block:
            self.statement(stmt)

    def statement(self, stmt: Stmt) -> None:
        match stmt:
            case For():
                self.loop(stmt)
            case If():
                self.conditional(stmt)
            case Let():
                self.names[stmt.name] = (self.value(stmt.value), self.f.depth)
                if not (stmt.value.dtype is INDEX and self.is_index(stmt.value)):
                    self.data.add(stmt.name)
                else:
                    self.ranges[stmt.name] = bounds(stmt.value, self.ranges)
            case Store():
                self.store(stmt)
            case Alloc():
                self.allocate(stmt.buffer)
            case Intrinsic():
                self.intrinsic(stmt)
            case Barrier():
                raise self.error(f"a barrier can't run on the CPU target {self.target.name}")
            case _:
                assert_never(stmt)

    def loop(self, loop: For) -> None:
        extent = self.specialised(loop.extent)
        self.ranges[loop.var] = loop_range(extent, self.ranges)
        match loop.kind:
            case LoopKind.vectorized:
                self.vector_loop(loop, extent)
            case LoopKind.unrolled:
                for i in range(self.known_extent(loop, extent)):
                    self.constants[loop.var] = i
                    self.statements(loop.body)
                self.constants.pop(loop.var, None)
            case LoopKind.serial | LoopKind.parallel:
                self.serial_loop(loop, extent)
            case _:
                raise self.error(
                    f"a {loop.kind.value} loop can't run on the CPU target {self.target.name}"
                )

    def known_extent(self, loop: For, extent: Expr) -> int:
        if not isinstance(extent, Const):
            raise self.error(f"the {loop.kind.value} loop {loop.var} needs a constant extent")
        return int(extent.value)

    def serial_loop(self, loop: For, extent: Expr) -> None:
        if isinstance(extent, Const) and extent.value <= 1:
            if extent.value == 1:
                self.constants[loop.var] = 0
                self.statements(loop.body)
                del self.constants[loop.var]
            return

        def run(counter: str) -> None:
            self.names[loop.var] = (Value(counter, INDEX, 1), self.f.depth)
            self.statements(loop.body)

        written = frozenset(s.buffer for s in walk(loop.body) if isinstance(s, Store))
        known = isinstance(extent, Const)
        self.counted_loop("0", self.scalar(extent), written, run, known)

    def vector_loop(self, loop: For, extent: Expr) -> None:
        if self.lane is not None:
            raise self.error(f"the vectorized loop {loop.var} stands inside another")
        self.lane = Lane(loop.var, self.known_extent(loop, extent))
        self.statements(loop.body)
        self.lane = None

    # ------------------------------------------------------------ conditions

    def conditional(self, stmt: If) -> None:
        decided = self.decided(stmt.condition)
        if isinstance(decided, Const):
            self.statements(stmt.then if decided.value else stmt.otherwise)
            return
        condition = self.value(decided)
        if condition.lanes > 1:
            with self.masked(condition.text):
                self.statements(stmt.then)
            if stmt.otherwise:
                with self.masked(self.inverted(condition.text)):
                    self.statements(stmt.otherwise)
            return
        before = dict(self.registers)
        then, otherwise, join = (self.f.new_block(n) for n in ("then", "else", "join"))
        self.f.block.terminator = (
            f"br i1 {condition.text}, label %{then.label}, label %{otherwise.label}"
        )
        outcomes = []
        for start, body in ((then, stmt.then), (otherwise, stmt.otherwise)):
            self.registers = dict(before)
            self.f.push(start)
            self.statements(body)
            self.f.block.terminator = f"br label %{join.label}"
            outcomes.append((self.registers, self.f.block.label))
            self.f.pop()
        self.f.continue_in(join)
        (a, from_then), (b, from_else) = outcomes
        self.registers = {}
        for element in (e for e in a if e in b):  # in order: the same text each time
            merged = a[element]
            if merged != b[element]:
                name = self.f.phi(join, merged.type)
                self.f.close_phi(name, [(a[element].text, from_then), (b[element].text, from_else)])
                merged = merged.renamed(name)
            self.registers[element] = merged

    # ------------------------------------------------------------ expressions

    def value(self, expr: Expr) -> Value:
        """The value of an expression: a vector if it depends on the lane."""
        if expr.dtype is INDEX and self.is_index(expr):
            return self.index_value(expr)
        match expr:
            case Const():
                return Value(constant_text(expr.value, expr.dtype), expr.dtype, 1)
            case Var():
                return self.names[expr.name][0]
            case Load():
                return self.load(expr)
            case Binary():
                a, b = self.same_width(self.value(expr.a), self.value(expr.b))
                return llvm_ops.binary(self.f, expr, a, b)
            case Select():
                return self.select(expr)
            case Cast():
                return llvm_ops.cast(self.f, self.value(expr.value), expr.dtype)
            case Call():
                args = self.same_width(*(self.value(a) for a in expr.args))
                return llvm_ops.call(self.f, self.target, expr, args)
            case Reduce():
                raise self.error("a reduction is left in a scheduled kernel")
            case _:
                assert_never(expr)

    def decided(self, condition: Expr) -> Expr:
        """A condition with the numbers of unrolled variables: true or false, where they are all that it asks."""
        return substitute(condition, self.numbers_in(condition))

    def select(self, expr: Select) -> Value:
        decided = self.decided(expr.condition)
        if isinstance(decided, Const):
            return self.value(expr.then if decided.value else expr.otherwise)
        condition = self.value(decided)
        if condition.lanes > 1:
            with self.masked(condition.text):
                then = self.value(expr.then)
            with self.masked(self.inverted(condition.text)):
                otherwise = self.value(expr.otherwise)
            condition, then, otherwise = self.same_width(condition, then, otherwise)
            return llvm_ops.select(self.f, condition, then, otherwise)
        if any(isinstance(e, Load) for e in subexpressions(expr) if e is not expr.condition):
            return self.branch(
                condition.text, lambda: self.value(expr.then), lambda: self.value(expr.otherwise)
            )
        then, otherwise = self.same_width(self.value(expr.then), self.value(expr.otherwise))
        return llvm_ops.select(self.f, condition, then, otherwise)
