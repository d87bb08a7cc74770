"""Random ONNX models that are valid: grown node by node, each evaluated at once by ONNX' reference evaluator."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from convc.graph.ir import Array
from tests.onnx.models import model_of

LARGEST_VALUE = 50.0
LARGEST_SIZE = 6000
FLOATS = ("float16", "float32", "float64")


class Unfit(Exception):  # noqa: N818
    """A step that doesn't suit the value it was tried on."""


@dataclass(frozen=True)
class Value:
    """A value of the model with what the reference computes for it.

    `exact`: no rounding has touched it, so that rounding, comparing and sorting it give the same everywhere.
    """

    name: str
    array: Array
    exact: bool = True

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.array.shape)

    @property
    def rank(self) -> int:
        return self.array.ndim

    @property
    def is_float(self) -> bool:
        return self.array.dtype.name in FLOATS


@dataclass(frozen=True)
class Case:
    """A model, its inputs, and what the reference computes for all of its values."""

    model: onnx.ModelProto
    inputs: Mapping[str, Array]
    values: Mapping[str, Array]

    @property
    def wanted(self) -> dict[str, Array]:
        """The model's outputs as the reference has them."""
        return {o.name: self.values[o.name] for o in self.model.graph.output}


def reference(model: onnx.ModelProto, inputs: Mapping[str, Array]) -> list[Any]:
    """The outputs by ONNX' reference evaluator."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return list(ReferenceEvaluator(model).run(None, dict(inputs)))


class Grower:
    """A growing model. Steps (see `steps_*.py`) draw from `rng` and add nodes; Unfit means another try."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.opset = int(self.rng.choice([13, 17, 18, 20, 21, 22]))
        self.dtype = str(self.rng.choice(["float32", "float64", "float16"], p=[0.88, 0.07, 0.05]))
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: dict[str, Array] = {}
        self.weights: dict[str, Array] = {}
        self.values: list[Value] = []
        self.count = 0
        self.pending: tuple[list[onnx.NodeProto], dict[str, Array], dict[str, Array]] | None = None

    # ------------------------------------------------------------ draws

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def among(self, choices: Sequence[Any]) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def between(self, low: int, high: int) -> int:
        """A number from low to high, both included."""
        return int(self.rng.integers(low, high + 1))

    def drawn(
        self, shape: Sequence[int], dtype: str | None = None, positive: bool = False
    ) -> Array:
        """Random elements. Floats are multiples of 1/64, so that sums of them are mostly exact."""
        dtype = dtype or self.dtype
        if dtype == "bool":
            return np.asarray(self.rng.random(shape) < 0.5)
        if dtype in FLOATS:
            numbers = np.round(self.rng.standard_normal(shape) * 64) / 64
            return np.asarray(np.abs(numbers) + 0.5 if positive else numbers).astype(dtype)
        low = 1 if positive or dtype.startswith("u") else -9
        return np.asarray(self.rng.integers(low, 10, shape)).astype(dtype)

    def value(self, fits: Callable[[Value], bool] = lambda v: True) -> Value:
        """An earlier value, mostly a new one."""
        fitting = [v for v in self.values if fits(v)]
        if not fitting:
            raise Unfit
        if self.chance(0.6):
            return fitting[-1]
        return fitting[int(self.rng.integers(len(fitting)))]

    def floating(self, *ranks: int) -> Value:
        """An earlier value of the model's float type (of one of the ranks)."""
        return self.value(
            lambda v: v.array.dtype.name == self.dtype and (not ranks or v.rank in ranks)
        )

    # ------------------------------------------------------------ additions

    def fresh(self, prefix: str = "v") -> str:
        self.count += 1
        return f"{prefix}{self.count}"

    def given(self, array: Array) -> Value:
        """A new input."""
        name = self.fresh("x")
        self.inputs[name] = array
        return Value(name, array)

    def weight(self, array: Array) -> Value:
        """A new initializer."""
        name = self.fresh("w")
        self.weights[name] = array
        return Value(name, array)

    def operand(self, array: Array) -> Value:
        """An initializer, sometimes an input."""
        return self.given(array) if self.chance(0.15) else self.weight(array)

    def ints(self, *numbers: int) -> Value:
        return self.weight(np.array(numbers, np.int64))

    def node(
        self,
        kind: str,
        *inputs: Value | None,
        outputs: int = 1,
        exact: bool = False,
        **attributes: Any,
    ) -> list[Value]:
        """Adds a node. Unfit if the reference refuses it or its values are large or not finite."""
        names = ["" if v is None else v.name for v in inputs]
        made = [self.fresh() for _ in range(outputs)]
        node = helper.make_node(kind, names, made, name=made[0], **attributes)
        given = {v.name: v.array for v in inputs if v is not None}
        try:
            arrays = reference(model_of([node], given, made, opset=self.opset), given)
        except Exception as error:  # whatever the reference evaluator raises for what it can't do
            raise Unfit from error
        if any(a is None for a in arrays):
            raise Unfit
        exact = exact and all(v is None or v.exact for v in inputs)
        found = [Value(n, np.asarray(a), exact) for n, a in zip(made, arrays, strict=True)]
        for value in found:
            suitable(value.array)
        self.nodes.append(node)
        return found

    def add(
        self, kind: str, *inputs: Value | None, exact: bool = False, **attributes: Any
    ) -> Value:
        """Adds a node with one output."""
        return self.node(kind, *inputs, exact=exact, **attributes)[0]

    # ------------------------------------------------------------ the whole

    def start(self) -> None:
        """The first inputs: one of rank 4 mostly, else of another."""
        rank = int(self.rng.choice([4, 4, 4, 3, 2, 1, 5]))
        shape = [self.between(1, 4), self.between(1, 7), *(self.between(3, 10) for _ in range(3))]
        self.values.append(self.given(self.drawn(shape[:rank])))

    def grow(
        self, steps: Sequence[Callable[[Grower], Sequence[Value] | Value]], count: int
    ) -> Case:
        """A model of `count` steps."""
        self.start()
        done = tries = 0
        while done < count and tries < 20 * count:
            tries += 1
            before = len(self.nodes), dict(self.inputs), dict(self.weights)
            try:
                result = self.among(steps)(self)
            except Unfit:
                del self.nodes[before[0] :]
                self.inputs, self.weights = before[1], before[2]
                continue
            self.values += [result] if isinstance(result, Value) else result
            done += 1
        return self.finished()

    def finished(self) -> Case:
        """The model whose outputs are the values that nothing reads, and now and then another."""
        read = {n for node in self.nodes for n in node.input}
        made = [n for node in self.nodes for n in node.output]
        outputs = [n for n in made if n not in read or self.chance(0.1)]
        if not outputs:
            raise Unfit
        model = model_of(self.nodes, self.inputs, outputs, self.weights, self.opset)
        arrays = {v.name: v.array for v in self.values} | self.inputs | self.weights
        exposed = model_of(self.nodes, self.inputs, made, self.weights, self.opset)
        arrays |= dict(zip(made, map(np.asarray, reference(exposed, self.inputs)), strict=True))
        return Case(model, self.inputs, arrays)


def suitable(array: Array) -> None:
    """Unfit for arrays that would make later comparisons meaningless or slow."""
    if array.size > LARGEST_SIZE or array.size == 0 or array.ndim > 6:
        raise Unfit
    if array.dtype.kind == "f" and not np.all(np.abs(array) < LARGEST_VALUE):
        raise Unfit


def typed(model: onnx.ModelProto, arrays: Mapping[str, Array]) -> onnx.ModelProto:
    """The model with its outputs' types written, which ONNX Runtime wants."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for output in copy.graph.output:
        a = arrays[output.name]
        code = helper.np_dtype_to_tensor_dtype(a.dtype)
        output.CopyFrom(helper.make_tensor_value_info(output.name, code, a.shape))
    return copy


def initializers(model: onnx.ModelProto) -> dict[str, Array]:
    return {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
