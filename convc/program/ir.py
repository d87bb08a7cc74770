"""The program IR: memory regions, and entries that call kernels on them in order.

    text    = program { kernel }                                  kernels: the grammar of loops/ir.py, or kept beside
    program = "program" NAME "{" [ "workspace" size "bytes" ] { region } { entry } "}"
    region  = KIND STRING ":" size "bytes" [ "at" size ] [ "holds" type [ layout ] ]
    KIND    = "input" | "output" | "weight" | "state" | "arena"
    entry   = "entry" NAME "(" { port "," } ")" "->" "(" { port "," } ")" "{" { step | each } "}"
    port    = NAME ":" type "in" STRING                           the region's name
    step    = [ STRING "=" ] KERNEL "(" { STRING [ "+" INT ] "," } ")" [ share ] [ "from" { STRING "," } ]
    share   = ( "alone" cuts | "share" cuts [ "if" size ">=" INT ] ) "," size "ns"
    cuts    = cut [ "or" cut ]
    cut     = size "x" size
    each    = "each" NAME "{" { step } "}"                        a symbol
    size    = INT | polynomial over symbols

A NAME that is no word stands in quotes. `workspace` is the size of the planned arena.

Kernels stand beside the program by name (loops/ir.py). A step binds each parameter of its kernel, in order, to a place
in a region; how the kernel sees that memory is its parameter's layout. Inputs and outputs are the caller's memory,
dense in logical order; weights are constant; the arena's regions get offsets from the memory plan and share bytes when
they don't live at the same time.

Steps inside `each N` run one after the other for the first image, then for the next, and so on: N is 1 in their
kernels, and in the i-th turn a region of c*N bytes stands i*c bytes further on. A region without N in its size is the
same memory in every turn.

Threads may share a step: its kernel's tasks are `rows x length`, and a thread's share is the same stretch of each row.
Of two cuts the first is for calls in which every symbol is one. The nanoseconds are what one thread is expected to
take. `alone` is a step that never takes long enough to be shared, or is one task; `if` says from which product of the
kernel's symbols on it is. A step without a share runs on the caller's thread.

An output `require/text` is no result but a requirement: an entry keeps it to itself, and fails where it is false.

A state region lives from call to call and is shared by all entries. It says which tensor it holds, in which layout, so
that whoever owns the memory can convert. An entry that writes it finds the old value until then: a region that was
written is not read any more, but by the kernel that replaces each element itself.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from convc.frozen import frozen
from convc.loops.ir import Kernel, Layout
from convc.types import Dim, Extent, TensorType, size_of, symbols_of

Array = NDArray[np.generic]

REQUIRE = "require/"
"""What the name of an output begins with that is a requirement: a bool[]. An entry fails where it is false."""


class RegionKind(enum.Enum):
    input = "input"
    output = "output"
    weight = "weight"
    state = "state"
    arena = "arena"


@dataclass(frozen=True)
class Held:
    """What a state region holds: a tensor of constant shape in a layout without borders."""

    type: TensorType
    layout: Layout


@frozen
class Region:
    """A piece of memory of `size` bytes; `offset`, once planned, counts them from the start of its kind's block."""

    name: str
    kind: RegionKind
    size: Extent
    offset: Extent | None = None
    held: Held | None = None


@frozen
class Argument:
    """A place in a region, `offset` bytes from its start."""

    region: str
    offset: int = 0


@frozen
class Cut:
    """Tasks as `rows` of `length`: every thread has the same stretch of each row."""

    rows: Extent
    length: Extent


@dataclass(frozen=True)
class Share:
    """How threads share a step: its tasks as `cut` says, or as `single` does where every symbol is one.

    `time` are the nanoseconds that one thread is expected to take: a number, or a line in the product of the symbols
    that the step's kernel has (without that of a loop around it). Threads share it where that product is at least
    `least`; never if that is None.
    """

    cut: Cut
    single: Cut | None
    time: Extent
    least: int | None

    @property
    def product(self) -> Extent:
        """The product of symbols in which the time is a line; 1 for a number."""
        return size_of(map(Dim.symbol, self.symbols))

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols of that product, sorted."""
        return tuple(sorted(symbols_of((self.time,))))


@frozen
class Step:
    """A call of a kernel. `layers` are the user's layers that it computes, `value` the graph's value it completes.

    Neighbours with the same symbol as `each` are one loop over its values (see above).
    """

    kernel: str
    args: tuple[Argument, ...]
    layers: tuple[str, ...] = ()
    value: str = ""
    each: str = ""
    share: Share | None = None


@dataclass(frozen=True)
class Port:
    """An input or output of an entry."""

    name: str
    type: TensorType
    region: str

    @property
    def is_requirement(self) -> bool:
        """Whether it is no result, but what must hold of a run's data."""
        return self.name.startswith(REQUIRE)


@dataclass(frozen=True)
class Entry:
    """A function of the compiled model."""

    name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    steps: tuple[Step, ...]

    @property
    def results(self) -> tuple[Port, ...]:
        """The outputs that callers have memory for: all but the requirements."""
        return tuple(p for p in self.outputs if not p.is_requirement)

    @property
    def requirements(self) -> tuple[str, ...]:
        """What must hold of a run's data, as messages say it."""
        return tuple(p.name.removeprefix(REQUIRE) for p in self.outputs if p.is_requirement)

    @property
    def symbols(self) -> frozenset[str]:
        """The symbols of the inputs."""
        return symbols_of(e for port in self.inputs for e in port.type.shape)


@dataclass(frozen=True)
class Program:
    """Entries that share regions and kernels. `weights` holds the logical array of each weight region."""

    name: str
    regions: tuple[Region, ...]
    kernels: Mapping[str, Kernel]
    entries: tuple[Entry, ...]
    weights: Mapping[str, Array] = field(default_factory=dict, compare=False)
    arena: Extent = 0
    """Bytes of the arena, once planned."""

    def region(self, name: str) -> Region:
        return next(r for r in self.regions if r.name == name)

    @property
    def states(self) -> tuple[Region, ...]:
        """The regions that live from call to call."""
        return tuple(r for r in self.regions if r.kind is RegionKind.state)

    @property
    def symbols(self) -> tuple[str, ...]:
        """Every symbol of the entries' inputs, sorted: the order of an entry call's symbol values."""
        return tuple(sorted(frozenset[str]().union(*(e.symbols for e in self.entries))))

    def workspace(self, entry: Entry) -> Extent:
        """The bytes of arena that an entry needs: without what grows with symbols that only others have."""
        if isinstance(self.arena, int):
            return self.arena
        total: Extent = 0
        for monomial, coefficient in self.arena.terms:
            if entry.symbols.issuperset(monomial):
                total = total + size_of(map(Dim.symbol, monomial)) * coefficient
        return total
