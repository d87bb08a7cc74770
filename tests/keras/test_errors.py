"""What users do wrong is answered in one line that names the thing, the expectation and what came."""

import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from convc import keras
from convc.errors import ConvcError, ModelError, UnsupportedError
from convc.keras import layers, ops


def image() -> Any:
    return keras.Input((5, 5, 2))


CONV: Any = layers.Conv2D
DENSE: Any = layers.Dense

ROWS = [
    (lambda: layers.Conv2D(-1, 3), "Conv2D 'conv2d': filters must be a positive integer; received -1"),
    (lambda: layers.Conv2D(4, (3,)),
     "kernel_size must be an integer or a tuple of 2 positive integers; received (3,)"),
    (lambda: layers.Conv2D(4, 3, padding="smae"),
     "padding must be 'valid' or 'same'; received 'smae' (did you mean 'same'?)"),
    (lambda: layers.Conv2D(4, 3, stride=2),
     "Conv2D has no argument 'stride' (did you mean 'strides'?); it takes filters, "),
    (lambda: CONV(), "Conv2D: missing a required argument: 'filters'"),
    (lambda: layers.Conv2D(4, 3, groups=3), "filters must be a multiple of groups=3; received 4"),
    (lambda: layers.Conv2D(4, 3, strides=2, dilation_rate=2), "strides > 1 don't go with dilation_rate > 1"),
    (lambda: layers.Conv2D(4, 3, data_format="NHWC"),
     "data_format must be 'channels_last', 'channels_first' or None"),
    (lambda: layers.Conv2D(4, 3, kernel_initializer="he_norml"),
     "unknown initializer 'he_norml' (did you mean 'he_normal'?)"),
    (lambda: layers.Conv2D(4, 3, kernel_regularizer="l3"), "unknown regularizer 'l3'"),
    (lambda: layers.Dense(4, "rleu"), "unknown activation 'rleu' (did you mean 'relu'?)"),
    (lambda: DENSE("4"), "units must be a positive integer; received '4'"),
    (lambda: layers.Dense(4, name="a/b"), "name must be a non-empty string without '/'; received 'a/b'"),
    (lambda: layers.Dense(4, dtype="float31"), "unknown dtype 'float31'"),
    (lambda: layers.Dropout(1.5), "rate must be a number from 0 to 1; received 1.5"),
    (lambda: layers.MaxPooling2D(0), "pool_size must be an integer or a tuple of 2 positive integers; received 0"),
    (lambda: layers.ZeroPadding2D(-1), "padding must be an integer, 2 integers or 2 pairs"),
    (lambda: layers.BatchNormalization(epsilon=0), "epsilon must be a positive number; received 0"),
    (lambda: layers.Permute((0, 1)), "dims must be an order of 1 … n such as (2, 1); received (0, 1)"),
    (lambda: layers.UpSampling2D(interpolation="cubic"),
     "interpolation must be 'nearest' or 'bilinear'; received 'cubic'"),
    (lambda: keras.Input((0, 8, 3)), "sizes must be at least 1; received shape (None, 0, 8, 3)"),
    (lambda: keras.Sequential([keras.Input((None, None, 3)), layers.ReLU()]).graphs(),
     "only the batch size may be None in what is compiled; received shape (None, None, 3)"),
    (lambda: layers.Conv2D(4, 3)(keras.Input((5,))),
     "layer 'conv2d' (Conv2D): expected shape (batch, height, width, channels)"),
    (lambda: layers.Conv2D(2, 7)(image()), "layer 'conv2d': "),
    (lambda: layers.Conv2D(4, 3, groups=4)(image()), "groups must be a divisor of the 2 input channels; received 4"),
    (lambda: layers.Dense(2)(layers.Dense(3)), "layer 'dense': expected a tensor to call it on"),
    (lambda: layers.Add()([image(), keras.Input((4, 4, 2))]),
     "expected inputs of matching shapes; received (None, 5, 5, 2), (None, 4, 4, 2)"),
    (lambda: layers.Add()(image()),
     "expected a list of 1 or more inputs; received one tensor of shape (None, 5, 5, 2)"),
    (lambda: layers.Concatenate()([image(), keras.Input((4, 4, 2))]), "expected inputs that differ in axis -1 only"),
    (lambda: layers.Reshape((3, 3))(image()),
     "target_shape (3, 3) doesn't fit the 50 elements of input (None, 5, 5, 2)"),
    (lambda: layers.Cropping2D(3)(image()), "leaves nothing of input (None, 5, 5, 2)"),
    (lambda: keras.Sequential([lambda x: x]), "wrap it in Lambda"),
    (lambda: keras.Sequential([layers.Dense(2, name="d"), layers.Dense(2, name="d")]), "two layers are named 'd'"),
    (lambda: keras.Model(image(), None), "give both inputs and outputs"),
    (lambda: keras.Model(image(), layers.Dense(1)(keras.Input((3,)))),
     "the outputs need input 'input_layer_1', which is not among"),
    (lambda: keras.Model(image(), 3), "outputs must be tensors from Input or layers; received 3"),
    (lambda: keras.applications.ResNet50(), "pass weights=None or a weights file"),
    (lambda: keras.applications.VGG16(weights=None, input_shape=(8, 8, 3)),
     "sides of at least 32; received (8, 8, 3)"),
    (lambda: keras.Sequential([keras.Input((3,)), layers.Dense(2, name="first")]).get_layer("frist"),
     "has no layer 'frist' (did you mean 'first'?)"),
    (lambda: image()[:, 5], "index 5 is out of range for axis 1 of shape (None, 5, 5, 2)"),
    (lambda: image()[-1], "the batch axis of (None, 5, 5, 2) can't be indexed by -1"),
    (lambda: ops.reshape(image(), (7, -1)), "reshape: (7, -1) doesn't fit a tensor of shape (None, 5, 5, 2)"),
]  # fmt: skip


