"""The entries that train without Python, against the same model trained by `train_on_batch`: the same bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from convc_runtime import Context

from convc import driver, keras
from convc.artifact import Artifact
from convc.errors import ModelError, UnsupportedError, UsageError
from convc.keras import layers
from convc.keras.training.standalone import require_compiled, standalone
from convc.types import DType


def two_outputs() -> Any:
    """Kernels in all kinds of orders, things drawn at random, frozen weights, metrics of all kinds."""
    keras.utils.set_random_seed(3)
    image = keras.Input((6, 6, 2), name="image")
    x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, name="depthwise")(image)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Conv2DTranspose(5, 3, name="up")(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.2)(layers.GaussianNoise(0.1)(x))
    x = layers.Dense(6, trainable=False, name="frozen")(x)
    a = layers.Dense(1, activation="sigmoid", name="a")(x)
    b = layers.Dense(3, activation="softmax", name="b")(x)
    model = keras.Model(image, [a, b], name="two")
    settings: dict[str, Any] = {"use_ema": True, "clipnorm": 1.0, "gradient_accumulation_steps": 2}
    model.compile(
        optimizer=keras.optimizers.AdamW(0.01, **settings),
        loss={"a": "binary_crossentropy", "b": "sparse_categorical_crossentropy"},
        loss_weights={"a": 2.0, "b": 0.5},
        metrics={
            "a": ["accuracy", keras.metrics.AUC(name="auc"), keras.metrics.Precision(name="p")],
            "b": ["accuracy", keras.metrics.MeanIoU(3, sparse_y_pred=False, name="iou")],
        },
    )
    return model


def artifact_of(model: Any) -> Artifact:
    made = standalone(model)
    options = driver.Options("training", in_place=True)
    compiled = driver.compile_graphs(model.name, made.graphs, driver.host_target(), options)
    return compiled.artifact.with_state(made.states)


def context_of(model: Any) -> Context:
    return artifact_of(model).model().context()


def dense(**compiled: Any) -> Any:
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="d")], name="m")
    if compiled:
        model.compile(**compiled)
    return model


def test_steps_are_those_of_train_on_batch() -> None:
    artifact = artifact_of(two_outputs())
    contexts = [artifact.model(threads).context() for threads in (1, 3)]
    model, rng = two_outputs(), np.random.default_rng(0)
    logs: dict[str, float] = {}
    for step, rows in enumerate((7, 7, 4, 9, 1)):
        x = rng.normal(size=(rows, 6, 6, 2)).astype(np.float32)
        y, z = (rng.random((rows, 1)) > 0.5).astype(np.float32), rng.integers(0, 3, rows)
        logs = model.train_on_batch(x, [y, z], reset_metrics=step == 0, return_dict=True)
        for context in contexts:
            context.entries["train_step"](x, y, z)
    for context in contexts:
        entry = context.entries["metrics"]
        found = dict(zip([t.name for t in entry.info.outputs], entry(), strict=True))
        assert set(found) == set(logs)
        for name, value in logs.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-6)
        for weight in model.weights:
            if "frozen" not in weight.path:
                np.testing.assert_array_equal(context.get(weight.path), weight.numpy())
        predicted = zip(model.predict_on_batch(x), context.entries["predict"](x), strict=True)
        for expected, got in predicted:
            np.testing.assert_array_equal(got, expected)
    assert contexts[0].state_bytes() == contexts[1].state_bytes()


def test_states_are_of_their_kinds() -> None:
    context = context_of(dense(optimizer=keras.optimizers.SGD(0.1, momentum=0.9), loss="mse"))
    kinds = {s.name: s.kind for s in context.states}
    assert kinds == {
        "d/kernel": "parameter",
        "d/bias": "parameter",
        "optimizer/d/kernel/momentum": "optimizer",
        "optimizer/d/bias/momentum": "optimizer",
        "metrics/loss/0": "metric",
        "metrics/loss/1": "metric",
        "learning_rate": "control",
        "iterations": "control",
    }
    np.testing.assert_allclose(context.get("learning_rate"), 0.1)


def test_the_learning_rate_and_the_seed_are_the_application_s() -> None:
    model = dense(optimizer=keras.optimizers.SGD(0.1), loss="mse")
    context = context_of(model)
    x, y = np.ones((2, 4), np.float32), np.zeros((2, 3), np.float32)
    before = context.get("d/kernel")
    context.set("learning_rate", 0.0)
    context.entries["train_step"](x, y)
    np.testing.assert_array_equal(context.get("d/kernel"), before)
    assert context.get("iterations") == 1
    noisy, image = context_of(two_outputs()), np.ones((3, 6, 6, 2), np.float32)
    first = noisy.state_bytes()
    losses = []
    for seed in (1, 2, 1):
        noisy.set_state_bytes(first)
        noisy.set("seed", seed)
        losses.append(noisy.entries["train_step"](image, np.ones((3, 1), np.float32), [0, 1, 2]))
    assert losses[0] == losses[2] != losses[1]


SCHEDULES = keras.optimizers.schedules
RATES: dict[str, Any] = {
    "cosine": SCHEDULES.CosineDecay(0.01, 5, 0.1, warmup_target=0.1, warmup_steps=2),
    "restarts": SCHEDULES.CosineDecayRestarts(0.1, 3),
    "exponential": SCHEDULES.ExponentialDecay(0.1, 2, 0.5, staircase=True),
    "inverse": SCHEDULES.InverseTimeDecay(0.1, 2, 0.5),
    "piecewise": SCHEDULES.PiecewiseConstantDecay([1, 3], [0.1, 0.05, 0.01]),
    "polynomial": SCHEDULES.PolynomialDecay(0.1, 4, 0.01, 2.0),
    "polynomial, cycles": SCHEDULES.PolynomialDecay(0.1, 2, 0.01, cycle=True),
}


def rates_of(context: Context, steps: int) -> list[float]:
    """The state `learning_rate` after each of some steps."""
    rng, found = np.random.default_rng(0), []
    for _ in range(steps):
        context.entries["train_step"](*(rng.normal(size=(5, k)).astype(np.float32) for k in (4, 3)))
        found.append(float(context.get("learning_rate")))
    return found


@pytest.mark.parametrize("name", RATES)
def test_schedules_are_part_of_the_step(name: str) -> None:
    model = dense(optimizer=keras.optimizers.SGD(RATES[name]), loss="mse")
    wanted = [model.optimizer.rate_at(step) for step in range(7)]
    assert len(set(wanted)) > 2
    np.testing.assert_allclose(rates_of(context_of(model), 7), wanted, rtol=1e-6)


@pytest.mark.parametrize("settings", [(RATES["cosine"], 0.0), (0.1, 0.5), (RATES["restarts"], 0.5)])
def test_weights_follow_those_of_train_on_batch(settings: tuple[Any, float]) -> None:
    def made() -> Any:
        rate, decay = settings
        return dense(optimizer=keras.optimizers.SGD(rate, decay=decay), loss="mse")

    model, context, rng = made(), context_of(made()), np.random.default_rng(0)
    rates_of(context, 6)
    for _ in range(6):
        model.train_on_batch(*(rng.normal(size=(5, k)).astype(np.float32) for k in (4, 3)))
    np.testing.assert_allclose(context.get("d/kernel"), model.get_weights()[0], rtol=1e-5)


def test_a_set_rate_stays_and_decay_divides_what_a_step_takes() -> None:
    model = dense(optimizer=keras.optimizers.SGD(0.1, decay=0.5), loss="mse")
    np.testing.assert_allclose(rates_of(context_of(model), 3), 0.1, rtol=1e-6)


def test_a_schedule_continues_where_the_state_says() -> None:
    def context() -> Context:
        rate = SCHEDULES.ExponentialDecay(0.1, 1, 0.5)
        return context_of(dense(optimizer=keras.optimizers.SGD(rate), loss="mse"))

    x, y = np.ones((2, 4), np.float32), np.zeros((2, 3), np.float32)
    first, second = context(), context()
    first.entries["train_step"](x, y)
    second.set_state_bytes(first.state_bytes())
    for c in (first, second):
        c.entries["train_step"](x, y)
        assert c.get("learning_rate") == np.float32(0.05)
    assert first.state_bytes() == second.state_bytes()


def test_own_schedules_are_traced_or_refused() -> None:
    class Halved(SCHEDULES.LearningRateSchedule):
        def __call__(self, step: Any) -> Any:
            return 0.1 / (keras.ops.cast(step, "float32") + 1)

    class Chosen(SCHEDULES.LearningRateSchedule):
        def __call__(self, step: Any) -> Any:
            return 0.1 if step < 3 else 0.01

    halved = context_of(dense(optimizer=keras.optimizers.SGD(Halved()), loss="mse"))
    np.testing.assert_allclose(rates_of(halved, 3), [0.1, 0.05, 0.1 / 3], rtol=1e-6)
    with pytest.raises(
        UnsupportedError, match=r"its schedule Chosen can't be compiled.*ops\.where"
    ):
        standalone(dense(optimizer=keras.optimizers.SGD(Chosen()), loss="mse"))


@pytest.mark.parametrize(
    ("image", "label"), [("uint8", "uint8"), ("int32", "int32"), ("float64", "int8")]
)
def test_inputs_and_labels_of_other_dtypes(image: str, label: str) -> None:
    def model() -> Any:
        keras.utils.set_random_seed(1)
        made = keras.Sequential([
            keras.Input((4,), name="x"), layers.Rescaling(1 / 16), layers.Dense(3, name="d"), layers.Softmax(name="s"),
        ])  # fmt: skip
        made.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        return made

    made = standalone(model(), {"x": DType.of(np.dtype(image)), "s": DType.of(np.dtype(label))})
    options = driver.Options("training", in_place=True)
    compiled = driver.compile_graphs("m", made.graphs, driver.host_target(), options)
    context = compiled.artifact.with_state(made.states).model().context()
    assert [t.dtype for t in context.entries["train_step"].info.inputs] == [image, label]
    assert [t.dtype for t in context.entries["predict"].info.inputs] == [image]
    twin, rng = model(), np.random.default_rng(0)
    for _ in range(3):
        x, y = rng.integers(0, 100, (6, 4)), rng.integers(0, 3, 6)
        twin.train_on_batch(x.astype(np.float32), y)
        context.entries["train_step"](x.astype(image), y.astype(label))
    np.testing.assert_array_equal(context.get("d/kernel"), twin.get_weights()[0])
    with pytest.raises(UsageError, match="no input or target 'z': expected one of x, s"):
        standalone(model(), {"z": DType.uint8})
    with pytest.raises(UsageError, match="s: its labels are integers, got float32"):
        standalone(model(), {"s": DType.float32})


def test_what_python_computes_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="its learning rate is a Python function"):
        standalone(dense(optimizer=keras.optimizers.SGD(lambda: 0.1), loss="mse"))

    class Counted(keras.metrics.Mean):
        def result(self) -> Any:
            return np.asarray(self.total)

    model = dense(optimizer="sgd", loss="mse", metrics=[Wrapped(Counted(name="counted"))])
    with pytest.raises(UnsupportedError, match="metric 'wrapped': its result can't be compiled"):
        standalone(model)


class Wrapped(keras.metrics.Metric):
    """A metric of the user's that has another."""

    def __init__(self, inner: Any) -> None:
        super().__init__(name="wrapped")
        self.inner = inner

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        self.inner.update_state(y_pred)

    def result(self) -> Any:
        return self.inner.result()


