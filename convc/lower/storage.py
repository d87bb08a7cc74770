"""Where each value of a graph lives: regions, and views of them through layouts.

Transposes, reshapes, slices and concatenations cost nothing where a layout can say them: the value is then a view of
another's region. Convolutions ask for a border of zeros around their input, which its producer leaves room for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import assert_never

from convc.frozen import frozen
from convc.graph.form import Form
from convc.graph.ir import Graph, Node
from convc.graph.state import next_values
from convc.graph.view import Joined, Part, Permuted, Reshaped
from convc.loops.ir import Axis, Layout
from convc.lower.orders import (
    CHANNELS_LAST,
    OF_FORMS,
    makes_as,
    moves_windows,
    orders_of,
    reads_as,
)
from convc.lower.packing import in_blocks
from convc.lower.state import alike
from convc.ops.matmul import MatMul
from convc.ops.shape import matching_groups
from convc.program.ir import Held, Region, RegionKind
from convc.types import Extent, Shape, TensorType, size_of

Border = tuple[tuple[int, int], ...]

_ROWS_WORTH_A_COPY = 8
"""Of a product whose second factor lies transposed: with fewer, the copy costs more than it saves."""

# A pixel pitch that is a multiple of this many bytes maps neighbouring pixels to the same cache sets (measured: -23 %
# at 4096 bytes), so such tensors get 64 bytes more per pixel.
_PITCH_CONFLICT = 2048
_PITCH_EXTRA = 64


@frozen
class Storage:
    """A place in a region: `offset` in elements, and the layout that maps the value's indices to memory."""

    region: str
    offset: int
    layout: Layout


