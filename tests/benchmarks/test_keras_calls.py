"""The benchmark of Keras' methods: its program runs with convc, and its table says how convc stands."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks import keras_calls, keras_calls_worker


def called(call: Callable[[], object], times: int) -> float:
    call()
    return 1.0


def test_the_program_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras_calls_worker, "IMAGES", 300)
    monkeypatch.setattr(keras_calls_worker, "seconds_of", called)
    found = keras_calls_worker.work("convc.keras")
    assert len(found) == 2
    assert all(len(calls) == 6 and set(calls.values()) == {1} for calls in found.values())


def test_ratios_are_against_the_fastest_of_the_others() -> None:
    def runs(*times: float) -> list[dict[str, dict[str, float]]]:
        return [{"Net": {"fit": t}} for t in times]

    results = {"convc": runs(0.5, 0.4, 0.6), "a": runs(2.0, 2.0, 3.0), "b": runs(1.5)}
    columns, (line,) = keras_calls.table_of(results)
    assert columns == ["network", "call", "convc", "a", "b", "convc against the best"]
    assert line == ["Net", "fit", "500 ms ±20%", "2 s ±50%", "1.5 s ±0%", "3x as fast"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(2.5, "2.5 s"), (0.0123, "12.3 ms"), (4.2e-5, "42 µs")]
)
def test_times_have_a_unit_that_suits_them(seconds: float, text: str) -> None:
    assert keras_calls.time_text(seconds) == text


def test_wrong_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--contenders", "kears"], ["--python", "keras-tf"]):
        with pytest.raises(SystemExit):
            keras_calls.main(arguments)
    error = capsys.readouterr().err
    assert "unknown contender 'kears'" in error
    assert "expected NAME=PATH" in error
