"""Functional, sequential and subclassed models."""

from typing import Any

import numpy as np
import pytest

import convc
from convc import keras
from convc.errors import DataError, ModelError
from convc.graph.interp import run_graph
from convc.keras import layers, ops
from convc.types import Dim, DType
from tests.keras.running import randomized, run


def branched() -> Any:
    i = keras.Input((8, 8, 3), name="image")
    a = layers.Conv2D(4, 3, padding="same", name="a")(i)
    b = layers.Conv2D(4, 1, name="b")(i)
    return keras.Model(i, layers.Add(name="sum")([a, b]), name="branched")


def test_graph_is_named_after_layers_and_has_a_symbolic_batch() -> None:
    graph = branched().graphs()["predict"]
    assert graph.inputs == ("image",)
    assert graph.outputs == ("sum",)
    assert graph.types["image"].shape == (Dim.symbol("N"), 8, 8, 3)
    assert {n.layer for n in graph.nodes} == {"a", "b", "sum"}
    assert set(graph.weights) == {"a/kernel", "a/bias", "b/kernel", "b/bias"}
    assert graph.weights["a/kernel"].shape == (4, 3, 3, 3)


def test_kernels_are_transposed_when_the_graph_is_built() -> None:
    model = branched()
    kernel, _ = model.get_layer("a").get_weights()
    found = model.graphs()["predict"].weights["a/kernel"]
    np.testing.assert_array_equal(found, kernel.transpose(3, 2, 0, 1))
    assert found.shape == (4, 3, 3, 3)
    model.get_layer("a").set_weights([kernel + 1, np.zeros(4)])
    again = model.graphs()["predict"].weights["a/kernel"]
    np.testing.assert_array_equal(again, (kernel + 1).transpose(3, 2, 0, 1))


def test_bias_and_activation_come_before_the_transpose_back() -> None:
    i = keras.Input((8, 8, 3))
    graph = keras.Model(i, layers.Conv2D(4, 3, activation="relu")(i)).graphs()["predict"]
    names = [n.op.mnemonic for n in graph.nodes]
    assert names == ["transpose", "conv2d", "add", "relu", "transpose"]


def test_channels_first_graph_has_no_transposes() -> None:
    i = keras.Input((3, 8, 8))
    x = layers.Conv2D(4, 3, data_format="channels_first", activation="relu")(i)
    x = layers.MaxPooling2D(data_format="channels_first")(layers.BatchNormalization(1)(x))
    graph = keras.Model(i, x).graphs()["predict"]
    assert [n.op.mnemonic for n in graph.nodes] == [
        "conv2d",
        "add",
        "relu",
        "batch_norm",
        "max_pool2d",
    ]


def test_fixed_batch_size_reaches_the_graph() -> None:
    i = keras.Input((4,), batch_size=5)
    graph = keras.Model(i, layers.Dense(2)(i)).graphs()["predict"]
    assert graph.types[graph.outputs[0]].shape == (5, 2)


def test_input_dtype_reaches_the_graph() -> None:
    i = keras.Input((4,), dtype="uint8", name="pixels")
    graph = keras.Model(i, layers.Rescaling(1 / 255)(i)).graphs()["predict"]
    assert graph.types["pixels"].dtype is DType.uint8
    assert graph.types[graph.outputs[0]].dtype is DType.float32


def test_several_inputs_and_outputs_keep_their_order_and_names() -> None:
    a, b = keras.Input((3,), name="left"), keras.Input((3,), name="right")
    total = layers.Add(name="total")([a, b])
    model = keras.Model(inputs=[a, b], outputs=[total, layers.Dense(2, name="scores")(total), a])
    graph = model.graphs()["predict"]
    assert graph.inputs == ("left", "right")
    assert graph.outputs[:2] == ("total", "scores")
    x, y = np.ones((2, 3), np.float32), np.full((2, 3), 2, np.float32)
    first, _, third = run(model, x, y)
    np.testing.assert_array_equal(first, x + y)
    np.testing.assert_array_equal(third, x)
    assert [t.shape for t in model.outputs] == [(None, 3), (None, 2), (None, 3)]


def test_sequential_waits_for_its_input_shape() -> None:
    model = keras.Sequential([layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(2)])
    assert not model.built
    with pytest.raises(ModelError, match="doesn't know its input's shape"):
        model.graphs()
    model.build((None, 6, 6, 1))
    assert model.count_params() == 40 + 4 * 4 * 4 * 2 + 2
    assert model.output_shape == (None, 2)


