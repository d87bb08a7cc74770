"""The table that `model.summary()` prints, in Keras 3's boxes or in the classic style of the tutorials."""

from __future__ import annotations

import io
import math
import shutil
from dataclasses import dataclass
from typing import Any

from convc.errors import UsageError
from convc.keras.engine.arguments import choice
from convc.keras.engine.call import flatten
from convc.keras.engine.tensor import Variable


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    kind: str
    shape: str
    parameters: int | None
    """None for a layer without weights yet."""
    sources: tuple[str, ...]
    """`layer[call][output]` of every input."""
    trainable: str
    depth: int = 0


def text(
    model: Any,
    line_length: int | None,
    positions: Any,
    expand_nested: bool,
    show_trainable: bool,
    layer_range: Any,
    style: str,
) -> str:
    """The summary of a model without a newline at the end."""
    rows = _ranged(_rows(model, expand_nested), layer_range)
    chained = not _has_branches(model)
    if choice("summary", "style", style, ("box", "classic")) == "classic":
        return _classic(model, rows, chained, line_length, positions)
    return _boxed(model, rows, chained, line_length, positions, show_trainable)


def _rows(model: Any, expand_nested: bool, depth: int = 0) -> list[Row]:
    rows = []
    for operation in model.operations:
        rows.append(_row(model, operation, depth))
        if expand_nested and hasattr(operation, "operations"):
            rows.extend(_rows(operation, True, depth + 1))
    return rows


def _row(model: Any, operation: Any, depth: int) -> Row:
    weights = getattr(operation, "weights", [])
    built = getattr(operation, "built", True)
    kind = getattr(operation, "type_name", type(operation).__name__)
    trainable = "-" if not weights else "Y" if getattr(operation, "trainable", True) else "N"
    count = sum(math.prod(w.shape) for w in weights) if built else None
    name, shape = operation.name, _output_shape(operation)
    return Row(name, kind, shape, count, _sources(model, operation), trainable, depth)


def _output_shape(operation: Any) -> str:
    if operation.calls:
        shapes = [t.shape for t in operation.calls[0].outputs]
        return str(shapes[0]) if len(shapes) == 1 else str(shapes)
    traced = getattr(operation, "traced_shape", None)
    return "?" if traced is None else str(traced)


def _sources(model: Any, operation: Any) -> tuple[str, ...]:
    network = model.network
    calls = {id(c) for c in network.calls} if network is not None else set()
    found = []
    for call in operation.calls:
        if id(call) not in calls:
            continue
        for tensor in call.inputs:
            if tensor.history is not None:
                source, position = tensor.history
                found.append(f"{source.operation.name}[{source.index}][{position}]")
    return tuple(found)


def _has_branches(model: Any) -> bool:
    """True for a functional model that isn't a plain chain: its table says what each layer is connected to."""
    network = model.network
    if network is None or hasattr(model, "_chain"):
        return False
    if len(list(flatten(network.inputs))) > 1 or len(list(flatten(network.outputs))) > 1:
        return True
    readers: dict[Any, int] = {}
    for call in network.calls:
        if len(call.inputs) > 1:
            return True
        for tensor in call.inputs:
            key = (id(tensor.history[0]), tensor.history[1]) if tensor.history else id(tensor)
            readers[key] = readers.get(key, 0) + 1
    shared = len({id(c.operation) for c in network.calls}) < len(network.calls)
    return shared or any(n > 1 for n in readers.values())


def _ranged(rows: list[Row], layer_range: Any) -> list[Row]:
    if layer_range is None:
        return rows
    first, last = layer_range
    names = [r.name for r in rows]
    for name in (first, last):
        if name not in names:
            raise UsageError(f"summary: layer_range names no layer {name!r}")
    return rows[names.index(first) : names.index(last) + 1]


