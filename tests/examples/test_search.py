"""The search: its methods, its log, and that an interruption changes nothing."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from tests.test_imports import ROOT

SCRIPT = str(ROOT / "examples" / "search" / "run.py")
TIMES = ("seconds",)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """As users run it: the compiler's own tests verify every step of it."""
    monkeypatch.setenv("CONVC_VERIFY", "0")


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    return runpy.run_path(SCRIPT)


def rows(example: dict[str, Any], path: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in TIMES} for row in example["read_log"](path)]


def test_three_trials_and_a_resumption(example: dict[str, Any], tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole.csv", tmp_path / "parts.jsonl"
    best = example["main"](["--trials", "3", "--epochs", "1", "--log", str(whole)])
    example["write_log"](parts, example["read_log"](whole)[:2])
    list(example["search"]("random", 3, 1, 0, parts))
    found = rows(example, whole)
    assert found == rows(example, parts)
    assert [row["seed"] for row in found] == [0, 1, 2]
    assert best["val_loss"] == min(row["val_loss"] for row in found)
    assert len({row["rate"] for row in found}) == 3
    assert all(1e-4 <= row["rate"] <= 0.1 for row in found)


def test_a_log_of_another_search_is_refused(example: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    example["write_log"](path, [{"trial": 0, "method": "grid", "search_seed": 0, "epochs": 1}])
    with pytest.raises(SystemExit, match="trial 0 has method grid, not random"):
        example["main"](["--trials", "1", "--epochs", "1", "--log", str(path)])
    with pytest.raises(SystemExit):
        example["main"](["--log", str(tmp_path / "log.txt")])


def test_the_grid_has_every_point_once(example: dict[str, Any]) -> None:
    propose = example["grid"](0)
    points = [tuple(propose(i, []).items()) for i in range(18)]
    assert len(set(points)) == 18


def test_tpe_learns_from_the_trials_before(example: dict[str, Any]) -> None:
    pytest.importorskip("optuna")
    propose = example["tpe"](0)
    done: list[dict[str, Any]] = []
    for number in range(40):
        parameters = propose(number, done)
        done.append({**parameters, "val_loss": abs(parameters["dropout"] - 0.4)})
    assert propose(40, done) == propose(40, done)
    late = [row["val_loss"] for row in done[-10:]]
    assert sum(late) / 10 < 0.08, "random draws are 0.17 away on average"
