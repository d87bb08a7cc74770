"""A graph as a program: one plain kernel per group of nodes, on regions of memory."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from convc.errors import IRError
from convc.graph.ir import Array, Builder, Graph, Node
from convc.graph.state import next_values
from convc.graph.view import Joined
from convc.loops.formula import At, Memory, Tensor, tensor_of
from convc.loops.ir import (
    Block,
    Buffer,
    Const,
    Expr,
    For,
    Kernel,
    Layout,
    Let,
    Load,
    Role,
    Select,
    Space,
    Stmt,
    Store,
    Var,
    const,
    index,
    walk,
)
from convc.loops.simplify import SYMBOL_RANGE, Range, bounds, loop_range, simplify_kernel
from convc.loops.walking import children, expressions
from convc.lower.flattening import flattened
from convc.lower.groups import Group, group_nodes
from convc.lower.inlining import inline_cheap, own_nest
from convc.lower.joining import join_short
from convc.lower.nest import loop_names, naive_kernel, naive_kernel_of, nest_kernel
from convc.lower.order import updates_early
from convc.lower.packing import Packing, wanted_packing
from convc.lower.state import state_layouts
from convc.lower.storage import Border, Storage, Storages, covers, merged_border
from convc.ops.elementwise import Identity
from convc.program.ir import Argument, Entry, Port, Program, Region, RegionKind, Step
from convc.types import TensorType


def lower(graphs: Mapping[str, Graph], in_place: bool = False) -> Program:
    """The program of a model's entries: kernels as their formulas say, not yet scheduled or planned.

    With `in_place`, an input that some entry has a next value of (graph/state.py) is state, in all entries: no caller
    gives it or gets it.
    """
    states = state_layouts(graphs) if in_place else {}
    parts = [_Lowering(name, _own_outputs(graph), states).run() for name, graph in graphs.items()]
    if len(parts) > 1:
        parts = [_apart(part) for part in parts]
    program = parts[0]
    for part in parts[1:]:
        program = _joined(program, part)
    return program


def _own_outputs(graph: Graph) -> Graph:
    """The graph with a copy for each output that is an input, a weight or another output too."""
    builder = Builder(graph.name, dict(graph.weights))
    for name in graph.inputs:
        builder.input(name, graph.types[name])
    for node in graph.nodes:
        builder.emit(node)
    taken = {*graph.inputs, *graph.weights}
    outputs = []
    for name in graph.outputs:
        outputs.append(builder.add(Identity(), name, name=name) if name in taken else name)
        taken.add(name)
    return graph if tuple(outputs) == graph.outputs else builder.finish(outputs)


def _apart(part: Program) -> Program:
    """A program of one entry with the entry's name in its regions' names: entries may name their values alike."""
    (entry,) = part.entries
    names = {
        r.name: r.name
        if r.kind in (RegionKind.weight, RegionKind.state)
        else f"{entry.name}/{r.name}"
        for r in part.regions
    }
    steps = (
        replace(s, args=tuple(replace(a, region=names[a.region]) for a in s.args))
        for s in entry.steps
    )
    entry = replace(
        entry,
        inputs=tuple(replace(p, region=names[p.region]) for p in entry.inputs),
        outputs=tuple(replace(p, region=names[p.region]) for p in entry.outputs),
        steps=tuple(steps),
    )
    regions = tuple(replace(r, name=names[r.name]) for r in part.regions)
    return replace(part, regions=regions, entries=(entry,))


def _joined(a: Program, b: Program) -> Program:
    """Two programs as one with the entries of both."""
    regions = {r.name: r for r in (*a.regions, *b.regions)}
    return replace(
        a,
        regions=tuple(regions.values()),
        kernels={**a.kernels, **b.kernels},
        entries=(*a.entries, *b.entries),
        weights={**a.weights, **b.weights},
    )


@dataclass(frozen=True)
class _Call:
    """A kernel before its operands have a place."""

    kernel: Kernel
    operands: tuple[str, ...]  # values, in the order of the kernel's parameters
    layers: tuple[str, ...]


class _Lowering:
    def __init__(self, entry: str, graph: Graph, states: Mapping[str, Layout]) -> None:
        self.entry = entry
        self.graph = graph
        self.states = states
        self.next = next_values(graph) if states else {}
        self.successors = frozenset(self.next.values())
        self.kernels: dict[Kernel, str] = {}  # equal kernels are one
        # Their names by the id of a body, which stays, the parameters, and whether a state is updated.
        self.named: dict[tuple[int, tuple[Buffer, ...], bool], str] = {}
        self.bodies: list[Block] = []
        self.plain: dict[object, Kernel] = {}  # by operators, wiring and operands
        self.wanted: dict[int, dict[str, Border]] = {}  # by id of a plain kernel
        self.steps: list[Step] = []
        self.regions: dict[str, Region] = {}
        self.weights: dict[str, Array] = {}
        self.cleared: set[str] = set()
        self.padded: set[str] = set()
        self.packings: dict[tuple[str, Layout], Storage] = {}
        self.workspaces: dict[str, TensorType] = {}  # of procedures, by name

    def run(self) -> Program:
        groups = group_nodes(self.graph)
        if self.next:
            groups = updates_early(self.graph, inline_cheap(self.graph, groups))
            groups = join_short(self.graph, groups)
        calls = {g.output: self.call_of(g) for g in groups if not self.is_view(g)}
        inner = frozenset[str]().union(*(g.inner for g in groups))
        borders: dict[str, Border] = {}
        for call in calls.values():
            for name, border in self.borders_of(call).items():
                borders[name] = merged_border(borders.get(name), border)
        self.storages = Storages(self.graph, inner, borders, self.states)
        for name, type in self.workspaces.items():
            self.storages.add_workspace(name, type)
        for group in groups:
            self.emit(group, calls.get(group.output))
        for name, value in self.next.items():
            self.copy(value, self.storages.of[name], "")
        return self.program()

    def is_view(self, group: Group) -> bool:
        """Nodes that storage may make free; kernels for them are built only where it doesn't."""
        return len(group.nodes) == 1 and self.graph.view(group.nodes[0]) is not None

    def program(self) -> Program:
        entry = Entry(
            self.entry,
            tuple(
                Port(n, self.graph.types[n], n) for n in self.graph.inputs if n not in self.states
            ),
            tuple(
                Port(n, self.graph.types[n], self.storages.of[n].region)
                for n in self.graph.outputs
                if n not in self.successors
            ),
            tuple(self.steps),
        )
        used = {a.region for s in self.steps for a in s.args}
        regions = [
            r
            for r in (*self.storages.regions.values(), *self.regions.values())
            if r.name in used or r.kind in (RegionKind.input, RegionKind.output, RegionKind.state)
        ]
        kernels = {name: replace(k, name=name) for k, name in self.kernels.items()}
        return Program(self.graph.name, tuple(regions), kernels, (entry,), self.weights)

    # ------------------------------------------------------------ kernels of groups

    def call_of(self, group: Group) -> _Call:
        """The group's kernel on dense buffers."""
        spaces = self.workspaces_of(group)
        inputs = []
        tensors: dict[str, Tensor] = {}
        for position, name in enumerate(group.inputs):
            type = self.graph.types[name]
            space = self.space_of(name)
            letter = "w" if space is Space.constant else "x"
            buffer = Buffer(
                f"{letter}{position}", type.dtype, type.shape, space=space, role=Role.in_
            )
            inputs.append(buffer)
            tensors[name] = tensor_of(buffer)
        outputs = []
        for position, name in enumerate(group.outputs):
            type = self.graph.types[name]
            outputs.append(Buffer(f"y{position or ''}", type.dtype, type.shape, role=Role.out))
        # The attributes' texts keep apart what compares equal: 0.0 and -0.0.
        attributes = tuple([repr(n.op) for n in group.nodes])
        wiring = group.wiring, group.kept_positions
        key = (attributes, wiring, tuple(inputs), tuple(outputs))
        if key not in self.plain:
            self.plain[key] = self.kernel_of(group, tensors, inputs, outputs)
        return _Call(self.plain[key], (*group.inputs, *spaces, *group.outputs), group.layers)

    def workspaces_of(self, group: Group) -> tuple[str, ...]:
        """The names of the buffers that a procedure works in, which get their places with the values."""
        node = group.nodes[0]
        if node.op.procedure is None or node.op.workspace is None:
            return ()
        types = node.op.workspace(*(self.graph.types[i] for i in node.inputs))
        names = {f"{group.output}.workspace{k}": t for k, t in enumerate(types)}
        self.workspaces |= names
        return tuple(names)

    def kernel_of(
        self, group: Group, tensors: dict[str, Tensor], inputs: list[Buffer], outputs: list[Buffer]
    ) -> Kernel:
        """The kernel of the operators' formulas, or of the first one's loops."""
        output = outputs[-1]
        if len(outputs) > 1:
            for node in group.nodes:
                self.apply(node, tensors)
                name = node.outputs[0]
                tensors[name] = remembered(tensors[name])
            found = [(b, tensors[n].at) for b, n in zip(outputs, group.outputs, strict=True)]
            kernel = naive_kernel_of("kernel", inputs, found)
        elif (nest := own_nest(group)) is not None:
            kernel = self.kernel_of_nest(nest, group, tensors, inputs, output)
        elif group.nodes[0].op.procedure is not None:
            kernel = self.kernel_of_procedure(group.nodes[0], tensors, inputs, output)
        else:
            for node in group.nodes:
                self.apply(node, tensors)
            kernel = naive_kernel("kernel", inputs, output, tensors[group.output].at)
        return replace(kernel, notes=(("ops", " + ".join(n.op.mnemonic for n in group.nodes)),))

    def borders_of(self, call: _Call) -> dict[str, Border]:
        """The borders that a call's kernel wants, by operand; found once per kernel."""
        if id(call.kernel) not in self.wanted:
            self.wanted[id(call.kernel)] = wanted_borders(call.kernel)
        found = self.wanted[id(call.kernel)]
        names = zip((b.name for b in call.kernel.params), call.operands, strict=True)
        return {name: found[buffer] for buffer, name in names if buffer in found}

    def kernel_of_nest(
        self,
        first: Node,
        group: Group,
        tensors: dict[str, Tensor],
        inputs: list[Buffer],
        output: Buffer,
    ) -> Kernel:
        """The loops that an operator writes, with the others applied to each element that it stores."""
        rest = [node for node in group.nodes if node is not first]
        type = self.graph.types[first.outputs[0]]

        def put(at: tuple[Expr, ...], value: Expr) -> Stmt:
            values = dict(tensors)
            values[first.outputs[0]] = Tensor(type.dtype, type.shape, lambda *_: value)
            for node in rest:
                self.apply(node, values)
            final = values[group.output](*at) if rest else value
            return Store(output.name, at, final)

        assert first.op.loops is not None
        nest = first.op.loops(put, *(tensors[i] for i in first.inputs))
        return nest_kernel("kernel", inputs, output, nest)

    def kernel_of_procedure(
        self, node: Node, tensors: dict[str, Tensor], inputs: list[Buffer], output: Buffer
    ) -> Kernel:
        """The statements that an operator writes, on its output and its workspace."""
        op, types = node.op, [self.graph.types[i] for i in node.inputs]
        assert op.procedure is not None
        spaces = tuple(
            Buffer(f"m{k}", t.dtype, t.shape, role=Role.out)
            for k, t in enumerate(op.workspace(*types) if op.workspace is not None else ())
        )
        operands = (tensors[i] for i in node.inputs)
        body = op.procedure(Memory(output), tuple(map(Memory, spaces)), *operands)
        return simplify_kernel(Kernel("kernel", (*inputs, *spaces, output), tuple(body)))

    def apply(self, node: Node, tensors: dict[str, Tensor]) -> None:
        if node.op.formula is None or len(node.outputs) != 1:
            raise IRError(
                f"layer {node.layer!r}: operator {node.op.mnemonic} has no formula and was not decomposed"
            )
        at: At = node.op.formula(*(tensors[i] for i in node.inputs))
        type = self.graph.types[node.outputs[0]]
        tensors[node.outputs[0]] = Tensor(type.dtype, type.shape, at)

    # ------------------------------------------------------------ steps

    def emit(self, group: Group, call: _Call | None) -> None:
        node = group.nodes[-1]
        if call is not None:
            self.step(call)
        elif isinstance(view := self.graph.view(node), Joined):
            self.join(node, view.axis)
        elif self.storages.view(node) != self.storages.of[group.output]:
            self.step(self.call_of(group))

    def join(self, node: Node, axis: int) -> None:
        """Copies the operands that storage could not place inside the result."""
        parts = self.storages.parts_of(node, axis)
        if None in parts:
            self.step(self.call_of(Group((node,))))
            return
        for source, part in zip(node.inputs, parts, strict=True):
            if part is not None and self.storages.of[source] != part:
                self.copy(source, part, node.layer)

    def copy(self, source: str, target: Storage, layer: str) -> None:
        """A kernel that copies a value to another place."""
        type = self.graph.types[source]
        kernel = copy_kernel(type, self.space_of(source))
        arguments = [self.operand(source, kernel.params[0]), self.place(target, kernel.params[1])]
        self.clear_border(target.region)
        self.add_step(kernel, arguments, (layer,) if layer else ())

    def step(self, call: _Call) -> None:
        """Adds the call with its operands' layouts, after the copies and clears that it needs."""
        wanted = self.borders_of(call)
        output = call.operands[-1]
        packing = wanted_packing(call.kernel, self.storages.of[output].layout)
        arguments = []
        for buffer, name in zip(call.kernel.params, call.operands, strict=True):
            border = wanted.get(name) if buffer.role is Role.in_ else None
            if border is not None and not covers(self.storages.of[name].layout, border):
                arguments.append(self.place(self.padded_copy(name), buffer))
            elif packing is not None and packing.buffer == buffer.name:
                arguments.append(self.place(self.packed(name, packing, buffer), buffer))
            else:
                arguments.append(self.operand(name, buffer))
        for buffer, name in zip(call.kernel.params, call.operands, strict=True):
            if buffer.role is not Role.in_:
                self.clear_border(self.storages.of[name].region)
        self.add_step(call.kernel, arguments, call.layers, output)

    def padded_copy(self, name: str) -> Storage:
        """The bordered copy of a value, made at its first use."""
        border = self.storages.borders[name]
        storage = self.storages.bordered_copy(name, border)
        if name not in self.padded:
            self.padded.add(name)
            self.copy(name, storage, "")
        return storage

    def packed(self, name: str, packing: Packing, buffer: Buffer) -> Storage:
        """A value where a contraction likes to read it: itself, or a copy that is made at its first use."""
        storage = self.storages.of[name]
        if packing.suits(storage.layout, buffer):
            return storage
        key = (name, packing.layout)
        if key not in self.packings:
            self.packings[key] = self.storages.packed_copy(name, packing.layout)
            self.copy(name, self.packings[key], "")
        return self.packings[key]

    def space_of(self, name: str) -> Space:
        return Space.constant if name in self.graph.weights else Space.global_

    def operand(self, name: str, buffer: Buffer) -> tuple[Buffer, Argument]:
        if name in self.graph.weights:
            return buffer, Argument(name)
        return self.place(self.storages.of[name], buffer)

    def place(self, storage: Storage, buffer: Buffer) -> tuple[Buffer, Argument]:
        at = Argument(storage.region, storage.offset * buffer.dtype.itemsize)
        return replace(buffer, layout=storage.layout), at

    def add_step(
        self,
        kernel: Kernel,
        arguments: list[tuple[Buffer, Argument]],
        layers: tuple[str, ...],
        value: str = "",
    ) -> None:
        if not kernel.body:
            return  # the output has no elements
        name = self.name_of(
            kernel, tuple([b for b, _ in arguments]), self.is_update(value, arguments)
        )
        bound = []
        for buffer, argument in arguments:
            if buffer.space is Space.constant:
                argument = self.weight_region(argument.region, name, buffer)
            bound.append(argument)
        self.steps.append(Step(name, tuple(bound), layers, value))

    def name_of(self, kernel: Kernel, params: tuple[Buffer, ...], is_update: bool) -> str:
        """The name of a kernel on parameters that have their places."""
        key = (id(kernel.body), params, is_update)
        if key not in self.named:
            placed = Kernel("kernel", params, kernel.body, kernel.notes)
            if is_update:
                placed = flattened(placed)
            name = f"{self.entry}_{len(self.kernels)}"
            self.named[key] = self.kernels.setdefault(placed, name)
            self.bodies.append(kernel.body)
        return self.named[key]

    def is_update(self, value: str, arguments: list[tuple[Buffer, Argument]]) -> bool:
        """Whether a step writes a state's next value, or copies one there."""
        return value in self.successors or arguments[-1][1].region in self.states

    def weight_region(self, weight: str, kernel: str, buffer: Buffer) -> Argument:
        """A weight's region: one per kernel and parameter that reads it, since each may pack it its own way."""
        name = f"{weight}@{kernel}.{buffer.name}"
        array = self.graph.weights[weight]
        self.regions[name] = Region(name, RegionKind.weight, array.nbytes)
        self.weights[name] = array
        return Argument(name)

    def clear_border(self, region: str) -> None:
        """Zeros a region's border, once, before its first writer: its bytes may have been another region's."""
        if region in self.cleared:
            return
        self.cleared.add(region)
        type, layout = self.storages.whole[region]
        if any(b != (0, 0) for b in layout.border):
            kernel = border_kernel(type, layout)
            self.add_step(kernel, [(kernel.params[0], Argument(region))], ())


