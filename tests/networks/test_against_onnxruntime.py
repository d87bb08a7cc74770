"""Exported networks give the same scores in ONNX Runtime as compiled ones, and both those of a float64 run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.peer_graph import TO_NCHW, peer_graph
from convc.onnx.exporter import export_graph
from tests.networks.subjects import BATCHES, LIMIT, NETWORKS, subject

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


def session_of(model: Any) -> Any:
    return onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_compiled_scores_are_those_of_onnxruntime(name: str) -> None:
    network = subject(name)
    session = session_of(export_graph(peer_graph(network.graph)))
    feed = session.get_inputs()[0].name
    for batch in BATCHES:
        images = network.images[:batch]
        (theirs,) = session.run(None, {feed: np.ascontiguousarray(images.transpose(TO_NCHW))})
        ours = network.compiled(images)
        assert network.error(ours) <= LIMIT
        assert network.error(theirs) <= LIMIT
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2 * LIMIT * np.abs(theirs).max())


@pytest.mark.parametrize(
    ("name", "data_format", "include_top"),
    [("ResNet50", "channels_first", False), ("MobileNetV2", "channels_last", True)],
)
def test_graphs_export_as_the_front_end_made_them(
    name: str, data_format: str, include_top: bool
) -> None:
    """Without any pass: channels_last leaves its transposes in the model."""
    network = subject(name, data_format, include_top)
    session = session_of(export_graph(network.graph))
    (scores,) = session.run(None, {network.graph.inputs[0]: network.images[:2]})
    assert network.error(scores) <= LIMIT
