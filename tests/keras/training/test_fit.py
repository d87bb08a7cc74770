"""fit, evaluate and predict: what they give, against real Keras' record and against themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from convc import keras
from convc.errors import DataError, ModelError, UsageError
from convc.keras import layers
from tests.keras.training.histories import IMAGES, LABELS, ONE_HOT, RECORD, SCENES


def require_close(found: Any, wanted: Any, where: str) -> None:
    """Equal structures and texts, numbers that differ by rounding."""
    if isinstance(wanted, dict):
        assert list(found) == list(wanted), where
        for key in wanted:
            require_close(found[key], wanted[key], f"{where}.{key}")
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), (where, found, wanted)
        for k, (a, b) in enumerate(zip(found, wanted, strict=True)):
            require_close(a, b, f"{where}[{k}]")
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, rel=3e-5, abs=3e-6), where
    else:
        assert found == wanted, where


@pytest.mark.parametrize("scene", SCENES)
def test_trainings_are_real_keras(scene: str) -> None:
    wanted = json.loads(RECORD.read_text())[scene]
    require_close(json.loads(json.dumps(SCENES[scene](keras), default=float)), wanted, scene)


def small(drop: float = 0.3, optimizer: Any = "adam") -> Any:
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(16, activation="relu"),
            layers.BatchNormalization(),
            layers.Dropout(drop),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def fitted(model: Any, **settings: Any) -> list[float]:
    losses: list[float] = model.fit(
        IMAGES, LABELS, **{"epochs": 2, "verbose": 0, **settings}
    ).history["loss"]
    return losses


def assert_same_weights(a: Any, b: Any) -> None:
    for first, second in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)


def test_training_learns() -> None:
    model = small(0.1)
    losses = fitted(model, epochs=40, batch_size=16)
    assert losses[-1] < 0.5 * losses[0]
    hits = np.mean(np.argmax(model.predict(IMAGES, verbose=0), -1) == LABELS)
    assert model.evaluate(IMAGES, LABELS, verbose=0)[1] == pytest.approx(hits)


def test_one_seed_gives_one_training_whatever_the_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = []
    for threads in (1, 2, 3, 7):
        monkeypatch.setitem(keras.backend._settings, "threads", threads)
        model = small()
        found.append((fitted(model, batch_size=24), model))
    for losses, model in found[1:]:
        assert losses == found[0][0]
        assert_same_weights(model, found[0][1])


def test_weights_are_read_and_written_between_steps() -> None:
    model = small()
    before = model.get_weights()
    model.train_on_batch(IMAGES, LABELS)
    after = model.get_weights()
    assert not np.array_equal(before[0], after[0])
    score = model.evaluate(IMAGES, LABELS, verbose=0)
    model.set_weights([np.zeros_like(w) for w in after])
    assert model.evaluate(IMAGES, LABELS, verbose=0)[0] == pytest.approx(np.log(3), rel=1e-6)
    model.set_weights(after)
    assert model.evaluate(IMAGES, LABELS, verbose=0) == score
    assert int(model.optimizer.iterations) == 1


def test_prediction_after_training_is_that_of_a_fresh_model() -> None:
    model = small()
    fitted(model)
    other = small()
    other.set_weights(model.get_weights())
    np.testing.assert_allclose(
        model.predict(IMAGES, verbose=0), other.predict(IMAGES, verbose=0), rtol=1e-4, atol=1e-6
    )


def test_the_learning_rate_is_set_between_steps() -> None:
    model = small(0.0, "sgd")
    model.train_on_batch(IMAGES, LABELS)
    before = model.get_weights()
    model.optimizer.learning_rate = 0.0
    model.train_on_batch(IMAGES, LABELS)
    np.testing.assert_array_equal(model.get_weights()[0], before[0])
    keras.backend.set_value(model.optimizer.lr, 0.5)
    model.train_on_batch(IMAGES, LABELS)
    assert not np.array_equal(model.get_weights()[0], before[0])


def test_frozen_layers_stay_until_they_are_thawed_and_compiled() -> None:
    model = small()
    model.layers[0].trainable = False
    model.compile("adam", "sparse_categorical_crossentropy")
    before = model.get_weights()
    fitted(model)
    np.testing.assert_array_equal(model.get_weights()[0], before[0])
    model.layers[0].trainable = True
    fitted(model)
    np.testing.assert_array_equal(model.get_weights()[0], before[0])
    model.compile("adam", "sparse_categorical_crossentropy")
    fitted(model)
    assert not np.array_equal(model.get_weights()[0], before[0])


def test_adversaries_train_in_turn() -> None:
    """What is trained is what was trainable at compile: a judge on its own, and frozen behind what deceives it."""
    maker = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    judge = keras.Sequential([keras.Input((2,)), layers.Dense(1, activation="sigmoid")])
    judge.compile("sgd", "binary_crossentropy")
    judge.trainable = False
    noise = keras.Input((4,))
    both = keras.Model(noise, judge(maker(noise)))
    both.compile("sgd", "binary_crossentropy")
    for _ in range(3):
        before = [judge.get_weights()[0], maker.get_weights()[0]]
        judge.train_on_batch(IMAGES[:, :2], LABELS > 0)
        middle = [judge.get_weights()[0], maker.get_weights()[0]]
        loss = both.test_on_batch(IMAGES[:, :4], np.ones(100))
        both.train_on_batch(IMAGES[:, :4], np.ones(100))
        after = [judge.get_weights()[0], maker.get_weights()[0]]
        assert [np.array_equal(a, b) for a, b in zip(before, middle, strict=True)] == [False, True]
        assert [np.array_equal(a, b) for a, b in zip(middle, after, strict=True)] == [True, False]
        fake = IMAGES[:, :4] @ middle[1] + maker.get_weights()[1] * 0
        scores = judge.predict(fake, verbose=0)
        if not maker.get_weights()[1].any():
            assert loss == pytest.approx(-np.mean(np.log(scores)), rel=1e-4)


def test_new_values_of_frozen_weights_count() -> None:
    model = small(0.0)
    model.layers[0].trainable = False
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.train_on_batch(IMAGES, LABELS)
    kernel = model.layers[0].kernel
    kernel.assign(kernel.value * 100)
    found = model.test_on_batch(IMAGES, LABELS)
    other = small(0.0)
    other.set_weights(model.get_weights())
    assert found == pytest.approx(other.test_on_batch(IMAGES, LABELS)[0], rel=1e-5)


def test_two_models_train_the_same_layers_in_turn() -> None:
    shared = layers.Dense(4, activation="relu", name="shared")
    image = keras.Input((8,))
    first = keras.Model(image, layers.Dense(3, activation="softmax")(shared(image)))
    second = keras.Model(image, layers.Dense(3)(shared(image)))
    first.compile("sgd", "sparse_categorical_crossentropy")
    second.compile("sgd", "mse")
    for _ in range(2):
        before = shared.kernel.numpy().copy()
        first.train_on_batch(IMAGES, LABELS)
        middle = shared.kernel.numpy().copy()
        second.train_on_batch(IMAGES, ONE_HOT)
        assert not np.array_equal(before, middle)
        assert not np.array_equal(middle, shared.kernel.numpy())


@pytest.mark.parametrize("kind", [np.uint8, np.bool_])
def test_arrays_of_any_dtype(kind: Any) -> None:
    model = small(0.0, "sgd")
    first = model.get_weights()
    images = (IMAGES > 1).astype(kind)
    model.fit(images, LABELS.astype(np.uint8), verbose=0, shuffle=False)
    found = model.get_weights()
    model.set_weights(first)
    model.fit(images.astype(np.float32), LABELS, verbose=0, shuffle=False)
    for a, b in zip(model.get_weights(), found, strict=True):
        np.testing.assert_array_equal(a, b)


def batches(size: int = 25) -> Iterator[tuple[Any, Any]]:
    while True:
        for low in range(0, 100, size):
            yield IMAGES[low : low + size], LABELS[low : low + size]


class Batches(keras.utils.Sequence):
    ended = 0

    def __len__(self) -> int:
        return 4

    def __getitem__(self, k: int) -> tuple[Any, Any]:
        return IMAGES[25 * k : 25 * k + 25], LABELS[25 * k : 25 * k + 25]

    def on_epoch_end(self) -> None:
        self.ended += 1


class Reiterable:
    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return iter([Batches()[k] for k in range(4)])


def test_batches_come_from_anywhere() -> None:
    model = small(0.0, "sgd")
    first = model.get_weights()
    sequence = Batches()
    sources: list[tuple[Any, dict[str, Any]]] = [
        (IMAGES, {"y": LABELS, "batch_size": 25}),
        (sequence, {}),
        (Reiterable(), {}),
        (batches(), {"steps_per_epoch": 4}),
    ]
    found = []
    for data, more in sources:
        model.set_weights(first)
        history = model.fit(data, epochs=2, verbose=0, shuffle=False, **more).history
        found.append((history, [w.tolist() for w in model.get_weights()]))
    model.set_weights(first)
    history = model.fit_generator(batches(), 4, 2, verbose=0).history
    found.append((history, [w.tolist() for w in model.get_weights()]))
    assert all(f == found[0] for f in found)
    assert sequence.ended == 2
    scores = model.evaluate(Batches(), verbose=0)
    assert scores == pytest.approx(model.evaluate(IMAGES, LABELS, verbose=0))
    predicted = model.predict_generator(batches(), steps=4)
    np.testing.assert_array_equal(predicted, model.predict(IMAGES, batch_size=25, verbose=0))


def test_data_that_end_early_are_said() -> None:
    model = small()
    short = iter([Batches()[0]] * 3)
    with pytest.warns(UserWarning, match="ended after 3 of 5 steps"):
        model.fit(short, steps_per_epoch=5, verbose=0)


def test_a_model_gets_its_shape_from_the_data() -> None:
    sources: list[tuple[Any, Any]] = [(IMAGES, ONE_HOT), (iter([(IMAGES, ONE_HOT)]), None)]
    for data, targets in sources:
        model = keras.Sequential([layers.Dense(4), layers.Dense(3)])
        model.compile("sgd", "mse")
        history = model.fit(data, targets, verbose=0)
        assert model.get_weights()[0].shape == (8, 4)
        assert len(history.history["loss"]) == 1


def test_moving_averages_become_the_weights() -> None:
    model = small(0.0, keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5))
    seen: list[Any] = []
    keep = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(model.get_weights()[0])
    )
    model.fit(IMAGES, LABELS, batch_size=50, verbose=0, callbacks=[keep])
    average = seen[0] * 0.5 + seen[1] * 0.5
    np.testing.assert_allclose(model.get_weights()[0], average, rtol=1e-5)


def test_copies_train_on_their_own() -> None:
    model = small()
    fitted(model)
    other = small()
    other.set_weights(model.get_weights())
    before = model.get_weights()
    fitted(other)
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_added_layers_begin_a_new_training() -> None:
    model = keras.Sequential([keras.Input((8,)), layers.Dense(3)])
    model.compile("sgd", "mse")
    model.fit(IMAGES, ONE_HOT, verbose=0)
    model.add(layers.Dense(3))
    model.fit(IMAGES, ONE_HOT, verbose=0)
    assert len(model.get_weights()) == 4


def test_wrong_arguments_are_named() -> None:
    model = small()
    with pytest.raises(ModelError, match=r"call compile\(optimizer, loss\) before fit"):
        keras.Sequential([keras.Input((8,)), layers.Dense(3)]).fit(IMAGES, LABELS)
    with pytest.raises(DataError, match=r"has shape \(None, 8\); received \(100, 7\)"):
        model.fit(IMAGES[:, :7], LABELS)
    with pytest.raises(DataError, match="same number of rows"):
        model.fit(IMAGES, LABELS[:50])
    with pytest.raises(UsageError, match="no targets y"):
        model.fit(IMAGES)
    with pytest.raises(UsageError, match="fit has no argument 'epoch'"):
        model.fit(IMAGES, LABELS, epoch=3)
    with pytest.raises(
        UsageError, match=r"compile has no argument 'metric'.*did you mean 'metrics'"
    ):
        model.compile("adam", "mse", metric=["accuracy"])
    with pytest.raises(UsageError, match="class_weight and sample_weight"):
        model.fit(IMAGES, LABELS, class_weight={0: 2}, sample_weight=np.ones(100))
    with pytest.raises(UsageError, match="batch_size: expected a number from 1"):
        model.fit(IMAGES, LABELS, batch_size=0)
    with pytest.raises(UsageError, match="leaves nothing of 100 rows"):
        model.fit(IMAGES, LABELS, validation_split=0.999)
    model = keras.Sequential([keras.Input((8,)), layers.Dense(3, name="dense")])
    model.compile("adam", "mse", ["accuracy"])
    with pytest.raises(UsageError, match=r"loss_weights: .* got 'accuracy' \(metrics come after"):
        model.fit(IMAGES, ONE_HOT)
    model.compile("adam", {"b": "mse"})
    with pytest.raises(UsageError, match=r"'b'.*the outputs are dense"):
        model.fit(IMAGES, ONE_HOT)


def test_an_optimizer_goes_on_where_it_was() -> None:
    """Compiling again with the same optimizer keeps its state; with another one it begins anew."""
    optimizer = keras.optimizers.Adam(0.01)
    model = small(0.0, optimizer)
    settings: dict[str, Any] = {"shuffle": False, "verbose": 0, "batch_size": 50}
    model.fit(IMAGES, LABELS, epochs=2, **settings)
    wanted = model.get_weights()
    optimizer = keras.optimizers.Adam(0.01)
    model = small(0.0, optimizer)
    model.fit(IMAGES, LABELS, **settings)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    model.fit(IMAGES, LABELS, **settings)
    assert int(optimizer.iterations) == 4
    for a, b in zip(model.get_weights(), wanted, strict=True):
        np.testing.assert_array_equal(a, b)


class Tower(keras.Model):
    """A model with a `call` of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first = layers.Dense(16, activation="relu")
        self.drop = layers.Dropout(0.2)
        self.last = layers.Dense(3)

    def call(self, x: Any) -> Any:
        return self.last(self.drop(self.first(x)))


