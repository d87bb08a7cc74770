"""What only some generations of Keras write: other names and arguments, orders of optimizers' states, marks."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convc import keras
from convc.errors import InputFileError, ModelError, UnsupportedError, UsageError
from convc.keras import layers, ops
from tests.keras.running import run

h5py = pytest.importorskip("h5py")

X = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
Y = np.random.default_rng(1).normal(size=(6, 2)).astype(np.float32)


def old_model(shape: list[int | None], *entries: dict[str, Any]) -> dict[str, Any]:
    """A Sequential as Keras 2 writes it."""
    first = {
        "class_name": "InputLayer",
        "config": {"batch_input_shape": [None, *shape], "dtype": "float32", "name": "in"},
    }
    return {"class_name": "Sequential", "config": {"name": "m", "layers": [first, *entries]}}


def entry(class_name: str, **config: Any) -> dict[str, Any]:
    config = {"name": "layer", "trainable": True, "dtype": "float32", **config}
    return {"class_name": class_name, "config": config}


@pytest.mark.parametrize(("version", "expected"), [("2.19.0", 0.7), ("3.0.0", 4 / 6)])
def test_json_means_what_its_version_of_keras_means(version: str, expected: float) -> None:
    config = old_model([1], entry("Activation", activation="hard_sigmoid"))
    model = keras.models.model_from_json(json.dumps({**config, "keras_version": version}))
    np.testing.assert_allclose(run(model, np.ones((1, 1), np.float32)), expected, 1e-6)


def test_an_activation_may_be_a_layer() -> None:
    inner = {"module": "keras.layers", **entry("LeakyReLU", alpha=0.25), "registered_name": None}
    model = keras.models.model_from_config(old_model([2], entry("Activation", activation=inner)))
    found = run(model, np.array([[-4, 4]], np.float32))
    np.testing.assert_allclose(found, [[-1, 4]], 1e-6)


@pytest.mark.parametrize(
    ("shape", "layer"),
    [
        ([3, 3, 3, 1], entry("Conv3DTranspose", filters=2, kernel_size=[2] * 3, groups=1)),
        ([4], entry("Discretization", bin_boundaries=[0.5], num_bins=None)),
        ([4], entry("IntegerLookup", vocabulary=[3, 4], vocabulary_size=3, dtype="int64")),
    ],
    ids=lambda value: value["class_name"] if isinstance(value, dict) else "",
)
def test_arguments_of_other_versions(shape: list[int | None], layer: dict[str, Any]) -> None:
    assert keras.models.model_from_config(old_model(shape, layer)).layers[0].name == "layer"


def test_attention_of_keras_2(tmp_path: Path) -> None:
    """Its config has the shapes that it was built for, its weights have private places."""
    start = keras.Input((4, 6))
    model = keras.Model(start, layers.MultiHeadAttention(2, 3, name="a")(start, start))
    path = tmp_path / "new.weights.h5"
    model.save_weights(path)
    with h5py.File(path) as file, h5py.File(tmp_path / "old.weights.h5", "w") as old:
        new = file["layers/multi_head_attention"]
        for name in new:
            new.copy(name, old.require_group("layers/multi_head_attention"), f"_{name}")
    config = model.get_layer("a").get_config() | {"query_shape": [None, 4, 6], "key_shape": None}
    other = keras.saving.deserialize_keras_object(
        {"module": "keras.layers", "class_name": "MultiHeadAttention", "config": config}
    )
    again = keras.Model(start, other(start, start))
    again.load_weights(tmp_path / "old.weights.h5")
    x = np.random.default_rng(2).normal(size=(2, 4, 6)).astype(np.float32)
    np.testing.assert_array_equal(run(again, x), run(model, x))


def part(start: int | None = None, stop: int | None = None, step: int | None = None) -> Any:
    return {"start": start, "stop": stop, "step": step}


@pytest.mark.parametrize(
    ("spec", "key"),
    [
        ([part(), 1], np.s_[:, 1]),
        ([{"class_name": "__ellipsis__"}, part(1, -1)], np.s_[..., 1:-1]),
        ([part(), part(step=2), None, -1], np.s_[:, ::2, None, -1]),
    ],
)
def test_slices_between_layers_of_keras_2(spec: list[Any], key: Any) -> None:
    start = {**entry("InputLayer", batch_input_shape=[None, 3, 5]), "inbound_nodes": []}
    start["config"]["name"] = start["name"] = "in"
    cut = entry("SlicingOpLambda", function="__operators__.getitem")
    cut |= {"name": "cut", "inbound_nodes": [["in", 0, 0, {"slice_spec": spec}]]}
    cut["config"]["name"] = "cut"
    config = {
        "layers": [start, cut],
        "input_layers": [["in", 0, 0]],
        "output_layers": [["cut", 0, 0]],
    }
    model = keras.models.model_from_config({"class_name": "Functional", "config": config})
    x = np.arange(60, dtype=np.float32).reshape(4, 3, 5)
    np.testing.assert_array_equal(run(model, x), x[key])


def test_names_with_slashes_of_keras_2(tmp_path: Path) -> None:
    """Its MobileNetV3 has "Conv/BatchNorm"; a layer made here must not, as in Keras 3."""
    config = old_model([2], entry("Dense", units=1) | {"name": "a/b"})
    config["config"]["layers"][1]["config"]["name"] = "a/b"
    model = keras.models.model_from_config(config)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(again.get_layer("a/b").kernel, model.get_layer("a/b").kernel)
    with pytest.raises(ModelError, match="without '/'"):
        layers.Dense(1, name="a/b")


def test_functions_with_a_dtype_or_any_number_of_tensors() -> None:
    """`cast` keeps its dtype, `einsum` takes its operands one by one, as Keras writes them."""
    start = keras.Input((3, 3))
    product = ops.einsum("bij,bjk->bik", start, start)
    model = keras.Model(start, [product, ops.cast(product, "int32")])
    config = keras.saving.serialize_keras_object(model)
    called = next(e for e in config["config"]["layers"] if e["class_name"] == "Einsum")
    names = [a["config"]["keras_history"][0] for a in called["inbound_nodes"][0]["args"]]
    assert names == [start.name] * 2
    again = keras.models.model_from_config(config)
    x = np.random.default_rng(3).normal(size=(2, 3, 3)).astype(np.float32)
    for mine, other in zip(run(again, x), run(model, x), strict=True):
        assert mine.dtype == other.dtype
        np.testing.assert_array_equal(mine, other)


def test_gelu_says_which_one_it_is() -> None:
    """Keras' operation approximates unless told otherwise, its activation doesn't."""
    start = keras.Input((3,))
    both = [keras.activations.gelu(start), ops.gelu(start)]
    entries = keras.saving.serialize_keras_object(keras.Model(start, both))["config"]["layers"]
    assert {e["config"]["approximate"] for e in entries[1:]} == {True, False}


def test_augmentation_follows_the_phase_whatever_the_file_says(tmp_path: Path) -> None:
    """Keras 3 writes training=True into every call of such a layer, and leaves images alone in predict."""
    start = keras.Input((4, 4, 3))
    model = keras.Model(start, layers.RandomInvert(1.0, (0, 1), name="r")(start, training=True))
    model = keras.models.model_from_config(keras.saving.serialize_keras_object(model))
    x = np.zeros((2, 4, 4, 3), np.float32)
    np.testing.assert_array_equal(run(model, x), x)
    negative = layers.RandomSaturation.from_config({"factor": [-0.5, 0.5], "value_range": [0, 1]})
    assert negative.factor == (-0.5, 0.5)


@pytest.mark.parametrize(
    ("layer", "absent"),
    [
        (layers.ActivityRegularization(0.1), "activity_regularizer"),
        (layers.Discretization([0.5]), "trainable"),
    ],
    ids=["ActivityRegularization", "Discretization"],
)
def test_nothing_is_written_that_keras_3_doesn_t_take(layer: Any, absent: str) -> None:
    assert absent not in layer.get_config()
    assert type(layer.from_config(layer.get_config())) is type(layer)


def test_a_layer_within_and_beside_a_nested_model_is_one(tmp_path: Path) -> None:
    """Keras marks the later places of a shared layer, and keeps its weights at the first one only."""
    i = keras.Input((4,))
    shared = layers.Dense(3, name="shared")
    inner = keras.Model(i, layers.Dense(2, name="own")(shared(i)), name="inner")
    start = keras.Input((4,))
    model = keras.Model(start, [inner(start), shared(start)])
    path = tmp_path / "m.keras"
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(parts["config.json"])
    mark = next(e for e in config["config"]["layers"] if e["name"] == "shared")
    mark["shared_object_id"] = 140431532998928
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, json.dumps(config) if name == "config.json" else content)
    again = keras.models.load_model(path)
    assert again.get_layer("inner").get_layer("shared") is again.get_layer("shared")
    for mine, other in zip(run(again, X), run(model, X), strict=True):
        np.testing.assert_array_equal(mine, other)


def trained(optimizer: Any, **settings: Any) -> Any:
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, "tanh"), layers.Dense(2)])
    model.compile(optimizer, "mse", **settings)
    for _ in range(3):
        model.train_on_batch(X, Y)
    return model


def rewritten(path: Path, change: Any) -> None:
    """Gives the optimizer's arrays of a file other names and another order."""
    with h5py.File(path, "r+") as file:
        names = [n.decode() for n in file["optimizer_weights"].attrs["weight_names"]]
        arrays = [file["optimizer_weights"][n][()] for n in names]
        del file["optimizer_weights"]
        group = file.create_group("optimizer_weights")
        pairs = change(arrays)
        group.attrs["weight_names"] = np.array([n.encode() for n, _ in pairs])
        for name, array in pairs:
            group.create_dataset(name, data=array)