def _boxed(
    model: Any,
    rows: list[Row],
    chained: bool,
    line_length: int | None,
    positions: Any,
    show_trainable: bool,
) -> str:
    from rich.console import Console  # slow to load, and no training needs it
    from rich.markup import escape
    from rich.table import Column, Table

    header = ["Layer (type)", "Output Shape", "Param #"]
    if chained:
        length, stops = 88, [0.45, 0.80, 1.0]
    else:
        length, stops = 108, [0.3, 0.56, 0.74, 1.0]
        header.append("Connected to")
    if show_trainable:
        length += 12
        header.append("Trainable")
    stops = positions or stops
    if show_trainable:
        stops = [stop * 0.9 for stop in stops] + [1.0]
    length = line_length or min(length, shutil.get_terminal_size().columns - 4)
    columns = []
    for title, width in zip(header, _widths(stops, length), strict=True):
        right = title == "Param #"
        center = title == "Trainable"
        justify: Any = "right" if right else "center" if center else "left"
        columns.append(Column(escape(title), justify=justify, width=width))
    table = Table(*columns, width=length, show_lines=True)
    for row in rows:
        table.add_row(*(escape(cell) for cell in _cells(row, chained, show_trainable)))
    out = io.StringIO()
    console = Console(file=out, width=max(length, 80), color_system=None, highlight=False)
    console.print(table)
    lines = [f'Model: "{model.name}"', *(line.rstrip() for line in out.getvalue().splitlines())]
    return "\n".join([*lines, *(f" {line}" for line in _totals(model))])


def _widths(positions: Any, length: int) -> list[int]:
    stops = [int(p * length) if p <= 1 else int(p) for p in positions]
    widths = [stop - before for stop, before in zip(stops, [0, *stops], strict=False)]
    if min(widths) < 4:
        raise UsageError(f"summary: line_length {length} is too narrow for the table's columns")
    return widths


def _cells(row: Row, chained: bool, show_trainable: bool) -> list[str]:
    parameters = "0 (unbuilt)" if row.parameters is None else f"{row.parameters:,}"
    marker = "".join(["   " * (row.depth - 1), "└ "]) if row.depth else ""
    cells = [f"{marker}{row.name} ({row.kind})", row.shape, parameters]
    if not chained:
        cells.append(", ".join(row.sources) or "-")
    return [*cells, row.trainable] if show_trainable else cells


def _totals(model: Any) -> list[str]:
    trainable = list(model.trainable_weights)
    others = [w for w in model.weights if w not in set(trainable)]
    return [
        f"Total params: {_size([*trainable, *others])}",
        f"Trainable params: {_size(trainable)}",
        f"Non-trainable params: {_size(others)}",
    ]


def _size(weights: list[Variable]) -> str:
    count = sum(math.prod(w.shape) for w in weights)
    amount, units = float(sum(w.nbytes for w in weights)), ["B", "KB", "MB", "GB", "TB"]
    while amount >= 1024 and len(units) > 1:
        amount /= 1024
        units.pop(0)
    return f"{count:,} ({amount:.2f} {units[0]})"


def _classic(
    model: Any, rows: list[Row], chained: bool, line_length: int | None, positions: Any
) -> str:
    header = ["Layer (type)", "Output Shape", "Param #"]
    length, stops = line_length or 65, positions or [0.45, 0.85, 1.0]
    if not chained:
        header.append("Connected to")
        length, stops = line_length or 98, positions or [0.33, 0.55, 0.67, 1.0]
    ends = [int(p * length) if p <= 1 else int(p) for p in stops]
    thin, thick = "_" * length, "=" * length
    lines = [f'Model: "{model.name}"', thin, _fields(header, ends), thick]
    for n, row in enumerate(rows):
        cells = [f"{row.name} ({row.kind})", row.shape, str(row.parameters or 0)]
        if not chained:
            cells.append(row.sources[0] if row.sources else "")
        lines.append(_fields(cells, ends))
        lines.extend(
            _fields(["", "", "", source], ends) for source in row.sources[1:] if not chained
        )
        lines.append(thick if n == len(rows) - 1 else thin)
    totals = (line.split(" (")[0] for line in _totals(model))
    return "\n".join([*lines, *totals, thin])


def _fields(fields: list[str], ends: list[int]) -> str:
    """Cells that end at fixed columns; what doesn't fit is cut so that one space stays before the next."""
    line = ""
    for n, (field, end) in enumerate(zip(fields, ends, strict=True)):
        line = f"{line[:-1]} " if n else line
        line = (line + field)[:end].ljust(end)
    return line
