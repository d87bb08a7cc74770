"""Trainings that are killed at any moment and begun again end with the weights of one that wasn't."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convc import keras
from convc.errors import DataError
from convc.keras import layers

IMAGES = np.random.default_rng(0).normal(size=(90, 6)).astype(np.float32)
LABELS = np.argmax(IMAGES[:, :3], -1)


def model(seed: int) -> Any:
    """With all that has state: slots, moving statistics, dropouts, metrics."""
    keras.utils.set_random_seed(seed)
    made = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, activation="relu"),
            layers.BatchNormalization(),
            layers.Dropout(0.3),
            layers.Dense(3, activation="softmax"),
        ]
    )
    made.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return made


def train(made: Any, folder: Path | None, each_step: Any = None) -> Any:
    """Seven steps in each of four epochs."""
    listed: list[Any] = [keras.callbacks.LambdaCallback(on_train_batch_end=each_step)]
    if folder is not None:
        listed.append(keras.callbacks.BackupAndRestore(folder, save_freq=3))
    return made.fit(IMAGES, LABELS, batch_size=14, epochs=4, verbose=0, callbacks=listed)


def slowly(batch: int, logs: Any) -> None:
    """In the process that is killed: says that a step is done, and takes its time."""
    print("step", flush=True)
    time.sleep(0.03)


def killed(folder: Path, seconds: float) -> bool:
    """Trains in a process that is killed some time after it has kept a state; whether it was still at it."""
    program = "from pathlib import Path; from tests.keras.callbacks.test_backup import *; "
    program += f"train(model(0), Path({str(folder)!r}), slowly)"
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[3],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for _ in range(
        4
    ):  # the state of the third is kept before the fourth is done, however busy the machine is
        assert process.stdout.readline() == "step\n"
    time.sleep(seconds)
    running = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    return running


def test_killed_trainings_end_with_the_same_weights(tmp_path: Path) -> None:
    whole = model(0)
    history = train(whole, None)
    random = np.random.default_rng(os.getpid())
    moments = [float(s) for s in random.uniform(0.02, 0.2, 2)]
    interrupted = [killed(tmp_path, s) for s in moments]
    assert all(interrupted)
    resumed = model(99)  # other weights and seeds: all that counts is in the state
    found = train(resumed, tmp_path)
    for a, b in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=f"killed after {moments}")
    assert found.history["loss"][-1] == history.history["loss"][-1]
    assert found.history["accuracy"][-1] == history.history["accuracy"][-1]
    assert not list(tmp_path.iterdir())


class Stop(keras.callbacks.Callback):
    """Ends a training as a crash would, with an error after so many steps."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.steps -= 1
        if self.steps == 0:
            raise RuntimeError("crash")


@pytest.mark.parametrize("steps", [1, 7, 9, 20, 21])
@pytest.mark.parametrize("save_freq", ["epoch", 1, 4])
def test_every_position_is_one_to_go_on_from(tmp_path: Path, steps: int, save_freq: Any) -> None:
    (whole, history), made = reference(), model(0)
    backup = keras.callbacks.BackupAndRestore(tmp_path, save_freq=save_freq, double_checkpoint=True)
    with pytest.raises(RuntimeError, match="crash"):
        made.fit(IMAGES, LABELS, callbacks=[backup, Stop(steps)], **SETTINGS)
    # A state that was just moved aside is one too.
    if steps == 9 and (tmp_path / "previous-training.safetensors").exists():
        (tmp_path / "training.safetensors").unlink()
    begun = (tmp_path / "training.safetensors").exists() or steps == 9
    again = model(99) if begun and any(tmp_path.iterdir()) else model(0)
    backup = keras.callbacks.BackupAndRestore(tmp_path, save_freq=save_freq)
    found = again.fit(IMAGES, LABELS, callbacks=[backup], **SETTINGS).history
    for a, b in zip(again.get_weights(), whole, strict=True):
        np.testing.assert_array_equal(a, b)
    # The epoch that was interrupted counts all of its steps.
    assert found == {name: values[-len(found["loss"]) :] for name, values in history.items()}


SETTINGS: dict[str, Any] = {
    "batch_size": 14, "epochs": 3, "verbose": 0, "validation_data": (IMAGES[:20], LABELS[:20])
}  # fmt: skip


@functools.cache
def reference() -> Any:
    """The weights and the history of a training that nothing interrupts."""
    made = model(0)
    history = made.fit(IMAGES, LABELS, **SETTINGS).history
    return made.get_weights(), history


def test_a_state_of_another_model_is_refused(tmp_path: Path) -> None:
    made = model(0)
    backup = keras.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False)
    made.fit(IMAGES, LABELS, verbose=0, callbacks=[backup])
    other = keras.Sequential([keras.Input((6,)), layers.Dense(3, name="another")])
    other.compile("sgd", "mse")
    backup = keras.callbacks.BackupAndRestore(tmp_path)
    with pytest.raises(DataError, match="the state is another model's: expected a weight"):
        other.fit(IMAGES, np.eye(3)[LABELS], verbose=0, callbacks=[backup])


def test_augmented_batches_come_again(tmp_path: Path) -> None:
    """What a generator of images draws follows from its seed, the epoch and the image."""
    pictures = np.random.default_rng(1).integers(0, 255, (40, 6, 6, 1)).astype(np.uint8)
    generator = keras.preprocessing.image.ImageDataGenerator(
        rotation_range=90, horizontal_flip=True
    )

    def fitted(*listed: Any) -> Any:
        keras.utils.set_random_seed(0)
        image = keras.Input((6, 6, 1))
        made = keras.Model(image, layers.Dense(3)(layers.Flatten()(image)))
        made.compile("adam", "mse")
        data = generator.flow(pictures, np.eye(3)[LABELS[:40]], batch_size=10, seed=5)
        made.fit(data, epochs=3, verbose=0, callbacks=list(listed))
        return made

    wanted = fitted().get_weights()
    backup = keras.callbacks.BackupAndRestore(tmp_path, save_freq=2)
    with pytest.raises(RuntimeError, match="crash"):
        fitted(backup, Stop(7))
    for a, b in zip(fitted(backup).get_weights(), wanted, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("steps", [8, 22, 27])
def test_other_callbacks_go_on_as_well(tmp_path: Path, steps: int) -> None:
    """Rates, waits and best weights; the state is kept after the others' part whatever the order in the list."""

    def fitted(seed: int, *listed: Any) -> tuple[Any, Any]:
        made = model(seed)
        made.compile(keras.optimizers.SGD(0.5, 0.9), "sparse_categorical_crossentropy")
        plateau = keras.callbacks.ReduceLROnPlateau("loss", 0.5, 1, min_delta=0.1, cooldown=1)
        stopping = keras.callbacks.EarlyStopping("val_loss", 0, 2, restore_best_weights=True)
        callbacks = [*listed, plateau, stopping]
        made.fit(IMAGES, LABELS, callbacks=callbacks, **{**SETTINGS, "epochs": 20})
        return [*made.get_weights(), made.optimizer.learning_rate.numpy()], stopping

    def backup() -> Any:
        return keras.callbacks.BackupAndRestore(tmp_path)

    wanted, stopping = fitted(0)
    assert wanted[-1] < 0.5
    assert (stopping.best_epoch, stopping.stopped_epoch) == (1, 3)
    with pytest.raises(RuntimeError, match="crash"):
        fitted(0, backup(), Stop(steps))
    found, again = fitted(99, backup())
    assert (again.stopped_epoch, again.best_epoch) == (stopping.stopped_epoch, stopping.best_epoch)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(a, b)
