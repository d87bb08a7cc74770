"""What noise layers draw in training has the moments that their papers give, and nothing happens at inference."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from convc.graph.interp import run_graph
from convc.graph.ir import Builder
from convc.graph.op import Op
from convc.ops.noise import AlphaDropout, GaussianDropout, GaussianNoise, SharedDropout
from convc.passes.training_mode import SEED_INPUT, training_mode
from convc.types import DType, TensorType

SHAPE = (40, 50, 60)


def trained(op: Op, x: Any, key: int = 5) -> Any:
    """The operator's output in a step of training."""
    builder = Builder("g")
    builder.input("x", TensorType(DType.of(x.dtype), x.shape))
    y = builder.add(op, "x")
    built = training_mode(builder.finish([y]), [], {})
    graph = built.builder.finish(built.outputs)
    return run_graph(graph, {"x": x, SEED_INPUT: np.array([key, 3], np.uint32)})[graph.outputs[0]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gaussian_noise_is_normal(dtype: type) -> None:
    noise = trained(GaussianNoise(0.5), np.full(SHAPE, 2, dtype)) - 2
    assert noise.dtype == dtype
    assert abs(noise.mean()) < 0.005
    assert abs(noise.std() - 0.5) < 0.005
    assert abs((np.abs(noise) < 0.5).mean() - math.erf(1 / math.sqrt(2))) < 0.005
    flat = noise.ravel()
    assert abs(np.corrcoef(flat[:-1], flat[1:])[0, 1]) < 0.01


def test_gaussian_dropout_keeps_the_mean() -> None:
    y = trained(GaussianDropout(0.2), np.full(SHAPE, 3, np.float32))
    assert abs(y.mean() - 3) < 0.02
    assert abs(y.std() - 3 * 0.5) < 0.02


def test_alpha_dropout_keeps_mean_and_variance() -> None:
    x = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    y = trained(AlphaDropout(0.25), x)
    assert abs(y.mean()) < 0.02
    assert abs(y.std() - 1) < 0.02
    _, counts = np.unique(y, return_counts=True)
    assert abs(counts.max() / y.size - 0.25) < 0.01


@pytest.mark.parametrize("shared", [(1,), (1, 2), (-1,)])
def test_a_shared_mask_drops_whole_rows(shared: tuple[int, ...]) -> None:
    y = trained(SharedDropout(0.25, shared), np.ones(SHAPE, np.float32))
    assert set(np.unique(y)) == {0.0, np.float32(1 / 0.75)}
    axes = tuple(a % 3 for a in shared)
    np.testing.assert_array_equal(y.min(axes), y.max(axes))


def test_seeds_of_their_own_repeat_in_every_step_of_the_same_number() -> None:
    x = np.ones((4, 5), np.float32)
    own = [trained(GaussianNoise(0.5, seed=9), x, key) for key in (1, 2)]
    np.testing.assert_array_equal(*own)
    assert not np.array_equal(trained(GaussianNoise(0.5), x, 1), trained(GaussianNoise(0.5), x, 2))


def test_a_permuted_operator_shares_the_permuted_axes() -> None:
    x = TensorType(DType.float32, (2, 3, 4))
    assert SharedDropout(0.5, (1,)).permute((0, 2, 1), x) == SharedDropout(0.5, (2,))