def test_subclassed_models_and_losses_of_one_s_own() -> None:
    def loss(y_true: Any, y_pred: Any) -> Any:
        return keras.ops.mean(keras.ops.square(y_true - y_pred), axis=-1)

    model = Tower()
    model.compile(keras.optimizers.Adam(0.02), loss, metrics=[loss, "mae"])
    history = model.fit(IMAGES, ONE_HOT, epochs=20, verbose=0).history
    assert list(history) == ["loss", "mae"] or history["loss_1"] == history["loss"]
    assert history["loss"][-1] < 0.6 * history["loss"][0]
    assert model.predict(IMAGES, verbose=0).shape == (100, 3)


def test_training_in_double_precision() -> None:
    keras.backend.set_floatx("float64")
    try:
        model = small(0.2)
        losses = fitted(model, epochs=10)
        assert losses[-1] < losses[0]
        assert {w.dtype for w in model.get_weights()} == {np.dtype(np.float64)}
    finally:
        keras.backend.set_floatx("float32")


def test_the_first_layer_with_nan_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    stop = keras.callbacks.TerminateOnNaN()
    settings: dict[str, Any] = {"shuffle": False, "verbose": 0, "batch_size": 20, "epochs": 3}
    broken = IMAGES.copy()
    broken[47, 3] = np.nan
    model = small(0.0)
    history = model.fit(broken, LABELS, callbacks=[stop], **settings).history
    assert capsys.readouterr().out == (
        "Batch 2: Invalid loss, terminating training\n"
        "step 3: 'input_layer' has NaN in row 7 of the batch\n"
    )
    assert len(history["loss"]) == 1
    image = keras.Input((8,))
    x = keras.ops.log(layers.Dense(4, name="first")(image))
    model = keras.Model(image, layers.Dense(3, activation="softmax", name="last")(x))
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(-abs(IMAGES), LABELS, callbacks=[stop], **settings)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "Batch 0: Invalid loss, terminating training"
    assert said[1].startswith("step 1: layer 'log' gave ")