class Storages:
    """Assigns a storage to every value that a kernel reads or writes."""

    def __init__(
        self,
        graph: Graph,
        inner: frozenset[str],
        borders: Mapping[str, Border],
        states: Mapping[str, Layout] | None = None,
    ) -> None:
        self.graph = graph
        self.states = states or {}
        self.next = next_values(graph) if states else {}
        self.alike = alike(graph, self.states)  # values that are laid out as the state they become
        self.inner = inner  # values that only exist inside a kernel
        self.borders = dict(borders)
        self.producers = graph.producers()
        self.consumers = graph.consumers()
        self.regions: dict[str, Region] = {}
        self.whole: dict[str, tuple[TensorType, Layout]] = {}  # by region: what fills it
        self.copies: dict[str, Storage] = {}  # of values whose own storage has no border
        self.of: dict[str, Storage] = {}
        self.spatial = bool(borders) or is_spatial(graph)
        self.orders = orders_of(graph) if self.spatial else {}
        self._borders_through_views()
        self._ends()
        self._concatenations()
        self._rest()

    # ------------------------------------------------------------ the steps

    def _borders_through_views(self) -> None:
        """A border wanted of a view is wanted of what it shows, where both have the dimensions."""
        for node in reversed(self.graph.nodes):
            name = node.outputs[0]
            wanted = self.borders.get(name)
            if wanted is None:
                continue
            match self.graph.view(node):
                case Permuted(perm):
                    self._want_border(node.inputs[0], tuple(wanted[p] for p in invert(perm)))
                case Joined(axis) if wanted[axis] == (0, 0):
                    for source in node.inputs:
                        self._want_border(source, wanted)
                case Part(starts):
                    whole, part = (self.graph.types[n].shape for n in (node.inputs[0], name))
                    if kept_border(wanted, whole, starts, part) == wanted:
                        self._want_border(node.inputs[0], wanted)

    def _want_border(self, name: str, wanted: Border) -> None:
        self.borders[name] = merged_border(self.borders.get(name), wanted)

    def _ends(self) -> None:
        """Inputs and outputs are the caller's memory: dense, in logical order."""
        for name in self.graph.inputs:
            if name in self.states:
                held = (self.graph.types[name], self.states[name])
                self.of[name] = self._add_region(name, RegionKind.state, held)
            else:
                self._add_dense(name, RegionKind.input)
        for name, array in self.graph.weights.items():
            self.of[name] = Storage(name, 0, Layout.dense(array.ndim))
        for name, value in self.next.items():
            if value not in self.of:
                placed = (self.graph.types[value], self.states[name])
                self._place(value, self._add_region(value, RegionKind.arena, placed))
        for name in dict.fromkeys(self.graph.outputs):
            if name not in self.of:
                self._place(
                    name, self._add_region(name, RegionKind.output, dense(self.graph.types[name]))
                )

    def _add_dense(self, name: str, kind: RegionKind) -> None:
        self.of[name] = self._add_region(name, kind, dense(self.graph.types[name]))

    def _place(self, name: str, storage: Storage) -> None:
        """Gives a value its storage, and what it is a view of the storage that this implies."""
        if name in self.of or name in self.inner:
            return
        self.of[name] = storage
        node = self.producers[name]
        source = self._source_of_view(node, storage)
        if source is not None and node.inputs[0] not in self.graph.outputs:
            self._place(node.inputs[0], source)

    def _source_of_view(self, node: Node, storage: Storage) -> Storage | None:
        match self.graph.view(node):
            case Permuted(perm):
                return replace(storage, layout=permuted(storage.layout, invert(perm)))
            case Reshaped():
                source, target = self.graph.types[node.inputs[0]], self.graph.types[node.outputs[0]]
                return _reshaped(storage, target.shape, source.shape)
        return None

    def _concatenations(self) -> None:
        """Last first, so that a chain of concatenations (dense blocks) ends in one region."""
        for node in reversed(self.graph.nodes):
            view = self.graph.view(node)
            if not isinstance(view, Joined):
                continue
            name = node.outputs[0]
            if name not in self.of:
                self.of[name] = self._default(name)
            for source, part in zip(node.inputs, self.parts_of(node, view.axis), strict=True):
                if (
                    part is not None
                    and node.inputs.count(source) == 1
                    and self._is_computed(source)
                ):
                    self._place(source, part)

    def _is_computed(self, name: str) -> bool:
        return name in self.producers and name not in self.of

    def _rest(self) -> None:
        for node in self.graph.nodes:
            for name in node.outputs:
                if name not in self.of and name not in self.inner:
                    self.of[name] = self.view(node) or self._default(name)

    # ------------------------------------------------------------ views

    def view(self, node: Node) -> Storage | None:
        """The storage of a node's output as a view of its input's, or None if it has to be computed."""
        view = self.graph.view(node)
        if view is None or node.inputs[0] not in self.of:
            return None
        if node.inputs[0] in self.graph.weights:
            return None  # packed as its reader wants it: no view of it would fit (constants are folded before)
        storage = self.of[node.inputs[0]]
        source, target = self.graph.types[node.inputs[0]], self.graph.types[node.outputs[0]]
        match view:
            case Permuted(perm):
                turned = replace(storage, layout=permuted(storage.layout, perm))
                return None if self._is_read_apart(node.outputs[0], turned) else turned
            case Reshaped():
                seen = _reshaped(storage, source.shape, target.shape)
                if seen is not None and self._is_read_apart(node.outputs[0], seen):
                    return None
                return seen
            case Part(starts):
                return _box(storage, source.shape, starts, target.shape)
            case Joined():
                return None  # its inputs are views of it
            case _:
                assert_never(view)

    def _is_read_apart(self, name: str, seen: Storage) -> bool:
        """True if a reader wants neighbours that a view of a value doesn't have: a copy pays."""
        if not seen.layout.axes:
            return False
        if self._filter_apart(name, seen.layout):
            return True
        is_own = self.regions[seen.region].kind is RegionKind.arena
        return is_own and self._columns_apart(name, seen.layout)

    def _columns_apart(self, name: str, layout: Layout) -> bool:
        """True if a product reads a value's columns together, many times, and they aren't neighbours in a layout."""
        columns = self.graph.types[name].rank - 1
        if columns < 1 or self.graph.types[name].shape[columns] == 1:
            return False
        if layout.axes[-1].dim == columns:
            return False
        return any(
            isinstance(n.op, MatMul)
            and n.inputs[1] == name
            and isinstance(rows := self.graph.types[n.outputs[0]].shape[-2:][0], int)
            and rows >= _ROWS_WORTH_A_COPY
            for n in self.consumers[name]
        )

    def _filter_apart(self, name: str, layout: Layout) -> bool:
        """True if a filter is to be transformed whose outputs aren't neighbours in a layout."""
        readers = self.consumers[name]
        outputs, *_ = reversed(OF_FORMS[Form.filter])
        read = any(name in reads_as(n, Form.filter) for n in readers)
        return read and layout.axes[-1].dim != outputs

    def parts_of(self, node: Node, axis: int) -> list[Storage | None]:
        """The place of each operand inside the output of a node that joins them, None where no layout says it."""
        (name,) = node.outputs
        whole = self.graph.types[name].shape
        parts = []
        start: Extent = 0
        for source in node.inputs:
            parts.append(part_of(self.of[name], whole, axis, start))
            start = start + self.graph.types[source].shape[axis]
        return parts

    # ------------------------------------------------------------ regions

    def _default(self, name: str) -> Storage:
        return self._add_region(name, RegionKind.arena, self.preferred(name))

    def preferred(self, name: str, border: Border | None = None) -> tuple[TensorType, Layout]:
        """Channels last for images (`orders_of`), with the border that consumers want and a pitch that helps caches."""
        type = self.graph.types[name]
        if name in self.alike and border is None and name not in self.borders:
            return type, self.alike[name]
        order = self.orders.get(name, CHANNELS_LAST)
        if order == OF_FORMS[Form.tiles]:
            return type, Layout.permuted(order)
        if order == OF_FORMS[Form.tile_rows]:
            return type, rows_of_tiles(type)
        if name in self.producers and makes_as(self.producers[name], Form.filter_taps):
            return type, in_blocks(type.shape, (0, 1), 2)
        if not (self.spatial and type.rank == 4):
            return dense(type)
        layout = Layout.permuted(order)
        border = border or self.borders.get(name)
        if border is not None:
            layout = replace(layout, border=border)
        elif self._must_be_dense(name):
            return type, layout
        inner = order[-1]
        channels = type.shape[inner]
        pixel = channels * type.dtype.itemsize if isinstance(channels, int) else 1
        if pixel % _PITCH_CONFLICT == 0 and [type.shape[d] for d in order[1:3]] != [1, 1]:
            extra = _PITCH_EXTRA // type.dtype.itemsize
            assert isinstance(channels, int)
            layout = replace(layout, axes=(*layout.axes[:3], Axis(inner, extent=channels + extra)))
        return type, layout

    def _must_be_dense(self, name: str) -> bool:
        """True if a reshape somewhere behind wants to see the value as one run of memory."""
        for node in self.consumers[name]:
            view = self.graph.view(node)
            if isinstance(view, Reshaped):
                return True
            if isinstance(view, Permuted) and self._must_be_dense(node.outputs[0]):
                return True
        return False

    def _add_region(
        self, name: str, kind: RegionKind, placed: tuple[TensorType, Layout]
    ) -> Storage:
        type, layout = placed
        size = size_of(layout.extents(type.shape)) * type.dtype.itemsize
        held = Held(type, layout) if kind is RegionKind.state else None
        self.regions[name] = Region(name, kind, size, held=held)
        self.whole[name] = placed
        return Storage(name, 0, layout)

    def bordered_copy(self, name: str, border: Border) -> Storage:
        """A further region for a value whose own storage has no border."""
        if name not in self.copies:
            placed = self.preferred(name, border)
            region = self._fresh(f"{name}.padded")
            self.copies[name] = self._add_region(region, RegionKind.arena, placed)
        return self.copies[name]

    def packed_copy(self, name: str, layout: Layout) -> Storage:
        """A further region for a value that a kernel wants to read in another layout."""
        placed = (self.graph.types[name], layout)
        return self._add_region(self._fresh(f"{name}.packed"), RegionKind.arena, placed)

    def add_workspace(self, name: str, type: TensorType) -> None:
        """A region for what a kernel keeps while it runs."""
        self.of[name] = self._add_region(self._fresh(name), RegionKind.arena, dense(type))

    def _fresh(self, region: str) -> str:
        """A name that no value and no region has."""
        taken = {*self.graph.types, *self.regions}
        names = (f"{region}{k or ''}" for k in range(len(taken) + 1))
        return next(n for n in names if n not in taken)


