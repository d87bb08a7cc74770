"""The functions that applications call: an entry runs its steps in order on the memory that its call brings.

`int32_t entry(const convc_call *call)`: see convc.h. Places are computed from the symbols at run time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from convc.codegen.llvm_function import Function
from convc.codegen.work import shared_work
from convc.errors import IRError
from convc.loops.families import Family
from convc.loops.tasks import task_count
from convc.program.ir import Argument, Cut, Entry, Program, RegionKind, Share, Step
from convc.program.turns import Loop, loops_of, step_of
from convc.types import Dim, Extent

REQUIREMENT_CODE = 256
"""CONVC_ERROR_REQUIREMENT of convc.h: the status where an entry's first requirement doesn't hold; then the second's."""

# Byte offsets of convc_call's members.
_WEIGHTS, _WORKSPACE, _INPUTS, _OUTPUTS, _SYMBOLS, _PARALLEL_FOR, _POOL, _STATE = range(8, 72, 8)


@dataclass(frozen=True)
class Code:
    """The machine code of a kernel: its family's function, in a program whose functions start with `prefix`."""

    family: Family
    prefix: str

    @property
    def name(self) -> str:
        return f"{self.prefix}_k_{self.family.name}"


def entry_function(
    program: Program,
    entry: Entry,
    prefix: str,
    name: str,
    codes: Mapping[str, Code],
) -> str:
    """The text of an entry's LLVM function, named `name`; `codes` has each kernel's.

    It calls the support functions whose names start with `prefix`.
    """
    return _EntryWriter(program, entry, prefix, name, codes).write()


def support_functions(prefix: str) -> str:
    """Declarations of the support functions that entries call: see support.ll."""
    return (
        f"declare hidden ptr @{prefix}_share_begin(ptr, ptr, i64)\n"
        f"declare hidden void @{prefix}_share_step(ptr, ptr, ptr, ptr, i64, i64, i64, i1)\n"
    )