def remembered(tensor: Tensor) -> Tensor:
    """The tensor with one expression for each index, however often it is asked for."""
    known: dict[tuple[Expr, ...], Expr] = {}

    def at(*index: Expr) -> Expr:
        if index not in known:
            known[index] = tensor.at(*index)
        return known[index]

    return replace(tensor, at=at)


@functools.lru_cache(maxsize=256)
def copy_kernel(type: TensorType, space: Space) -> Kernel:
    """y = x, with x in a memory space."""
    x = Buffer("x0", type.dtype, type.shape, space=space, role=Role.in_)
    y = Buffer("y", type.dtype, type.shape, role=Role.out)
    kernel = naive_kernel("kernel", (x,), y, tensor_of(x).at)
    return replace(kernel, notes=(("ops", "copy"),))


def border_kernel(type: TensorType, layout: Layout) -> Kernel:
    """Zeros in the border of a layout: a nest per dimension, or two where its sides differ."""
    y = Buffer("y", type.dtype, type.shape, layout, role=Role.out)
    body: list[Stmt] = []
    for dim, (before, after) in enumerate(y.layout.border):
        across = index(y.shape[dim] + before)
        if before and before == after:
            body.append(For("side", index(2), (_slab(y, dim, before, Var("side") * across),)))
            continue
        if before:
            body.append(_slab(y, dim, before, index(0)))
        if after:
            body.append(_slab(y, dim, after, across))
    return Kernel("kernel", (y,), tuple(body), (("ops", "zero border"),))


