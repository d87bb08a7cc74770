"""What trains: each gets the same images, labels and initial weights and gives a function that does one step.

A step computes the loss and the accuracy too, in float32. Each function imports its framework itself, so that a process
needs that one only.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from benchmarks.training_networks import LEARNING_RATE, Row

Arrays = Any


@dataclass(frozen=True)
class Trainer:
    """`step` trains on the batch once and returns the loss; `flops` are those of a step, where they are known."""

    step: Callable[[], float]
    parameters: int
    """How many numbers are trained."""
    flops: int = 0


def start_convc(
    row: Row, threads: int, images: Arrays, labels: Arrays, weights: list[Arrays]
) -> Trainer:
    """The compiled step as `fit` runs it."""
    found = _compiled_step(row, threads, images, labels, weights)
    gc.collect()  # the model, whose layers know one another: its weights are the context's now
    return found


def _compiled_step(
    row: Row, threads: int, images: Arrays, labels: Arrays, weights: list[Arrays]
) -> Trainer:
    from benchmarks import training_steps as ours

    training, compiled = ours.compile_row(row, weights)
    graph = training.graphs[ours.STEP]
    inputs = ours.given(graph, training, row.batch)
    for name, array in inputs.items():
        if array.shape == images.shape:
            inputs[name] = images.astype(array.dtype)
        elif name.startswith("target/"):
            inputs[name] = labels.astype(array.dtype)
    context, given = ours.started(compiled.artifact.model(threads), inputs)
    entry = context.entries[ours.STEP]
    loss: Any = None

    def step() -> float:
        nonlocal loss
        loss = entry(given, out=loss)
        return float(loss)

    count = sum(inputs[name].size for name in training.parameters)
    return Trainer(step, count, round(ours.flops(compiled, row.batch)))


def start_torch(
    row: Row,
    threads: int,
    images: Arrays,
    labels: Arrays,
    weights: list[Arrays],
    compiled: bool = False,
) -> Trainer:
    """Eager, or through torch.compile; channels_last, which is the faster layout on these CPUs."""
    import torch

    from benchmarks import training_torch as networks

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    module = networks.network_of(row, weights).to(memory_format=torch.channels_last).train()
    optimizer = networks.optimizer_of(row, module, LEARNING_RATE)
    scored = torch.nn.CrossEntropyLoss()
    x = torch.from_numpy(networks.as_given(row, images)).permute(0, 3, 1, 2)
    y = torch.from_numpy(labels)
    forward: Any = torch.compile(module) if compiled else module

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        logits = forward(x)
        loss = scored(logits, y)
        loss.backward()
        optimizer.step()
        (logits.argmax(1) == y).sum().item()
        return float(loss.item())

    return Trainer(step, sum(p.numel() for p in module.parameters()))


def start_keras(
    row: Row,
    threads: int,
    images: Arrays,
    labels: Arrays,
    weights: list[Arrays],
    backend: str,
    jit: bool,
) -> Trainer:
    """The step that `fit` runs, without its callbacks and progress bar."""
    os.environ |= {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    if backend == "tensorflow":
        _threads_of_tensorflow(threads)
    import keras

    keras.utils.set_random_seed(0)
    model = row.network(keras)
    model.set_weights(weights)
    optimizer = getattr(keras.optimizers, row.optimizer)(LEARNING_RATE, **row.options)
    loss = "sparse_categorical_crossentropy"
    model.compile(optimizer=optimizer, loss=loss, metrics=["accuracy"], jit_compile=jit)
    count = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    if backend == "tensorflow":
        return Trainer(_tensorflow_step(model, images, labels), count)
    return Trainer(lambda: _new_loss(model, model.train_on_batch(images, labels)), count)


def _threads_of_tensorflow(threads: int) -> None:
    import tensorflow

    tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
    tensorflow.config.threading.set_inter_op_parallelism_threads(threads)


def _tensorflow_step(model: Any, images: Arrays, labels: Arrays) -> Callable[[], float]:
    """Keras' own compiled function, fed by tf.data."""
    import tensorflow

    batches = iter(tensorflow.data.Dataset.from_tensors((images, labels)).repeat())
    model.make_train_function()

    def step() -> float:
        return _new_loss(model, float(model.train_function(batches)["loss"]))

    return step


def _new_loss(model: Any, found: Any) -> float:
    """The loss of one step: Keras reports the mean since the metrics were reset."""
    model.reset_metrics()
    return float(found[0] if isinstance(found, list) else found)


STARTERS: dict[str, Callable[[Row, int, Arrays, Arrays, list[Arrays]], Trainer]] = {
    "convc": start_convc,
    "torch": start_torch,
    "torch-compile": partial(start_torch, compiled=True),
    "keras-tf": partial(start_keras, backend="tensorflow", jit=False),
    "keras-tf-xla": partial(start_keras, backend="tensorflow", jit=True),
    "keras-jax": partial(start_keras, backend="jax", jit=True),
}
PACKAGES = {
    "convc": "convc",
    "torch": "torch",
    "torch-compile": "torch",
    "keras-tf": "tensorflow",
    "keras-tf-xla": "tensorflow",
    "keras-jax": "jax",
}
"""What a contender's interpreter must have."""
