"""What `convc export` writes of a Keras-like model: no stray transposes, layers' names, the same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from convc import driver
from convc.errors import UsageError
from convc.onnx.importer import import_model
from tests.cli.test_main import outcome

SCRIPT = """
from convc import keras
from convc.keras import layers

{head}
x = image = keras.Input((12, 10, {channels}), name="image")
x = layers.Rescaling(2.0, offset=-1.0, name="scale")(x)
x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="edges")(x)
x = layers.BatchNormalization(beta_initializer="random_normal", name="norm")(x)
x = short = layers.ReLU(name="relu")(x)
x = layers.DepthwiseConv2D(3, padding="same", bias_initializer="random_normal", name="depth")(x)
x = layers.Add(name="sum")([x, short])
x = layers.MaxPooling2D(name="pool")(x)
{tail}
model = keras.Model(image, x, name="small")
"""
CLASSIFY = """
x = layers.Flatten(name="flat")(x)
x = layers.Dense(5, activation="softmax", bias_initializer="random_normal", name="scores")(x)
"""
IMAGES = 'x = layers.Conv2DTranspose(2, 2, strides=2, name="up")(x)'


def written(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    tail: str,
    *arguments: str,
    channels: int = 3,
) -> onnx.ModelProto:
    head = "keras.utils.set_random_seed(1)"
    (tmp_path / "small.py").write_text(SCRIPT.format(head=head, tail=tail, channels=channels))
    path = tmp_path / "small.onnx"
    code, _, err = outcome(capsys, "export", tmp_path / "small.py", "-o", path, *arguments)
    assert (code, err) == (0, [])
    return onnx.load(path)


def transposes(model: onnx.ModelProto) -> int:
    return sum(n.op_type == "Transpose" for n in model.graph.node)


def images(channels: int = 3) -> Any:
    return np.random.default_rng(0).random((2, 12, 10, channels), np.float32)


def by_convc(tmp_path: Path, x: Any) -> Any:
    return driver.compile(tmp_path / "small.py")(x)


def run(model: onnx.ModelProto, x: Any) -> Any:
    outputs: Any = ReferenceEvaluator(model).run(None, {"image": x})
    return outputs[0]


@pytest.mark.parametrize("channels", [1, 3])
def test_one_transpose_where_images_are_given_channels_last(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, channels: int
) -> None:
    model = written(capsys, tmp_path, CLASSIFY, channels=channels)
    assert transposes(model) <= 1
    assert {"scale", "edges", "norm", "relu", "depth", "sum", "pool", "flat", "scores"} <= {
        n.name for n in model.graph.node
    }
    assert len({n.name for n in model.graph.node}) == len(model.graph.node)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    x = images(channels)
    np.testing.assert_allclose(run(model, x), by_convc(tmp_path, x), atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_no_transpose_where_images_are_given_channels_first(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, channels: int
) -> None:
    model = written(capsys, tmp_path, IMAGES, "--io-layout", "nchw", channels=channels)
    assert transposes(model) == 0
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    assert shape == [0, channels, 12, 10]
    x = images(channels)
    found = run(model, x.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    np.testing.assert_allclose(found, by_convc(tmp_path, x), atol=1e-5)


def test_images_out_have_one_transpose_more(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model = written(capsys, tmp_path, IMAGES, "--io-layout", "nhwc")
    assert transposes(model) == 2
    np.testing.assert_allclose(run(model, images()), by_convc(tmp_path, images()), atol=1e-5)
    np.testing.assert_allclose(
        driver.compile(import_model(model))(images()), by_convc(tmp_path, images()), atol=1e-5
    )


def test_products_have_their_biases(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = written(capsys, tmp_path, CLASSIFY)
    kinds = [n.op_type for n in model.graph.node]
    assert kinds.count("Gemm") == 1
    assert "MatMul" not in kinds
    depth = next(n for n in model.graph.node if n.name == "depth")
    assert (depth.op_type, len(depth.input)) == ("Conv", 3)
    sizes = {t.name: numpy_helper.to_array(t).shape for t in model.graph.initializer}
    assert sizes[depth.input[2]] == (8,)


def test_an_unknown_layout_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("")
    code, _, err = outcome(capsys, "export", tmp_path / "m.py", "--io-layout", "chwn")
    assert code == UsageError.exit_code
    assert "--io-layout: expected one of model, nchw, nhwc, got 'chwn'" in err[-1]
