"""The graph of a whole training step of a model that a script has compiled, and the state it begins with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from convc.errors import ModelError
from convc.graph.ir import Array, Graph
from convc.keras.training.data import target_name
from convc.keras.training.step import RATE
from convc.passes.training_mode import SEED_INPUT
from convc.types import DType, TensorType


def training_graph(model: Any) -> tuple[Graph, dict[str, Array]]:
    """One step as a graph, and the first values of its state, of the learning rate and of the random numbers' seed.

    Inputs besides are the model's own and its targets. ModelError if the script hasn't called `compile`.
    """
    if not getattr(model, "compiled", False):
        name = getattr(model, "name", "the model")
        raise ModelError(
            f"{name}: --training needs the script to call model.compile(optimizer, loss)"
        )
    run = model.started_run()
    types = {port.name: port.type for port in run.ports.inputs}
    losses = losses_of(model, [port.name for port in run.ports.outputs])
    for port in run.ports.outputs:
        sparse = "sparse" in losses[port.name]
        labels = TensorType(DType.int64, port.type.shape[:-1])
        types[target_name(port.name)] = labels if sparse else port.type
    graph = run.step_graph("train", types)
    state = {n: run.session.read(n) for n in graph.inputs if n in run.session}
    if RATE in graph.inputs:
        rate = run.settings.optimizer.rate_at(run.iterations)
        state[RATE] = np.asarray(rate, graph.types[RATE].dtype.numpy)
    if SEED_INPUT in graph.inputs:
        state[SEED_INPUT] = np.array([run.seed[0], run.iterations], np.uint32)
    return graph, state


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
