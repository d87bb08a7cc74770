"""Register arrays as LLVM values: each element is the value that was last written to it."""

from __future__ import annotations

from collections.abc import Iterator

from convc.codegen.llvm_index import IndexWriter
from convc.codegen.llvm_ops import Value, type_of
from convc.codegen.llvm_scope import Element
from convc.loops.ir import (
    Buffer,
    Const,
    Expr,
    For,
    If,
    Kernel,
    Let,
    Load,
    LoopKind,
    Space,
    Stmt,
    Store,
    Var,
    walk,
)
from convc.loops.walking import subexpressions
from convc.target import Target


class RegisterWriter(IndexWriter):
    """Reads and writes elements of register arrays, whole vectors or single lanes of them."""

    def __init__(self, kernel: Kernel, target: Target, name: str) -> None:
        super().__init__(kernel, target, name)
        self.lane_dims = _lane_dims(kernel)

    def element(self, buffer: Buffer, at: tuple[Expr, ...]) -> tuple[Element, Expr | None]:
        """Which register an access means, and its index along the lanes."""
        lane_dim = self.lane_dims.get(buffer.name)
        lane_index = at[lane_dim] if lane_dim is not None else None
        constant = []
        for i, expr in enumerate(at):
            if i == lane_dim:
                continue
            known = self.constants.get(expr.name) if isinstance(expr, Var) else None
            if known is None:
                value = self.specialised(expr)
                if not isinstance(value, Const):
                    raise self.error(
                        f"the register array {buffer.name} is indexed by a run-time value"
                    )
                known = int(value.value)
            constant.append(known)
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