def grouped(steps: str, *slots: str, cache: str = "") -> Any:
    """The order before Keras 2.11: the count of steps, all first slots, all second ones."""

    def change(arrays: list[Any]) -> list[tuple[str, Any]]:
        first = [(steps, arrays[0])]
        state = arrays[2:] if not cache else arrays[2:-1]
        first += [(cache, arrays[-1])] if cache else []
        return first + [
            (f"training/w{k}/{slot}:0", array)
            for s, slot in enumerate(slots)
            for k, array in enumerate(state[s :: len(slots)])
        ]

    return change


def with_empty_thirds(arrays: list[Any]) -> list[tuple[str, Any]]:
    """Keras up to 2.3 gives Adam one-element arrays in place of AMSGrad's."""
    found: list[tuple[str, Any]] = grouped("training/Adam/Variable:0", "m", "v")(arrays)
    return found + [(f"training/v_hat_{k}:0", np.zeros(1, np.float32)) for k in range(4)]


def without_rate_and_product(arrays: list[Any]) -> list[tuple[str, Any]]:
    """Keras 2.11 and later keep neither the learning rate nor Nadam's product."""
    kept = [arrays[0], *arrays[2:-1]]
    return [("iteration:0", kept[0])] + [(f"Nadam/{k}:0", a) for k, a in enumerate(kept[1:])]