def rows_of_tiles(type: TensorType) -> Layout:
    """Rows of an odd number of taps: of an even one, the same tap of many rows falls into few sets of a cache."""
    taps = type.shape[0]
    assert isinstance(taps, int)
    row, tap, channel = OF_FORMS[Form.tile_rows]
    return Layout((Axis(row), Axis(tap, extent=taps | 1), Axis(channel)), ((0, 0),) * type.rank)


def is_spatial(graph: Graph) -> bool:
    """True if values of rank 4 are images: something convolves them, or moves a window or a grid over them."""
    return any(a.ndim == 4 for a in graph.weights.values()) or any(
        reads_as(node, Form.image) or moves_windows(node) for node in graph.nodes
    )


def dense(type: TensorType) -> tuple[TensorType, Layout]:
    return type, Layout.dense(type.rank)


def merged_border(a: Border | None, b: Border) -> Border:
    """The border that serves both."""
    if a is None:
        return b
    return tuple((max(x[0], y[0]), max(x[1], y[1])) for x, y in zip(a, b, strict=True))


def covers(layout: Layout, border: Border) -> bool:
    """True if a layout has at least this border."""
    return all(
        have[0] >= want[0] and have[1] >= want[1]
        for have, want in zip(layout.border, border, strict=True)
    )


