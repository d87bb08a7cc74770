"""From traced steps to the graph IR."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from convc.errors import ModelError
from convc.graph.ir import Builder, Graph, Node
from convc.graph.op import Op
from convc.keras.engine.tensor import Array, KerasTensor, Placeholder, Step, Variable, steps_to
from convc.ops.elementwise import Identity
from convc.ops.random import SEED
from convc.ops.shape import Reshape, Transpose
from convc.passes.training_mode import SEED_INPUT, drawn, draws
from convc.types import DType, TensorType

ALWAYS = 1 << 20
"""The number of the first draw that isn't training's only: training counts its own from 0."""

Reads = Callable[[Variable], bool]
"""Which variables' values somebody wants to know."""


def graph_of_variables(
    name: str,
    inputs: Iterable[tuple[str, KerasTensor]],
    outputs: Iterable[KerasTensor],
    reads: Reads = lambda variable: True,
) -> tuple[Graph, dict[str, Viewed]]:
    """The graph from named input tensors to the outputs, and which of its weights are which variables.

    Weights are named `layer/variable`. Transposes and reshapes of weights are done here, once, so that the graph
    holds kernels as its operators want them. Where a layer's call said `training=True`, the graph has the input `seed`,
    uint32[2]: other numbers in it, other draws.

    Of variables that aren't read, the weights are zeros without memory: for graphs that will take them as inputs.
    """
    emitter = _Emitter(name, reads)
    for input_name, tensor in inputs:
        emitter.input(input_name, tensor.step)
    wanted = [t.step for t in outputs]
    for step in steps_to(wanted, emitter.inputs):
        emitter.emit(step)
    graph = emitter.finish(wanted)
    return graph, {n: v for n, v in emitter.variables.items() if n in graph.weights}


@dataclass(frozen=True)
class Viewed:
    """A variable as a graph's weight: through transposes and reshapes."""

    variable: Variable
    views: tuple[Op, ...]

    @property
    def array(self) -> Array:
        """The variable's value as the weight."""
        return self.seen(self.variable.value)

    def seen(self, array: Array) -> Array:
        """An array of the variable's shape as the weight."""
        for view in self.views:
            array = np.asarray(view.reference(array))
        return array

    def assign(self, array: Array) -> None:
        """Gives the variable the value whose weight is the array."""
        self.variable.assign(self.inverted(array))

    def inverted(self, array: Array) -> Array:
        """A new array: the value of the variable whose weight is the given one."""
        return np.array(self.unseen(array), order="C")

    def inverses(self) -> list[Op]:
        """Transposes and reshapes of the weight that make the variable of it."""
        shapes = self._shapes()
        found: list[Op] = []
        for view, shape in zip(reversed(self.views), reversed(shapes[:-1]), strict=True):
            if isinstance(view, Transpose):
                found.append(Transpose(tuple(int(d) for d in np.argsort(view.perm))))
            else:
                found.append(Reshape(shape))
        return found

    def _shapes(self) -> list[Any]:
        """The variable's shape, and that after each view."""
        shapes: list[Any] = [self.variable.shape]
        dtype = DType.of(self.variable.dtype)
        for view in self.views:
            shapes.append(view.infer(TensorType(dtype, shapes[-1]))[0].shape)
        return shapes

    def unseen(self, array: Array) -> Array:
        """The same, where it can be as another view of the array's memory."""
        shapes = self._shapes()
        for view, shape in zip(reversed(self.views), reversed(shapes[:-1]), strict=True):
            if isinstance(view, Transpose):
                array = np.transpose(array, np.argsort(view.perm))
            else:
                array = array.reshape(shape)
        return array


