"""What a compiled training step costs: `python -m benchmarks.training_steps [--row TEXT] [--threads 1 2] [--kernels]`.

Milliseconds per step, the best of several runs, and what share of the machine's FMA peak that is.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from convc_runtime import Context, Model
from rich.console import Console
from rich.table import Table

from benchmarks.training_networks import LEARNING_RATE, ROWS, Row
from convc import keras
from convc.cli.peak import fma_peak
from convc.cli.stepping import Stepper
from convc.driver import Compiled, Options, compile_graphs, host_target
from convc.graph.ir import Graph
from convc.keras import losses, metrics
from convc.keras.training import rules
from convc.keras.training.model import Training, training_of
from convc.keras.training.scoring import Scoring
from convc.report import total_flops
from convc.types import Dim, DType, TensorType, evaluate

SEED = 7
STEP = "train_step"


def scoring() -> Scoring:
    """Crossentropy of integer labels, and accuracy."""
    type = TensorType(DType.int64, (Dim.symbol("N"),))
    accuracy = ("accuracy", metrics.SparseCategoricalAccuracy())
    loss = losses.SparseCategoricalCrossentropy()
    return Scoring("scores", type, None, loss, 1.0, [accuracy], ())


def compile_row(row: Row, weights: Sequence[Any] | None = None) -> tuple[Training, Compiled]:
    """The compiled step of a network, with the weights given in place of those that it draws."""
    rule = getattr(rules, row.optimizer)(**row.options)
    model = row.network(keras)
    if weights is not None:
        model.set_weights(weights)
    training = training_of(model, [scoring()], rule)
    graphs = {STEP: training.graphs[STEP]}
    return training, compile_graphs(
        "training", graphs, host_target(), Options("training", in_place=True)
    )


def given(graph: Graph, training: Training, batch: int) -> dict[str, Any]:
    """Random images and labels, and the first state: no copies of the model's weights."""
    rng = np.random.default_rng(SEED)
    found: dict[str, Any] = dict(training.first_state())
    for name in graph.inputs:
        type = graph.types[name]
        shape = [batch if isinstance(e, Dim) else e for e in type.shape]
        if name in found:
            continue
        if name == "learning_rate":
            found[name] = np.array(LEARNING_RATE, type.dtype.numpy)
        elif type.dtype.is_float:
            found[name] = rng.uniform(0, 1, shape).astype(type.dtype.numpy)
        else:
            found[name] = rng.integers(0, 10, shape).astype(type.dtype.numpy)
    return {n: np.asarray(found[n]) for n in graph.inputs}


def started(model: Model, inputs: dict[str, Any]) -> tuple[Context, dict[str, Any]]:
    """A context with the first state, and the inputs that aren't state."""
    context = model.context()
    names = {s.name for s in context.states}
    for name in names:
        context.set(name, inputs[name])
    return context, {n: a for n, a in inputs.items() if n not in names}


def seconds_per_step(model: Model, inputs: dict[str, Any], seconds: float) -> float:
    """The fastest of the steps that fit into so many seconds."""
    context, inputs = started(model, inputs)
    entry = context.entries[STEP]
    out = entry(inputs)
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        entry(inputs, out=out)
        best = min(best, time.perf_counter() - start)
    return best


def flops(compiled: Compiled, batch: int) -> float:
    return float(evaluate(total_flops(compiled.rows[STEP]), {"N": batch}))


def fastest(stepper: Stepper, seconds: float) -> list[float]:
    """The least seconds that each step took in whole runs."""
    best = [float("inf")] * len(stepper.entry.steps)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or best[-1] == float("inf"):
        best = [min(b, stepper.run(i)) for i, b in enumerate(best)]
    return best


def kernels_table(row: Row, compiled: Compiled, inputs: dict[str, Any], seconds: float) -> Table:
    """The steps of the entry with their kernels, the slowest first, as far as they count."""
    (entry,) = compiled.program.entries
    stepper = Stepper(compiled.program, entry, compiled.artifact, inputs)
    times = fastest(stepper, seconds)
    table = Table("ms", "kernel", "strategy", "tile", "ops", "layers", "shapes", title=row.name)
    order = sorted(range(len(times)), key=lambda i: -times[i])
    for i in order:
        if times[i] < 0.01 * sum(times):
            break
        step = entry.steps[i]
        kernel = compiled.program.kernels[step.kernel]
        notes = dict(kernel.notes)
        shapes = " ".join("x".join(map(str, b.shape)) for b in kernel.params)
        table.add_row(
            f"{times[i] * 1e3:.3f}", step.kernel, notes.get("strategy", ""), notes.get("tile", ""),
            notes.get("ops", ""), " ".join(step.layers), shapes,
        )  # fmt: skip
    table.add_row(f"{sum(times) * 1e3:.3f}", f"{len(times)} steps", "", "", "", "", "")
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--row", default="", help="only rows with this in their names")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=3.0, help="for each measurement")
    parser.add_argument("--kernels", action="store_true", help="what each kernel takes")
    options = parser.parse_args(arguments)
    console = Console(width=None if not options.kernels else 260)
    table = Table(
        "network (batch)", "GFLOP/step", "threads", "ms/step", "share of peak", "compile s"
    )
    for row in ROWS:
        if options.row not in row.name:
            continue
        start = time.perf_counter()
        training, compiled = compile_row(row)
        took = time.perf_counter() - start
        inputs = given(training.graphs[STEP], training, row.batch)
        work = flops(compiled, row.batch)
        if options.kernels:
            console.print(kernels_table(row, compiled, inputs, options.seconds))
        for threads in options.threads:
            model = compiled.artifact.model(threads)
            best = seconds_per_step(model, inputs, options.seconds)
            model.close()
            share = work / best / fma_peak(threads)
            table.add_row(
                f"{row.name} ({row.batch})", f"{work / 1e9:.2f}", str(threads), f"{best * 1e3:.2f}",
                f"{share:.0%}", f"{took:.1f}",
            )  # fmt: skip
    console.print(table)


if __name__ == "__main__":
    main()
