"""In which order the dimensions of values lie in memory, outermost first, where a dense order isn't best."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping

from convc.graph.form import Form
from convc.graph.ir import Graph, Node
from convc.graph.view import Permuted, Reshaped
from convc.ops.matmul import MatMul
from convc.types import Shape

Order = tuple[int, ...]

CHANNELS_LAST: Order = (0, 2, 3, 1)
"""Of images, which are logically n, c, h, w."""
ROW_MAJOR: Order = (0, 1, 2, 3)

OF_FORMS: Mapping[Form, Order] = {
    # A transform reads or writes all taps of a tile: they are one run of memory. With the taps outermost its 36 streams
    # fall into the same sets of a cache: 64 -> 32 channels at 256 x 256 take 6.8 ms instead of 4.2, 128 -> 128 at
    # 64 x 64 1.85 instead of 1.52, on one core of AMD Zen 5; small maps are the same.
    Form.tiles: (0, 2, 3, 1, 4),
    Form.tile_rows: (1, 0, 2),
    # A transform's lanes are a filter's outputs.
    Form.filter: (2, 3, 1, 0),
}
"""The orders of what the operators of an algorithm hand to each other."""


def orders_of(graph: Graph) -> dict[str, Order]:
    """The order of each value that something asks for.

    Images that windows move over ask for channels last, whatever their elements go through pointwise for the same; the
    transpose of an image is the same memory, so it has the image's order transposed. What matrix products read and
    write is row-major, where no image says otherwise: heads of attention aren't channels.
    """
    found: dict[str, Order] = {}
    _spread(graph, found, dict.fromkeys(_images(graph), CHANNELS_LAST))
    _spread(graph, found, dict.fromkeys(_matrices(graph), ROW_MAJOR))
    # What a product reads column by column is copied where it lies transposed (see Storages).
    turned = {n.outputs[0] for n in graph.nodes if isinstance(graph.view(n), Permuted)}
    seconds = (n.inputs[1] for n in graph.nodes if isinstance(n.op, MatMul))
    found.update((n, ROW_MAJOR) for n in seconds if n in turned and _rank(graph, n) == 4)
    for form, order in OF_FORMS.items():
        found.update(dict.fromkeys(_of_form(graph, form), order))
    return found


def reads_as(node: Node, form: Form) -> list[str]:
    """The inputs that have a form to a node."""
    return [n for n, found in zip(node.inputs, node.op.forms.inputs, strict=False) if found is form]


def makes_as(node: Node, form: Form) -> list[str]:
    """The outputs that a node makes in a form."""
    found = zip(node.outputs, node.op.forms.outputs, strict=False)
    return [n for n, made in found if made is form]


def moves_windows(node: Node) -> bool:
    """True for operators that move a window or a grid over what they read."""
    return not {"stride", "scale"}.isdisjoint(node.op.attributes)


def _of_form(graph: Graph, form: Form) -> Iterator[str]:
    """The values, but for weights, that have a form to some node."""
    for node in graph.nodes:
        names = (*reads_as(node, form), *makes_as(node, form))
        yield from (n for n in names if n not in graph.weights)


def _images(graph: Graph) -> Iterator[str]:
    """What windows are moved over, and what that gives."""
    yield from _of_form(graph, Form.image)
    for node in graph.nodes:
        if moves_windows(node):
            names = (*node.inputs, *node.outputs)
            yield from (n for n in names if n not in graph.weights and _rank(graph, n) == 4)


def _matrices(graph: Graph) -> Iterator[str]:
    for node in graph.nodes:
        if isinstance(node.op, MatMul):
            yield from (
                n
                for n in (*node.inputs, *node.outputs)
                if n not in graph.weights and _rank(graph, n) == 4
            )


def _rank(graph: Graph, name: str) -> int:
    return graph.types[name].rank


def _spread(graph: Graph, found: dict[str, Order], seeds: Mapping[str, Order]) -> None:
    """Gives seeds their order, and what they are tied to the order that this implies; the first one stands."""
    ties = _ties(graph)
    waiting = deque(seeds.items())
    while waiting:
        name, order = waiting.popleft()
        if name in found:
            continue
        found[name] = order
        for other, perm in ties.get(name, ()):
            if other not in found:
                waiting.append((other, tuple(perm.index(d) for d in order)))


def _ties(graph: Graph) -> dict[str, list[tuple[str, tuple[int, ...]]]]:
    """The values that share a value's order, with the transposition between: dimension k is its dimension perm[k]."""
    ties: dict[str, list[tuple[str, tuple[int, ...]]]] = {}
    for node in graph.nodes:
        for source, target in ((i, o) for i in node.inputs for o in node.outputs):
            perm = _transposition(graph, node, source, target)
            if perm is not None:
                inverse = tuple(perm.index(d) for d in range(4))
                ties.setdefault(source, []).append((target, perm))
                ties.setdefault(target, []).append((source, inverse))
    return ties


def _transposition(graph: Graph, node: Node, source: str, target: str) -> tuple[int, ...] | None:
    """How a node's output lies to an input; None if the one says nothing of the other."""
    a, b = graph.types[source].shape, graph.types[target].shape
    if source in graph.weights or len(a) != 4 or len(b) != 4 or isinstance(node.op, MatMul):
        return None
    match graph.view(node):
        case Permuted(perm):
            return perm
        case Reshaped():
            return None
    return ROW_MAJOR if _alike(a, b) else None


def _alike(a: Shape, b: Shape) -> bool:
    """Shapes of a pointwise node or a reduction, or of a part along one dimension."""
    differing = [(x, y) for x, y in zip(a, b, strict=True) if x != y]
    return len(differing) <= 1 or all(1 in pair for pair in differing)