class _EntryWriter:
    def __init__(
        self,
        program: Program,
        entry: Entry,
        prefix: str,
        name: str,
        codes: Mapping[str, Code],
    ) -> None:
        self.program = program
        self.entry = entry
        self.prefix = prefix
        self.codes = codes
        self.f = Function(f"define hidden i32 @{name}(ptr %call) #0")
        self.regions = {r.name: r for r in program.regions}
        self.symbols: dict[str, str] = {}
        self.turn = ("", "")  # the symbol of the loop that is written, and its value
        self.inside = self.symbols  # the symbols as that loop's kernels see them

    def write(self) -> str:
        f = self.f
        self.weights = self.member(_WEIGHTS)
        self.workspace = self.member(_WORKSPACE)
        self.state = self.member(_STATE) if self.program.states else ""
        values = self.member(_SYMBOLS)
        for i, symbol in enumerate(self.program.symbols):
            self.symbols[symbol] = f.emit(f"load i64, ptr {self.moved(values, 8 * i)}")
        self.caller: dict[str, str] = {}
        for offset, ports in ((_INPUTS, self.entry.inputs), (_OUTPUTS, self.entry.results)):
            table = self.member(offset)
            for i, port in enumerate(ports):
                self.caller[port.region] = f.emit(f"load ptr, ptr {self.moved(table, 8 * i)}")
        required = [p.region for p in self.entry.outputs if p.is_requirement]
        self.caller |= {region: f.alloca("i8", 1) for region in required}
        slots = max((len(self.slots(s)) for s in self.entry.steps), default=1)
        self.args = f.alloca("i64", slots)
        self.begin()
        position = 0
        for loop in loops_of(self.entry):
            self.steps(self.entry.steps[position : loop.first])
            self.loop(loop, self.entry.steps[loop.first : loop.stop])
            position = loop.stop
        self.steps(self.entry.steps[position:])
        f.block.terminator = f"ret i32 {self.status(required)}"
        return f.text()

    def status(self, required: Sequence[str]) -> str:
        """What the entry returns: 0, or the first requirement that doesn't hold. `required` are their regions."""
        f, status = self.f, "0"
        for k, region in reversed(list(enumerate(required))):
            held = f.emit(f"load i8, ptr {self.caller[region]}")
            fails = f.emit(f"icmp eq i8 {held}, 0")
            status = f.emit(f"select i1 {fails}, i32 {REQUIREMENT_CODE + k}, i32 {status}")
        return status

    def member(self, offset: int) -> str:
        return self.f.emit(f"load ptr, ptr {self.moved('%call', offset)}")

    def moved(self, pointer: str, offset: int | str) -> str:
        if offset in (0, "0"):
            return pointer
        return self.f.once(f"getelementptr i8, ptr {pointer}, i64 {offset}")

    def slots(self, step: Step) -> list[Argument | int | str]:
        """What the kernel's argument array holds: places, then sizes and symbols."""
        return [*step.args, *self.codes[step.kernel].family.arguments]

    def begin(self) -> None:
        """What the steps are shared by: nothing, where all of it is over before the workers are awake."""
        self.pool = self.member(_POOL)
        given = self.member(_PARALLEL_FOR)
        self.parallel_for = self.f.emit(
            f"call ptr @{self.prefix}_share_begin(ptr {given}, ptr {self.pool}, i64 {self.work()})"
        )
        self.single = ""
        for value in self.symbols.values():
            one = self.f.emit(f"icmp eq i64 {value}, 1")
            self.single = self.f.emit(f"and i1 {self.single}, {one}") if self.single else one

    def work(self) -> str:
        """The nanoseconds that one thread takes for the steps that are worth sharing."""
        f, total = self.f, ""
        for work in shared_work(self.entry):
            spent = self.extent(work.time, self.symbols)
            if work.least > 1:
                spent = f.emit(
                    f"select i1 {self.reached(work.product, work.least)}, i64 {spent}, i64 0"
                )
            if work.turns:
                spent = f.emit(f"mul i64 {spent}, {self.symbols[work.turns]}")
            total = f.emit(f"add i64 {total}, {spent}") if total else spent
        return total or "0"

    def reached(self, product: Extent, least: int) -> str:
        """Whether a product of symbols is so large, as an i1."""
        if least <= 1:
            return "true"
        return self.f.once(f"icmp sge i64 {self.extent(product, self.inside)}, {least}")

    def steps(self, steps: Sequence[Step]) -> None:
        for step in steps:
            self.step(step)

    def loop(self, loop: Loop, steps: Sequence[Step]) -> None:
        """Steps for one image after the other: the loop's symbol is 1 in them. None are run where it is 0."""
        f, count = self.f, self.symbols[loop.symbol]
        before, body, after = f.block, f.new_block("image"), f.new_block("images")
        some = f.emit(f"icmp slt i64 0, {count}")
        before.terminator = f"br i1 {some}, label %{body.label}, label %{after.label}"
        f.push(body)
        self.turn = (loop.symbol, f.phi(body, "i64"))
        self.inside = {**self.symbols, loop.symbol: "1"}
        self.steps(steps)
        following = f.emit(f"add i64 {self.turn[1]}, 1")
        more = f.emit(f"icmp slt i64 {following}, {count}")
        f.block.terminator = f"br i1 {more}, label %{body.label}, label %{after.label}"
        f.close_phi(self.turn[1], [("0", before.label), (following, f.block.label)])
        self.turn, self.inside = ("", ""), self.symbols
        f.pop()
        f.continue_in(after)

    def step(self, step: Step) -> None:
        for i, slot in enumerate(self.slots(step)):
            at = self.moved(self.args, 8 * i)
            if isinstance(slot, Argument):
                self.f.do(f"store ptr {self.place(slot)}, ptr {at}")
            else:
                value = slot if isinstance(slot, int) else self.inside[slot]
                self.f.do(f"store i64 {value}, ptr {at}")
        name = self.codes[step.kernel].name
        if step.share is None or step.share.cut == Cut(1, 1):
            tasks = self.extent(task_count(self.program.kernels[step.kernel]), self.inside)
            self.f.do(f"call void @{name}(ptr {self.args}, i64 0, i64 {tasks})")
        else:
            self.shared(name, step.share)

    def shared(self, name: str, share: Share) -> None:
        """A step that threads share, if it is worth that for the values of the symbols."""
        single = share.single or share.cut
        rows = self.either(single.rows, share.cut.rows)
        length = self.either(single.length, share.cut.length)
        spent = self.extent(share.time, self.inside)
        worth = "false" if share.least is None else self.reached(share.product, share.least)
        self.f.do(
            f"call void @{self.prefix}_share_step(ptr {self.parallel_for}, ptr {self.pool}, ptr @{name}, "
            f"ptr {self.args}, i64 {rows}, i64 {length}, i64 {spent}, i1 {worth})"
        )

    def either(self, single: Extent, many: Extent) -> str:
        """The first where every symbol is one, the second otherwise."""
        a, b = self.extent(single, self.inside), self.extent(many, self.inside)
        return a if a == b else self.f.emit(f"select i1 {self.single}, i64 {a}, i64 {b}")

    def place(self, argument: Argument) -> str:
        """The address of an argument, in a loop that of the turn's image."""
        symbol, turn = self.turn
        size = self.regions[argument.region].size
        step = self.extent(step_of(size, symbol), self.symbols) if symbol else "0"
        base = self.base(argument)
        return base if step == "0" else self.moved(base, self.f.once(f"mul i64 {turn}, {step}"))

    def base(self, argument: Argument) -> str:
        region = self.regions[argument.region]
        if region.kind in (RegionKind.input, RegionKind.output):
            return self.moved(self.caller[region.name], argument.offset)
        if region.offset is None:
            raise IRError(f"program {self.program.name}: the region {region.name} has no offset")
        bases = {RegionKind.weight: self.weights, RegionKind.state: self.state}
        base = bases.get(region.kind, self.workspace)
        return self.moved(base, self.extent(region.offset + argument.offset, self.symbols))

    def extent(self, extent: Extent, symbols: Mapping[str, str]) -> str:
        """An extent as an i64 value, for values of the symbols."""
        if not isinstance(extent, Dim):
            return str(extent)
        total = ""
        for monomial, coefficient in extent.terms:
            term = str(coefficient)
            for symbol in monomial:
                term = self.f.once(f"mul i64 {term}, {symbols[symbol]}")
            total = self.f.once(f"add i64 {total}, {term}") if total else term
        return total
