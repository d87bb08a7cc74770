"""Models with steps of their own: traced as a whole, the same numbers as the parts give one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from convc import keras
from convc.errors import ConvcError
from convc.keras import layers, ops

RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((20, 6)).astype(np.float32)
Y = RANDOM.integers(0, 3, 20)


def classifier(cls: Any) -> Any:
    start = keras.Input((6,))
    x = layers.Dense(8, "relu", kernel_regularizer="l2")(start)
    x = layers.BatchNormalization()(x)
    model = cls(start, layers.Dense(3, "softmax")(x))
    random = np.random.default_rng(5)
    model.set_weights([np.abs(random.standard_normal(w.shape)) * 0.3 for w in model.get_weights()])
    return model


class Written(keras.Model):
    """The step of Keras' guide."""

    def train_step(self, data: Any) -> Any:
        x, y = data
        with keras.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(y=y, y_pred=y_pred)
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply(gradients, self.trainable_weights)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss)
            else:
                metric.update_state(y, y_pred)
        return {m.name: m.result() for m in self.metrics}


class Doubled(keras.Model):
    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        return super().compute_loss(*args, **kwargs) * 2.0


def trained(cls: Any, optimizer: Any) -> tuple[Any, Mapping[str, Any]]:
    model = classifier(cls)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(
        X, Y, batch_size=5, epochs=3, shuffle=False, verbose=0, validation_data=(X, Y)
    )
    return model, history.history


def test_a_written_step_trains_as_the_built_in_one() -> None:
    (plain, wanted), (own, found) = (
        trained(cls, keras.optimizers.Adam(0.01)) for cls in (keras.Model, Written)
    )
    assert found.keys() == wanted.keys()
    for name in wanted:
        np.testing.assert_allclose(found[name], wanted[name], 1e-5)
    for a, b in zip(own.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, 1e-4, 1e-6)
    assert int(own.optimizer.iterations) == 12
    np.testing.assert_allclose(own.predict(X, verbose=0), plain.predict(X, verbose=0), 1e-4, 1e-6)


def test_a_loss_of_its_own() -> None:
    """Twice the loss at half the rate are the same steps."""
    (_, wanted), (_, found) = (
        trained(keras.Model, keras.optimizers.SGD(0.1)),
        trained(Doubled, keras.optimizers.SGD(0.05)),
    )
    np.testing.assert_allclose(found["accuracy"], wanted["accuracy"])
    np.testing.assert_allclose(np.divide(found["loss"], 2), wanted["loss"], 1e-5)


def dense(name: str, inputs: int, outputs: int) -> Any:
    return keras.Sequential([keras.Input((inputs,)), layers.Dense(outputs, name=name)])


class Duel(keras.Model):
    """Two networks against each other, each with an optimizer."""

    def __init__(self, judge: Any, maker: Any) -> None:
        super().__init__()
        self.judge, self.maker = judge, maker
        self.judged = keras.metrics.Mean(name="judge_loss")

    def compile(  # type: ignore[override]  # as Keras' examples do
        self, judge_optimizer: Any, maker_optimizer: Any
    ) -> None:
        super().compile()
        self.judge_optimizer, self.maker_optimizer = judge_optimizer, maker_optimizer

    def train_step(self, data: Any) -> Any:
        noise, real = data
        both = ops.concatenate([self.maker(noise), real], axis=0)
        rows = ops.shape(real)[0]
        labels = ops.concatenate([ops.ones((rows, 1)), ops.zeros((rows, 1))], axis=0)
        with keras.GradientTape() as tape:
            loss = ops.mean(ops.square(self.judge(both) - labels))
        weights = self.judge.trainable_weights
        self.judge_optimizer.apply_gradients(
            zip(tape.gradient(loss, weights), weights, strict=True)
        )
        with keras.GradientTape() as tape:
            fooled = ops.mean(ops.square(self.judge(self.maker(noise))))
        weights = self.maker.trainable_weights
        self.maker_optimizer.apply_gradients(
            zip(tape.gradient(fooled, weights), weights, strict=True)
        )
        self.judged.update_state(loss)
        return {"judge_loss": self.judged.result(), "maker_loss": fooled}


