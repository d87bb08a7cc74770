"""What is known at a place of a kernel being written: names, numbers, registers, the lanes that run and their mask."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from convc.codegen import llvm_ops
from convc.codegen.llvm_function import Function
from convc.codegen.llvm_ops import Value
from convc.errors import IRError
from convc.frozen import frozen
from convc.loops.ir import Kernel
from convc.loops.simplify import SYMBOL_RANGE, Range
from convc.target import Target

Element = tuple[str, tuple[int, ...]]
"""A register: its buffer and its constant indices, without the lane's."""


@frozen
class Lane:
    """The vectorized loop around the code being written."""

    var: str
    count: int


class Scope:
    """The function under construction and the values that the code at this place sees."""

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

    def same_width(self, *values: Value) -> tuple[Value, ...]:
        widest = max([v.lanes for v in values])
        return tuple(llvm_ops.splat(self.f, v, widest) for v in values)

    def widened(self, value: Value) -> Value:
        assert self.lane is not None
        return llvm_ops.splat(self.f, value, self.lane.count)

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
        self.f.close_phi(name, incoming)
        return values[0].renamed(name)

    def error(self, message: str) -> IRError:
        return IRError(f"kernel {self.kernel.name}: {message}")
