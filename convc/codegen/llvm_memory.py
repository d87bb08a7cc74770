"""Loads, stores and prefetches: vectors where lanes are neighbours, else lane by lane, behind a mask if one is set."""

from __future__ import annotations

from convc.codegen import llvm_ops
from convc.codegen.llvm_address import Address, AddressWriter
from convc.codegen.llvm_ops import Value, constant_text, memory_type, type_of
from convc.loops.ir import Buffer, Intrinsic, Load, Role, Space, Store


class MemoryWriter(AddressWriter):
    """Accesses to buffers, wherever they lie."""

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

    def intrinsic(self, stmt: Intrinsic) -> None:
        if stmt.name != "prefetch":
            raise self.error(
                f"the instruction {stmt.name} does not exist on the target {self.target.name}"
            )
        window = stmt.args[0]
        address = self.address(self.buffers[window.buffer], window.index)
        pointer = self.moved(address.pointer, address.offset)
        self.f.do(f"call void @llvm.prefetch.p0(ptr {pointer}, i32 0, i32 3, i32 1)")
