"""A scheduled kernel as an LLVM function: `void kernel(ptr args, i64 begin, i64 end)`.

Register arrays become values and phis here, and loop invariants go to the level that they belong to, so no middle-end
pass is needed. `unrolled` loops are walked, `vectorized` ones become vectors: an expression that depends on the lane
is a vector, the others stay scalars until a vector needs them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import assert_never

from convc.codegen import llvm_ops
from convc.codegen.llvm_function import Function
from convc.codegen.llvm_ops import Value, constant_text, memory_type, type_of
from convc.errors import IRError
from convc.loops.ir import (
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
    binary,
    children,
    index,
    subexpressions,
    substitute,
    walk,
)
from convc.loops.simplify import (
    SYMBOL_RANGE,
    Linear,
    Range,
    bounds,
    from_linear,
    linear,
    loop_range,
    simplify,
)
from convc.target import Target

Element = tuple[str, tuple[int, ...]]
"""A register: its buffer and its constant indices, without the lane's."""


@dataclass(frozen=True)
class Lane:
    """The vectorized loop around the code being written."""

    var: str
    count: int


@dataclass(frozen=True)
class Address:
    """Where a load or store goes: a pointer, a constant byte offset, and how far one lane is from the next."""

    pointer: str
    offset: int
    lane_step: int


def kernel_function(kernel: Kernel, target: Target, name: str) -> str:
    """The text of the kernel's LLVM function."""
    return _KernelWriter(kernel, target, name).write()


