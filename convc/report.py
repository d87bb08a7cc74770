"""What became of each layer: one row per kernel call of a planned program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from convc_runtime.description import terms

from convc.loops.cost import flops
from convc.loops.ir import Buffer, Kernel, Layout
from convc.program.ir import Program
from convc.types import Dim, Extent, evaluate, size_of, symbols_of


@dataclass(frozen=True)
class Row:
    """One kernel call. `flops` counts additions and multiplications, as a function of the batch."""

    kernel: str
    layers: tuple[str, ...]
    operators: str
    output: str
    layout: str
    algorithm: str
    tile: str
    flops: Extent
    weight_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Plain values; symbolic numbers as text."""
        return asdict(self) | {"layers": list(self.layers), "flops": extent_json(self.flops)}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Row:
        """The inverse of `to_json`."""
        known = {"layers": tuple(data["layers"]), "flops": extent_of(data["flops"])}
        return Row(**{**data, **known})


@dataclass(frozen=True)
class Summary:
    """A program in numbers: bytes, but for the counts of kernels and of their calls.

    `live` is the largest live set, the least that an `arena` can take; `raw_weight_bytes` are the model's.
    """

    kernels: int
    steps: int
    arena: Extent
    live: Extent
    weight_bytes: int
    raw_weight_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Plain values; symbolic numbers as text."""
        return asdict(self) | {"arena": extent_json(self.arena), "live": extent_json(self.live)}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Summary:
        """The inverse of `to_json`."""
        known = {"arena": extent_of(data["arena"]), "live": extent_of(data["live"])}
        return Summary(**{**data, **known})


def rows_of(program: Program, lowered: Mapping[str, Kernel]) -> dict[str, list[Row]]:
    """The rows of each entry, in the order in which they run.

    `lowered` are the kernels before they were scheduled: those are what is counted.
    """
    counts = {name: flops(lowered[name]) for name in program.kernels}
    return {
        entry.name: [
            _row(
                program,
                step.kernel,
                step.layers,
                [a.region for a in step.args],
                counts[step.kernel],
            )
            for step in entry.steps
        ]
        for entry in program.entries
    }


# A kernel without vectors is worth a warning from this share of an entry's arithmetic and this many operations on.
_WORTH_A_WARNING = 0.02
_LEAST_FLOPS = 100_000


def warnings_of(rows: list[Row]) -> list[str]:
    """A line for each kernel with more than a little of the arithmetic that runs without vectors, at a batch of 1."""
    total = _at_one(total_flops(rows))
    found = []
    for row in rows:
        count = _at_one(row.flops)
        if row.algorithm == "scalar" and count >= max(_LEAST_FLOPS, _WORTH_A_WARNING * total):
            name = " + ".join(row.layers) or row.operators
            share = f"{count / total:.0%} of the arithmetic"
            found.append(f"{name} ({row.operators}) runs without vectors: {share}")
    return found


def _at_one(extent: Extent) -> int:
    return evaluate(extent, dict.fromkeys(symbols_of((extent,)), 1))


def total_flops(rows: list[Row]) -> Extent:
    total: Extent = 0
    for row in rows:
        total = total + row.flops
    return total


def layout_text(buffer: Buffer) -> str:
    """A layout in a few letters: NHWC, NC/16HWc, with +n for a wider pitch and the border in brackets."""
    rank = len(buffer.shape)
    letters = "NCHW" if rank == 4 else "NCDHW" if rank == 5 else "NC" if rank == 2 else ""
    names = letters or "".join(f"d{d}" for d in range(rank))
    text = ""
    for axis in buffer.layout.axes:
        letter = names[axis.dim] if letters else f"d{axis.dim}"
        if axis.divide > 1:
            text += f"{letter}/{axis.divide}"
        elif axis.modulus is not None:
            text += f"{letter}%{axis.modulus}"
        else:
            text += letter
        extent = buffer.shape[axis.dim]
        plain = axis.divide == 1 and axis.modulus is None
        if plain and axis.extent is not None and isinstance(extent, int):
            text += f"+{axis.extent - extent}" if axis.extent > extent else ""
    return text + _border_text(buffer.layout)


def _border_text(layout: Layout) -> str:
    if all(b == (0, 0) for b in layout.border):
        return ""
    sides = [f"{before}:{after}" for before, after in layout.border if (before, after) != (0, 0)]
    return f" [{' '.join(sides)}]"


def _row(
    program: Program,
    name: str,
    layers: tuple[str, ...],
    regions: list[str],
    count: Extent,
) -> Row:
    kernel = program.kernels[name]
    notes = dict(kernel.notes)
    output = kernel.params[-1]
    weights = sum(program.weights[r].nbytes for r in dict.fromkeys(regions) if r in program.weights)
    return Row(
        kernel=name,
        layers=layers,
        operators=notes.get("ops", ""),
        output=f"{output.dtype.value}[{', '.join(map(str, output.shape))}]",
        layout=layout_text(output),
        algorithm=notes.get("strategy", ""),
        tile=notes.get("tile", ""),
        flops=count,
        weight_bytes=int(weights),
    )


def extent_json(extent: Extent) -> int | str:
    """A number, or a polynomial of the symbols as text."""
    return extent if isinstance(extent, int) else str(extent)


def extent_of(text: int | str) -> Extent:
    """The inverse of `extent_json`."""
    total: Extent = 0
    for coefficient, symbols in terms(text):
        total = total + size_of(map(Dim.symbol, symbols)) * coefficient
    return total
