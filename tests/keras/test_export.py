"""`model.export`: ONNX files that other programs run, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from convc import keras
from convc.errors import UnsupportedError, UsageError
from convc.keras import layers

R = np.random.default_rng(0)
IMAGES = R.normal(size=(5, 8, 8, 3)).astype("float32")


def classifier() -> Any:
    return keras.Sequential(
        [
            keras.Input((8, 8, 3), name="image"),
            layers.Conv2D(4, 3, activation="relu"),
            layers.BatchNormalization(beta_initializer="random_normal"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3, activation="softmax"),
        ]
    )


def outputs(path: Path, feeds: dict[str, Any]) -> Any:
    found: Any = ReferenceEvaluator(onnx.load(path)).run(None, feeds)
    return found[0]


def test_an_exported_model_predicts_the_same_for_any_batch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, path = classifier(), tmp_path / "m.onnx"
    model.export(str(path), format="onnx")
    assert capsys.readouterr().out == f"Saved artifact at '{path}'.\n"
    for rows in (1, 5):
        x = IMAGES[:rows]
        np.testing.assert_allclose(
            outputs(path, {"image": x}), model.predict(x, verbose=0), 1e-5, 1e-6
        )
    model.export(path, format="onnx", verbose=False, opset_version=18)
    assert capsys.readouterr().out == ""
    assert onnx.load(path).opset_import[0].version == 18


def test_a_signature_says_batch_dtype_and_name(tmp_path: Path) -> None:
    model, path = classifier(), tmp_path / "m.onnx"
    spec = keras.InputSpec(shape=(2, 8, 8, 3), dtype="uint8", name="pixels")
    model.export(path, "onnx", False, [spec])
    (given,) = onnx.load(path).graph.input
    tensor = given.type.tensor_type
    assert given.name == "pixels"
    assert tensor.elem_type == onnx.TensorProto.UINT8
    assert [d.dim_value for d in tensor.shape.dim] == [2, 8, 8, 3]
    x = R.integers(0, 9, (2, 8, 8, 3)).astype("uint8")
    np.testing.assert_allclose(outputs(path, {"pixels": x}), model.predict(x, verbose=0), 1e-5)


def test_a_signature_closes_open_sizes(tmp_path: Path) -> None:
    i = keras.Input((None, None, 3), name="image")
    model = keras.Model(i, layers.GlobalMaxPooling2D()(layers.Conv2D(4, 3)(i)))
    path = tmp_path / "m.onnx"
    with pytest.raises(UnsupportedError, match="only the batch size may be None"):
        model.export(path, "onnx")
    model.export(path, "onnx", input_signature=[keras.InputSpec(shape=(None, 8, 8, 3))])
    np.testing.assert_allclose(
        outputs(path, {"image": IMAGES}), model.predict(IMAGES, verbose=0), 1e-5, 1e-6
    )


def test_draws_of_an_exported_model_follow_from_its_seed(tmp_path: Path) -> None:
    i = keras.Input((6,), name="x")
    model = keras.Model(i, layers.Dropout(0.5)(i, training=True))
    model.export(tmp_path / "m.onnx", "onnx")
    x = np.ones((50, 6), np.float32)
    first, same, other = (
        outputs(tmp_path / "m.onnx", {"x": x, "seed": np.array([7, k], np.uint32)})
        for k in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, same)
    assert set(np.unique(first)) == {0.0, 2.0}
    assert 0.35 < np.mean(first != other) < 0.65


def test_what_cannot_be_exported_is_refused_in_one_line(tmp_path: Path) -> None:
    model = classifier()
    for kind in ("tf_saved_model", "openvino", "litert", "torch"):
        with pytest.raises(UnsupportedError, match=r"format='onnx' writes .*`convc compile`") as e:
            model.export(tmp_path / "m", format=kind)
        assert "\n" not in str(e.value)
    with pytest.raises(UnsupportedError, match="tf_saved_model"):
        model.export(tmp_path / "m")
    with pytest.raises(UsageError, match="expected format='onnx'"):
        model.export(tmp_path / "m", "tflite")
    with pytest.raises(UsageError, match=r"no option 'opset'; it takes opset_version"):
        model.export(tmp_path / "m", "onnx", opset=17)
    shape = keras.InputSpec(shape=(None, 9, 8, 3))
    with pytest.raises(UsageError, match=r"expected a shape like \(None, 8, 8, 3\)"):
        model.export(tmp_path / "m", "onnx", input_signature=[shape])
    with pytest.raises(UsageError, match="an InputSpec with a shape for each"):
        model.export(tmp_path / "m", "onnx", input_signature=[shape, shape])
    assert list(tmp_path.iterdir()) == []