class _KernelWriter:
    def __init__(self, kernel: Kernel, target: Target, name: str) -> None:
        self.kernel = kernel
        self.target = target
        header = f"define hidden void @{name}(ptr %args, i64 %begin, i64 %end) #0"
        self.f = Function(header, has_half=not {"f16c", "neon"}.isdisjoint(target.features))
        self.buffers = kernel.buffers()
        self.ranges: dict[str, Range] = dict.fromkeys(kernel.symbols, SYMBOL_RANGE)
        self.constants: dict[str, int] = {}
        self.names: dict[str, tuple[Value, int]] = {}  # variables and lets: value and level
        self.data: set[str] = set()  # lets that are no index arithmetic
        self.pointers: dict[str, str] = {}
        self.registers: dict[Element, Value] = {}
        self.lane: Lane | None = None
        self.mask: str | None = None
        self.lane_dims = _lane_dims(kernel)
        self._offsets: dict[tuple[int, ...], tuple[list[tuple[Expr, int]], int]] = {}
        self._forms: dict[tuple[object, ...], Linear] = {}
        self._variables: dict[
            int, tuple[Expr, tuple[tuple[str, ...], bool]]
        ] = {}  # by id, kept alive
        self._alive: list[Expr | tuple[Expr, ...]] = []

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
        self.f.close_phi(header, counter, [(start, before.label), (following, last.label)])
        for element in carried:
            final = self.registers[element]
            self.f.close_phi(
                header,
                phis[element],
                [(initial[element].text, before.label), (final.text, last.label)],
            )
            if not known:
                merged = self.f.phi(exit_, final.type)
                self.f.close_phi(
                    exit_,
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
        extent = simplify(substitute(loop.extent, self.constant_exprs()), self.ranges)
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
        condition = self.value(stmt.condition)
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
        for element in a.keys() & b.keys():
            merged = a[element]
            if merged != b[element]:
                name = self.f.phi(join, merged.type)
                self.f.close_phi(
                    join, name, [(a[element].text, from_then), (b[element].text, from_else)]
                )
                merged = merged.renamed(name)
            self.registers[element] = merged

    @contextmanager
    def masked(self, mask: str) -> Iterator[None]:
        """Code that only the lanes of the mask run."""
        outer = self.mask
        assert self.lane is not None
        if outer is not None:
            mask = self.f.emit(f"and <{self.lane.count} x i1> {outer}, {mask}")
        self.mask = mask
        yield
        self.mask = outer

    def inverted(self, mask: str) -> str:
        assert self.lane is not None
        ones = "<" + ", ".join(["i1 true"] * self.lane.count) + ">"
        return self.f.emit(f"xor <{self.lane.count} x i1> {mask}, {ones}")

    # ------------------------------------------------------------ memory

    def allocate(self, buffer: Buffer) -> None:
        if buffer.space is Space.register:
            for element in [e for e in self.registers if e[0] == buffer.name]:
                del self.registers[element]
            return
        if not isinstance(buffer.size, int):
            raise self.error(f"the local buffer {buffer.name} needs a constant size")
        self.pointers[buffer.name] = self.f.alloca(memory_type(buffer.dtype), buffer.size)

    def store(self, stmt: Store) -> None:
        buffer = self.buffers[stmt.buffer]
        value = self.value(stmt.value)
        if buffer.space is Space.register:
            self.set_register(buffer, stmt.index, value)
            return
        address = self.address(buffer, stmt.index)
        if self.lane is None or (value.lanes == 1 and address.lane_step == 0 and self.mask is None):
            self.write_memory(address, value, None)
            return
        value = self.widened(value)
        if address.lane_step == buffer.dtype.itemsize:
            self.write_memory(address, value, self.mask)
            return
        self.scatter(address, value)

    def write_memory(self, address: Address, value: Value, mask: str | None) -> None:
        pointer = self.moved(address.pointer, address.offset)
        stored = llvm_ops.to_memory(self.f, value)
        align = value.dtype.itemsize
        if mask is None:
            self.f.do(f"store {stored.memory} {stored.text}, ptr {pointer}, align {align}")
            return
        self.f.do(
            f"call void @llvm.masked.store.{llvm_ops.suffix(stored.memory)}.p0({stored.memory} "
            f"{stored.text}, ptr align {align} {pointer}, <{value.lanes} x i1> {mask})"
        )

    def scatter(self, address: Address, value: Value) -> None:
        """Stores lane by lane, each behind its mask bit."""
        for i in range(value.lanes):
            lane = Value(
                self.f.emit(f"extractelement {value.type} {value.text}, i64 {i}"), value.dtype, 1
            )
            at = Address(address.pointer, address.offset + i * address.lane_step, 0)
            if self.mask is None:
                self.write_memory(at, lane, None)
                continue
            bit = self.f.emit(f"extractelement <{value.lanes} x i1> {self.mask}, i64 {i}")
            then, join = self.f.new_block("lane"), self.f.new_block("join")
            self.f.block.terminator = f"br i1 {bit}, label %{then.label}, label %{join.label}"
            self.f.push(then)
            self.write_memory(at, lane, None)
            self.f.block.terminator = f"br label %{join.label}"
            self.f.pop()
            self.f.continue_in(join)

    def load(self, load: Load) -> Value:
        buffer = self.buffers[load.buffer]
        if buffer.space is Space.register:
            return self.get_register(buffer, load.index)
        address = self.address(buffer, load.index)
        lanes = self.lane.count if self.lane else 1
        if address.lane_step == 0:
            # One address for all lanes: with no lane running there is nothing to read, but a
            # mask never hides all of the lanes of an address that doesn't depend on them.
            return self.read_memory(buffer, address, 1, load.width, None)
        if address.lane_step == load.width * buffer.dtype.itemsize:
            return self.read_memory(buffer, address, lanes, load.width, self.mask)
        return self.gather(buffer, address, lanes)

    def read_memory(
        self, buffer: Buffer, address: Address, lanes: int, width: int, mask: str | None
    ) -> Value:
        pointer = self.moved(address.pointer, address.offset)
        dtype, align = buffer.dtype, buffer.dtype.itemsize
        memory = memory_type(dtype, lanes * width)
        remember = self.f.once if buffer.role is Role.in_ else self.f.emit
        if mask is None:
            text = remember(f"load {memory}, ptr {pointer}, align {align}")
        else:
            text = remember(
                f"call {memory} @llvm.masked.load.{llvm_ops.suffix(memory)}.p0("
                f"ptr align {align} {pointer}, <{lanes} x i1> {mask}, {memory} zeroinitializer)"
            )
        return llvm_ops.from_memory(self.f, Value(text, dtype, lanes, width))

    def gather(self, buffer: Buffer, address: Address, lanes: int) -> Value:
        """Loads lane by lane; where a mask hides a lane, its first address is read instead and ignored."""
        vector = "poison"
        type = type_of(buffer.dtype, lanes)
        for i in range(lanes):
            at = Address(address.pointer, address.offset + i * address.lane_step, 0)
            element = self.guarded_element(buffer, at, i)
            vector = self.f.emit(
                f"insertelement {type} {vector}, {element.type} {element.text}, i64 {i}"
            )
        return Value(vector, buffer.dtype, lanes)

    def guarded_element(self, buffer: Buffer, at: Address, lane: int) -> Value:
        if self.mask is None:
            return self.read_memory(buffer, at, 1, 1, None)
        assert self.lane is not None
        bit = self.f.emit(f"extractelement <{self.lane.count} x i1> {self.mask}, i64 {lane}")
        zero = Value(constant_text(0, buffer.dtype), buffer.dtype, 1)
        return self.branch(bit, lambda: self.read_memory(buffer, at, 1, 1, None), lambda: zero)

    def address(self, buffer: Buffer, at: tuple[Expr, ...]) -> Address:
        """The pointer of an access: what is constant goes into the offset, each variable into its level."""
        size = buffer.dtype.itemsize
        terms, offset = self.physical_offset(buffer, at)
        lane_step = 0
        dynamic: dict[Expr, int] = {}
        for atom, coefficient in terms:
            if not isinstance(atom, Var):
                parts, rest = self.specialised_form(atom)
                offset += rest * coefficient
                for part, factor in parts.items():
                    lane_step += self.add_term(dynamic, part, factor * coefficient)
            elif atom.name in self.constants:
                offset += self.constants[atom.name] * coefficient
            else:
                lane_step += self.add_term(dynamic, atom, coefficient)
        return Address(self.pointer_to(buffer, dynamic), offset * size, lane_step * size)

    def add_term(self, dynamic: dict[Expr, int], atom: Expr, coefficient: int) -> int:
        """Sorts a term of an address: the lane's coefficient is returned, others are collected."""
        lane = self.lane
        if lane is not None and isinstance(atom, Var):
            if atom.name == lane.var:
                return coefficient
        elif lane is not None and Var(lane.var) in subexpressions(atom):
            raise self.error(f"an address isn't linear in the lane {lane.var}")
        dynamic[atom] = dynamic.get(atom, 0) + coefficient
        return 0

    def physical_offset(
        self, buffer: Buffer, at: tuple[Expr, ...]
    ) -> tuple[list[tuple[Expr, int]], int]:
        """The element offset of a logical index as a linear form, computed once per access."""
        key = (*(id(i) for i in at), id(buffer))
        if key not in self._offsets:
            layout = buffer.layout
            total: Expr = Const(0, INDEX)
            for axis, stride in zip(layout.axes, layout.strides(buffer.shape), strict=True):
                position = binary("+", at[axis.dim], layout.border[axis.dim][0])
                position = binary("//", position, axis.divide)
                if axis.modulus is not None:
                    position = binary("%", position, axis.modulus)
                total = binary("+", total, binary("*", position, index(stride)))
            terms, constant = linear(simplify(total, self.ranges))
            self._offsets[key] = (list(terms.items()), constant)
            self._alive.append(at)
        return self._offsets[key]

    def specialised(self, expr: Expr) -> Expr:
        """An index expression with the unrolled variables replaced by their numbers."""
        if isinstance(expr, Const):
            return expr
        if isinstance(expr, Var):
            known = self.constants.get(expr.name)
            return expr if known is None else Const(known, INDEX)
        return simplify(substitute(expr, self.constant_exprs()), self.ranges)

    def specialised_form(self, atom: Expr) -> Linear:
        """The linear form of a specialised part of an address, computed once per numbers and ranges."""
        names, _ = self.variables(atom)
        key = (
            id(atom),
            *(self.constants.get(n) for n in names),
            *(self.ranges.get(n) for n in names),
        )
        if key not in self._forms:
            self._forms[key] = linear(self.specialised(atom))
        return self._forms[key]

    def variables(self, expr: Expr) -> tuple[tuple[str, ...], bool]:
        """The variables of a part of an address, and whether it follows from them alone."""
        if id(expr) not in self._variables:
            inside = list(subexpressions(expr))
            names = tuple(dict.fromkeys(e.name for e in inside if isinstance(e, Var)))
            pure = all(isinstance(e, (Var, Const, Binary)) for e in inside)
            self._variables[id(expr)] = (expr, (names, pure))
        return self._variables[id(expr)][1]

    def constant_exprs(self) -> dict[str, Expr]:
        return {name: Const(value, INDEX) for name, value in self.constants.items()}

    def pointer_to(self, buffer: Buffer, terms: dict[Expr, int]) -> str:
        """A pointer plus its dynamic terms, each level adding its own to the one around it."""
        pointer = self.pointers[buffer.name]
        if not terms:
            return pointer
        key = self.pointer_key(pointer, buffer.dtype.itemsize, terms)
        known = self.f.find(key) if key is not None else None
        if known is not None:
            return known
        by_level: dict[int, dict[Expr, int]] = {}
        for atom, coefficient in terms.items():
            by_level.setdefault(self.level_of(atom), {})[atom] = coefficient
        for level in sorted(by_level):
            amount = self.linear_value((by_level[level], 0), level, buffer.dtype.itemsize)
            pointer = self.f.once(f"getelementptr i8, ptr {pointer}, i64 {amount}", level)
        if key is not None:
            self.f.remember(key, pointer)
        return pointer

    def pointer_key(self, pointer: str, size: int, terms: dict[Expr, int]) -> object | None:
        """What a pointer with terms follows from, where each is a value by now: unrolled loops ask again and again."""
        parts: list[object] = [pointer, size]
        for atom, coefficient in terms.items():
            parts += [coefficient] if isinstance(atom, Var) else [coefficient, id(atom)]
            names, pure = self.variables(atom)
            if not pure:
                return None
            for name in names:
                if name not in self.names or name in self.data:
                    return None
                parts.append(self.names[name][0].text)
        return tuple(parts)

    def moved(self, pointer: str, offset: int) -> str:
        return self.f.once(f"getelementptr i8, ptr {pointer}, i64 {offset}") if offset else pointer

    def level_of(self, expr: Expr) -> int:
        """The outermost level at which an index expression can be computed."""
        if isinstance(expr, Var):
            return self.names[expr.name][1] if expr.name in self.names else 0
        names = [e.name for e in subexpressions(expr) if isinstance(e, Var)]
        levels = [self.names[n][1] for n in names if n in self.names]
        if any(isinstance(e, Load) for e in subexpressions(expr)):
            return self.f.depth
        return max(levels, default=0)

    # ------------------------------------------------------------ registers

    def element(self, buffer: Buffer, at: tuple[Expr, ...]) -> tuple[Element, Expr | None]:
        """Which register an access means, and its index along the lanes."""
        lane_dim = self.lane_dims.get(buffer.name)
        lane_index = at[lane_dim] if lane_dim is not None else None
        constant = []
        for i, expr in enumerate(at):
            if i == lane_dim:
                continue
            value = expr if isinstance(expr, Const) else self.specialised(expr)
            if not isinstance(value, Const):
                raise self.error(f"the register array {buffer.name} is indexed by a run-time value")
            constant.append(int(value.value))
        return (buffer.name, tuple(constant)), lane_index

    def get_register(self, buffer: Buffer, at: tuple[Expr, ...]) -> Value:
        element, lane_index = self.element(buffer, at)
        if element not in self.registers:
            raise self.error(f"{buffer.name}{list(element[1])} is read before it is written")
        value = self.registers[element]
        if lane_index is None or self.lane is not None and lane_index == Var(self.lane.var):
            return value
        position = self.specialised(lane_index)
        if not isinstance(position, Const):
            raise self.error(f"the register array {buffer.name} is indexed by a run-time lane")
        text = self.f.emit(f"extractelement {value.type} {value.text}, i64 {position.value}")
        return Value(text, value.dtype, 1)

    def set_register(self, buffer: Buffer, at: tuple[Expr, ...], value: Value) -> None:
        element, lane_index = self.element(buffer, at)
        old = self.registers.get(element)
        if lane_index is None:
            self.registers[element] = value
            return
        if self.lane is not None and lane_index == Var(self.lane.var):
            value = self.widened(value)
            if self.mask is not None and old is not None:
                text = self.f.emit(
                    f"select <{value.lanes} x i1> {self.mask}, {value.type} {value.text}, "
                    f"{value.type} {old.text}"
                )
                value = value.renamed(text)
            self.registers[element] = value
            return
        position = self.specialised(lane_index)
        lanes = buffer.shape[self.lane_dims[buffer.name]]
        if not isinstance(position, Const) or not isinstance(lanes, int):
            raise self.error(f"the register array {buffer.name} is indexed by a run-time lane")
        type = type_of(buffer.dtype, lanes)
        base = old.text if old else "poison"
        text = self.f.emit(
            f"insertelement {type} {base}, {value.type} {value.text}, i64 {position.value}"
        )
        self.registers[element] = Value(text, buffer.dtype, lanes)

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

    def is_index(self, expr: Expr) -> bool:
        """True for arithmetic on loop variables and symbols, which can move to outer levels."""
        match expr:
            case Const():
                return True
            case Var():
                return expr.name not in self.data
            case Binary(op="+" | "-" | "*" | "//" | "%" | "min" | "max"):
                return self.is_index(expr.a) and self.is_index(expr.b)
            case _:
                return False

    def same_width(self, *values: Value) -> tuple[Value, ...]:
        widest = max([v.lanes for v in values])
        return tuple(llvm_ops.splat(self.f, v, widest) for v in values)

    def widened(self, value: Value) -> Value:
        assert self.lane is not None
        return llvm_ops.splat(self.f, value, self.lane.count)

    def select(self, expr: Select) -> Value:
        condition = self.value(expr.condition)
        if condition.lanes > 1:
            with self.masked(condition.text):
                then = self.value(expr.then)
            with self.masked(self.inverted(condition.text)):
                otherwise = self.value(expr.otherwise)
            condition, then, otherwise = self.same_width(condition, then, otherwise)
            return llvm_ops.select(self.f, condition, then, otherwise)
        if condition.text in ("true", "false"):
            return self.value(expr.then if condition.text == "true" else expr.otherwise)
        if any(isinstance(e, Load) for e in subexpressions(expr) if e is not expr.condition):
            return self.branch(
                condition.text, lambda: self.value(expr.then), lambda: self.value(expr.otherwise)
            )
        then, otherwise = self.same_width(self.value(expr.then), self.value(expr.otherwise))
        return llvm_ops.select(self.f, condition, then, otherwise)

    def branch(
        self, condition: str, then: Callable[[], Value], otherwise: Callable[[], Value]
    ) -> Value:
        """The value of one of two computations, of which only one runs."""
        blocks = [self.f.new_block(n) for n in ("then", "else")]
        join = self.f.new_block("join")
        self.f.block.terminator = (
            f"br i1 {condition}, label %{blocks[0].label}, label %{blocks[1].label}"
        )
        values = []
        ends = []
        for block, compute in zip(blocks, (then, otherwise), strict=True):
            self.f.push(block)
            values.append(compute())
            ends.append(self.f.block)
            self.f.pop()
        lanes = max(v.lanes for v in values)
        for i, end in enumerate(ends):
            self.f.push(end)
            values[i] = llvm_ops.splat(self.f, values[i], lanes)
            end.terminator = f"br label %{join.label}"
            self.f.pop()
        self.f.continue_in(join)
        name = self.f.phi(join, values[0].type)
        incoming = [(v.text, end.label) for v, end in zip(values, ends, strict=True)]
        self.f.close_phi(join, name, incoming)
        return values[0].renamed(name)

    def index_value(self, expr: Expr) -> Value:
        """An index expression as a value, computed at the outermost level that has its variables."""
        expr = self.specialised(expr)
        if self.lane is not None and any(e == Var(self.lane.var) for e in subexpressions(expr)):
            return self.lane_value(expr)
        return Value(self.scalar(expr), INDEX, 1)

    def lane_value(self, expr: Expr) -> Value:
        """An index expression that depends on the lane: a vector of i64."""
        assert self.lane is not None
        lane, count = Var(self.lane.var), self.lane.count
        terms, constant = linear(expr)
        if any(a != lane and lane in subexpressions(a) for a in terms):
            assert isinstance(expr, Binary)
            operands = (llvm_ops.splat(self.f, self.value(o), count) for o in children(expr))
            return llvm_ops.binary(self.f, expr, *operands)
        step = terms.pop(lane, 0)
        base = llvm_ops.splat(
            self.f, Value(self.scalar(from_linear((terms, constant))), INDEX, 1), count
        )
        steps = "<" + ", ".join(f"i64 {step * i}" for i in range(count)) + ">"
        return base.renamed(self.f.once(f"add {base.type} {base.text}, {steps}"))

    def scalar(self, expr: Expr) -> str:
        """An index expression without lanes as an i64."""
        if isinstance(expr, Const):
            return str(int(expr.value))
        return self.linear_value(linear(expr), self.level_of(expr), 1)

    def linear_value(self, form: tuple[dict[Expr, int], int], level: int, scale: int) -> str:
        """`scale` times a linear form, at a level."""
        terms, constant = form
        total = ""
        for atom, coefficient in terms.items():
            term = self.atom(atom, level)
            factor = coefficient * scale
            if factor != 1:
                term = self.f.once(f"mul nsw i64 {term}, {factor}", level)
            total = self.f.once(f"add nsw i64 {total}, {term}", level) if total else term
        if not total:
            return str(constant * scale)
        if constant:
            total = self.f.once(f"add nsw i64 {total}, {constant * scale}", level)
        return total

    def atom(self, atom: Expr, level: int) -> str:
        match atom:
            case Var():
                if atom.name in self.constants:
                    return str(self.constants[atom.name])
                return self.names[atom.name][0].text
            case Binary(op="//" | "%" as op):
                a, b = self.scalar(atom.a), self.scalar(atom.b)
                signed = bounds(atom.a, self.ranges)[0] < 0
                if not signed:
                    name = "udiv" if op == "//" else "urem"
                    return self.f.once(f"{name} i64 {a}, {b}", level)
                return llvm_ops.floor_division(self.f, op, a, b, level)
            case Binary(op="min" | "max" as op):
                a, b = self.scalar(atom.a), self.scalar(atom.b)
                return self.f.once(f"call i64 @llvm.s{op}.i64(i64 {a}, i64 {b})", level)
            case Binary(op="*"):
                a, b = self.scalar(atom.a), self.scalar(atom.b)
                return self.f.once(f"mul nsw i64 {a}, {b}", level)
            case Load() | Select() | Cast() | Call():
                return self.value(atom).text
            case _:
                raise self.error(
                    f"an index expression that the CPU generator does not know: {atom}"
                )

    def intrinsic(self, stmt: Intrinsic) -> None:
        if stmt.name != "prefetch":
            raise self.error(
                f"the instruction {stmt.name} does not exist on the target {self.target.name}"
            )
        window = stmt.args[0]
        address = self.address(self.buffers[window.buffer], window.index)
        pointer = self.moved(address.pointer, address.offset)
        self.f.do(f"call void @llvm.prefetch.p0(ptr {pointer}, i32 0, i32 3, i32 1)")

    def error(self, message: str) -> IRError:
        return IRError(f"kernel {self.kernel.name}: {message}")


def _lane_dims(kernel: Kernel) -> dict[str, int]:
    """For each register buffer that a vectorized loop indexes by its lane: which dimension."""
    found: dict[str, int] = {}
    registers = {n for n, b in kernel.buffers().items() if b.space is Space.register}
    for stmt in walk(kernel.body):
        if not (isinstance(stmt, For) and stmt.kind is LoopKind.vectorized):
            continue
        lane = Var(stmt.var)
        for inner in walk(stmt.body):
            for name, at in _accesses(inner):
                if name in registers and lane in at:
                    found[name] = at.index(lane)
    return found


def _accesses(stmt: Stmt) -> Iterator[tuple[str, tuple[Expr, ...]]]:
    match stmt:
        case Store():
            yield stmt.buffer, stmt.index
            values: tuple[Expr, ...] = (*stmt.index, stmt.value)
        case Let():
            values = (stmt.value,)
        case If():
            values = (stmt.condition,)
        case _:
            values = ()
    for value in values:
        for e in subexpressions(value):
            if isinstance(e, Load):
                yield e.buffer, e.index