def with_unused_slots(arrays: list[Any]) -> list[tuple[str, Any]]:
    shapes = [(4, 3), (3,), (3, 2), (2,)]
    zeros = [(f"SGD/m/{k}:0", np.zeros(s, np.float32)) for k, s in enumerate(shapes)]
    return [("iteration:0", arrays[0]), *zeros]


@pytest.mark.parametrize(
    ("optimizer", "change"),
    [
        ("Adam", grouped("Adam/iter:0", "m", "v")),
        ("Adam", with_empty_thirds),
        ("Adadelta", grouped("Adadelta/iter:0", "accum_grad", "accum_var")),
        ("Nadam", grouped("Nadam/iter:0", "m", "v", cache="Nadam/momentum_cache:0")),
        ("Nadam", without_rate_and_product),
        ("SGD", with_unused_slots),
    ],
    ids=["Adam-2.10", "Adam-2.3", "Adadelta-2.10", "Nadam-2.10", "Nadam-2.11", "SGD-2.11"],
)
def test_optimizer_states_of_keras_2(optimizer: str, change: Any, tmp_path: Path) -> None:
    model = trained(getattr(keras.optimizers, optimizer)(0.05))
    path = tmp_path / "m.h5"
    model.save(path)
    rewritten(path, change)
    again = keras.models.load_model(path)
    for each in (model, again):
        each.train_on_batch(X, Y)
    for mine, other in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, 1e-6, 1e-7)