def _slab(y: Buffer, dim: int, width: int, start: Expr) -> Stmt:
    """Zeros in a slab across a dimension; `start` counts from the beginning of the border."""
    names = loop_names(len(y.shape))
    at = [Var(name) - before for name, (before, _) in zip(names, y.layout.border, strict=True)]
    at[dim] = start + at[dim]
    extents = [
        e + before + after for e, (before, after) in zip(y.shape, y.layout.border, strict=True)
    ]
    extents[dim] = width
    body: Stmt = Store(y.name, tuple(at), const(0, y.dtype))
    for name, extent in reversed(list(zip(names, extents, strict=True))):
        body = For(name, index(extent), (body,))
    return body


def wanted_borders(kernel: Kernel) -> dict[str, Border]:
    """The borders of zeros that would spare a kernel with reductions or tiles its guards, by parameter.

    Read off the guards: `select(inside, x[...], 0)` with indices that leave x.
    """
    if not any(
        isinstance(s, Let) or isinstance(s, Store) and s.index == () for s in walk(kernel.body)
    ):
        return {}
    buffers = {b.name: b for b in kernel.params if b.role is Role.in_}
    ranges: dict[str, Range] = dict.fromkeys(kernel.symbols, SYMBOL_RANGE)
    found: dict[str, Border] = {}
    for stmt in walk(kernel.body):
        if isinstance(stmt, For):
            ranges[stmt.var] = loop_range(stmt.extent, ranges)
        for expr in expressions(stmt):
            for load in _guarded_loads(expr):
                if load.buffer in buffers and buffers[load.buffer].space is not Space.constant:
                    border = _overhang(load, buffers[load.buffer], ranges)
                    if border is not None:
                        found[load.buffer] = merged_border(found.get(load.buffer), border)
    return found


def _guarded_loads(expr: Expr) -> Iterable[Load]:
    match expr:
        case Select(then=Load() as load, otherwise=Const(value=0)):
            yield load
        case _:
            for child in children(expr):
                yield from _guarded_loads(child)


# A border beyond this many elements on a side is not worth its memory.
_WIDEST = 16


def _overhang(load: Load, buffer: Buffer, ranges: Mapping[str, Range]) -> Border | None:
    """How far a load's indices leave its buffer on each side."""
    border = []
    for i, extent in zip(load.index, buffer.shape, strict=True):
        if not isinstance(extent, int):
            border.append((0, 0))
            continue
        low, high = bounds(i, ranges)
        before, after = max(0, -low), max(0, high - extent + 1)
        if max(before, after) > _WIDEST:
            return None
        border.append((int(before), int(after)))
    return tuple(border) if any(b != (0, 0) for b in border) else None
