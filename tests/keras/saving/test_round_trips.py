"""Models that are saved, loaded and made again from their configs; users' own classes and functions in them."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convc import keras
from convc.errors import InputFileError, ModelError, OutputError, UnsupportedError, UsageError
from convc.keras import layers, ops
from convc.keras.engine import legacy_weights, serialization
from tests.keras.running import run
from tests.keras.saving.networks import arrays, networks, with_random_weights

pytest.importorskip("h5py")


def assert_same(one: Any, other: Any) -> None:
    inputs = arrays(one)
    mine, theirs = run(one, *inputs), run(other, *inputs)
    for a, b in zip(mine, theirs, strict=True) if isinstance(mine, list) else [(mine, theirs)]:
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", networks(keras))
def test_a_config_makes_the_model_again(name: str) -> None:
    model = with_random_weights(networks(keras)[name]())
    again = keras.models.model_from_json(model.to_json())
    again.set_weights(model.get_weights())
    assert_same(model, again)
    assert [layer.name for layer in again.layers] == [layer.name for layer in model.layers]
    assert type(model).from_config(model.get_config()).count_params() == model.count_params()


def test_a_keras_file_is_three_plain_files(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    networks(keras)["sequential"]().save(path)
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["metadata.json", "config.json", "model.weights.h5"]
        assert json.loads(archive.read("metadata.json"))["keras_version"].startswith("3.")
        assert json.loads(archive.read("config.json"))["class_name"] == "Sequential"
    assert [p.name for p in tmp_path.iterdir()] == ["m.keras"]


@keras.saving.register_keras_serializable("tests")
class Scaled(layers.Layer):
    """x * factor + a weight."""

    def __init__(self, factor: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor = factor
        self.inner = layers.Dense(3)

    def build(self, input_shape: Any) -> None:
        self.shift = self.add_weight((input_shape[-1],), "ones", name="shift")

    def call(self, inputs: Any) -> Any:
        return self.inner(inputs * self.factor + self.shift)


class Tower(keras.Model):
    """A subclass that knows its layers from its arguments."""

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.blocks = [layers.Dense(units, activation="relu") for _ in range(2)]
        self.head = layers.Dense(2)

    def call(self, inputs: Any) -> Any:
        for block in self.blocks:
            inputs = block(inputs)
        return self.head(inputs)


def twice(x: Any) -> Any:
    return ops.add(x, x)


def test_registered_layers_and_their_weights_come_back(tmp_path: Path) -> None:
    i = keras.Input((4,))
    model = with_random_weights(keras.Model(i, Scaled(2.0)(i)))
    for suffix in (".keras", ".h5"):
        model.save(tmp_path / f"m{suffix}")
        assert_same(model, keras.models.load_model(tmp_path / f"m{suffix}"))


def test_classes_and_functions_come_from_custom_objects(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(3, activation=twice), layers.Lambda(twice, name="last")]
    )
    model.save(path)
    with pytest.raises(
        UnsupportedError, match=r"layer 'last' \(Lambda\): its function 'twice' is unknown"
    ):
        keras.models.load_model(path)
    assert_same(model, keras.models.load_model(path, custom_objects={"twice": twice}))
    with keras.saving.custom_object_scope({"twice": twice}):
        assert_same(model, keras.models.load_model(path))


def test_subclassed_models_come_back_with_their_build_shape(tmp_path: Path) -> None:
    path = tmp_path / "tower.keras"
    model = Tower(5)
    model.build((None, 4))
    with_random_weights(model).save(path)
    with pytest.raises(UnsupportedError, match=r"class 'Tower' of .* isn't known: register it"):
        keras.models.load_model(path)
    assert_same(model, keras.models.load_model(path, {"Tower": Tower}))


class OwnBuild(Tower):
    """One that builds its layers itself."""

    def build(self, input_shape: Any) -> None:
        for block in self.blocks:
            block.build(input_shape)
            input_shape = (*input_shape[:-1], self.units)
        self.head.build(input_shape)


def test_models_with_a_build_of_their_own_keep_the_weights_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "own.keras"
    model = OwnBuild(5)
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    model.predict(x, verbose=0)
    expected = with_random_weights(model).predict(x, verbose=0)
    model.save(path)
    again = keras.models.load_model(path, {"OwnBuild": OwnBuild})
    np.testing.assert_array_equal(again.predict(x, verbose=0), expected)
    assert again.predict(x[:2], verbose=0).shape == (2, 2)


def test_lambdas_come_back_in_the_process_that_saved_them(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    model = keras.Sequential([keras.Input((4,)), layers.Lambda(lambda x: x + 1, name="plus")])
    model.save(path)
    x = np.ones((2, 4), np.float32)
    loaded = keras.models.load_model(path)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), x + 1)
    others = dict(serialization._lambdas)
    serialization._lambdas.clear()  # as in another process
    with pytest.raises(UnsupportedError, match=r"'plus'.*marshalled Python bytecode"):
        keras.models.load_model(path, safe_mode=False)
    serialization._lambdas.update(others)


def test_lambdas_with_objects_from_outside_are_not_saved(tmp_path: Path) -> None:
    outside = object()
    model = keras.Sequential([keras.Input((4,)), layers.Lambda(lambda x: (x + 1, outside)[0])])
    with pytest.raises(ModelError, match="a lambda that refers to objects outside can't be saved"):
        model.save(tmp_path / "m.keras")
    assert not list(tmp_path.iterdir())


def test_trainable_and_names_come_back(tmp_path: Path) -> None:
    model = networks(keras)["sequential"]()
    model.layers[0].trainable = False
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    assert [w.path for w in again.trainable_weights] == [w.path for w in model.trainable_weights]
    assert again.name == model.name


def test_layers_that_convc_lacks_are_listed_at_once() -> None:
    model = networks(keras)["sequential"]()
    config = json.loads(model.to_json())
    for number in (1, 2):
        config["config"]["layers"][number].update(class_name=f"Odd{number}", module="keras.layers")
    with pytest.raises(
        UnsupportedError, match=r"layer 'dense.*' \(Odd1\).*; layer 'batch.*' \(Odd2\)"
    ):
        keras.models.model_from_json(json.dumps(config))


def test_old_weights_are_read_by_name(tmp_path: Path) -> None:
    path = tmp_path / "w.h5"
    first = keras.Sequential(
        [keras.Input((4,)), layers.Dense(3, name="a"), layers.Dense(2, name="b")]
    )
    first.save_weights(path)
    second = keras.Sequential(
        [keras.Input((4,)), layers.Dense(3, name="a"), layers.Dense(5, name="c")]
    )
    with pytest.raises(InputFileError, match=r"has shape \(3, 2\); c/kernel expects \(3, 5\)"):
        second.load_weights(path)
    kept = second.layers[1].get_weights()[0]
    second.load_weights(path, by_name=True)
    np.testing.assert_array_equal(
        second.layers[0].get_weights()[0], first.layers[0].get_weights()[0]
    )
    np.testing.assert_array_equal(second.layers[1].get_weights()[0], kept)
    second.load_weights(path, skip_mismatch=True)


def test_many_layer_names_are_spread_over_attributes(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(legacy_weights, "_HEADER", 16)
    model = with_random_weights(networks(keras)["merges"]())
    model.save(tmp_path / "m.h5")
    assert_same(model, keras.models.load_model(tmp_path / "m.h5"))


def test_files_that_can_t_be_written_or_named_so(tmp_path: Path) -> None:
    model = networks(keras)["sequential"]()
    with pytest.raises(UsageError, match=r"expected a name that ends in \.keras or \.h5"):
        model.save(tmp_path / "m.pb")
    with pytest.raises(OutputError, match="can't write"):
        model.save(tmp_path / "missing" / "m.keras")
    model.save(tmp_path / "m.keras")
    with pytest.raises(OutputError, match="exists already"):
        model.save(tmp_path / "m.keras", overwrite=False)
    with pytest.raises(ModelError, match="no weights yet"):
        keras.Sequential([layers.Dense(2)]).save(tmp_path / "n.keras")
    with pytest.raises(UsageError, match="expected a name that ends in"):
        keras.models.load_model(tmp_path / "m.pt")
    with pytest.raises(InputFileError, match="doesn't exist"):
        keras.models.load_model(tmp_path / "other.keras")


def test_masking_makes_zeros_of_the_steps_that_it_leaves_out() -> None:
    i = keras.Input((4, 3))
    x = np.array([[[0, 0, 0], [1, 0, np.nan]]], np.float32)
    found = run(keras.Model(i, layers.Masking()(i)), np.concatenate([x, x], 1))
    np.testing.assert_array_equal(found[0, :2], x[0])


def opened(entry: dict[str, Any], sizes: slice) -> None:
    """Leaves sizes of an input layer open, as networks for any image size do."""
    shape = entry["config"]["batch_shape"]
    shape[sizes] = [None] * len(shape[sizes])


def test_open_sizes_are_given_or_come_from_the_model_around(tmp_path: Path) -> None:
    i = keras.Input((6, 6, 3), name="image")
    base = keras.Model(i, layers.Conv2D(2, 3)(i), name="base")
    outer = keras.Input((6, 6, 3), name="photo")
    functional = keras.Model(outer, layers.GlobalMaxPooling2D()(base(outer)))
    chain = keras.Sequential([keras.Input((6, 6, 3)), base, layers.Flatten()])
    for model in (functional, chain):
        config = json.loads(model.to_json())
        inner = next(e for e in config["config"]["layers"] if e["class_name"] == "Functional")
        opened(inner["config"]["layers"][0], slice(1, 3))
        again = keras.models.model_from_json(json.dumps(config))
        assert again.output_shape == model.output_shape
    config = json.loads(base.to_json())
    opened(config["config"]["layers"][0], slice(1, 3))
    base.save(tmp_path / "m.keras")
    with (
        zipfile.ZipFile(tmp_path / "m.keras") as old,
        zipfile.ZipFile(tmp_path / "n.keras", "w") as new,
    ):
        new.writestr("config.json", json.dumps(config))
        new.writestr("model.weights.h5", old.read("model.weights.h5"))
    opened_model = keras.models.load_model(tmp_path / "n.keras")
    assert opened_model.output_shape == (None, None, None, 2)
    with pytest.raises(UnsupportedError, match=r"only the batch size may be None.*--shape image="):
        opened_model.graphs()
    for shape in ((8, 9, 3), (1, 8, 9, 3)):
        again = keras.models.load_model(tmp_path / "n.keras", input_shapes={"image": shape})
        assert again.output_shape == (None, 6, 7, 2)


class Block(layers.Layer):
    """Layers in attributes, lists and dicts, made and built by hand."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.zeta = layers.Dense(4)
        self.alpha: list[Any] = [layers.Dense(4), [layers.Dense(4), layers.BatchNormalization()]]
        self.middle = {"b": layers.Dense(4)}
        self._hidden = layers.Dense(4)

    def build(self, input_shape: Any) -> None:
        self.constant = self.add_weight((4,), "ones", trainable=False, name="constant")
        self.factor = self.add_weight((4,), "ones", name="factor")
        first, (second, norm) = self.alpha
        for layer in (self.zeta, first, second, norm, self.middle["b"], self._hidden):
            layer.build(input_shape)

    def call(self, x: Any) -> Any:
        first, (second, norm) = self.alpha
        x = norm(second(first(self.zeta(x) * self.factor + self.constant)))
        return self._hidden(self.middle["b"](x))


