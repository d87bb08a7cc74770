"""The entries of a model that trains where there is no Python: steps, predictions, and what the metrics say.

Everything that changes is state, so that a caller has nothing to give but data: the learning rate and the key of the
random numbers too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

from convc.artifact import FirstState
from convc.errors import ConvcError, ModelError, UnsupportedError, UsageError
from convc.graph.ir import Builder, Graph
from convc.graph.state import NEXT
from convc.keras.engine.graphs import Viewed
from convc.keras.engine.tensor import Variable
from convc.keras.metrics import Mean, Metric
from convc.keras.training.customizable import needs_own_steps, within
from convc.keras.training.data import target_name
from convc.keras.training.optimizer import PREFIX
from convc.keras.training.run import Run
from convc.keras.training.settings import Settings
from convc.keras.training.step import ITERATIONS, LOSS, RATE
from convc.keras.training.tracing import STATE, Trace, state_names
from convc.ops.elementwise import Identity
from convc.ops.values import Value, values
from convc.passes.gradient import with_outputs
from convc.passes.rewriter import renamed_all
from convc.passes.training_mode import SEED_INPUT
from convc.types import DType, TensorType

DRAW = "draw"
"""The seed of predictions that draw (uint32[2]): another one for each call, other numbers."""
CONTROLS = (RATE, ITERATIONS, SEED_INPUT)


@dataclass(frozen=True)
class Standalone:
    """The entries `predict`, `train_step`, `test_step` and `metrics`, and what their state begins with."""

    graphs: Mapping[str, Graph]
    states: Mapping[str, FirstState]


def standalone(model: Any, dtypes: Mapping[str, DType] = MappingProxyType({})) -> Standalone:
    """The entries of a compiled model: ModelError where `compile` wasn't called.

    `train_step` and `test_step` take the model's inputs and targets and give the batch's loss; `metrics` takes nothing
    and gives the means since the sums were zeros. `dtypes` are those of inputs (by name) and of targets (by their
    output's name) that come in another dtype than the model's: kernels cast them. UnsupportedError for a learning rate
    or a metric that only Python can compute.
    """
    if model.overrides_steps:
        raise UnsupportedError(
            f"model {model.name!r}: {type(model).__name__}'s own train_step isn't supported outside of Python"
        )
    if model.has_own_steps:
        name = next(layer.name for layer in within(model) if needs_own_steps(layer))
        raise UnsupportedError(
            f"model {model.name!r}: layer {name!r}, whose call() asks for training or changes state, isn't supported "
            f"outside of Python: expected Keras' own, such as Dropout and BatchNormalization"
        )
    run = model.started_run()
    refuse_functions(run.settings.optimizer)
    types = cast_types(fed_types(model, run), dtypes)
    train = with_own_controls(run.step_graph("train", types), run.settings.optimizer)
    predict = run.predict_graph({p.name: types[p.name] for p in run.ports.inputs})
    graphs = {
        "predict": with_own_draws(predict),
        "train_step": train,
        "test_step": with_own_draws(run.step_graph("test", types)),
        "metrics": metrics_graph(run, train),
    }
    names = [name.removeprefix(NEXT) for name in train.outputs if name.startswith(NEXT)]
    trainable = set(model.trainable_weights)
    return Standalone(graphs, {n: first_state(run, n, train.types[n], trainable) for n in names})


def fed_types(model: Any, run: Run) -> dict[str, TensorType]:
    """The types of the inputs and targets of a step: integer labels where the loss is a sparse one."""
    types = {port.name: port.type for port in run.ports.inputs}
    losses = losses_of(model, [port.name for port in run.ports.outputs])
    for port in run.ports.outputs:
        sparse = "sparse" in losses[port.name]
        labels = TensorType(DType.int64, port.type.shape[:-1])
        types[target_name(port.name)] = labels if sparse else port.type
    return types


def cast_types(types: dict[str, TensorType], dtypes: Mapping[str, DType]) -> dict[str, TensorType]:
    """The types with those dtypes. UsageError for a name that is no input and no output, and for labels as floats."""
    found = dict(types)
    for name, dtype in dtypes.items():
        key = name if name in types else target_name(name)
        if key not in types:
            known = ", ".join(n.removeprefix(target_name("")) for n in types)
            raise UsageError(f"no input or target {name!r}: expected one of {known}")
        if types[key].dtype.is_integer and not dtype.is_integer:
            raise UsageError(f"{name}: its labels are integers, got {dtype.value}")
        found[key] = TensorType(dtype, types[key].shape)
    return found


def losses_of(model: Any, outputs: list[str]) -> Mapping[str, str]:
    """What each output's loss is called."""
    given = model.loss
    by_name = dict(zip(outputs, given, strict=False)) if isinstance(given, list | tuple) else {}
    by_name |= given if isinstance(given, Mapping) else {}
    single = None if by_name else given
    return {name: loss_name(by_name.get(name, single)) for name in outputs}


def loss_name(loss: Any) -> str:
    name = loss if isinstance(loss, str) else type(loss).__name__
    return f"{name} {getattr(loss, 'name', '')} {getattr(loss, '__name__', '')}".lower()


def refuse_functions(optimizer: Any) -> None:
    """UnsupportedError for a learning rate that is a Python function of nothing."""
    if optimizer.schedule is None and not isinstance(optimizer.learning_rate, Variable):
        raise UnsupportedError(
            f"optimizer {optimizer.name!r}: its learning rate is a Python function, which isn't compiled: give it a "
            f"number or a schedule, and set the state {RATE!r} between steps"
        )


def with_own_draws(graph: Graph) -> Graph:
    """A graph that draws outside of training: the input `draw`, uint32[2], is its seed; the state `seed` is another."""
    if SEED_INPUT not in graph.inputs:
        return graph
    builder = Builder(graph.name, dict(graph.weights), reserved=graph.types)
    names = {SEED_INPUT: DRAW}
    for name in sorted(graph.inputs, key=lambda name: name == SEED_INPUT):  # last
        builder.input(names.get(name, name), graph.types[name])
    for node in graph.nodes:
        builder.emit(renamed_all(node, names))
    return builder.finish(graph.outputs)


def with_own_controls(graph: Graph, optimizer: Any) -> Graph:
    """A training step whose learning rate and random key are state.

    What was the input `seed`, the key and the number of the step, is made of the key and `iterations`. The rate is the
    state's, which stays as it is; an optimizer with a schedule computes it from `iterations` and leaves it there.
    """
    builder = Builder(graph.name, dict(graph.weights), reserved=graph.types)
    names: dict[str, str] = {}
    for name in graph.inputs:
        type = TensorType(DType.uint32, ()) if name == SEED_INPUT else graph.types[name]
        builder.input(name, type)
    if SEED_INPUT in graph.inputs:
        key, step = values(builder, (SEED_INPUT, ITERATIONS))
        parts = key.reshape((1,)), step.cast(DType.uint32).reshape((1,))
        names[SEED_INPUT] = parts[0].apply("concat", parts[1], axis=0).name
    given, used = rates(builder, optimizer)
    names[RATE] = used.name
    for node in graph.nodes:
        builder.emit(renamed_all(node, names))
    kept = {RATE: given.name} | ({SEED_INPUT: SEED_INPUT} if SEED_INPUT in graph.inputs else {})
    for name, value in kept.items():
        builder.add(Identity(), value, name=f"{NEXT}{name}")
    return builder.finish((*graph.outputs, *(f"{NEXT}{name}" for name in kept)))


def rates(builder: Builder, optimizer: Any) -> tuple[Value, Value]:
    """The next value of the state `learning_rate`, and the rate that the step takes: `Optimizer.rate_at` as values."""
    given, step = values(builder, (RATE, ITERATIONS))
    if optimizer.schedule is not None:
        given = scheduled(builder, optimizer, step).cast(given.dtype)
    if not optimizer.decay:
        return given, given
    divisor = step.cast(DType.float64) * optimizer.decay + 1.0
    used = (given.cast(DType.float64) / divisor).cast(given.dtype)
    return (given if optimizer.schedule is None else used), used


def scheduled(builder: Builder, optimizer: Any, step: Value) -> Value:
    """The schedule's rate for a step. UnsupportedError if it isn't computed with tensors."""
    owner = f"optimizer {optimizer.name!r}: its schedule {type(optimizer.schedule).__name__}"
    advice = "write it with convc.keras.ops and ops.where"
    try:
        found = Trace(builder).run(optimizer.schedule, step)
    except (ConvcError, TypeError, ValueError) as error:
        raise UnsupportedError(f"{owner} can't be compiled: {error}; {advice}") from error
    if isinstance(found, Value):
        if found.shape != ():
            raise UnsupportedError(f"{owner} gives {found.type}: expected a scalar")
        return found
    number = np.asarray(found)
    if number.shape != () or number.dtype.kind not in "iuf":
        raise UnsupportedError(f"{owner} gives {found!r}: expected a scalar")
    return Value(builder, builder.weight(RATE, number.astype(np.float64)))


def metrics_graph(run: Run, train: Graph) -> Graph:
    """From the sums to the loss and the metrics, by their keys in the logs."""
    builder = Builder(train.name)
    for name in train.inputs:
        if name.startswith(f"{STATE}/"):
            builder.input(name, train.types[name])
    trace = Trace(builder)
    found = {key: mean(builder, key) for key in (LOSS, *run.settings.tracked)}
    for key, metric in run.settings.keyed():
        found |= dict(results(trace, key, metric))
    return with_outputs(builder, {key: value.name for key, value in found.items()})


def mean(builder: Builder, key: str) -> Value:
    """The mean that two sums are of; 0 if nothing was counted."""
    total, count = values(builder, [f"{STATE}/{key}/{k}" for k in (0, 1)])
    return count.equal(0).where(0, total / count)


def results(trace: Trace, key: str, metric: Metric) -> Iterator[tuple[str, Value]]:
    """What a metric makes of its variables: one value, or several by name."""
    if type(metric).result is Mean.result:
        yield key, mean(trace.builder, key)
        return
    for name, variable in state_names(key, metric).items():
        trace.bind(variable, Value(trace.builder, name))
    try:
        found = trace.run(metric.result)
    except ConvcError as error:
        raise UnsupportedError(f"metric {key!r}: its result can't be compiled: {error}") from error
    named = found if isinstance(found, Mapping) else {key: found}
    for name, value in named.items():
        if not isinstance(value, Value):
            raise UnsupportedError(
                f"metric {key!r}: its result isn't computed by keras.ops: it can't be compiled"
            )
        yield name, value


def first_state(run: Run, name: str, type: TensorType, trainable: set[Variable]) -> FirstState:
    """A state's kind and first value, to be seen in the shape of the model's variable."""
    if name in CONTROLS:
        return FirstState("control", control(run, name, type))
    value = run.session.read(name)
    if name.startswith(f"{STATE}/"):
        return FirstState("metric", value)
    if name in run.weights:
        weight = run.weights[name]
        kind = "parameter" if weight.variable in trainable else "statistic"
        return FirstState(kind, value, weight.unseen)
    return FirstState("optimizer", value, partial(unseen_slot, run.weights.get(owner_of(name))))


def control(run: Run, name: str, type: TensorType) -> np.ndarray:
    """The first value of what steers the steps, as a scalar."""
    found = {
        RATE: run.settings.optimizer.rate_at(run.iterations),
        ITERATIONS: run.iterations,
        SEED_INPUT: run.key & 0xFFFFFFFF,
    }
    return np.array(found[name], type.dtype.numpy)


def owner_of(slot: str) -> str:
    """The parameter that an optimizer's state `optimizer/parameter/slot` belongs to."""
    return slot.removeprefix(f"{PREFIX}/").rpartition("/")[0]


def unseen_slot(weight: Viewed | None, array: np.ndarray) -> np.ndarray:
    """A slot in its variable's shape; a number that belongs to none as it is."""
    return array if weight is None else weight.unseen(array)


def require_compiled(model: Any, optimizer: str | None, loss: str | None, metrics: Any) -> None:
    """Compiles a model as the command line says, if it does. ModelError for a model that doesn't know how to train."""
    name = getattr(model, "name", "the model")
    if not hasattr(model, "started_run"):
        raise ModelError(f"{name}: only a Keras model can be trained: an ONNX file has no loss")
    if optimizer is None and loss is None and not metrics:
        if not model.compiled:
            raise ModelError(
                f"{name}: how is it trained? Let the script call model.compile(optimizer, loss, metrics), "
                f"or say --optimizer and --loss"
            )
        return
    if loss is None and not model.compiled:
        raise ModelError(f"{name}: --loss is missing, such as sparse_categorical_crossentropy")
    settings = model.started_run().settings if model.compiled else Settings(None)
    model.compile(
        optimizer or settings.optimizer or "rmsprop",
        settings.loss if loss is None else loss,
        settings.loss_weights,
        list(metrics) or settings.metrics,
        settings.weighted_metrics,
    )
