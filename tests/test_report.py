"""The rows of a compilation: one per kernel call, with what was chosen."""

from __future__ import annotations

from pathlib import Path

import pytest

from convc import driver
from convc.loops.ir import Axis, Buffer, Layout
from convc.report import Row, layout_text, total_flops, warnings_of
from convc.types import Dim, DType

N = Dim.symbol("N")
SCRIPT = """
import keras
m = keras.Sequential([
    keras.Input((6, 6, 2)),
    keras.layers.Conv2D(16, 3, use_bias=False, name="edges"),
    keras.layers.Flatten(),
    keras.layers.Dense(4, use_bias=False, name="scores"),
])
"""


@pytest.mark.parametrize(
    ("layout", "text"),
    [
        (Layout.dense(4), "NCHW"),
        (Layout.permuted((0, 2, 3, 1)), "NHWC"),
        (Layout.permuted((0, 2, 3, 1)).with_border(2, 1, 2), "NHWC [1:2]"),
        (Layout((Axis(0), Axis(2), Axis(3), Axis(1, extent=48)), ((0, 0),) * 4), "NHWC+16"),
        (
            Layout((Axis(0), Axis(1, 16), Axis(2), Axis(3), Axis(1, 1, 16)), ((0, 0),) * 4),
            "NC/16HWC%16",
        ),
    ],
)
def test_layouts_are_said_in_a_few_letters(layout: Layout, text: str) -> None:
    assert layout_text(Buffer("y", DType.float32, (N, 32, 8, 8), layout)) == text


def test_rows_count_what_layers_compute(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text(SCRIPT)
    rows = driver.compile(tmp_path / "m.py").report
    counted = {layer: row for row in rows for layer in row.layers}
    assert counted["edges"].flops == N * (2 * 4 * 4 * 9 * 2 * 16)
    assert counted["scores"].flops == N * (2 * 256 * 4)
    assert total_flops(rows) == counted["edges"].flops + counted["scores"].flops
    assert counted["edges"].weight_bytes >= 4 * 9 * 2 * 16
    assert counted["edges"].algorithm
    assert counted["edges"].to_json()["flops"] == str(counted["edges"].flops)


def test_a_kernel_without_vectors_is_warned_of_where_it_counts() -> None:
    def row(layer: str, algorithm: str, flops: int) -> Row:
        return Row("k", (layer,), "op", "float32[N]", "N", algorithm, "", N * flops, 0)

    rows = [row("a", "tiled", 9_000_000), row("b", "scalar", 900_000), row("c", "scalar", 100_000)]
    assert warnings_of(rows) == ["b (op) runs without vectors: 9% of the arithmetic"]
    assert warnings_of([row("a", "scalar", 90_000)]) == []