def test_several_inputs_in_lists_and_dicts() -> None:
    first, second = keras.Input((8,), name="first"), keras.Input((1,), name="second")
    x = layers.Concatenate()([first, second])
    model = keras.Model([first, second], layers.Dense(3, name="out")(x))
    model.compile("sgd", "mse")
    start = model.get_weights()
    extra = np.arange(100) / 100  # one axis short: the last one is added
    weights = np.linspace(0, 1, 100)
    found = []
    for data, targets in (
        ([IMAGES, extra], ONE_HOT),
        ({"second": extra, "first": IMAGES}, {"out": ONE_HOT}),
        ((IMAGES, extra[:, None]), [ONE_HOT]),
    ):
        model.set_weights(start)
        settings: dict[str, Any] = {"shuffle": False, "verbose": 0, "sample_weight": weights}
        found.append(model.fit(data, targets, **settings).history["loss"])
    assert found[0] == found[1] == found[2]
    model.set_weights(start)
    rows = [{"first": IMAGES[k : k + 32], "second": extra[k : k + 32]} for k in range(0, 100, 32)]
    batches = [(x, ONE_HOT[32 * k :][:32], weights[32 * k :][:32]) for k, x in enumerate(rows)]
    assert model.fit(iter(batches), verbose=0).history["loss"] == found[0]
    with pytest.raises(DataError, match="has inputs first, second; 'second' is missing"):
        model.fit({"first": IMAGES}, ONE_HOT)


