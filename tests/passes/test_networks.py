"""The inference pipeline on networks as users write them, in both orders of dimensions."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from convc.graph.ir import Graph
from convc.graph.verify import verify_graph
from convc.keras import Model, applications, layers
from convc.keras.engine.input import Input
from convc.passes.pipelines import PIPELINES
from convc.passes.sink_transposes import count_transposes
from tests.passes.agreement import assert_agrees

ORDERS = ("channels_first", "channels_last")


def with_random_weights(graph: Graph, seed: int = 1) -> Graph:
    """The graph with weights around 0 and statistics that make batch norms and biases count."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, array in graph.weights.items():
        values = (
            rng.standard_normal(array.shape) / max(1.0, np.sqrt(array.size / len(array)))
            if array.ndim
            else array
        )
        if "variance" in name:
            values = np.abs(values) + 0.5
        weights[name] = np.asarray(values, array.dtype)
    return replace(graph, weights=weights)


def network(order: str) -> Graph:
    """Pads, both orders of batch norm, a residual, a join, squeeze-and-excitation, and a classifier."""
    first = order == "channels_first"
    axis = 1 if first else 3
    options: dict[str, Any] = {"data_format": order}

    def normalized(x: object) -> object:
        return layers.BatchNormalization(axis=axis)(x)

    inputs = Input((3, 9, 8) if first else (9, 8, 3))
    x = layers.Rescaling(1 / 255)(inputs)
    x = layers.ZeroPadding2D(1, **options)(x)
    x = normalized(layers.Conv2D(4, 3, strides=2, **options)(x))
    x = layers.ReLU()(x)
    x = layers.MaxPooling2D(2, strides=1, **options)(layers.ZeroPadding2D(1, **options)(x))
    y = layers.Conv2D(4, 3, padding="same", **options)(layers.ReLU()(normalized(x)))
    y = layers.DepthwiseConv2D(3, padding="same", use_bias=False, **options)(normalized(y))
    x = layers.Add()([x, normalized(y)])
    z = layers.AveragePooling2D(3, strides=1, padding="same", **options)(x)
    x = layers.Concatenate(axis=axis)([layers.ReLU(6.0)(normalized(x)), z])
    s = layers.GlobalAveragePooling2D(**options)(x)
    s = layers.Reshape((8, 1, 1) if first else (1, 1, 8))(s)
    s = layers.Conv2D(8, 1, activation="sigmoid", **options)(s)
    x = layers.Multiply()([x, s])
    x = layers.Conv2DTranspose(4, 2, strides=2, **options)(x)
    x = layers.GlobalAveragePooling2D(**options)(normalized(x))
    outputs = layers.Dense(5, activation="softmax")(layers.Dropout(0.5)(x))
    return with_random_weights(Model(inputs, outputs).graphs()["predict"])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("mode", PIPELINES)
def test_network_keeps_its_function(order: str, mode: str) -> None:
    before = network(order)
    after = PIPELINES[mode].run(before, verify=True)
    assert_agrees(before, after, rtol=1e-4, atol=1e-6)
    assert count_transposes(after) == (1 if order == "channels_last" else 0)


def test_network_becomes_the_same_in_both_orders() -> None:
    first, last = (PIPELINES["inference"].run(network(order)) for order in ORDERS)
    counts = Counter(n.op.mnemonic for n in last.nodes)
    counts["transpose"] -= 1
    assert +counts == Counter(n.op.mnemonic for n in first.nodes)


def test_network_has_no_batch_norms_pads_or_lone_movements_left() -> None:
    after = PIPELINES["inference"].run(network("channels_last"))
    left = {n.op.mnemonic for n in after.nodes}
    assert left.isdisjoint({"batch_norm", "pad", "identity", "dropout", "reshape", "softmax"})


SMALL = [
    ("ResNet50", 32), ("VGG16", 32), ("MobileNetV2", 32), ("DenseNet121", 32), ("InceptionV3", 75),
    ("EfficientNetB0", 32),
]  # fmt: skip


@pytest.mark.parametrize(("name", "size"), SMALL)
def test_applications_keep_one_transpose(name: str, size: int) -> None:
    model = getattr(applications, name)(
        weights=None, input_shape=(size, size, 3), include_top=False, pooling="avg"
    )
    before = model.graphs()["predict"]
    after = PIPELINES["inference"].run(before)
    verify_graph(after)
    assert count_transposes(after) == 1
    assert not any(n.op.mnemonic in ("batch_norm", "pad", "reshape") for n in after.nodes)


def test_mobilenet_keeps_its_function() -> None:
    model = applications.MobileNetV2(weights=None, input_shape=(32, 32, 3), alpha=0.35, classes=10)
    before = with_random_weights(model.graphs()["predict"])
    after = PIPELINES["inference"].run(before, verify=True)
    assert_agrees(before, after, rtol=1e-4, atol=1e-6)