def invert(perm: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(perm.index(d) for d in range(len(perm)))


def permuted(layout: Layout, perm: tuple[int, ...]) -> Layout:
    """The layout of a transposed view: its dimension k is the old dimension perm[k]."""
    axes = tuple(replace(a, dim=perm.index(a.dim)) for a in layout.axes)
    return Layout(axes, tuple(layout.border[p] for p in perm))


def reshaped(layout: Layout, source: Shape, target: Shape) -> Layout | None:
    """The layout of a reshaped view, or None if no layout can say it.

    Dimensions that become others must be neighbours in memory as they are in the shape; where the others lie, and in
    which order, doesn't matter.
    """
    if is_dense(layout, source):
        return Layout.dense(len(target))
    if any(isinstance(e, int) and e == 0 for e in source):
        return None
    axes: list[Axis] = []
    for axis, extent in zip(layout.axes, layout.extents(source), strict=True):
        if source[axis.dim] != 1:
            axes.append(axis)
        elif extent != 1 or layout.border[axis.dim] != (0, 0):
            return None
    border = [(0, 0)] * len(target)
    for olds, news in matching_groups(source, target):
        if len(olds) == len(news) == 1:
            border[news[0]] = layout.border[olds[0]]
            axes = [replace(a, dim=-1 - news[0]) if a.dim == olds[0] else a for a in axes]
            continue
        first = next(k for k, a in enumerate(axes) if a.dim == olds[0])
        run = axes[first : first + len(olds)]
        new = _run(run, layout, olds, news, source, target)
        if new is None:
            return None
        axes[first : first + len(olds)] = new
    return Layout(tuple(replace(a, dim=-1 - a.dim) for a in axes), tuple(border))


def _run(
    run: list[Axis], layout: Layout, olds: list[int], news: list[int], source: Shape, target: Shape
) -> list[Axis] | None:
    """The axes of new dimensions in place of a run of axes, or None; `-1 - dim` stands for a new dimension."""
    if [a.dim for a in run] != olds or any(layout.border[d] != (0, 0) for d in olds):
        return None
    if any(a.divide != 1 or a.modulus is not None for a in run):
        return None
    if any(a.extent not in (None, source[a.dim]) for a in run[1:]):
        return None
    outermost: int | None = None
    extent = run[0].extent
    if extent is not None and extent != source[olds[0]]:
        whole = size_of((extent, *(source[d] for d in olds[1:])))
        inner = size_of(target[d] for d in news[1:])
        if not (isinstance(whole, int) and isinstance(inner, int)) or whole % inner:
            return None
        outermost = whole // inner
    return [Axis(-1 - d, extent=None if k else outermost) for k, d in enumerate(news)]


def _reshaped(storage: Storage, source: Shape, target: Shape) -> Storage | None:
    layout = reshaped(storage.layout, source, target)
    return replace(storage, layout=layout) if layout is not None else None


def _box(storage: Storage, shape: Shape, starts: Shape, target: Shape) -> Storage | None:
    """The storage of a box of a value."""
    kept = kept_border(storage.layout.border, shape, starts, target)
    for dim, (start, extent) in enumerate(zip(starts, target, strict=True)):
        if start == 0 and extent == shape[dim]:
            continue
        part = part_of(storage, shape, dim, start, kept[dim])
        if part is None:
            return None
        storage = part
        shape = (*shape[:dim], extent, *shape[dim + 1 :])
    return storage


def kept_border(border: Border, shape: Shape, starts: Shape, target: Shape) -> Border:
    """The part of a value's border that lies beside a box of it: elsewhere its neighbours are data."""
    return tuple(
        (before if start == 0 else 0, after if start + extent == whole else 0)
        for (before, after), whole, start, extent in zip(border, shape, starts, target, strict=True)
    )


def is_dense(layout: Layout, shape: Shape) -> bool:
    """True if the logical elements lie in memory one after the other, in order."""
    if any(b != (0, 0) for b in layout.border):
        return False
    dims = []
    for axis, extent in zip(layout.axes, layout.extents(shape), strict=True):
        if axis.divide != 1 or axis.modulus is not None or extent != shape[axis.dim]:
            return False
        if shape[axis.dim] != 1:
            dims.append(axis.dim)
    return dims == [d for d, e in enumerate(shape) if e != 1]


def part_of(
    storage: Storage, shape: Shape, dim: int, start: Extent, kept: tuple[int, int] = (0, 0)
) -> Storage | None:
    """The storage of a range of one dimension; `kept` is its border there: what else lies beside it is data."""
    layout = storage.layout
    extents, strides = layout.extents(shape), layout.strides(shape)
    axes = list(layout.axes)
    offset = storage.offset
    for k, axis in enumerate(axes):
        if axis.dim != dim:
            continue
        before = layout.border[dim][0]
        stride, extent = strides[k], extents[k]
        if axis.divide != 1 or axis.modulus is not None:
            return None
        if not isinstance(start, int) or not isinstance(stride, int):
            return None
        if k > 0:
            if not isinstance(extent, int):
                return None
            axes[k] = replace(axis, extent=extent)
        offset += (start + before - kept[0]) * stride
    border = list(layout.border)
    border[dim] = kept
    return Storage(storage.region, offset, Layout(tuple(axes), tuple(border)))
