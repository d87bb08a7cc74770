"""Smallest forms of what models of real exporters needed (see `benchmarks/exporters`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

from convc import driver
from convc.onnx.importer import import_model
from tests.onnx.models import model_of, node

RNG = np.random.default_rng(23)


def f32(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_resizing_keeps_a_symbolic_batch(mode: str) -> None:
    """PyTorch's Upsample and interpolate, Keras' UpSampling2D."""
    rounding = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    resize = node("Resize", "x _ s", mode=mode, **(rounding if mode == "nearest" else {}))
    scales = {"s": np.array([1, 1, 2, 2], np.float32)}
    model = model_of([resize], {"x": (np.float32, ["batch", 3, 5, 4])}, ["y"], scales)
    compiled = driver.compile(import_model(model))
    for batch in (1, 3):
        x = f32(batch, 3, 5, 4)
        (wanted,) = ReferenceEvaluator(model).run(None, {"x": x})  # type: ignore[misc]
        np.testing.assert_allclose(compiled(x), wanted, rtol=1e-5, atol=1e-6)
