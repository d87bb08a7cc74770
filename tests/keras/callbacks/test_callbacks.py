"""What each callback does to a training, and what it leaves behind."""

from __future__ import annotations

import csv
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convc import keras
from convc.errors import InputFileError, OutputError, UsageError
from convc.keras import callbacks
from convc.keras.callbacks.backup import read_state, write_state
from convc.keras.callbacks.events import crc32c


class Stub:
    """A model without training: what callbacks touch."""

    def __init__(self) -> None:
        self.optimizer = keras.optimizers.SGD(1.0)
        self.stop_training = False
        self.metrics: list[Any] = []
        self.weights: list[Any] = []
        self.kept = [np.zeros(1)]
        self.saved: list[str] = []

    def get_weights(self) -> Any:
        return [w.copy() for w in self.kept]

    def set_weights(self, weights: Any) -> None:
        self.kept = weights

    def save(self, path: str, overwrite: bool) -> None:
        self.saved.append(Path(path).name)

    def save_weights(self, path: str, overwrite: bool) -> None:
        self.saved.append(f"weights {Path(path).name}")


def told(callback: Any, model: Any, epochs: list[dict[str, float]]) -> int:
    """Lets a callback hear of epochs until it stops the training; how many there were."""
    callback.set_model(model)
    callback.on_train_begin()
    count = 0
    for epoch, logs in enumerate(epochs):
        callback.on_epoch_begin(epoch)
        model.kept = [np.array([float(epoch)])]
        callback.on_epoch_end(epoch, logs)
        count += 1
        if model.stop_training:
            break
    callback.on_train_end()
    return count


def losses(*values: float) -> list[dict[str, float]]:
    return [{"val_loss": v} for v in values]


@pytest.mark.parametrize(
    ("settings", "values", "epochs", "best"),
    [
        ({"patience": 1}, (3, 2, 2, 1), 3, 1),
        ({"patience": 2}, (3, 2, 2, 1, 1, 1), 6, 3),
        ({"patience": 1, "min_delta": 0.5}, (3, 2.6, 2.5, 2), 2, 0),
        ({"patience": 2, "baseline": 1.0}, (3, 2, 2.5, 2.4, 2.3), 3, 1),
        ({"patience": 1, "start_from_epoch": 2}, (1, 9, 9, 8, 9), 5, 3),
        ({"patience": 1, "mode": "max"}, (1, 2, 1, 3), 3, 1),
        ({"patience": 9}, (3, 1, 2), 3, 1),
    ],
    ids=str,
)
def test_early_stopping(settings: Any, values: Any, epochs: int, best: int) -> None:
    model = Stub()
    stop = callbacks.EarlyStopping(restore_best_weights=True, **settings)
    assert told(stop, model, losses(*values)) == epochs
    assert model.kept[0] == [best]
    assert stop.best_epoch == best


def test_the_direction_follows_from_the_name() -> None:
    accuracy = callbacks.EarlyStopping("val_accuracy", patience=1)
    assert told(accuracy, Stub(), [{"val_accuracy": v} for v in (0.5, 0.6, 0.6, 0.9)]) == 3
    with pytest.warns(UserWarning, match="`val_loss` which is not available"):
        told(callbacks.EarlyStopping(), Stub(), [{"loss": 1.0}])
    with pytest.warns(UserWarning, match="mode 'up' is unknown"):
        callbacks.EarlyStopping(mode="up")


def test_reduce_on_plateau_waits_and_cools_down() -> None:
    model, logs = Stub(), losses(2, 2, 2, 2, 2, 2, 2)
    plateau = callbacks.ReduceLROnPlateau(factor=0.5, patience=2, cooldown=1, min_lr=0.2)
    told(plateau, model, logs)
    assert [entry["learning_rate"] for entry in logs] == [1, 1, 1, 0.5, 0.5, 0.25, 0.25]
    with pytest.raises(UsageError, match="factor must be below 1"):
        callbacks.ReduceLROnPlateau(factor=1.0)


def test_schedules_of_one_and_of_two_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    for schedule in (lambda epoch: 0.5**epoch, lambda epoch, rate: rate * (0.5 if epoch else 1)):
        model, logs = Stub(), losses(1, 1, 1)
        told(callbacks.LearningRateScheduler(schedule, verbose=1), model, logs)
        assert [entry["learning_rate"] for entry in logs] == [1, 0.5, 0.25]
    message = "Epoch 2: LearningRateScheduler setting learning rate to 0.5."
    assert capsys.readouterr().out.count(message) == 2
    with pytest.raises(UsageError, match="must return a number; it returned 'x'"):
        told(callbacks.LearningRateScheduler(lambda epoch: "x"), Stub(), losses(1))