def test_losses_and_metrics_of_keras_2(tmp_path: Path) -> None:
    """Losses name their function too; the metrics of several outputs begin with the output's name."""
    start = keras.Input((4,))
    model = keras.Model(start, [layers.Dense(2, name=n)(start) for n in "pq"])
    model.compile("sgd", ["mse", "mse"])
    path = tmp_path / "m.h5"
    model.save(path)
    mae = {"name": "q_mae", "dtype": "float32", "fn": "mean_absolute_error"}
    huber = {"reduction": "auto", "name": "huber_loss", "delta": 0.25, "fn": "huber"}
    with h5py.File(path, "r+") as file:
        training = json.loads(file.attrs["training_config"])
        training["loss"] = [{"class_name": "Huber", "config": huber}, "mse"]
        training["metrics"] = [[], [{"class_name": "MeanMetricWrapper", "config": mae}]]
        file.attrs["training_config"] = json.dumps(training)
    found = keras.models.load_model(path).evaluate(X, [Y, Y], verbose=0, return_dict=True)
    p, q = model.predict(X, verbose=0)
    over = np.abs(p - Y)
    expected = np.where(over > 0.25, 0.25 * over - 0.5 * 0.25**2, 0.5 * over**2).mean()
    np.testing.assert_allclose(found["p_loss"], expected, 1e-5)
    np.testing.assert_allclose(found["q_mae"], np.abs(q - Y).mean(), 1e-5)


def test_quantized_weights_are_refused() -> None:
    """Taken for plain ones they gave wrong numbers."""
    policy = {
        "class_name": "QuantizedDTypePolicy",
        "config": {"mode": "int8", "source_name": "float32"},
    }
    config = old_model([4], entry("Dense", units=2, dtype={"module": "keras", **policy}))
    with pytest.raises(UnsupportedError, match=r"'layer'.*QuantizedDTypePolicy.*isn't known"):
        keras.models.model_from_config(config)


class Own(layers.Layer):
    """Names its weights in files itself."""

    def build(self, input_shape: Any) -> None:
        self.scale = self.add_weight((input_shape[-1],), "ones", name="scale")

    def call(self, inputs: Any) -> Any:
        return inputs * self.scale

    def save_own_variables(self, store: Any) -> None:
        store["its scale"] = self.scale.numpy()

    def load_own_variables(self, store: Any) -> None:
        self.scale.assign(store["its scale"])


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_layers_write_their_variables_their_way(suffix: str, tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((2,)), Own(name="own")])
    model.set_weights([np.array([3, 4], np.float32)])
    path = tmp_path / f"m{suffix}"
    (model.save if suffix == ".keras" else model.save_weights)(path)
    again = keras.Sequential([keras.Input((2,)), Own(name="own")])
    if suffix == ".keras":
        again = keras.models.load_model(path, custom_objects={"Own": Own})
    else:
        again.load_weights(path)
        with h5py.File(path) as file:
            assert list(file["layers/own/vars"]) == ["its scale"]
    np.testing.assert_array_equal(again.get_weights()[0], [3, 4])


