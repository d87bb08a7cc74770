"""The applications at reduced size with random weights, compiled once for all tests here."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

import convc
from benchmarks.networks import image_of
from benchmarks.random_weights import randomised
from convc import keras
from convc.driver import CompiledModel
from convc.graph.interp import run_graph
from convc.graph.ir import Graph
from convc.keras import applications
from convc.types import DType

SIZES = {
    "ResNet50": 64,
    "MobileNetV2": 64,
    "VGG16": 32,
    "DenseNet121": 64,
    "InceptionV3": 128,
    "EfficientNetB0": 64,
}
"""Pixels in each direction: enough for more than one in the last stage.

InceptionV3 takes 75 at least, but with random batch norms it enlarges rounding errors below 112: to 1.2e-4 at 96 with
two images, where ONNX Runtime has 5e-5 (at 112 to 139 pixels 3e-6 to 1e-5).
"""

BATCHES = (1, 2, 5)
MOST = max(BATCHES)
LIMIT = 1e-5
NETWORKS = tuple(SIZES)


@dataclass(frozen=True)
class Subject:
    """A network: its graph, images in a batch of MOST, and the float64 scores of these."""

    graph: Graph
    images: Any
    exact: Any
    compiled: CompiledModel

    def error(self, scores: Any) -> float:
        """max|y - y64| / max|y64|."""
        exact = self.exact[: len(scores)]
        return float(np.abs(scores - exact).max() / np.abs(exact).max())


@functools.cache
def subject(name: str, data_format: str = "channels_last", include_top: bool = True) -> Subject:
    """A network of ten classes, or its features."""
    graph = graph_of(name, data_format, include_top)
    images = image_of(graph, MOST)
    graph = randomised(graph, {graph.inputs[0]: images})
    inputs = {graph.inputs[0]: images.astype(np.float64)}
    (exact,) = run_graph(graph, inputs, DType.float64).values()
    return Subject(graph, images, exact, convc.compile(graph))


def graph_of(name: str, data_format: str, include_top: bool) -> Graph:
    size = SIZES[name]
    shape = (size, size, 3) if data_format == "channels_last" else (3, size, size)
    options = {"classes": 10, "classifier_activation": None} if include_top else {}
    before = keras.backend.image_data_format()
    keras.backend.set_image_data_format(data_format)
    try:
        build = getattr(applications, name)
        model = build(weights=None, input_shape=shape, include_top=include_top, **options)
    finally:
        keras.backend.set_image_data_format(before)
    graph: Graph = model.graphs()["predict"]
    return graph