def test_a_fixed_batch() -> None:
    model = keras.Sequential([keras.Input((8,), batch_size=20), layers.Dense(3)])
    model.compile("sgd", "mse")
    history = model.fit(IMAGES, ONE_HOT, batch_size=20, epochs=2, verbose=0).history
    assert history["loss"][1] < history["loss"][0]
    assert model.predict(IMAGES, batch_size=20, verbose=0).shape == (100, 3)


def test_predictions_follow_weights_that_keep_changing() -> None:
    model = keras.Sequential([keras.Input((8,)), layers.Dense(3, name="a")])
    random = np.random.default_rng(0)
    for _ in range(5):
        kernel, bias = random.normal(size=(8, 3)), random.normal(size=3)
        model.set_weights([kernel, bias])
        found = model.predict(IMAGES, verbose=0)
        np.testing.assert_allclose(found, IMAGES @ kernel + bias, rtol=1e-4, atol=1e-5)
    model.add(layers.Dense(2, use_bias=False, name="b"))
    last = model.get_weights()[2]
    found = model.predict(IMAGES, verbose=0)
    np.testing.assert_allclose(found, (IMAGES @ kernel + bias) @ last, rtol=1e-4, atol=1e-5)


def test_validation_split_counts_rows_where_all_arguments_are_dicts() -> None:
    weights = np.linspace(0, 1, len(LABELS))
    settings: dict[str, Any] = {"validation_split": 0.3, "shuffle": False, "verbose": 0}
    plain = small(0.0).fit(IMAGES, LABELS, sample_weight=weights, **settings).history
    model = small(0.0)
    (source,), (output,) = model.input_names, model.output_names
    x, y, given = {source: IMAGES}, {output: LABELS}, {output: weights}
    assert model.fit(x, y, sample_weight=given, **settings).history == plain