def test_how_to_train_comes_from_the_script_or_from_names() -> None:
    with pytest.raises(ModelError, match="m: how is it trained"):
        require_compiled(dense(), None, None, [])
    with pytest.raises(ModelError, match="m: --loss is missing"):
        require_compiled(dense(), "adam", None, [])
    with pytest.raises(ModelError, match="unknown optimizer 'adamm'"):
        require_compiled(dense(), "adamm", "mse", [])
    with pytest.raises(ModelError, match="only a Keras model can be trained"):
        require_compiled(object(), "adam", "mse", [])
    model = dense(optimizer="sgd", loss="mse", metrics=["mae"])
    require_compiled(model, "adam", None, [])
    assert type(model.optimizer).__name__ == "Adam"
    names = [t.name for t in context_of(model).entries["metrics"].info.outputs]
    assert names == ["loss", "mae"]


def test_predictions_that_draw_take_their_own_seed_beside_the_trainings() -> None:
    def drawing() -> Any:
        keras.utils.set_random_seed(1)
        i = keras.Input((4,), name="x")
        x = layers.Dropout(0.5)(i, training=True)
        model = keras.Model(i, layers.Dense(3, name="d")(layers.Dropout(0.2)(x)), name="m")
        model.compile("sgd", "mse")
        return model

    context, model = context_of(drawing()), drawing()
    x, y = np.ones((5, 4), np.float32), np.zeros((5, 3), np.float32)
    first, other = np.array([3, 0], np.uint32), np.array([3, 1], np.uint32)
    predict = context.entries["predict"]
    assert [t.name for t in predict.info.inputs] == ["x", "draw"]
    found = np.array(predict(x, first))
    np.testing.assert_array_equal(predict(x, first), found)
    assert not np.array_equal(predict(x, other), found)
    for _ in range(3):
        loss = model.train_on_batch(x, y, reset_metrics=True)
        np.testing.assert_allclose(context.entries["train_step"](x, y), loss, 1e-6)
    assert np.isfinite(context.entries["test_step"](x, y, first)).all()
