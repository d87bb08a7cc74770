"""A whole training step as one graph: forward, loss, metrics, backward, update.

State is an input and an output: the next value of the input `p` is the output `next/p`, of the same type, and the two
may share their memory.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from convc.errors import ModelError, UsageError
from convc.graph.ir import Builder, Graph
from convc.graph.state import NEXT, next_values
from convc.keras.engine.graphs import Viewed
from convc.keras.training.optimizer import (
    NO_CONSTRAINTS,
    PREFIX,
    Constraint,
    all_slots,
    scalar_type,
    slot_name,
    updated,
)
from convc.keras.training.rules import Rule
from convc.keras.training.tracing import Trace, trace_of
from convc.ops.differentiation import live
from convc.ops.values import Value, values
from convc.passes.gradient import add_gradients, with_outputs
from convc.passes.training_mode import TrainingGraph
from convc.types import DType, TensorType

ITERATIONS = "iterations"
RATE = "learning_rate"
LOSS = "loss"

Penalty = Callable[[Trace], "Value | None"]

NO_VARIABLES: Mapping[str, Viewed] = {}


def no_penalty(trace: Trace) -> Value | None:
    """Nothing beside the targets' losses."""
    return None


class Scorer(Protocol):
    """What one output is trained towards: its part of the loss, and what it adds to sums."""

    def scored(
        self, trace: Trace, y_pred: Value, mask: Value | None = None
    ) -> tuple[Value | None, dict[str, Value]]:
        """A scalar, if there is a loss, and the next values of state by name; inputs go to the trace's builder.

        `mask` says which of the output's values count.
        """
        ...


def train_step(
    forward: TrainingGraph,
    targets: Sequence[Scorer],
    parameters: Sequence[str],
    rule: Rule,
    without_decay: Collection[str] = (),
    penalty: Penalty = no_penalty,
    constraints: Mapping[str, Constraint] = NO_CONSTRAINTS,
    variables: Mapping[str, Viewed] = NO_VARIABLES,
    masked: Sequence[int] = (),
) -> Graph:
    """The step's graph. `targets` has one for each output; `penalty` is a scalar that the loss gets besides;
    `constraints` are what parameters go through after the update; `masked` are the outputs that have a mask.

    Beside the forward graph's inputs it takes the targets, `iterations`, `learning_rate`, the optimizer's state and
    the metrics' sums. Its outputs are the loss and the next state.
    """
    builder = forward.builder
    trace = trace_of(builder, variables)
    loss, state = scored(trace, forward.outputs, targets, penalty, masked)
    state |= {name: Value(builder, value) for name, value in forward.state.items()}
    trained = {p: Value(builder, p) for p in parameters}
    rate = Value(builder, builder.input(RATE, TensorType(loss.dtype, ())))
    iterations = Value(builder, builder.input(ITERATIONS, TensorType(DType.int64, ())))
    expect_dependence(builder, loss, parameters)
    names = add_gradients(builder, loss.name, parameters)
    gradients = dict(zip(parameters, values(builder, names), strict=True))
    slots = optimizer_inputs(builder, rule, trained)
    state |= updated(rule, trained, gradients, slots, iterations, rate, without_decay, constraints)
    state[ITERATIONS] = iterations + 1
    return finished(builder, loss, state)


def expect_dependence(builder: Builder, loss: Value, parameters: Sequence[str]) -> None:
    """UsageError for a loss that none of the parameters decides: such a training would change nothing."""
    read = {loss.name, *(name for node in live(builder.nodes, [loss.name]) for name in node.inputs)}
    if parameters and read.isdisjoint(parameters):
        raise UsageError(
            f"no gradients for any of the {len(parameters)} trainable weights: the loss doesn't depend on them; "
            "expected a loss that is computed of the model's outputs (y_pred)"
        )


def test_step(
    graph: Graph,
    targets: Sequence[Scorer],
    penalty: Penalty = no_penalty,  # noqa: PT028 - no test function
    variables: Mapping[str, Viewed] = NO_VARIABLES,  # noqa: PT028
    masked: Sequence[int] = (),  # noqa: PT028
) -> Graph:
    """The graph that adds a batch to the loss's and the metrics' sums."""
    builder = Builder(graph.name, dict(graph.weights))
    for name in graph.inputs:
        builder.input(name, graph.types[name])
    for node in graph.nodes:
        builder.emit(node)
    loss, state = scored(trace_of(builder, variables), graph.outputs, targets, penalty, masked)
    return finished(builder, loss, state)


def scored(
    trace: Trace,
    outputs: Sequence[str],
    targets: Sequence[Scorer],
    penalty: Penalty = no_penalty,
    masked: Sequence[int] = (),
) -> tuple[Value, dict[str, Value]]:
    """The sum of the targets' losses and the penalty, and the next sums of metrics.

    Outputs after those of the targets are the masks of the `masked` ones, then what layers add to the loss: their
    elements are summed.
    """
    builder = trace.builder
    total: Value | None = None
    state: dict[str, Value] = {}
    first = len(targets) + len(masked)
    scored_outputs = values(builder, outputs[: len(targets)])
    masks = dict(zip(masked, values(builder, outputs[len(targets) : first]), strict=True))
    for k, (target, y_pred) in enumerate(zip(targets, scored_outputs, strict=True)):
        part, sums = target.scored(trace, y_pred, masks.get(k))
        state |= sums
        if part is not None:
            total = part if total is None else total + part
    added = [v.sum(range(v.rank)) if v.rank else v for v in values(builder, outputs[first:])]
    extra = penalty(trace)
    for part in (*added, *([] if extra is None else [extra])):
        total = part if total is None else total + part.cast(total.dtype)
    if total is None:
        raise ModelError("a model in training needs a loss for one of its outputs")
    return total, {**state, **summed(builder, LOSS, weighted_by_rows(builder, outputs[0], total))}


def weighted_by_rows(builder: Builder, output: str, value: Value) -> list[Value]:
    """(value * rows, rows), where rows are those of the batch: what a mean over batches sums."""
    count = Value(builder, output).count((0,))
    rows = count if isinstance(count, Value) else value.constant(count)
    rows = rows.cast(value.dtype)
    return [value * rows, rows]


def summed(builder: Builder, name: str, parts: Sequence[Value]) -> dict[str, Value]:
    """The next sums of a metric."""
    found = {}
    for k, part in enumerate(parts):
        state = f"metrics/{name}/{k}"
        found[state] = Value(builder, builder.input(state, part.type)) + part
    return found


def optimizer_inputs(
    builder: Builder, rule: Rule, parameters: Mapping[str, Value]
) -> dict[str, Value]:
    """The optimizer's state as inputs."""
    given = {n: v.type for n, v in parameters.items()}
    types = {f"{PREFIX}/{name}": scalar_type(given) for name in rule.scalars}
    types |= {slot_name(p, s): v.type for p, v in parameters.items() for s in all_slots(rule)}
    return {name: Value(builder, builder.input(name, type)) for name, type in types.items()}


def finished(builder: Builder, loss: Value, state: Mapping[str, Value]) -> Graph:
    """The builder's graph with the loss and the next state as outputs."""
    outputs = {LOSS: loss.name, **{f"{NEXT}{name}": v.name for name, v in state.items()}}
    graph = with_outputs(builder, outputs)
    next_values(graph)
    return graph
