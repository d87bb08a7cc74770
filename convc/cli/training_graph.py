"""The graph of a whole training step of a model that a script has compiled, and the state it begins with."""

from __future__ import annotations

from typing import Any

import numpy as np

from convc.errors import ModelError
from convc.graph.ir import Array, Graph
from convc.keras.training.standalone import fed_types
from convc.keras.training.step import RATE
from convc.passes.training_mode import SEED_INPUT


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
    types = fed_types(model, run)
    graph = run.step_graph("train", types)
    state = {n: run.session.read(n) for n in graph.inputs if n in run.session}
    if RATE in graph.inputs:
        rate = run.settings.optimizer.rate_at(run.iterations)
        state[RATE] = np.asarray(rate, graph.types[RATE].dtype.numpy)
    if SEED_INPUT in graph.inputs:
        state[SEED_INPUT] = np.array([run.seed[0], run.iterations], np.uint32)
    return graph, state
