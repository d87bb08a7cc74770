"""From a model to the entries that train it, and back from their state to the model's variables."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from convc.errors import ModelError
from convc.graph.ir import Builder, Graph
from convc.graph.state import NEXT
from convc.keras.engine.graphs import Reads, Viewed
from convc.keras.engine.layer import Layer
from convc.keras.engine.open_sizes import Sizes
from convc.keras.engine.tensor import Variable
from convc.keras.layers.norm import BatchNormalization
from convc.keras.training.optimizer import first_state
from convc.keras.training.penalties import constraints_of, regularization
from convc.keras.training.rules import Rule
from convc.keras.training.step import ITERATIONS, Scorer, test_step, train_step
from convc.ops.elementwise import Cast
from convc.ops.norm import BatchNorm, MaskedBatchNorm
from convc.passes.rewriter import renamed_all
from convc.passes.training_mode import training_mode, with_inputs
from convc.types import DType, TensorType


class Trainable(Protocol):
    """A model with a graph: what training needs to know of it."""

    @property
    def trainable_weights(self) -> list[Variable]: ...

    @property
    def sublayers(self) -> list[Layer]: ...

    @property
    def masked_outputs(self) -> list[int]: ...

    def graph_of_variables(
        self,
        losses: bool = False,
        sizes: Sizes | None = None,
        nominal: bool = False,
        reads: Reads | None = None,
    ) -> tuple[Graph, dict[str, Viewed]]: ...


@dataclass(frozen=True)
class Trained:
    """Which variables are trained, and which layers: the latter's batch norms use the batch's statistics."""

    variables: frozenset[Variable]
    layers: frozenset[Layer]


def trained_in(model: Trainable) -> Trained:
    """What the model's `trainable` flags say now."""
    layers = frozenset(layer for layer in all_layers(model) if layer.trainable)
    return Trained(frozenset(model.trainable_weights), layers)


@dataclass(frozen=True)
class Training:
    """The entries `train_step` and `test_step`, and what their state is in the model.

    `parameters` are the trained ones; `weights` has every variable that the entries read or write.
    """

    graphs: Mapping[str, Graph]
    parameters: tuple[str, ...]
    weights: Mapping[str, Viewed]
    rule: Rule

    def first_state(self) -> dict[str, Any]:
        """The state before the first step: the model's variables, and what the optimizer and metrics begin with."""
        inputs = self.graphs["train_step"].inputs
        values = {n: v.array for n, v in self.weights.items() if n in inputs}
        return {**values, **self.first_slots()}

    def first_slots(self) -> dict[str, Any]:
        """The state before the first step, but for the model's variables. Nobody may write to these arrays."""
        step = self.graphs["train_step"]
        state = first_state(self.rule, {p: step.types[p] for p in self.parameters})
        state[ITERATIONS] = np.zeros((), np.int64)
        return {**state, **self.first_metrics()}

    def first_metrics(self) -> dict[str, Any]:
        """Zeros for the sums of the loss and the metrics."""
        step = self.graphs["train_step"]
        names = [n for n in step.inputs if n.startswith("metrics/")]
        shapes: dict[str, Any] = {n: step.types[n].shape for n in names}
        return {n: np.zeros(shapes[n], step.types[n].dtype.numpy) for n in names}

    def assign(self, state: Mapping[str, Any]) -> None:
        """Gives the model's variables their values in a state."""
        step = self.graphs["train_step"]
        for name, weight in self.weights.items():
            if f"{NEXT}{name}" in step.outputs:
                weight.assign(np.asarray(state[name]))


def training_of(
    model: Trainable,
    targets: Sequence[Scorer],
    rule: Rule,
    dtypes: Mapping[str, DType] | None = None,
    without_decay: Collection[Variable] = (),
    trained: Trained | None = None,
    varying: Collection[str] = (),
    sizes: Sizes | None = None,
) -> Training:
    """The entries for a model with one target per output.

    The variables' regularizers and constraints are in them, and what layers add to the loss.
    `dtypes` are those in which inputs come, where they differ from the model's; `trained` is what is trained, where
    the model's flags don't say it. Frozen layers' variables are constants, but for the `varying` ones, which are
    inputs; their batch norms keep their moving statistics. `sizes` are the inputs' shapes, where the model leaves some
    open. ModelError where a variable is read in two ways,
    so that it would be two parameters.
    """
    trained = trained or trained_in(model)

    def reads(variable: Variable) -> bool:
        return not (variable.can_wait and variable in trained.variables)

    graph, weights = model.graph_of_variables(losses=True, sizes=sizes, reads=reads)
    graph = with_input_dtypes(graph, dtypes or {})
    check_single(weights)
    parameters = tuple(n for n, w in weights.items() if w.variable in trained.variables)
    moving = momenta(trained.layers, graph, weights)
    forward = training_mode(with_inputs(graph, varying), parameters, moving)
    penalty = regularization(weights, trained.variables)
    kept = set(without_decay)
    constant = [n for n in parameters if weights[n].variable in kept]
    constraints = constraints_of(weights, parameters)
    masked = tuple(model.masked_outputs)
    settings = (constant, penalty, constraints, weights, masked)
    step = train_step(forward, targets, parameters, rule, *settings)
    # Evaluation reads what training writes.
    changing = [n for n in weights if f"{NEXT}{n}" in step.outputs or n in varying]
    unread = [n for n, w in weights.items() if n not in changing and not reads(w.variable)]
    graph = replace(graph, weights={**graph.weights, **{n: weights[n].array for n in unread}})
    test = test_step(with_inputs(graph, changing), targets, penalty, weights, masked)
    return Training({"train_step": step, "test_step": test}, parameters, weights, rule)


def with_input_dtypes(graph: Graph, dtypes: Mapping[str, DType]) -> Graph:
    """The graph with inputs of other dtypes, each cast to the one that its readers expect."""
    changed = {
        n: d for n, d in dtypes.items() if n in graph.inputs and graph.types[n].dtype is not d
    }
    if not changed:
        return graph
    builder = Builder(graph.name, dict(graph.weights), reserved=graph.types)
    names = {}
    for name in graph.inputs:
        type = graph.types[name]
        builder.input(name, TensorType(changed.get(name, type.dtype), type.shape))
    for name in changed:
        cast = builder.fresh(f"{name}/cast")
        names[name] = builder.add(Cast(graph.types[name].dtype), name, name=cast)
    for node in graph.nodes:
        builder.emit(renamed_all(node, names))
    return builder.finish(graph.outputs)


def check_single(weights: Mapping[str, Viewed]) -> None:
    seen: set[Any] = set()
    for weight in weights.values():
        if weight.variable in seen:
            raise ModelError(
                f"{weight.variable.path} is used in two ways (transposed and not): it can't be trained"
            )
        seen.add(weight.variable)


def momenta(
    layers: Collection[Layer], graph: Graph, weights: Mapping[str, Viewed]
) -> dict[str, float]:
    """The momentum of each layer whose batch norm trains, by the name of its nodes."""
    owners = {
        id(layer.moving_mean): layer
        for layer in layers
        if isinstance(layer, BatchNormalization) and layer.built
    }
    found = {}
    for node in graph.nodes:
        if isinstance(node.op, (BatchNorm, MaskedBatchNorm)) and node.inputs[3] in weights:
            layer = owners.get(id(weights[node.inputs[3]].variable))
            if layer is not None:
                found[node.layer] = layer.momentum
    return found


def all_layers(layer: Any) -> list[Layer]:
    """A layer and those inside it."""
    return [layer, *(inner for part in layer.sublayers for inner in all_layers(part))]
