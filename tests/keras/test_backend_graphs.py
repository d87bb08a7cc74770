"""Keras 2's `K.function`, `K.gradients`, the learning phase and loops, against numpy and finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convc import keras
from convc.errors import ModelError, UnsupportedError
from convc.keras import backend as K  # noqa: N812 - as scripts call it
from convc.keras import layers

RANDOM = np.random.default_rng(5)


def floats(*shape: int) -> Any:
    return RANDOM.standard_normal(shape).astype(np.float32)


def network() -> Any:
    return keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(3, 3, activation="tanh", name="conv"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.5, name="dropout"),
            layers.Dense(4, activation="softmax"),
        ]
    )


def test_a_function_of_a_models_tensors_gives_their_values() -> None:
    model, x = network(), floats(3, 6, 6, 2)
    get = K.function([model.input], [model.get_layer("conv").output, model.output])
    inner, outer = get([x])
    assert inner.shape == (3, 4, 4, 3)
    np.testing.assert_allclose(outer, model.predict(x, verbose=0), rtol=1e-5)
    model.set_weights([w + 0.1 for w in model.get_weights()])
    np.testing.assert_allclose(get([x])[1], model.predict(x, verbose=0), rtol=1e-5)
    single = K.function(model.input, model.output)
    np.testing.assert_allclose(single(x), model.predict(x, verbose=0), rtol=1e-5)


def test_the_learning_phase_is_an_input_of_functions() -> None:
    model, x = network(), np.ones((4, 6, 6, 2), np.float32)
    get = K.function([model.input, K.learning_phase()], [model.get_layer("dropout").output])
    assert np.count_nonzero(get([x, 0])[0]) == 4 * 12
    dropped = [np.count_nonzero(get([x, 1])[0]) for _ in range(5)]
    assert max(dropped) < 4 * 12
    assert len({get([x, 1])[0].tobytes() for _ in range(3)}) == 3


def test_functions_update_variables() -> None:
    x, total = K.placeholder((2, 2)), K.variable(np.zeros(()))
    run = K.function([x], [K.sum(x)], updates=[(total, total + K.sum(x))])
    assert [float(run([np.full((2, 2), k)])[0]) for k in (1, 2)] == [4, 8]
    assert float(K.get_value(total)) == 12


def test_functions_say_how_many_arrays_they_take() -> None:
    x = K.placeholder((2, 2))
    with pytest.raises(
        ModelError, match=r"K\.function: expected 1 arrays, one for each input; received 2"
    ):
        K.function([x], [x + 1])([np.zeros((2, 2)), np.zeros((2, 2))])


def test_gradients_are_those_of_finite_differences() -> None:
    model = network()
    loss = K.sum(model.output[:, 1])
    conv = model.get_layer("conv")
    found = K.gradients(loss, [model.input, conv.output])
    run = K.function([model.input], [loss, *found])
    x = floats(2, 6, 6, 2)
    value, gradient, inner = run([x])
    assert inner.shape == (2, 4, 4, 3)
    for at in [(0, 1, 2, 0), (1, 4, 4, 1), (0, 3, 3, 1)]:
        step = np.zeros_like(x)
        step[at] = 1e-2
        slope = (float(run([x + step])[0]) - float(run([x - step])[0])) / 2e-2
        np.testing.assert_allclose(gradient[at], slope, rtol=0.05, atol=2e-4)
    assert value.shape == ()


def test_gradients_in_a_layer_are_traced_again_for_training() -> None:
    """A saliency within a model: its loss is differentiated once more, for the weights."""

    def slope(tensors: Any) -> Any:
        y, x = tensors
        return K.gradients(K.sum(K.square(y)), x)[0]

    x = keras.Input((3,))
    y = layers.Dense(1, kernel_initializer="ones", name="d")(x)
    model = keras.Model(x, layers.Lambda(slope)([y, x]))
    model.compile(keras.optimizers.SGD(0.01), "mse")
    data = np.ones((4, 3), np.float32)
    # For s = sum(w x) the outputs are o_j = 2 s w_j, 6 for ones; do_j / dw_k = 2 (x_k w_j + s if j is k).
    np.testing.assert_allclose(model.predict(data, verbose=0), np.full((4, 3), 6.0), rtol=1e-6)
    model.fit(data, np.zeros((4, 3)), epochs=1, verbose=0)
    (kernel, _) = model.get_layer("d").get_weights()
    step = -0.01 * 2 * 6 * 2 * (3 + 3) / 3
    np.testing.assert_allclose(kernel, np.full((3, 1), 1 + step), rtol=1e-5)


def test_a_layer_may_ask_for_the_phase() -> None:
    model = keras.Sequential(
        [
            keras.Input((2,)),
            layers.Lambda(lambda x: K.in_train_phase(x * 0.0, x)),
            layers.Dense(1, use_bias=False, kernel_initializer="ones"),
        ]
    )
    model.compile("sgd", "mse")
    x = np.ones((4, 2), np.float32)
    assert model.predict(x, verbose=0).ravel().tolist() == [2] * 4
    history = model.fit(x, np.full(4, 3.0), verbose=0, epochs=1)
    assert history.history["loss"] == [9]
    assert model.evaluate(x, np.full(4, 3.0), verbose=0) == 1


def test_the_phase_may_be_set() -> None:
    assert K.learning_phase() == 0
    with K.learning_phase_scope(1):
        assert K.in_train_phase(1, 2) == 1
    assert K.in_test_phase(lambda: 1, lambda: 2) == 1
    with pytest.raises(
        ModelError, match="set_learning_phase: value must be 0 or 1; received 'train'"
    ):
        K.set_learning_phase("train")


def test_rnn_carries_states_through_masks() -> None:
    x = floats(2, 4, 3)
    mask = np.array([[True, False, True, True], [False, True, False, True]])

    def step(row: Any, states: Any) -> Any:
        output = row + states[0]
        return output, [output]

    for backwards in (False, True):
        last, outputs, states = K.rnn(
            step,
            K.constant(x),
            [K.zeros((2, 3))],
            go_backwards=backwards,
            mask=K.constant(mask, "bool"),
        )
        held, wanted = np.zeros((2, 3), np.float32), []
        for k in reversed(range(4)) if backwards else range(4):
            held = np.where(mask[:, k, None], x[:, k] + held, held)
            wanted.append(held)
        np.testing.assert_allclose(K.eval(outputs), np.stack(wanted, 1), rtol=1e-6)
        np.testing.assert_allclose(K.eval(last), held, rtol=1e-6)
        np.testing.assert_allclose(K.eval(states[0]), held, rtol=1e-6)


def test_rnn_says_what_it_cant_unroll() -> None:
    with pytest.raises(UnsupportedError, match=r"K\.rnn: expected a known number of steps"):
        K.rnn(lambda x, s: (x, s), keras.Input((None, 3)), [])


def test_folds_and_maps() -> None:
    x = floats(3, 2)
    left = K.eval(K.foldl(lambda a, b: a * 2 + b, K.constant(x)))
    right = K.eval(K.foldr(lambda a, b: a * 2 + b, K.constant(x)))
    np.testing.assert_allclose(left, (x[0] * 2 + x[1]) * 2 + x[2], rtol=1e-6)
    np.testing.assert_allclose(right, (x[2] * 2 + x[1]) * 2 + x[0], rtol=1e-6)
    np.testing.assert_allclose(K.eval(K.map_fn(lambda a: a * a, K.constant(x))), x * x, rtol=1e-6)


def test_a_tensors_sizes_can_be_computed_with() -> None:
    x = keras.Input((4, 5))
    cells = K.prod(K.cast(K.shape(x), "float32"))
    assert float(K.function([x], [cells])([np.zeros((3, 4, 5))])[0]) == 60


def test_weights_that_only_a_loss_needs_are_trained() -> None:
    class Matched(layers.Layer):
        def call(self, inputs: Any) -> Any:
            x, y = inputs
            self.add_loss(K.mean(K.square(x - y)), inputs=inputs)
            return x

    x = keras.Input((3,))
    model = keras.Model(x, Matched()([x, layers.Dense(3, name="d")(x)]))
    model.compile("sgd", loss=None)
    before = model.get_layer("d").get_weights()[0]
    history = model.fit(floats(8, 3), None, epochs=3, verbose=0).history["loss"]
    assert history[-1] < history[0]
    assert not np.array_equal(before, model.get_layer("d").get_weights()[0])


def test_gradients_of_gradients_go_through_max_pooling() -> None:
    x = keras.Input((4, 6, 1))
    weights = floats(1, 4, 6, 1)
    slope = K.gradients(K.sum(K.square(layers.MaxPooling2D()(x))), x)[0]
    again = K.gradients(K.sum(slope * weights), x)[0]
    data = floats(2, 4, 6, 1)
    first, second = K.function([x], [slope, again])([data])
    pooled = data.reshape(2, 2, 2, 3, 2).max((2, 4)).repeat(2, 1).repeat(2, 2)[..., None]
    chosen = data == pooled
    # The slope is 2 x at each window's maximum, so that its own is 2 there.
    np.testing.assert_allclose(first, 2 * data * chosen, rtol=1e-6)
    np.testing.assert_allclose(second, 2 * weights * chosen, rtol=1e-6)
