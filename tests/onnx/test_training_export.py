"""A training step as plain ONNX operators: three steps of it, against convc's own three."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from convc import scripts
from convc.errors import ModelError, UsageError
from convc.graph.state import NEXT
from tests.cli.test_main import outcome

SCRIPT = """
from convc import keras
from convc.keras import layers

keras.utils.set_random_seed(2)
model = keras.Sequential([
    keras.Input((10, 9, 2), name="image"),
    layers.Conv2D(6, 3, use_bias=False, name="edges"),
    layers.BatchNormalization(name="norm"),
    layers.ReLU(),
    layers.MaxPooling2D(name="pool"),
    layers.DepthwiseConv2D(3, padding="same", name="depth"),
    layers.AveragePooling2D(name="mean"),
    {dropout}
    layers.Flatten(),
    layers.Dense(5, activation="softmax", name="scores"),
])
model.compile({compile})
"""
ADAM = 'optimizer=keras.optimizers.Adam(0.01), loss="sparse_categorical_crossentropy", metrics=["accuracy"]'
SGD = 'optimizer=keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True), loss="categorical_crossentropy"'
DROPOUT = 'layers.Dropout(0.25, name="drop"),'


def by_onnxruntime(model: onnx.ModelProto) -> Any:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return lambda feeds: session.run(None, feeds)


def by_reference(model: onnx.ModelProto) -> Any:
    evaluator = ReferenceEvaluator(model)
    return lambda feeds: evaluator.run(None, feeds)


def exported(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, dropout: str, compile: str, *arguments: str
) -> onnx.ModelProto:
    (tmp_path / "m.py").write_text(SCRIPT.format(dropout=dropout, compile=compile))
    path = tmp_path / "step.onnx"
    code, _, err = outcome(
        capsys, "export", tmp_path / "m.py", "-o", path, "--training", *arguments
    )
    assert (code, err) == (0, [])
    return onnx.load(path)


def first_value(model: onnx.ModelProto, name: str) -> Any:
    return next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == name)


@pytest.mark.parametrize("run", [by_reference, by_onnxruntime])
@pytest.mark.parametrize(("dropout", "compile", "opset"), [(DROPOUT, ADAM, 18), ("", SGD, 17)])
def test_three_steps_are_convcs_own(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    run: Any,
    dropout: str,
    compile: str,
    opset: int,
) -> None:
    proto = exported(capsys, tmp_path, dropout, compile, "--opset", str(opset))
    step = run(proto)
    model: Any = scripts.load_model(str(tmp_path / "m.py"))
    names = [o.name for o in proto.graph.output]
    rng = np.random.default_rng(1)
    state: dict[str, Any] = {}
    for iteration in range(3):
        x = rng.standard_normal((8, 10, 9, 2)).astype(np.float32)
        labels = rng.integers(0, 5, 8)
        y = labels if "sparse" in compile else np.eye(5, dtype=np.float32)[labels]
        feeds = {**state, "image": x, "target/scores": y}
        if dropout:
            key = first_value(proto, "seed")[0]
            feeds["seed"] = np.array([key, iteration], np.uint32)
        found = dict(zip(names, step(feeds), strict=True))
        wanted = model.train_on_batch(x, y, return_dict=True)
        np.testing.assert_allclose(found["loss"], wanted["loss"], rtol=2e-5)
        state = {n.removeprefix(NEXT): found[n] for n in names if n.startswith(NEXT)}
    moved = {v.path if hasattr(v, "path") else v.name: np.asarray(v.value) for v in model.weights}
    for path, value in moved.items():
        name = "/".join(path.split("/")[-2:])
        mine, theirs = np.sort(value, axis=None), np.sort(state[name], axis=None)
        np.testing.assert_allclose(theirs, mine, atol=3e-5, err_msg=path)


def test_a_first_step_needs_data_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    proto = exported(capsys, tmp_path, "", SGD)
    fed = {i.name for i in proto.graph.input} - {t.name for t in proto.graph.initializer}
    assert fed == {"image", "target/scores"}
    batch = proto.graph.input[0].type.tensor_type.shape.dim[0]
    assert batch.dim_param == "N"
    assert first_value(proto, "learning_rate") == np.float32(0.05)
    assert len({n.name for n in proto.graph.node}) == len(proto.graph.node)


def test_what_can_not_be_trained_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    script = SCRIPT.format(dropout="", compile=SGD).replace("model.compile", "# ")
    (tmp_path / "m.py").write_text(script)
    code, _, err = outcome(capsys, "export", tmp_path / "m.py", "--training")
    assert code == ModelError.exit_code
    assert "--training needs the script to call model.compile(optimizer, loss)" in err[-1]
    code, _, err = outcome(capsys, "export", "model.onnx", "--training")
    assert code == UsageError.exit_code
    assert "--training is for model scripts" in err[-1]