def test_a_sequential_without_layers_says_so() -> None:
    for model in (
        keras.Sequential(name="none"),
        keras.Sequential([keras.Input((3,))], name="none"),
    ):
        with pytest.raises(ModelError, match="Sequential 'none' has no layers; add one first"):
            model.graphs()


def test_sequential_takes_its_shape_from_the_first_call_or_layer() -> None:
    model = keras.Sequential([layers.Dense(2)])
    model(np.zeros((1, 3), np.float32))
    assert model.count_params() == 8
    old = keras.Sequential()
    old.add(layers.Dense(2, input_shape=(3,)))
    old.add(layers.Dense(1))
    assert old.output_shape == (None, 1)
    assert keras.Sequential([layers.Dense(2, input_dim=5)]).count_params() == 12
    old.pop()
    assert old.output_shape == (None, 2)


class Residual(keras.Layer):
    """A user's layer with layers and a weight of its own."""

    def __init__(self, filters: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.convolutions = [layers.Conv2D(filters, 3, padding="same") for _ in range(2)]

    def build(self, input_shape: Any) -> None:
        self.scale = self.add_weight((1,), "ones", name="scale")

    def call(self, inputs: Any) -> Any:
        x = inputs
        for convolution in self.convolutions:
            x = ops.relu(convolution(x))
        return inputs + self.scale * x / 2


class Net(keras.Model):
    """A user's model."""

    def __init__(self) -> None:
        super().__init__()
        self.first = Residual(3)
        self.flatten = layers.Flatten()
        self.last = layers.Dense(2, activation="softmax")

    def call(self, inputs: Any, training: bool = False) -> Any:
        return self.last(self.flatten(self.first(inputs)))


def test_subclassed_layers_and_models_trace_into_the_graph() -> None:
    model = Net()
    model.build((None, 4, 4, 3))
    assert [layer.name for layer in model.layers] == ["residual", "flatten", "dense"]
    paths = [w.path for w in model.weights]
    assert paths[:2] == ["residual/scale", "residual/conv2d/kernel"]
    graph = model.graphs()["predict"]
    assert {"residual/conv2d", "residual", "dense"} <= {n.layer for n in graph.nodes}
    x = np.random.default_rng(0).standard_normal((2, 4, 4, 3)).astype(np.float32)
    y = run(randomized(model), x)
    np.testing.assert_allclose(y.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.asarray(model(x)), y, rtol=1e-5)


def test_models_nest_and_share_weights() -> None:
    inner = branched()
    a, b = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    outer = keras.Model([a, b], layers.Subtract()([inner(a), inner(b)]))
    assert outer.count_params() == inner.count_params()
    graph = outer.graphs()["predict"]
    assert "branched/a" in {n.layer for n in graph.nodes}
    x, y = np.random.default_rng(1).standard_normal((2, 1, 8, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(
        run(outer, x, y), run(inner, x) - run(inner, y), rtol=1e-4, atol=1e-5
    )


def test_features_can_be_cut_out_of_a_model() -> None:
    model = branched()
    features = keras.Model(model.input, model.get_layer("b").output)
    assert [layer.name for layer in features.layers] == ["image", "b"]
    tail = keras.Model(model.get_layer("a").output, ops.relu(model.get_layer("a").output))
    x = np.array([[[[-1.0, 2.0, -3.0, 4.0]] * 8] * 8], np.float32)
    np.testing.assert_array_equal(run(tail, x), np.maximum(x, 0))


def test_layers_stand_in_keras_order() -> None:
    """By distance from the output, then by discovery from it."""
    i = keras.Input((8,), name="in")
    short = layers.Dense(4, name="short")(i)
    long = layers.Dense(4, name="long2")(layers.Dense(4, name="long1")(i))
    model = keras.Model(i, layers.Concatenate(name="join")([short, long]))
    assert [layer.name for layer in model.layers] == ["in", "long1", "short", "long2", "join"]


def test_operators_between_layers_are_part_of_the_model() -> None:
    i = keras.Input((4,))
    x = np.float32(2) * i[:, 1:] - 1
    model = keras.Model(i, np.exp(-x) @ np.eye(3, dtype=np.float32))
    given = np.random.default_rng(2).standard_normal((5, 4)).astype(np.float32)
    np.testing.assert_allclose(run(model, given), np.exp(1 - 2 * given[:, 1:]), rtol=1e-5)


def test_trainable_splits_the_weights() -> None:
    model = branched()
    assert len(model.trainable_weights) == 4
    model.get_layer("a").trainable = False
    assert [w.path for w in model.non_trainable_weights] == ["a/kernel", "a/bias"]
    model.trainable = False
    assert model.trainable_weights == []


def test_weights_round_trip_in_order() -> None:
    model, other = branched(), branched()
    other.set_weights(model.get_weights())
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ModelError, match=r"a/kernel has shape \(3, 3, 3, 4\); received \(1,\)"):
        model.set_weights([np.zeros(1)] * 4)
    with pytest.raises(ModelError, match="expected 4 arrays"):
        model.set_weights([])


def test_random_seed_makes_weights_repeat() -> None:
    keras.utils.set_random_seed(3)
    first = branched().get_weights()
    keras.utils.set_random_seed(3)
    second = branched().get_weights()
    keras.utils.set_random_seed(4)
    third = branched().get_weights()
    np.testing.assert_array_equal(first[0], second[0])
    assert not np.array_equal(first[0], third[0])


def test_deep_chains_do_not_exhaust_the_stack() -> None:
    i = keras.Input((4,))
    x: Any = i
    for _ in range(3000):
        x = layers.ReLU()(x)
    assert len(keras.Model(i, x).graphs()["predict"].nodes) == 3000


def test_to_categorical_makes_rows() -> None:
    np.testing.assert_array_equal(keras.utils.to_categorical([2, 0], 3), [[0, 0, 1], [1, 0, 0]])


def test_sequential_starts_with_the_input_of_a_model() -> None:
    base = keras.applications.MobileNetV2(weights=None, include_top=False, input_shape=(32, 32, 3))
    base.trainable = False
    model = keras.Sequential([base, layers.GlobalAveragePooling2D(), layers.Dense(3)])
    assert model.output_shape == (None, 3)
    assert [w.name for w in model.trainable_weights] == ["kernel", "bias"]


def test_comparisons_with_a_tensor_are_traced() -> None:
    i = keras.Input((3,))
    model = keras.Model(i, ops.where(i == 1, 10.0, i) + ops.cast(i != 2, "float32"))
    x = np.array([[0, 1, 2]], np.float32)
    np.testing.assert_array_equal(run(model, x), [[1, 11, 2]])
    assert (i == None) is False  # noqa: E711


def test_predict_feeds_batches_and_compiles_again_after_new_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[int] = []
    compiled: list[Any] = []

    def compile(model: Any) -> Any:
        graph = model.graphs()["predict"]
        compiled.append(model)

        def call(feeds: dict[str, Any]) -> Any:
            sizes.append(len(feeds["left"]))
            return list(run_graph(graph, feeds).values())

        return call

    monkeypatch.setattr(convc, "compile", compile, raising=False)
    a, b = keras.Input((3,), name="left"), keras.Input((3,), name="right")
    model = keras.Model([a, b], [a + b, layers.Dense(2)(a)])
    x, y = np.ones((5, 3), np.float32), np.arange(15.0).reshape(5, 3)
    first, second = model.predict({"left": x, "right": y}, batch_size=2)
    np.testing.assert_allclose(first, x + y)
    assert second.shape == (5, 2)
    assert sizes == [2, 2, 1]
    model.predict([x, y])
    assert len(compiled) == 1
    model.set_weights([w + 1 for w in model.get_weights()])
    np.testing.assert_allclose(model.predict([x, y])[1], second + 4, rtol=1e-5)
    assert len(compiled) == 2


def test_predict_names_inputs_that_do_not_fit() -> None:
    model = keras.Sequential([keras.Input((3,), name="x"), layers.Dense(2)])
    with pytest.raises(
        DataError, match=r"input 'x' of model 'sequential' has shape \(None, 3\); received \(2, 4\)"
    ):
        model.predict(np.zeros((2, 4)))
    with pytest.raises(DataError, match="'x' is missing"):
        model.predict({"y": np.zeros((2, 3))})


def test_variables_in_attributes_and_lists_are_weights() -> None:
    class Scaled(keras.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.factors = [keras.Variable(np.full(3, f)) for f in (2.0, 3.0)]
            self.shift = keras.Variable(np.ones(3), trainable=False, name="shift")

        def call(self, inputs: Any) -> Any:
            return inputs * self.factors[0] * self.factors[1] + self.shift

    layer = Scaled()
    i = keras.Input((3,))
    x = np.ones((1, 3), np.float32)
    np.testing.assert_array_equal(run(keras.Model(i, layer(i)), x), [[7, 7, 7]])
    assert len(layer.weights) == 3
    assert [w.name for w in layer.non_trainable_weights] == ["shift"]


class Attention(keras.Layer):
    """Self-attention written with functions only."""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.size, self.heads = size, heads
        self.query, self.key, self.value = (layers.Dense(size, use_bias=False) for _ in range(3))

    def call(self, inputs: Any) -> Any:
        length, depth = ops.shape(inputs)[1], self.size // self.heads

        def split(x: Any) -> Any:
            return ops.transpose(ops.reshape(x, (-1, length, self.heads, depth)), (0, 2, 1, 3))

        q, k, v = split(self.query(inputs)), split(self.key(inputs)), split(self.value(inputs))
        shares = ops.softmax(ops.einsum("bhqd,bhkd->bhqk", q, k) / depth**0.5)
        return ops.reshape(ops.transpose(shares @ v, (0, 2, 1, 3)), (-1, length, self.size))


def test_attention_of_functions_agrees_with_numpy() -> None:
    layer, i = Attention(8, 2), keras.Input((5, 6))
    model = keras.Model(i, layer(i))
    x = np.random.default_rng(3).standard_normal((2, 5, 6)).astype(np.float32)
    q, k, v = ((x @ w).reshape(2, 5, 2, 4).swapaxes(1, 2) for w in layer.get_weights())
    shares = np.exp(q @ k.swapaxes(2, 3) / 2)
    y = shares / shares.sum(-1, keepdims=True) @ v
    np.testing.assert_allclose(
        run(model, x), y.swapaxes(1, 2).reshape(2, 5, 8), rtol=1e-4, atol=1e-5
    )


def test_predict_builds_what_has_no_input_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    def compile(model: Any) -> Any:
        graph = model.graphs()["predict"]
        return lambda feeds: next(iter(run_graph(graph, feeds).values()))

    monkeypatch.setattr(convc, "compile", compile, raising=False)
    assert Net().predict(np.zeros((3, 4, 4, 3))).shape == (3, 2)
    assert keras.Sequential([layers.Dense(2)]).predict(np.zeros((3, 4))).shape == (3, 2)


def test_structures_of_inputs_and_outputs_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        convc,
        "compile",
        lambda m: lambda feeds: list(run_graph(m.graphs()["predict"], feeds).values()),
        raising=False,
    )
    a, b = keras.Input((4,), name="a"), keras.Input((6,), name="b")
    model = keras.Model(
        {"b": b, "a": a}, {"sum": layers.Dense(2)(b), "both": layers.concatenate([a, b])}
    )
    found = model.predict({"a": np.ones((2, 4)), "b": np.ones((2, 6))})
    assert {k: v.shape for k, v in found.items()} == {"sum": (2, 2), "both": (2, 10)}
    assert model.input_names == ["b", "a"]


def test_a_list_of_one_output_is_returned_without_the_list() -> None:
    i = keras.Input((3,))
    model = keras.Model(inputs=[i], outputs=[layers.Dense(2)(i)])
    x = np.ones((4, 3), np.float32)
    assert model.predict(x, verbose=0).shape == (4, 2)
    assert model(x).shape == (4, 2)
    assert (model.input_shape, model.output_shape) == ((None, 3), (None, 2))
    assert isinstance(model.output, list)


def test_layers_behind_dicts_of_outputs_come_in_the_order_of_the_keys() -> None:
    x = keras.Input((3,), name="x")
    priority, department = layers.Dense(1, name="p")(x), layers.Dense(4, name="d")(x)
    model = keras.Model(x, {"priority": priority, "department": department})
    # As Keras 3 lists them.
    assert [layer.name for layer in model.layers] == ["x", "d", "p"]
    assert list(model.predict(np.ones((2, 3)), verbose=0)) == ["priority", "department"]
