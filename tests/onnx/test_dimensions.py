"""Named dimensions, specialised per call or fixed in an artifact, and weights beyond what one file holds."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from convc_runtime import InputError, load
from onnx import TensorProto, helper

from convc import driver
from convc.onnx.backend import CompiledRep
from convc.onnx.importer import import_model
from tests.onnx.models import model_of, node

RNG = np.random.default_rng(6)


def resizing() -> onnx.ModelProto:
    """A network whose shapes follow from two named dimensions, by a resize that needs their numbers."""
    nodes = [
        node("Conv", "x w", "c", pads=[1, 1, 1, 1]),
        node("Resize", "c _ scales", "y", mode="linear"),
    ]
    weights = {
        "w": RNG.standard_normal((2, 3, 3, 3)).astype(np.float32),
        "scales": np.array([1, 1, 2, 2], np.float32),
    }
    return model_of(nodes, {"x": (np.float32, ["n", 3, "height", "width"])}, ["y"], weights, 18)


def test_each_shape_compiles_once_per_process() -> None:
    rep = CompiledRep(resizing(), threads=1)
    for shape in ((1, 3, 4, 6), (2, 3, 5, 5), (1, 3, 4, 6)):
        (y,) = rep.run([np.ones(shape, np.float32)])
        assert y.shape == (shape[0], 2, 2 * shape[2], 2 * shape[3])
    assert len(rep.made) == 2


def test_an_artifact_refuses_other_shapes_by_name(tmp_path: Path) -> None:
    onnx.save(resizing(), tmp_path / "m.onnx")
    shapes = {"height": 4, "width": 6}
    _, graphs = driver.graphs_of(str(tmp_path / "m.onnx"), shapes=shapes)
    driver.compile(graphs["predict"]).save(tmp_path / "m.cvc")
    model = load(tmp_path / "m.cvc")
    assert model(np.ones((3, 3, 4, 6), np.float32)).shape == (3, 2, 8, 12)
    with pytest.raises(
        InputError, match=r"input x: expected shape \(N, 3, 4, 6\) .*got \(3, 3, 5, 6\)"
    ):
        model(np.ones((3, 3, 5, 6), np.float32))


def test_weights_past_two_gigabytes_are_mapped(tmp_path: Path) -> None:
    """A sparse file of 2.4 GB: nothing of it is read at import."""
    rows, columns = 600_000, 1_000
    with (tmp_path / "big.data").open("wb") as file:
        os.truncate(file.fileno(), rows * columns * 4)
    if (tmp_path / "big.data").stat().st_blocks * 512 > 1 << 20:
        pytest.skip("this file system has no sparse files")
    table = TensorProto(name="table", data_type=TensorProto.FLOAT, dims=[rows, columns])
    table.data_location = TensorProto.EXTERNAL
    for key, value in (
        ("location", "big.data"),
        ("offset", "0"),
        ("length", str(rows * columns * 4)),
    ):
        table.external_data.add(key=key, value=value)
    inputs = [helper.make_tensor_value_info("i", TensorProto.INT64, ["n"])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph([node("Gather", "table i")], "big", inputs, outputs, [table])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "m.onnx"
    )
    found = import_model(tmp_path / "m.onnx")
    (weight,) = found.weights.values()
    assert isinstance(weight.base, np.memmap)
    assert found.types[found.outputs[0]].shape[1] == columns
    assert (tmp_path / "big.data").stat().st_blocks * 512 < 1 << 20