class _Emitter:
    """Names for steps: those of weights are settled when something other than a view of a weight reads them."""

    def __init__(self, name: str, reads: Reads) -> None:
        self.builder = Builder(name)
        self.reads = reads
        self.inputs: list[Step] = []
        self._names: dict[int, str] = {}
        self._weights: dict[Any, str] = {}
        self.variables: dict[str, Viewed] = {}
        self._first: dict[Any, Viewed] = {}
        """How variables became weights."""
        self._draws = 0

    def input(self, name: str, step: Step) -> None:
        self.inputs.append(step)
        self._names[id(step)] = self.builder.input(name, step.type)

    def emit(self, step: Step) -> None:
        if id(step) in self._names or _is_weight(step):
            return
        assert isinstance(step.source, Op)
        inputs = tuple(map(self._name_of, step.inputs))
        inner = f"{step.layer}/{step.source.mnemonic}" if step.layer else step.source.mnemonic
        source: Op = step.source
        if step.training and draws(source):
            inputs, source = (self._drawn(source, inputs, step.layer),), Identity()
        output = self.builder.fresh(step.name or inner)
        self.builder.emit(Node(source, inputs, (output,), step.layer))
        self._names[id(step)] = output

    def _drawn(self, op: Op, inputs: tuple[str, ...], layer: str) -> str:
        """What an operator gives in a call that said `training=True`: it draws however the model is run."""
        if SEED_INPUT not in self.builder.inputs:
            self.builder.input(SEED_INPUT, SEED)
        elif not self._draws:
            raise ModelError(
                f"layer {layer!r}: training=True makes a model draw from an input named {SEED_INPUT!r}, which the "
                f"model has for something else: give that Input another name"
            )
        output = self.builder.fresh(f"{layer}/drawn" if layer else "drawn")
        drawn(self.builder, Node(op, inputs, (output,), layer), ALWAYS + self._draws)
        self._draws += 1
        return output

    def finish(self, outputs: list[Step]) -> Graph:
        names: list[str] = []
        for step in outputs:
            name = self._name_of(step)
            if name in self.builder.inputs or name in self.builder.weights or name in names:
                name = self.builder.add(Identity(), name, name=step.name or "output")
            names.append(name)
        return self.builder.finish(names)

    def _name_of(self, step: Step) -> str:
        return self._names[id(step)] if id(step) in self._names else self._weight(step)

    def _weight(self, step: Step) -> str:
        """The name of a weight seen through transposes and reshapes; equal views share it."""
        views: list[Op] = []
        root = step
        while isinstance(root.source, Op):
            views.append(root.source)
            root = root.inputs[0]
        key = (_identity(root), tuple(reversed(views)))
        if key not in self._weights and key[0] in self._first:
            self._weights[key] = self._seen_again(root, key[1])
        if key not in self._weights:
            name = self._weights[key] = self.builder.weight(
                _base_name(root), self._array(root, key[1])
            )
            if isinstance(root.source, Variable):
                self.variables[name] = self._first[key[0]] = Viewed(root.source, key[1])
        return self._weights[key]

    def _seen_again(self, root: Step, views: tuple[Op, ...]) -> str:
        """A variable that is a weight already, seen in another way: computed from that weight, as both must train."""
        first = self._first[_identity(root)]
        name = self._weights[_identity(root), first.views]
        for view in (*first.inverses(), *views):
            name = self.builder.add(view, name)
        return name

    def _array(self, root: Step, views: tuple[Op, ...]) -> Array:
        """A variable's or a constant's value through transposes and reshapes."""
        if isinstance(root.source, Variable) and not self.reads(root.source):
            type = root.type
            for view in views:
                (type,) = view.infer(type)
            shape: Any = type.shape
            return np.broadcast_to(np.zeros((), type.dtype.numpy), shape)
        array = root.source.value if isinstance(root.source, Variable) else np.asarray(root.source)
        for view in views:
            array = view.reference(array)
        return array


def _is_weight(step: Step) -> bool:
    """True for variables, constants and their transposes and reshapes."""
    while isinstance(step.source, (Transpose, Reshape)):
        step = step.inputs[0]
    return not isinstance(step.source, (Op, Placeholder))


def _identity(root: Step) -> Any:
    match root.source:
        case np.ndarray() as array if array.size == 1:
            return array.dtype, array.shape, array.tobytes()
        case source:
            return id(source)


def _base_name(root: Step) -> str:
    if isinstance(root.source, Variable):
        return root.source.path
    return f"{root.layer}/constant" if root.layer else "constant"
