"""Model scripts are run, their model is found, and what goes wrong is said in one line with its place."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convc import keras
from convc.errors import ConvcError, InputFileError, ModelError, UnsupportedError
from convc.scripts import LENT_AS, lending, load_model, run_script, split_spec

HEAD = "from convc import keras\nfrom convc.keras import layers\n"
MODEL = "keras.Sequential([keras.Input((4,)), layers.Dense(2)])"


def script(folder: Path, text: str) -> Path:
    path = folder / "model.py"
    path.write_text(text)
    return path


def test_the_only_model_is_found(tmp_path: Path) -> None:
    path = script(tmp_path, f"{HEAD}net = {MODEL}\nalias = net\n_hidden = {MODEL}\n")
    assert isinstance(load_model(str(path)), keras.Model)


def test_a_name_chooses_among_several(tmp_path: Path) -> None:
    path = script(tmp_path, f"{HEAD}a = {MODEL}\nb = {MODEL}\nb.mark = 1\n")
    assert load_model(f"{path}:b").mark == 1  # type: ignore[attr-defined]


def test_several_models_are_named(tmp_path: Path) -> None:
    path = script(tmp_path, f"{HEAD}a = {MODEL}\nb = {MODEL}\n")
    with pytest.raises(
        ModelError, match=r"model\.py: 2 models: choose one of .*model\.py:a, .*model\.py:b$"
    ):
        load_model(str(path))


def test_no_model_is_said(tmp_path: Path) -> None:
    path = script(tmp_path, "x = 1\n")
    with pytest.raises(ModelError, match=r"model\.py: no model: expected"):
        load_model(str(path))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("c", "no such name; models there: .*:net"),
        ("x", "an int, not a model; models there: .*:net"),
    ],
)
def test_a_wrong_name_is_said(tmp_path: Path, name: str, message: str) -> None:
    path = script(tmp_path, f"{HEAD}x = 1\nnet = {MODEL}\n")
    with pytest.raises(ModelError, match=f"model\\.py:{name}: {message}"):
        load_model(f"{path}:{name}")


def test_a_missing_script_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match=r"none\.py: no such file"):
        load_model(str(tmp_path / "none.py"))


def test_a_folder_is_no_script(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="directory"):
        load_model(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\nx.y\n", "model.py:2: AttributeError: 'int' object has no attribute 'y'"),
        ("def f():\n    return 1 / 0\n\nf()\n", "model.py:2: ZeroDivisionError: division by zero"),
        ("x = (\n", "model.py:1: SyntaxError: '(' was never closed"),
        ("import nothing_of_that_name\n", "model.py:1: ModuleNotFoundError: No module named"),
        (
            "import sys\nsys.exit(3)\n",
            "model.py:2: the script exits (3) instead of defining a model",
        ),
        ("raise ValueError('two\\nlines')\n", "model.py:1: ValueError: two lines"),
        ("x = 1\n\0", "model.py:"),
    ],
)
def test_what_a_script_raises_is_said_with_its_line(
    tmp_path: Path, text: str, message: str
) -> None:
    path = script(tmp_path, text)
    with pytest.raises(ModelError) as caught:
        load_model(str(path))
    assert str(caught.value).startswith(f"{path.parent}/{message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "kind", "message"),
    [
        ("layers.FlaxLayer(3)", UnsupportedError, "convc.keras.layers has no 'FlaxLayer'"),
        ("model.fit()", ModelError, "model 'm': call compile(optimizer, loss) before fit()"),
        ("model.load_weights('none.h5')", InputFileError, "weights file none.h5 doesn't exist"),
    ],
)
def test_errors_of_convc_keep_their_kind_and_say_the_line_once(
    tmp_path: Path, line: str, kind: type[ConvcError], message: str
) -> None:
    path = tmp_path / "model.py"
    path.write_text(
        "from keras import Input, Sequential, layers\n"
        "model = Sequential([Input((3,)), layers.Dense(2)], name='m')\n" + line
    )
    with pytest.raises(kind) as caught:
        load_model(str(path))
    assert str(caught.value).startswith(f"{path}:3: {message}")


def test_a_binary_file_is_no_script(tmp_path: Path) -> None:
    path = tmp_path / "model.so"
    path.write_bytes(b"\x7fELF\0")
    with pytest.raises(InputFileError, match=r"expected a model, whose name ends in \.py"):
        load_model(str(path))


def test_a_wrong_layer_argument_is_said_with_its_line(tmp_path: Path) -> None:
    path = script(tmp_path, f"{HEAD}\nx = layers.Dense(2, activaton='relu')\n")
    with pytest.raises(ModelError, match=r"model\.py:4: .*activaton"):
        load_model(str(path))


@pytest.mark.parametrize(
    "text",
    [
        "import keras\nm = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])",
        "from keras import layers, Sequential, Input\nm = Sequential([Input((4,)), layers.Dense(2)])",
        "from keras.layers import *\nfrom keras.models import Sequential\nm = Sequential([Input((4,)), Dense(2)])",
        "import keras.layers as L\nimport keras\nm = keras.Sequential([L.Input((4,)), L.Dense(2)])",
        "import tensorflow as tf\nm = tf.keras.Sequential([tf.keras.Input((4,)), tf.keras.layers.Dense(2)])",
        "from tensorflow.keras.models import Sequential\nfrom tensorflow.keras.layers import Dense, Input\n"
        "m = Sequential([Input((4,)), Dense(2)])",
        "from tensorflow import keras\nm = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])",
    ],
)
def test_keras_is_lent(tmp_path: Path, text: str) -> None:
    path = script(tmp_path, text)
    values = run_script(path, lent=LENT_AS)
    assert isinstance(values["m"], keras.Sequential)


def test_keras_is_lent_during_the_script_only(tmp_path: Path) -> None:
    before, finders = set(sys.modules), list(sys.meta_path)
    run_script(script(tmp_path, "import keras.layers, tensorflow.keras\n"), lent=LENT_AS)
    assert not [m for m in set(sys.modules) - before if m.split(".")[0] in ("keras", "tensorflow")]
    assert sys.meta_path == finders


def test_what_convc_does_not_lend_is_said(tmp_path: Path) -> None:
    path = script(tmp_path, "import tensorflow as tf\ntf.raw_ops.Add()\n")
    lacks = r"model\.py:2: .*convc lends no tensorflow\.raw_ops; of tf it has keras, GradientTape, "
    with pytest.raises(UnsupportedError, match=lacks):
        run_script(path, lent=LENT_AS)
    path = script(tmp_path, "import tensorflow as tf\nassert not hasattr(tf.random, 'gamma')\n")
    run_script(path, lent=LENT_AS)
    with lending(LENT_AS), pytest.raises(ModuleNotFoundError, match=r"keras\.attic"):
        __import__("keras.attic")


def test_a_script_imports_its_neighbours_and_prints_to_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "neighbour_of_model.py").write_text("UNITS = 3\n")
    path = script(tmp_path, "from neighbour_of_model import UNITS\nprint('hello')\n")
    assert run_script(path, lent=())["UNITS"] == 3
    assert capsys.readouterr() == ("", "hello\n")
    assert str(tmp_path) not in sys.path


@pytest.mark.parametrize(
    ("spec", "path", "name"),
    [("a/m.py", "a/m.py", None), ("m.py:net", "m.py", "net"), ("C:m.onnx", "C:m.onnx", None)],
)
def test_specs_split_into_file_and_name(spec: str, path: str, name: str | None) -> None:
    assert split_spec(spec) == (Path(path), name)


KERAS_2_IMPORTS = """
from keras.layers.advanced_activations import LeakyReLU
from keras.layers.convolutional import Conv2D, MaxPooling2D, UpSampling2D, ZeroPadding2D
from keras.layers.core import Activation, Dense, Dropout, Flatten
from keras.layers.merge import Concatenate, add
from keras.layers.normalization import BatchNormalization
from keras.layers.pooling import GlobalAveragePooling2D
from keras.models import Sequential
from keras.utils import np_utils
model = Sequential([ZeroPadding2D(1, input_shape=(4, 4, 1)), Conv2D(2, 3), Flatten(), Dense(2)])
assert np_utils.to_categorical([0, 1]).shape == (2, 2)
"""


def test_paths_of_keras_2_lead_to_the_same_layers(tmp_path: Path) -> None:
    (tmp_path / "old.py").write_text(KERAS_2_IMPORTS)
    assert load_model(str(tmp_path / "old.py")).graphs()


OWN_STEP = """
import numpy as np
import tensorflow as tf

class Own(tf.keras.Model):
    @tf.function
    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            error = tf.cast(y, tf.float32) - self(x, training=True)
            loss = tf.reduce_mean(tf.square(error))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables))
        return {"loss": loss}

tf.random.set_seed(1)
assert int(tf.__version__.split(".")[0]) == 2 and tf.config.list_physical_devices("GPU") == []
assert float(tf.reduce_sum(tf.constant([1.0, 2.0]))) == 3.0
i = tf.keras.Input((2,))
model = Own(i, tf.keras.layers.Dense(1, kernel_initializer="zeros")(i))
model.compile(tf.keras.optimizers.SGD(0.5), "mse")
history = model.fit(np.ones((4, 2)), np.ones((4, 1)), epochs=2, verbose=0).history["loss"]
"""


def test_a_step_written_with_tensorflows_names_trains(tmp_path: Path) -> None:
    history: Any = run_script(script(tmp_path, OWN_STEP), lent=LENT_AS)["history"]
    # From zeros the gradient of w and b is -2 each: they become 1, so that 1 + 1 + 1 misses by 2.
    np.testing.assert_allclose(history, [1.0, 4.0], rtol=1e-6)
