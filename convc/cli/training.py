"""Compiling for training on a device: `convc compile --train`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from convc_runtime import Description, StateInfo
from convc_runtime.arrays import numpy_dtype

from convc import driver
from convc.artifact import Artifact
from convc.cli.building import Built, Request
from convc.cli.stages import Stages
from convc.errors import TargetError, UsageError
from convc.keras import saving
from convc.keras.training.standalone import require_compiled, standalone
from convc.scripts import KERAS_SUFFIXES, Shapes, load_model
from convc.target import Target
from convc.types import DType

KINDS = ("parameter", "statistic", "optimizer", "metric", "control")


def build(
    request: Request,
    *,
    optimizer: str | None = None,
    loss: str | None = None,
    metrics: str | None = None,
    dtypes: Mapping[str, str] | None = None,
) -> Built:
    """Compiles the model with its training: the entries predict, train_step, test_step and metrics on one state.

    How it is trained is what the script gave to `compile`, or what the names say; `metrics` are separated by commas.
    `dtypes` are those that inputs and labels come as, by name.
    """
    options, source = request.options, request.source
    machine = cpu_target(request.target)
    if options.mode != "inference" or options.optimize != "speed":
        raise UsageError("--train: --exact and --optimize size are for predictions alone")
    if source.endswith(".onnx"):
        raise UsageError(
            f"{source}: --train is for model scripts and Keras files: ONNX has no loss"
        )
    start = time.perf_counter()
    model = model_of(
        source, request.shapes, compiled=optimizer is None and loss is None and metrics is None
    )
    require_compiled(model, optimizer, loss, names_in(metrics))
    made = standalone(model, {name: dtype_named(d) for name, d in (dtypes or {}).items()})
    graphs = driver.at_batch(made.graphs, request.batch)
    stages = Stages()
    for entry, graph in graphs.items():
        stages("graph", f"{entry}-input", graph)
    options = replace(options, mode="training", in_place=True)
    trace = stages if request.keep else None
    compiled = driver.compile_graphs(model.name, graphs, machine, options, trace)
    artifact = with_schedule(compiled.artifact.with_state(made.states), model)
    compiled = replace(compiled, artifact=artifact)
    return Built(model.name, machine, graphs, compiled, stages, time.perf_counter() - start)


def with_schedule(artifact: Artifact, model: Any) -> Artifact:
    """The same artifact, which says in its `extra` which schedule decides the learning rate, None where none does."""
    schedule = model.started_run().settings.optimizer.schedule
    name = None if schedule is None else type(schedule).__name__
    extra = {**artifact.description.extra, "schedule": name}
    return replace(artifact, description=replace(artifact.description, extra=extra))


def model_of(source: str, shapes: Shapes | None, compiled: bool) -> Any:
    """The model of a script or a Keras file; with `compiled`, the file says how it is trained and where it stands."""
    if compiled and source.endswith(KERAS_SUFFIXES):
        return saving.load_model(source, compile=True, input_shapes=shapes)
    return load_model(source, shapes)


def dtype_named(name: str) -> DType:
    """A dtype that an array can come as. UsageError for others."""
    known = [d.value for d in DType if d is not DType.bool]
    if name not in known:
        raise UsageError(f"--dtype: expected one of {', '.join(known)}, got {name!r}")
    return DType(name)


def cpu_target(name: str) -> Target:
    machine = driver.host_target(name)
    if machine.kind != "cpu":
        raise TargetError(
            f"target {name}: --train compiles for CPUs: expected host, or the name of one"
        )
    return machine


def names_in(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def state_rows(description: Description) -> list[dict[str, object]]:
    """Each state as users see it: kind, name, dtype, shape, bytes."""
    return [
        {
            "kind": s.kind,
            "name": s.name,
            "dtype": s.dtype,
            "shape": list(s.shape),
            "bytes": bytes_of(s),
        }
        for s in description.states
    ]


def state_bytes(description: Description) -> dict[str, int]:
    """The bytes of each kind of state."""
    found = dict.fromkeys(KINDS, 0)
    for info in description.states:
        found[info.kind] += bytes_of(info)
    return found


def bytes_of(info: StateInfo) -> int:
    count = 1
    for extent in info.shape:
        count *= extent
    return count * numpy_dtype(info.dtype).itemsize
