"""What the benchmark of costs says of its figures, and that it measures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import costs


def result(**changes: Any) -> dict[str, Any]:
    compiled = {
        "build": 0.1,
        "compile": 2.0,
        "llvm": 1.0,
        "save": 0.2,
        "memory": 300_000_000,
        "artifact": 12_000_000,
        "raw weights": 10_000_000,
        "packed weights": 11_000_000,
        "arena": 4_000_000,
        "live": 3_000_000,
        "phases": {"machine code": 1.0},
    }
    small = compiled | {"artifact": 10_100_000, "packed weights": 10_500_000}
    kinds = {"cold": compiled, "kernels": compiled, "warm": compiled, "small": small}
    times = {"cpu": {"1": 0.004, "2": 0.005}, "latency": {"1": 0.004, "2": 0.0025}}
    return {"network": "Net", **kinds, **times, "load": 0.002, "memory": 16_000_000} | changes


def test_sizes_stand_beside_the_weights() -> None:
    _, (line,) = costs.size_table([result()])
    sizes = ["10.0", "1.10x", "1.05x", "1.20x", "1.01x"]
    assert line == ["Net", *sizes, "4.00", "3.00", "16.0", "+1.0", "2.0"]


def test_cpu_time_stands_beside_the_time_of_a_run() -> None:
    _, (line,) = costs.run_table([result()])
    assert line == ["Net", "4", "4", "5", "2.5", "1.25x"]


def test_times_name_the_share_of_llvm() -> None:
    _, (line,) = costs.compile_table([result()])
    assert line == ["Net", "2.00", "50%", "2.00", "2.00", "0.30", "300"]


def test_a_small_network_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(costs, "REPEATS", 1)
    monkeypatch.setattr(costs, "DOCS", tmp_path / "costs.md")
    monkeypatch.setattr(costs, "RESULTS", tmp_path)
    costs.main(["--models", "CNN 28x28", "--write-docs"])
    assert (tmp_path / "costs.svg").read_text().count("<rect") == 1 + 2 * 3
    assert "| CNN 28x28 |" in (tmp_path / "costs.md").read_text()
    assert "CNN 28x28" in capsys.readouterr().out
    (found,) = json.loads((tmp_path / "costs.json").read_text())["results"]
    assert 0 < found["cold"]["llvm"] < found["cold"]["compile"]
    assert found["warm"]["artifact"] == found["cold"]["artifact"]
    assert found["cold"]["live"] <= found["cold"]["arena"] < 1_000_000
    assert 0 < found["cold"]["raw weights"] < found["cold"]["artifact"]


def test_an_unknown_network_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        costs.main(["--models", "ResNet51"])
    assert "unknown model 'ResNet51'" in capsys.readouterr().err