@pytest.mark.parametrize(("build", "message"), ROWS, ids=range(len(ROWS)))
def test_mistake_is_one_line_that_names_it(build: Any, message: str) -> None:
    with pytest.raises(ConvcError) as caught:
        build()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_untraceable_code_is_refused_with_its_line() -> None:
    tensor = image()
    attempts: list[tuple[Any, str]] = [
        (lambda: bool(tensor), "bool()"),
        (lambda: list(tensor), "iteration"),
        (lambda: np.asarray(tensor), "conversion to a numpy array"),
        (lambda: float(tensor), "float()"),
        (lambda: np.linalg.norm(tensor), "numpy.linalg.norm"),
        (lambda: np.add.reduce(tensor), "numpy.add"),
        (lambda: len(tensor), "len()"),
        (lambda: 1 in tensor, "'in'"),
    ]
    for attempt, what in attempts:
        with pytest.raises(ModelError) as caught:
            attempt()
        line = attempt.__code__.co_firstlineno
        assert f"{Path(__file__).name}:{line}: " in str(caught.value)
        assert what in str(caught.value)


def test_branch_on_a_value_inside_call_names_the_users_line() -> None:
    class Choosing(keras.Layer):
        def call(self, inputs: Any) -> Any:
            if inputs > 0:
                return inputs
            return -inputs

    with pytest.raises(
        ModelError, match=rf"{Path(__file__).name}:\d+: bool\(\) of a traced tensor"
    ):
        Choosing()(image())


def test_layer_without_super_init_is_told_so() -> None:
    class Forgetful(keras.Layer):
        def __init__(self) -> None:
            self.units = 3

    with pytest.raises(ModelError, match=r"call super\(\).__init__\(\)"):
        Forgetful()(image())


def test_two_layers_of_one_name_are_refused() -> None:
    i = keras.Input((3,))
    with pytest.raises(ModelError, match="two layers are named 'd'; names must differ"):
        keras.Model(i, layers.Dense(2, name="d")(layers.Dense(2, name="d")(i)))


def test_training_needs_compile() -> None:
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    with pytest.raises(ModelError, match=r"call compile\(optimizer, loss\) before fit"):
        model.fit(np.ones((4, 3)), np.ones((4, 2)))


def test_layers_and_functions_that_convc_lacks_are_named() -> None:
    with pytest.raises(UnsupportedError, match="layers has no 'FlaxLayer'"):
        _ = layers.FlaxLayer
    with pytest.raises(UnsupportedError, match=r"ops has no 'fft2'"):
        _ = ops.fft2
    with pytest.raises(
        UnsupportedError, match=r"'Conv2DTransposed' \(did you mean 'Conv2DTranspose'\?\)"
    ):
        _ = layers.Conv2DTransposed
    assert not hasattr(layers, "FlaxLayer")


def test_the_layers_have_no_other_name_among_them() -> None:
    names = {n for n, v in vars(layers).items() if not isinstance(v, ModuleType) and n[0] != "_"}
    assert names == set(layers.__all__)
    assert not {"NoReturn", "missing"} & vars(ops).keys()


def test_errors_are_of_the_kinds_that_programs_for_keras_catch(tmp_path: Path) -> None:
    for kind in (OSError, ValueError):
        with pytest.raises(kind, match=r"missing\.keras"):
            keras.models.load_model(tmp_path / "missing.keras")
    with pytest.raises(ValueError, match="padding must be"):
        layers.Conv2D(4, 3, padding="smae")


def test_what_is_wrong_in_a_file_is_said_once(tmp_path: Path) -> None:
    """An InputFileError is an OSError, which readers turn into an InputFileError."""
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("metadata.json", "{}")
    with pytest.raises(ConvcError, match=r"m\.keras: it has no config\.json, so"):
        keras.models.load_model(tmp_path / "m.keras")


def test_a_layer_without_the_common_arguments_is_told_to_pass_them_on() -> None:
    class Own(keras.Layer):
        def __init__(self, units: int) -> None:
            super().__init__()

    own: Any = Own
    with pytest.raises(
        ModelError, match=r"doesn't take 'name'.*\*\*kwargs and pass them on to super\(\)"
    ):
        own(3, name="a")


def test_export_says_what_writes_onnx() -> None:
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    with pytest.raises(UnsupportedError, match=r"export\('saved', .*format='onnx' writes a file"):
        model.export("saved")


def test_a_loss_that_no_weight_decides_is_refused() -> None:
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1)])
    model.compile("sgd", lambda y_true, y_pred: ops.mean(y_true))
    with pytest.raises(ConvcError, match="no gradients for any of the 2 trainable weights"):
        model.fit(np.ones((4, 3), np.float32), np.ones((4, 1), np.float32), verbose=0)
