"""Other engines get the same network with its images channels first."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.networks import image_of, tutorial_cnn
from benchmarks.peer_graph import TO_NCHW, peer_graph
from benchmarks.random_weights import randomised
from convc.graph.interp import run_graph
from convc.ops.shape import Transpose


def test_no_transpose_is_left_before_the_flattening() -> None:
    graph = tutorial_cnn().graphs()["predict"]
    images = image_of(graph, 2)
    graph = randomised(graph, {graph.inputs[0]: images})
    peer = peer_graph(graph)
    assert sum(isinstance(n.op, Transpose) for n in peer.nodes) <= 1
    assert peer.types[peer.inputs[0]].shape[1:] == (1, 28, 28)
    expected: Any
    found: Any
    (expected,) = run_graph(graph, {graph.inputs[0]: images}).values()
    (found,) = run_graph(peer, {peer.inputs[0]: images.transpose(TO_NCHW)}).values()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert expected.std() > 1e-2