def test_two_optimizers_take_turns_as_two_models_do() -> None:
    duel = Duel(dense("judge", 4, 1), dense("maker", 3, 4))
    duel.compile(keras.optimizers.Adam(0.05), keras.optimizers.SGD(0.1, momentum=0.9))
    judge, maker = dense("judge", 4, 1), dense("maker", 3, 4)
    judge.set_weights(duel.judge.get_weights())
    maker.set_weights(duel.maker.get_weights())
    judge.compile(keras.optimizers.Adam(0.05), "mse")
    frozen = dense("judge", 4, 1)
    frozen.trainable = False
    start = keras.Input((3,))
    chain = keras.Model(start, frozen(maker(start)))
    chain.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    for _ in range(4):
        noise, real = (RANDOM.standard_normal((5, n)).astype(np.float32) for n in (3, 4))
        logs = duel.train_on_batch(noise, real, return_dict=True)
        fake = maker.predict(noise, verbose=0)
        labels = np.repeat([[1.0], [0.0]], 5, 0)
        loss = judge.train_on_batch(np.concatenate([fake, real]), labels)
        frozen.set_weights(judge.get_weights())
        fooled = chain.train_on_batch(noise, np.zeros((5, 1)))
        assert logs["judge_loss"] == pytest.approx(loss, rel=1e-4)
        assert logs["maker_loss"] == pytest.approx(fooled, rel=1e-4)
    for mine, other in ((duel.judge, judge), (duel.maker, maker)):
        for a, b in zip(mine.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, 1e-4, 1e-6)


class Noisy(keras.Model):
    """A model whose step tells the mean of what it has drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = layers.Dense(1)
        self.drop = layers.Dropout(0.5)

    def train_step(self, data: Any) -> Any:
        drawn = keras.random.normal((1000,))
        dropped = self.drop(ops.ones((1000,)) + 0.0 * ops.mean(data), training=True)
        kept = self.drop(ops.ones((1000,)) + 0.0 * ops.mean(data))
        return {
            "mean": ops.mean(drawn), "std": ops.std(drawn),
            "dropped": ops.mean(ops.cast(ops.equal(dropped, 0.0), "float32")), "kept": ops.mean(kept),
        }  # fmt: skip


def test_draws_are_new_in_each_step_and_follow_from_the_seed() -> None:
    runs = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        model = Noisy()
        model.compile()
        runs.append([model.train_on_batch(X, return_dict=True) for _ in range(2)])
    assert runs[0] == runs[1]
    first, second = runs[0]
    assert first["mean"] != second["mean"]
    assert abs(first["mean"]) < 0.2
    assert first["std"] == pytest.approx(1, abs=0.1)
    assert 0.4 < first["dropped"] < 0.6
    assert first["kept"] == 1


def test_gradients_of_other_values_than_variables() -> None:
    class Slope(keras.Model):
        def train_step(self, data: Any) -> Any:
            with keras.GradientTape() as tape:
                tape.watch(data)
                cubes = ops.sum(data**3)
            return {"slope": ops.sum(tape.gradient(cubes, data))}

    model = Slope()
    model.compile()
    found = model.train_on_batch(X, return_dict=True)
    assert found["slope"] == pytest.approx((3 * X.astype(np.float64) ** 2).sum(), rel=1e-5)


def test_a_step_that_returns_no_logs_is_told() -> None:
    class Silent(keras.Model):
        def train_step(self, data: Any) -> Any:
            return None

    model = Silent()
    model.compile()
    with pytest.raises(ConvcError, match=r"Silent\.train_step: expected a dict"):
        model.fit(X, verbose=0)
