"""What is known at import: values that follow from weights, or from inputs that are given beforehand."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from convc.graph.ir import Array, Builder, Node
from convc.onnx.importers.call import Rejected, ValueNeeded
from convc.types import size_of

LARGEST_PARAMETER = 1 << 24
"""Elements of a value that is computed at import."""


class Known:
    """Computes values of a builder's graph at import, by the operators' references. `given` are values of inputs."""

    def __init__(self, builder: Builder, given: Mapping[str, Array]) -> None:
        self.builder = builder
        self.given = given
        self.evaluated: dict[str, Array] = {}
        self.producers: dict[str, Node] = {}
        self.live: set[str] = set()  # values that only the run can know
        self.scanned = 0  # nodes of the builder that producers has

    def has(self, name: str) -> bool:
        """Whether a value follows from weights (and the given inputs) alone."""
        self.scan()
        return name not in self.live and (name in self.given or name not in self.builder.inputs)

    def evaluate(self, name: str) -> Array:
        """A value, computed at import by the operators' references; ValueNeeded if an input decides it."""
        for node in self.slice_of(name):
            for output in node.outputs:
                shape = self.builder.types[output].shape
                size = size_of(shape)
                known = all(isinstance(e, int) for e in shape)  # [0, N] has 0 elements
                if not (known and isinstance(size, int) and size <= LARGEST_PARAMETER):
                    raise Rejected(
                        f"a parameter of {size} elements can't be computed at compile time"
                    )
            arrays = [self.leaf(i) for i in node.inputs]
            with np.errstate(all="ignore"):
                result = node.op.reference(*arrays)
            results = result if isinstance(result, tuple) else (result,)
            self.evaluated |= dict(zip(node.outputs, results, strict=True))
        return self.leaf(name)

    def leaf(self, name: str) -> Array:
        for known in (self.builder.weights, self.given, self.evaluated):
            if name in known:
                return np.asarray(known[name])
        raise ValueNeeded(name)

    def forget(self, count: int) -> None:
        """Says that the builder has only its first `count` nodes."""
        self.scanned = min(self.scanned, count)

    def scan(self) -> None:
        """Takes note of the nodes that are new: who makes a value, and whether only the run can know it."""
        unknown = {i for i in self.builder.inputs if i not in self.given}
        for added in self.builder.nodes[self.scanned :]:
            self.producers |= dict.fromkeys(added.outputs, added)
            if not self.live.isdisjoint(added.inputs) or not unknown.isdisjoint(added.inputs):
                self.live.update(added.outputs)
        self.scanned = len(self.builder.nodes)

    def slice_of(self, name: str) -> list[Node]:
        """The nodes that have to be evaluated for a value, in order."""
        self.scan()
        order: list[Node] = []
        seen: set[str] = set()
        stack: list[tuple[str, bool]] = [(name, False)]
        while stack:
            value, done = stack.pop()
            node: Node | None = self.producers.get(value)
            if done:
                if node is not None:
                    order.append(node)
                continue
            if value in seen or value in self.evaluated or value in self.builder.weights:
                continue
            seen.add(value)
            if node is None:
                if value not in self.given:
                    raise ValueNeeded(value)
                continue
            stack.append((value, True))
            stack += [(i, False) for i in node.inputs]
        return order