class Subclassed(keras.Model):
    """Attributes before and after `layers` in the alphabet, and a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.out = layers.Dense(2)
        self.first = layers.Dense(3)
        self.blocks = {"a": layers.Dense(3)}

    def call(self, inputs: Any) -> Any:
        return self.out(self.blocks["a"](self.first(inputs)))


def test_layers_of_subclassed_models_lie_where_keras_3_puts_them(tmp_path: Path) -> None:
    """Keras looks through attributes by name, `layers` among them: it has all that wasn't seen before it."""
    model = Subclassed()
    model.build((None, 4))
    model.save_weights(tmp_path / "m.weights.h5")
    with h5py.File(tmp_path / "m.weights.h5") as file:
        places = [p for p in ("blocks/dense", "first", "layers/dense") if p in file]
        shape = file["layers/dense/vars/0"].shape
    assert (places, shape) == (["blocks/dense", "first", "layers/dense"], (3, 2))


def small() -> Any:
    return keras.Sequential([keras.Input((40,)), layers.Dense(50), layers.Dense(30)])


def test_weights_over_several_files(tmp_path: Path) -> None:
    """As Keras 3 writes them with max_shard_size, in GiB."""
    model, path = small(), tmp_path / "w.weights.json"
    model.save_weights(path, max_shard_size=9000 / 2**30)
    assert sorted(p.name for p in tmp_path.glob("*.h5")) == [
        "w_00000.weights.h5",
        "w_00001.weights.h5",
    ]
    found = json.loads(path.read_text())
    assert found["weight_map"] == {
        "/layers/dense/vars": ["w_00000.weights.h5"],
        "/layers/dense_1/vars": ["w_00001.weights.h5"],
    }
    again = small()
    again.load_weights(path)
    for mine, other in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)
    with pytest.raises(UsageError, match="layers/dense/vars alone takes 8,200"):
        model.save_weights(path, max_shard_size=5000 / 2**30)
    with pytest.raises(UsageError, match="go together"):
        model.save_weights(path)
    for name, message in (("../w.h5", "isn't beside it"), ("x.h5", "names the file x.h5")):
        path.write_text(json.dumps({"weight_map": {"/layers/dense/vars": [name]}}))
        with pytest.raises(InputFileError, match=message):
            again.load_weights(path)
    path.write_text("{}")
    with pytest.raises(InputFileError, match="no weight_map"):
        again.load_weights(path)


def test_kernels_of_theano_are_turned_around(tmp_path: Path) -> None:
    """Keras 2 on Theano convolved in earnest, and turned kernels of other back ends when it read them."""
    inner = keras.Sequential([keras.Input((5, 5, 1)), layers.Conv2D(2, 3), layers.Flatten()])
    model = keras.Sequential([inner, layers.Dense(2)])
    path = tmp_path / "m.h5"
    model.save(path)
    with h5py.File(path, "r+") as file:
        file["model_weights"].attrs["backend"] = b"theano"
        file.attrs["keras_version"] = b"2.1.6"
    kernel, _, dense, _ = keras.models.load_model(path).get_weights()
    before, _, same, _ = model.get_weights()
    np.testing.assert_array_equal(kernel, before[::-1, ::-1])
    np.testing.assert_array_equal(dense, same)


def test_gates_of_keras_2_are_hard_in_its_way() -> None:
    """The loop over the steps has the activation of the file, not the one that has its name now."""
    layer = entry("GRU", units=1, reset_after=False, recurrent_activation="hard_sigmoid")
    config = {**old_model([2, 1], layer), "keras_version": "2.10.0"}
    model = keras.models.model_from_json(json.dumps(config))
    model.set_weights([np.full(w.shape, 0.5, np.float32) for w in model.get_weights()])
    state = 0.0
    for _ in range(2):
        gate = 0.2 * (1.0 + 0.5 * state) + 0.5
        state = gate * state + (1 - gate) * np.tanh(1.0 + 0.5 * gate * state)
    np.testing.assert_allclose(run(model, np.ones((1, 2, 1), np.float32)), state, 1e-5)
