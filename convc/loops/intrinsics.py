"""The special instructions of the statement `do NAME(window, …)`: types, exact meaning and text per target.

One row per instruction. A verifier reads `operands`, the interpreter runs `interpret`, a generator takes its
`text`. An instruction with `lanes` > 1 is collective: that many neighbouring threads (a warp) execute it together,
and its register operands are fragments spread over them. An immediate operand is part of the name
(`cp_async_wait_1`), so windows remain the only operands.

Asynchronous copies have no tokens yet: `cp_async_*` belongs to its thread's open group, `cp_async_commit` closes
the group, `cp_async_wait_N` completes all groups but the N latest (`AsyncCopies`).

Room for more. *wgmma* is a row with lanes = 128 whose accumulator fragment has its own map (like `FRAGMENT_C`),
with shared windows for its operands. *TMA* is a row of effect `copy` with one more operand, the barrier token: a
shared uint64 buffer on which rows `mbarrier_init`, `mbarrier_expect` and `mbarrier_wait` act; its descriptor is a
kernel parameter that the host encodes. Swizzled shared layouts can be said in indices today
(`a[r, ((c // 8) ^ (r % 8)) * 8 + c % 8]`); when a copy engine must see the swizzle, it becomes an xor term of
`Axis`. Targets carry feature suffixes, so a row's text may name the architecture that it needs.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convc.loops.ir import Buffer, Intrinsic, Space
from convc.types import DType

WARP = 32
Array = NDArray[Any]
Interpretation = Callable[..., tuple[Array, ...]]


class Access(enum.Enum):
    read = "read"
    write = "write"
    update = "update"


class Effect(enum.Enum):
    """When the written values become visible."""

    now = "now"
    copy = "copy"  # once a wait completes the copy's group
    commit = "commit"
    wait = "wait"


@dataclass(frozen=True)
class OperandInfo:
    """One window: how it is accessed, its dtypes, how many neighbouring elements, and where it may live."""

    name: str
    access: Access
    dtypes: tuple[DType, ...]
    count: int
    spaces: tuple[Space, ...]


@dataclass(frozen=True)
class IntrinsicInfo:
    """A row of the table.

    `interpret` receives one array per operand: its elements as a vector [count], or [lanes, count] for a collective
    instruction, lane by lane. It returns the new content of each written operand, in order, in the same form.
    `pending` is how many groups a wait leaves in flight. `text` maps a generator ("cuda") to the body of a function
    whose parameters are pointers to the first element of each window, named as the operands are.
    """

    name: str
    operands: tuple[OperandInfo, ...]
    interpret: Interpretation
    text: Mapping[str, str]
    lanes: int = 1
    effect: Effect = Effect.now
    pending: int = 0

    @property
    def collective(self) -> bool:
        return self.lanes > 1

    @property
    def written(self) -> tuple[int, ...]:
        """The positions of the operands that the instruction writes."""
        return tuple(i for i, o in enumerate(self.operands) if o.access is not Access.read)


@dataclass
class AsyncCopies:
    """The copies that one thread has in flight: closures that write, by group, oldest first."""

    groups: list[list[Callable[[], None]]] = field(default_factory=list)
    open: list[Callable[[], None]] = field(default_factory=list)

    def issue(self, write: Callable[[], None]) -> None:
        self.open.append(write)

    def commit(self) -> None:
        self.groups.append(self.open)
        self.open = []

    def wait(self, pending: int) -> None:
        """Completes the oldest groups until at most `pending` are in flight."""
        while len(self.groups) > pending:
            for write in self.groups.pop(0):
                write()


def problems(stmt: Intrinsic, buffers: Mapping[str, Buffer]) -> list[str]:
    """What is wrong with a special instruction, one line each: its name, operands, dtypes, spaces, window sizes."""
    info = INTRINSICS.get(stmt.name)
    if info is None:
        return [
            f"unknown special instruction {stmt.name!r}: expected one of {', '.join(INTRINSICS)}"
        ]
    if len(stmt.args) != len(info.operands):
        return [f"{stmt.name} takes {len(info.operands)} windows, {len(stmt.args)} given"]
    found = []
    for window, operand in zip(stmt.args, info.operands, strict=True):
        buffer = buffers.get(window.buffer)
        where = f"{stmt.name}, operand {operand.name} ({window.buffer})"
        if buffer is None:
            found.append(f"{where}: no such buffer")
            continue
        found += [f"{where}: {fault}" for fault in _window_faults(buffer, window.sizes, operand)]
    return found


def _window_faults(buffer: Buffer, sizes: Sequence[int], operand: OperandInfo) -> list[str]:
    found = []
    if buffer.dtype not in operand.dtypes:
        expected = " or ".join(d.value for d in operand.dtypes)
        found.append(f"expected {expected}, got {buffer.dtype.value}")
    if buffer.space not in operand.spaces:
        expected = " or ".join(s.value for s in operand.spaces)
        found.append(f"expected a buffer in {expected}, got {buffer.space.value}")
    if len(sizes) != len(buffer.shape):
        found.append(f"expected {len(buffer.shape)} window sizes, got {len(sizes)}")
    elif prod(sizes) != operand.count:
        found.append(f"expected a window of {operand.count} elements, got {prod(sizes)}")
    elif not contiguous(buffer, sizes):
        found.append(f"the elements of a window {list(sizes)} are not neighbours in memory")
    return found


def contiguous(buffer: Buffer, sizes: Sequence[int]) -> bool:
    """Whether a window's elements are neighbours in memory, in the order of its indices."""
    spanned = [d for d, size in enumerate(sizes) if size > 1]
    axes = buffer.layout.axes
    extents = buffer.layout.extents(buffer.shape)
    inner = len(axes)
    for dim in reversed(spanned):
        inner -= 1
        if inner < 0 or axes[inner].dim != dim:
            return False
        modulus = axes[inner].modulus
        if axes[inner].divide != 1 or modulus is not None and modulus % sizes[dim]:
            return False
        if dim != spanned[0] and extents[inner] != sizes[dim]:
            return False
    return True