@pytest.mark.parametrize("own_step", [False, True])
def test_batch_statistics_are_of_what_a_mask_lets_through(own_step: bool) -> None:
    class Stepping(keras.Model):
        def train_step(self, data: Any) -> Any:
            x, y = data
            with keras.GradientTape() as tape:
                loss = keras.ops.mean(keras.ops.square(y - self(x, training=True)))
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
            return {"loss": loss}

    x = np.random.default_rng(2).normal(size=(6, 5, 4)).astype(np.float32)
    x[2:, 3:] = -1
    kept = (x != -1).any(-1)
    source = keras.Input((5, 4))
    norm = layers.BatchNormalization(momentum=0.75)
    output = norm(layers.Masking(-1.0)(source))
    model = (Stepping if own_step else keras.Model)(source, output)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.fit(x, x, batch_size=6, verbose=0)
    mean, variance = x[kept].mean(0), x[kept].var(0)
    np.testing.assert_allclose(norm.moving_mean.numpy(), 0.25 * mean, rtol=1e-5)
    np.testing.assert_allclose(norm.moving_variance.numpy(), 0.75 + 0.25 * variance, rtol=1e-5)
    wanted = (x - 0.25 * mean) / np.sqrt(0.75 + 0.25 * variance + 1e-3)
    np.testing.assert_allclose(
        model.predict(x, verbose=0)[kept], wanted[kept], rtol=1e-4, atol=1e-5
    )


def test_targets_are_for_the_only_output_with_a_loss() -> None:
    inputs = keras.Input((3,))
    first = layers.Dense(2)(inputs)
    model = keras.Model(inputs, [layers.Dense(1)(first), first])
    model.compile("sgd", loss=["mse", None])
    x, y = np.ones((4, 3), np.float32), np.zeros((4, 1), np.float32)
    history = model.fit(x, y, verbose=0, validation_data=(x, y))
    assert set(history.history) == {"loss", "val_loss"}
    assert np.isclose(model.evaluate(x, y, verbose=0), history.history["val_loss"][0])
