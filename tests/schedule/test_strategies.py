"""Which strategy the kernels of small networks get on a CPU: vectors wherever neighbours lie side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convc import driver, keras
from convc.keras import layers
from convc.loops.ir import Call, Select, walk
from convc.loops.parser import parse_kernel
from convc.loops.walking import expressions, subexpressions
from convc.schedule.cpu import schedule_kernel
from convc.target import TARGETS

MEAN, VARIANCE = np.array([0.5, 0.4, 0.3]), np.array([0.2, 0.3, 0.4])


def strategies(shape: tuple[int, ...], *stack: Any, target: str = "x86-64-avx2") -> dict[str, str]:
    """The strategy of each kernel of a stack of layers, by its operators."""
    model = keras.Sequential([keras.Input(shape), *stack])
    planned = driver.plan_graphs("m", model.graphs(), TARGETS[target])
    return {row.operators: row.algorithm for row in planned.rows["predict"]}


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("pool", [layers.AveragePooling2D, layers.MaxPooling2D])
def test_pooling_alone_runs_along_channels(pool: Any, padding: str) -> None:
    found = strategies((11, 9, 6), pool(3, 2, padding=padding), pool(2, 1, padding=padding))
    (name,) = (n for n in found if "pool" in n)
    assert found[name] == "lanes"
    assert "scalar" not in found.values()


def test_upsampling_alone_runs_along_channels() -> None:
    assert "scalar" not in strategies((5, 4, 6), layers.UpSampling2D(2)).values()


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 2), (4, 2), (5, 3)])
def test_a_transposed_convolution_computes_each_phase_without_guards(
    kernel: int, stride: int, padding: str
) -> None:
    layer = layers.Conv2DTranspose(16, kernel, strides=stride, padding=padding)
    model = keras.Sequential([keras.Input((6, 6, 8)), layer])
    planned = driver.plan_graphs("m", model.graphs(), TARGETS["x86-64-avx2"])
    rows = planned.rows["predict"]
    assert rows[-1].algorithm == "tiled"
    scheduled = next(
        k for k in planned.program.kernels.values() if ("strategy", "tiled") in k.notes
    )
    values = [e for s in walk(scheduled.body) for x in expressions(s) for e in subexpressions(x)]
    assert not any(isinstance(v, Select) for v in values)


def test_constants_per_channel_are_vectors() -> None:
    found = strategies((8, 8, 3), layers.Normalization(mean=MEAN, variance=VARIANCE))
    assert set(found.values()) == {"pointwise"}


def test_a_map_narrower_than_a_tile_of_winograd_runs_along_channels() -> None:
    found = strategies((24, 3, 128), layers.Conv2D(128, 3, padding="same"), target="x86-64-v2")
    assert found["winograd_output"] == found["winograd_input"] == "pointwise"


def test_statements_that_are_no_nest_are_finished_too() -> None:
    text = """
    kernel k(in x: float32[4], out y: float32[4], out z: float32[4]) {
      for i in 4 { y[i] = x[i] }
      for i in 4 { if x[i] < 0.0 { z[i] = fma(x[i], 2.0, 1.0) } else { z[i] = exp(x[i]) } }
    }"""
    kernel = schedule_kernel(parse_kernel(text), TARGETS["x86-64-v2"])
    calls = {
        e.function
        for stmt in walk(kernel.body)
        for expr in expressions(stmt)
        for e in subexpressions(expr)
        if isinstance(e, Call)
    }
    assert calls.isdisjoint({"fma", "exp"})


def test_a_product_of_a_computed_factor_summed_over_the_batch_is_scheduled() -> None:
    """The gradient of weights behind a mask: nothing of unknown length is kept on the stack."""
    kernel = parse_kernel("""
    kernel k(in x: float32[N, 8], in z: float32[N, 8], in g: float32[N, 48], out y: float32[8, 48]) {
      for i in 8 { for o in 48 {
        alloc acc: float32[] register
        acc[] = 0.0
        for m in N { acc[] = fma(select(0.0 < z[m, i], x[m, i] * 2.0, 0.0), g[m, o], acc[]) }
        y[i, o] = acc[]
      } }
    }""")
    scheduled = schedule_kernel(kernel, TARGETS["x86-64-avx2"])
    assert ("strategy", "scalar") not in scheduled.notes