def test_variables_lie_where_keras_3_puts_them(tmp_path: Path) -> None:
    """The places that Keras 3.15 gives the same class: by attribute, private ones last, each variable once."""
    h5py = pytest.importorskip("h5py")
    i = keras.Input((4,))
    model = with_random_weights(keras.Model(i, Block()(Block()(i))))
    path = tmp_path / "w.weights.h5"
    model.save_weights(path)
    places: list[str] = []
    with h5py.File(path) as file:
        file.visititems(lambda n, o: places.append(n) if isinstance(o, h5py.Dataset) else None)
        factor = file["layers/block/vars/0"][()]
    parts = ("_hidden", "alpha/container/batch_normalization", "alpha/container/dense", "alpha/dense", "middle/dense",
             "zeta")  # fmt: skip
    expected = {
        f"layers/{b}/{part}/vars/{k}"
        for b in ("block", "block_1")
        for part in parts
        for k in range(2)
    }
    expected |= {
        f"layers/{b}/alpha/container/batch_normalization/vars/{k}"
        for b in ("block", "block_1")
        for k in (2, 3)
    }
    expected |= {f"layers/{b}/vars/{k}" for b in ("block", "block_1") for k in range(2)}
    assert set(places) == expected
    np.testing.assert_array_equal(factor, model.layers[1].factor.value)
    again = keras.Model(i, Block()(Block()(i)))
    again.load_weights(path)
    assert_same(model, again)