def test_checkpoints_of_the_best(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = Stub()
    path = tmp_path / "new" / "{epoch:02d}-{val_loss:.1f}.keras"
    told(callbacks.ModelCheckpoint(path, save_best_only=True, verbose=1), model, losses(3, 4, 2))
    assert model.saved == ["01-3.0.keras", "03-2.0.keras"]
    said = capsys.readouterr().out
    assert "\nEpoch 1: val_loss improved from None to 3.00000, saving model to " in said
    assert "\nEpoch 2: val_loss did not improve from 3.00000\n" in said
    model = Stub()
    weights = callbacks.ModelCheckpoint(tmp_path / "w.weights.h5", save_weights_only=True)
    told(weights, model, losses(3, 4))
    assert model.saved == ["weights w.weights.h5"] * 2
    model = Stub()
    threshold = callbacks.ModelCheckpoint(
        tmp_path / "a.keras", save_best_only=True, initial_value_threshold=2.5
    )
    told(threshold, model, losses(3, 2))
    assert model.saved == ["a.keras"]
    with pytest.raises(UsageError, match=r"must end in .keras, .h5"):
        callbacks.ModelCheckpoint("a.txt")
    with pytest.raises(UsageError, match="asks for 'val_mae'; known are epoch, val_loss"):
        told(callbacks.ModelCheckpoint("{val_mae}.keras"), Stub(), losses(1))


def test_checkpoints_by_steps(tmp_path: Path) -> None:
    model = Stub()
    keep = callbacks.ModelCheckpoint(tmp_path / "{epoch}-{batch}.keras", save_freq=3)
    keep.set_model(model)
    for epoch in range(2):
        keep.on_epoch_begin(epoch)
        for batch in range(4):
            keep.on_train_batch_end(batch, {"loss": 1.0})
    assert model.saved == ["1-3.keras", "2-2.keras"]


def test_tables_continue(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    told(callbacks.CSVLogger(path), Stub(), [{"loss": 1.5, "acc": 0.5}])
    told(callbacks.CSVLogger(path, append=True), Stub(), [{"loss": 1.0, "acc": 0.75}])
    rows = list(csv.reader(path.open()))
    assert rows[0] == ["epoch", "acc", "loss", "val_acc", "val_loss"]
    assert rows[1:] == [["0", "0.5", "1.5", "NA", "NA"], ["0", "0.75", "1.0", "NA", "NA"]]
    with pytest.raises(OutputError, match="can't write"):
        told(callbacks.CSVLogger(tmp_path / "no" / "log.csv"), Stub(), [])


def test_functions_at_given_moments() -> None:
    heard: list[Any] = []
    lambdas = callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: heard.append(epoch))
    told(lambdas, Stub(), losses(1, 2))
    assert heard == [0, 1]
    with pytest.raises(UsageError, match=r"has no 'on_epoch_edn' \(did you mean 'on_epoch_end'"):
        callbacks.LambdaCallback(on_epoch_edn=print)


def records(path: Path) -> list[bytes]:
    """The frames of an event file, their checksums proved."""
    data, found = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        body = data[12 : 12 + length]
        for part, sum_ in ((data[:8], data[8:12]), (body, data[12 + length : 16 + length])):
            crc = crc32c(part)
            (masked,) = struct.unpack("<I", sum_)
            assert masked == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
        found.append(body)
        data = data[16 + length :]
    return found


def test_event_files(tmp_path: Path) -> None:
    assert crc32c(b"123456789") == 0xE3069283  # RFC 3720's check value
    model = Stub()
    told(callbacks.TensorBoard(tmp_path), model, [{"loss": 0.5, "val_loss": 0.25}])
    (train,) = (tmp_path / "train").iterdir()
    (validation,) = (tmp_path / "validation").iterdir()
    first, second = records(train)
    assert first.endswith(b"brain.Event:2")
    assert b"epoch_loss\x15" + struct.pack("<f", 0.5) in second
    assert b"epoch_learning_rate\x15" + struct.pack("<f", 1.0) in second
    assert b"epoch_loss\x15" + struct.pack("<f", 0.25) in records(validation)[1]


def test_states_are_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state"
    write_state(path, {"a": np.arange(3)}, {"epoch": 1})
    arrays, numbers = read_state(path)
    assert numbers == {"epoch": 1}
    np.testing.assert_array_equal(arrays["a"], [0, 1, 2])

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        write_state(path, {"a": np.zeros(9)}, {"epoch": 2})
    assert read_state(path)[1] == {"epoch": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["state"]
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(InputFileError, match="is not a training's state"):
        read_state(path)


@pytest.mark.parametrize("name", ["best.keras", "best.weights.h5"])
def test_a_checkpoint_says_before_the_first_step_that_h5py_is_missing(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    before = model.get_weights()[0]
    saving = callbacks.ModelCheckpoint(name, save_weights_only="weights" in name)
    with pytest.raises(UsageError, match=r"pip install 'convc\[h5\]'"):
        model.fit(np.ones((4, 2)), np.ones((4, 1)), callbacks=[saving], verbose=0)
    np.testing.assert_array_equal(model.get_weights()[0], before)
