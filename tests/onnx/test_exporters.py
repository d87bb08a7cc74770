"""Smallest forms of what models of real exporters needed (see `benchmarks/exporters`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convc import driver
from convc.onnx.importer import import_model
from tests.onnx.fuzz.grower import reference
from tests.onnx.models import model_of, node

RNG = np.random.default_rng(23)


def f32(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


def agrees(model: Any, *shape: int) -> None:
    """One compilation with a symbolic batch gives what the reference gives, for several batches."""
    compiled = driver.compile(import_model(model))
    for batch in (1, 3):
        x = f32(batch, *shape)
        (wanted,) = reference(model, {"x": x})
        np.testing.assert_allclose(compiled(x), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_resizing_keeps_a_symbolic_batch(mode: str) -> None:
    """PyTorch's Upsample and interpolate, Keras' UpSampling2D."""
    rounding = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    resize = node("Resize", "x _ s", mode=mode, **(rounding if mode == "nearest" else {}))
    scales = {"s": np.array([1, 1, 2, 2], np.float32)}
    model = model_of([resize], {"x": (np.float32, ["batch", 3, 5, 4])}, ["y"], scales)
    agrees(model, 3, 5, 4)


def test_the_larger_of_two_batches_is_the_batch() -> None:
    """tf2onnx broadcasts the batches of an Einsum through Max of their dimensions."""
    nodes = [
        node("Shape", "x", "s"), node("Gather", "s i", "n"), node("Max", "n n", "m"), node("Max", "one m", "l"),
        node("Min", "n l", "k"), node("Concat", "k rest", "t", axis=0), node("Reshape", "x t", "y"),
    ]  # fmt: skip
    weights = {"i": np.array([0]), "one": np.array([1]), "rest": np.array([-1])}
    agrees(model_of(nodes, {"x": (np.float32, ["batch", 3, 4])}, ["y"], weights), 3, 4)


def test_sequences_are_reversed_with_a_symbolic_batch() -> None:
    """tf2onnx: the backward half of a bidirectional layer, with one length for all."""
    nodes = [
        node("Transpose", "x", "t", perm=[1, 0, 2]), node("Shape", "t", "s"), node("Gather", "s one", "n"),
        node("Gather", "s zero", "steps"), node("Expand", "steps n", "lengths"),
        node("ReverseSequence", "t lengths", "y", time_axis=0, batch_axis=1),
    ]  # fmt: skip
    weights = {"one": np.array([1]), "zero": np.array([0])}
    agrees(model_of(nodes, {"x": (np.float32, ["batch", 5, 4])}, ["y"], weights), 5, 4)