# ---------------------------------------------------------------- meaning


def _fragment_map(
    rows: Callable[[int, int], int], columns: Callable[[int, int], int], count: int
) -> Array:
    places = [[(rows(lane, i), columns(lane, i)) for i in range(count)] for lane in range(WARP)]
    return np.array(places)


# Where element i of lane's fragment stands in its matrix: [32, count, (row, column)]. PTX ISA 8.5, section
# "Matrix Fragments for mma.m16n8k16 with floating point type".
FRAGMENT_A = _fragment_map(
    lambda lane, i: lane // 4 + 8 * (i // 2 % 2),
    lambda lane, i: lane % 4 * 2 + i % 2 + 8 * (i // 4),
    8,
)
FRAGMENT_B = _fragment_map(
    lambda lane, i: lane % 4 * 2 + i % 2 + 8 * (i // 2), lambda lane, i: lane // 4, 4
)
FRAGMENT_C = _fragment_map(
    lambda lane, i: lane // 4 + 8 * (i // 2), lambda lane, i: lane % 4 * 2 + i % 2, 4
)


def _gather(fragment: Array, places: Array, shape: tuple[int, int]) -> NDArray[np.float64]:
    matrix = np.zeros(shape)
    matrix[places[..., 0], places[..., 1]] = fragment.astype(np.float64)
    return matrix


def _mma(c: Array, a: Array, b: Array) -> tuple[Array, ...]:
    """C + A·B of one warp, summed in float64 and rounded once: hardware differs by its accumulation order."""
    left, right = _gather(a, FRAGMENT_A, (16, 16)), _gather(b, FRAGMENT_B, (16, 8))
    total = _gather(c, FRAGMENT_C, (16, 8)) + left @ right
    return (total[FRAGMENT_C[..., 0], FRAGMENT_C[..., 1]].astype(c.dtype),)


def _ldmatrix(to: Array, row: Array) -> tuple[Array, ...]:
    """Lane l holds row l % 8 of 8×8 matrix l // 8; it receives elements (l // 4, l % 4 * 2 …) of all four."""
    matrices = row.reshape(4, 8, 8)
    return (np.transpose(matrices.reshape(4, 8, 4, 2), (1, 2, 0, 3)).reshape(to.shape),)


def _ldmatrix_trans(to: Array, row: Array) -> tuple[Array, ...]:
    return _ldmatrix(to, np.transpose(row.reshape(4, 8, 8), (0, 2, 1)))


def _copy(to: Array, source: Array) -> tuple[Array, ...]:
    return (source.copy(),)


def _nothing(*_: Array) -> tuple[Array, ...]:
    return ()


def _add(to: Array, value: Array) -> tuple[Array, ...]:
    return ((to + value).astype(to.dtype),)


def _shuffle(mask: int) -> Interpretation:
    def exchange(to: Array, value: Array) -> tuple[Array, ...]:
        return (value[np.arange(WARP) ^ mask],)

    return exchange


# ---------------------------------------------------------------- rows

_REGISTER = (Space.register,)
_SHARED = (Space.shared,)
_GLOBAL = (Space.global_, Space.constant)
_READABLE = (Space.global_, Space.constant, Space.shared)

_MMA_TEXT = """\
const unsigned *ra = reinterpret_cast<const unsigned *>(a), *rb = reinterpret_cast<const unsigned *>(b);
asm volatile(
    "mma.sync.aligned.m16n8k16.row.col.f32.{t}.{t}.f32 {{%0,%1,%2,%3}}, {{%4,%5,%6,%7}}, {{%8,%9}}, {{%0,%1,%2,%3}};"
    : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
    : "r"(ra[0]), "r"(ra[1]), "r"(ra[2]), "r"(ra[3]), "r"(rb[0]), "r"(rb[1]));"""

_LDMATRIX_TEXT = """\
unsigned *r = reinterpret_cast<unsigned *>(to);
asm volatile("ldmatrix.sync.aligned.m8n8.x4{trans}.shared.b16 {{%0,%1,%2,%3}}, [%4];"
             : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
             : "r"(static_cast<unsigned>(__cvta_generic_to_shared(row)))
             : "memory");"""

_CP_ASYNC_TEXT = """\
asm volatile("cp.async.cg.shared.global [%0], [%1], 16;"
             ::"r"(static_cast<unsigned>(__cvta_generic_to_shared(to))), "l"(from)
             : "memory");"""


def _mma_row(short: str, dtype: DType) -> IntrinsicInfo:
    operands = (
        OperandInfo("c", Access.update, (DType.float32,), 4, _REGISTER),
        OperandInfo("a", Access.read, (dtype,), 8, _REGISTER),
        OperandInfo("b", Access.read, (dtype,), 4, _REGISTER),
    )
    text = _MMA_TEXT.format(t=short)
    return IntrinsicInfo(f"mma_m16n8k16_{short}", operands, _mma, {"cuda": text}, lanes=WARP)


def _ldmatrix_row(name: str, trans: str, meaning: Interpretation) -> IntrinsicInfo:
    halves = (DType.float16, DType.bfloat16)
    operands = (
        OperandInfo("to", Access.write, halves, 8, _REGISTER),
        OperandInfo("row", Access.read, halves, 8, _SHARED),
    )
    return IntrinsicInfo(
        name, operands, meaning, {"cuda": _LDMATRIX_TEXT.format(trans=trans)}, lanes=WARP
    )


def _cp_async_row(dtype: DType) -> IntrinsicInfo:
    count = 16 // dtype.itemsize
    operands = (
        OperandInfo("to", Access.write, (dtype,), count, _SHARED),
        OperandInfo("from", Access.read, (dtype,), count, _GLOBAL),
    )
    name = f"cp_async_16_{_SHORT[dtype]}"
    return IntrinsicInfo(name, operands, _copy, {"cuda": _CP_ASYNC_TEXT}, effect=Effect.copy)


def _wait_row(pending: int) -> IntrinsicInfo:
    text = f'asm volatile("cp.async.wait_group {pending};" ::: "memory");'
    return IntrinsicInfo(
        f"cp_async_wait_{pending}",
        (),
        _nothing,
        {"cuda": text},
        effect=Effect.wait,
        pending=pending,
    )


def _shuffle_row(mask: int) -> IntrinsicInfo:
    numbers = (DType.float32, DType.int32, DType.uint32)
    operands = (
        OperandInfo("to", Access.write, numbers, 1, _REGISTER),
        OperandInfo("value", Access.read, numbers, 1, _REGISTER),
    )
    text = f"*to = __shfl_xor_sync(0xffffffffu, *value, {mask});"
    return IntrinsicInfo(
        f"shuffle_xor_{mask}", operands, _shuffle(mask), {"cuda": text}, lanes=WARP
    )


def _rows() -> list[IntrinsicInfo]:
    every = tuple(DType)
    sums = (DType.float32, DType.int32, DType.uint32)
    atomic = (
        OperandInfo("to", Access.update, sums, 1, (Space.global_, Space.shared)),
        OperandInfo("value", Access.read, sums, 1, _REGISTER),
    )
    prefetch = (OperandInfo("from", Access.read, every, 1, _GLOBAL),)
    commit = 'asm volatile("cp.async.commit_group;" ::: "memory");'
    return [
        _mma_row("f16", DType.float16),
        _mma_row("bf16", DType.bfloat16),
        _ldmatrix_row("ldmatrix_x4", "", _ldmatrix),
        _ldmatrix_row("ldmatrix_x4_trans", ".trans", _ldmatrix_trans),
        *(_cp_async_row(dtype) for dtype in _SHORT),
        IntrinsicInfo("cp_async_commit", (), _nothing, {"cuda": commit}, effect=Effect.commit),
        *(_wait_row(pending) for pending in range(8)),
        *(_shuffle_row(1 << bit) for bit in range(5)),
        IntrinsicInfo("atomic_add", atomic, _add, {"cuda": "atomicAdd(to, *value);"}),
        IntrinsicInfo(
            "prefetch",
            prefetch,
            _nothing,
            {"cuda": 'asm volatile("prefetch.global.L2 [%0];" ::"l"(from));'},
        ),
    ]


_SHORT = {
    DType.float16: "f16",
    DType.bfloat16: "bf16",
    DType.float32: "f32",
    DType.int8: "s8",
    DType.uint8: "u8",
}
INTRINSICS: dict[str, IntrinsicInfo] = {row.name: row for row in _rows()}
