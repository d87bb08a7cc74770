"""What may be tuned in a network, and the few candidates of each that an analytic model likes best."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from convc.graph.ir import Graph, Node
from convc.loops.cost import bytes_touched, flops
from convc.loops.ir import Kernel
from convc.ops.conv import Conv2d
from convc.passes.choose_algorithm import Algorithm, ChooseAlgorithm, cost, key_of
from convc.program.ir import Program
from convc.schedule.choices import Choice, kernel_key
from convc.schedule.cpu import alternatives
from convc.target import Target
from convc.tuning.search import Job
from convc.types import TensorType, evaluate, symbols_of

_FEW = 8
"""Candidates of a kernel to time."""

_STRIPS = (0, 1 << 20, 2 << 20, 4 << 20)
"""Bytes of transforms per strip of rows that are worth a look; 0 for the whole map."""

_LARGE = 1 << 20
"""Bytes of an output whose transforms may leave a core's cache: smaller maps aren't cut into strips."""

_FLOPS, _BYTES = 1e11, 2e10
"""What a core does in a second, roughly: only shares of the predicted time follow from it."""


@dataclass(frozen=True)
class Convolution:
    """One that Winograd's algorithm could compute: the types of its input, its filters and its output."""

    x: TensorType
    w: TensorType
    y: TensorType
    padding: tuple[tuple[int, int], tuple[int, int]]


def convolution_jobs(
    graphs: Iterable[Graph], choose: ChooseAlgorithm
) -> tuple[list[Job[Algorithm]], dict[str, Convolution]]:
    """A job for each convolution whose algorithm can be chosen, alike ones together, and their types by key."""
    nodes: defaultdict[str, list[Node]] = defaultdict(list)
    types: dict[str, Convolution] = {}
    jobs = []
    for graph in graphs:
        for node in graph.nodes:
            if choose.tiles_for(node, graph):
                nodes[key_of(node, graph)].append(node)
                types.setdefault(key_of(node, graph), convolution_of(node, graph))
        for key, alike in nodes.items():
            if any(node is alike[0] for node in graph.nodes):
                jobs.append(convolution_job(key, alike, graph, choose, types[key]))
    return jobs, types


def convolution_of(node: Node, graph: Graph) -> Convolution:
    """The types of a convolution."""
    assert isinstance(node.op, Conv2d)
    x, w = (graph.types[name] for name in node.inputs)
    return Convolution(x, w, graph.types[node.outputs[0]], node.op.padding)


def convolution_job(
    key: str, alike: Sequence[Node], graph: Graph, choose: ChooseAlgorithm, types: Convolution
) -> Job[Algorithm]:
    """The job of convolutions that are alike: what the estimate chooses, then the others by their estimated cost."""
    default = choose.tile_for(alike[0], graph)
    tiles = [None, *choose.tiles_for(alike[0], graph)]
    costs = {tile: cost(types.w, types.y, tile) for tile in tiles}
    ranked = sorted((t for t in tiles if t != default), key=lambda t: costs[t])
    candidates = [Algorithm(default), *map(Algorithm, ranked)]
    if bytes_of_image(types.y) >= _LARGE:
        best = min((t for t in tiles if t is not None), key=lambda t: costs[t])
        candidates += [Algorithm(best, strip) for strip in _STRIPS]
    layers = tuple(dict.fromkeys(node.layer for node in alike if node.layer))
    seconds = 2 * costs[default] / _FLOPS
    return Job(key, key, layers, len(alike), seconds, tuple(candidates))


def bytes_of_image(type: TensorType) -> int:
    """Bytes of a tensor whose symbols are one."""
    total = type.dtype.itemsize
    for extent in type.shape:
        total *= evaluate(extent, dict.fromkeys(symbols_of((extent,)), 1))
    return total


def kernel_jobs(
    program: Program, lowered: Mapping[str, Kernel], target: Target
) -> tuple[list[Job[Choice]], dict[str, Kernel]]:
    """A job for each kernel of floats that a schedule has choices for, and the plain kernels by key."""
    calls: defaultdict[str, int] = defaultdict(int)
    layers: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for entry in program.entries:
        for step in entry.steps:
            calls[step.kernel] += 1
            layers[step.kernel] |= dict.fromkeys(step.layers)
    jobs, kernels = [], {}
    for name, kernel in lowered.items():
        if not calls[name] or not all(b.dtype.is_float for b in kernel.params):
            continue
        found = few(alternatives(kernel, target))
        if len(found) > 1:
            key = kernel_key(kernel, target)
            kernels[key] = kernel
            what = what_of(kernel)
            seconds = predicted_seconds(kernel)
            jobs.append(Job(key, what, tuple(layers[name]), calls[name], seconds, found))
    return jobs, kernels


def few(ranked: Sequence[Choice]) -> tuple[Choice, ...]:
    """The default, its other orders, the best tile of each number of vectors, and then the next best."""
    if not ranked or ranked[0].tile is None:
        return ()
    default = ranked[0]
    first: dict[int, Choice] = {}
    for choice in ranked:
        assert choice.tile is not None
        first.setdefault(choice.tile[1], choice)
    turned = [c for c in ranked if c.tile == default.tile]
    others = [c for c in ranked if not c.order]
    return tuple(dict.fromkeys((*turned, *first.values(), *others)))[:_FEW]


def what_of(kernel: Kernel) -> str:
    """What a kernel computes, for people: its operators and its output's shape."""
    output = kernel.params[-1]
    shape = ", ".join(map(str, output.shape))
    reads = " ".join(f"[{', '.join(map(str, b.shape))}]" for b in kernel.params[:-1])
    return f"{dict(kernel.notes).get('ops', 'kernel')} {reads} -> [{shape}]"


def predicted_seconds(kernel: Kernel) -> float:
    """Seconds of a call of a plain kernel on one core, every symbol being one: arithmetic or memory, as a roofline."""
    work, moved = flops(kernel), bytes_touched(kernel)
    once = dict.fromkeys(symbols_of((work, moved)), 1)
    return max(evaluate(work, once) / _FLOPS, evaluate(moved, once) / _BYTES)
