"""The progress line, character by character."""

from __future__ import annotations

import io
import sys

import pytest

from convc import keras
from convc.keras.callbacks.progbar import Progbar

RESULTS = [("accuracy", 0.698), ("loss", 0.986), ("val_accuracy", 0.755), ("val_loss", 0.0004)]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("convc.keras.callbacks.progbar.time.perf_counter", lambda: now[0])
    return now


def run(bar: Progbar, clock: list[float], steps: int) -> None:
    """A first step of half a second, then 23 ms each."""
    for step in range(1, steps + 1):
        clock[0] += 0.5 if step == 1 else 0.023
        bar.update(step, RESULTS[:2], finalize=False)
    bar.update(steps, RESULTS, finalize=True)


def test_plain_text_where_there_is_no_terminal(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    run(Progbar(16), clock, 16)
    assert capsys.readouterr().out == (
        "16/16 ━━━━━━━━━━━━━━━━━━━━ 1s 23ms/step - accuracy: 0.6980 - loss: 0.9860 - val_accuracy: 0.7550"
        " - val_loss: 4.0000e-04\n"
    )


def test_one_line_without_a_bar(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    run(Progbar(16, verbose=2), clock, 16)
    assert capsys.readouterr().out == (
        "16/16 - 1s - 23ms/step - accuracy: 0.6980 - loss: 0.9860 - val_accuracy: 0.7550"
        " - val_loss: 4.0000e-04\n"
    )


def test_the_classic_forms(
    clock: list[float], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(keras.backend._settings, "progress_style", "classic")
    run(Progbar(16), clock, 16)
    run(Progbar(16, verbose=2), clock, 16)
    bar, line = capsys.readouterr().out.splitlines()
    results = " - accuracy: 0.6980 - loss: 0.9860 - val_accuracy: 0.7550 - val_loss: 4.0000e-04"
    assert bar == f"16/16 [{'=' * 30}] - 1s 23ms/step{results}"
    assert line == f"16/16 - 1s{results} - 1s/epoch - 23ms/step"


def test_a_terminal_sees_the_line_grow(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    run(Progbar(200), clock, 200)
    written = screen.getvalue()
    # 50 ms apart at most: not each of the steps of 23 ms.
    assert written.count("\r") == pytest.approx(68, abs=2)
    first = written.split("\r")[1]
    assert first.startswith(
        "\x1b[1m  1/200\x1b[0m \x1b[37m━━━━━━━━━━━━━━━━━━━━\x1b[0m \x1b[1m1:39\x1b[0m 500ms/step"
    )
    last = written.split("\r")[-1]
    assert last.startswith(
        "\x1b[1m200/200\x1b[0m \x1b[32m━━━━━━━━━━━━━━━━━━━━\x1b[0m\x1b[37m\x1b[0m \x1b[1m5s\x1b[0m 23ms/step"
    )
    assert written.count("\n") == 1


def test_terminals_without_the_bar_s_character(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    run(Progbar(4), clock, 4)
    assert raw.getvalue().startswith(b"4/4 ==================== 1s 23ms/step - accuracy")


def test_loops_of_unknown_length(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    bar = Progbar(None, stateful_metrics=["loss"])
    for step in range(1, 4):
        clock[0] += 1
        bar.update(step, [("loss", 1.0 / step), ("mean", float(step))])
    bar.update(3, finalize=True)
    assert capsys.readouterr().out == "      3/Unknown 3s 1s/step - loss: 0.3333 - mean: 2.0000\n"


def test_fit_evaluate_and_predict_print_as_keras(capsys: pytest.CaptureFixture[str]) -> None:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit([[1.0], [2.0]], [[1.0], [2.0]], batch_size=1, epochs=2, verbose=1)
    model.evaluate([[1.0], [2.0]], [[1.0], [2.0]], batch_size=1)
    model.predict([[1.0], [2.0]], batch_size=1)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" ")[0] for line in lines] == ["Epoch", "2/2", "Epoch", "2/2", "2/2", "2/2"]
    assert lines[0] == "Epoch 1/2"
    assert " - loss: " in lines[1]
    assert " - loss: " not in lines[-1]
    model.fit([[1.0], [2.0]], [[1.0], [2.0]], verbose=2)
    model.fit([[1.0], [2.0]], [[1.0], [2.0]], verbose=0)
    assert capsys.readouterr().out.startswith("1/1 - 0s - ")
