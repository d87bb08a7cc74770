"""What docs/exporters.md says of its figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.exporters import page
from benchmarks.exporters.__main__ import Result

FACTS = {
    "cpus": 2, "cpu": "a CPU", "load_before": 0.1, "python": "3.11", "onnxruntime": "1.31", "date": "today",
}  # fmt: skip


def measured(name: str, ours: float, theirs: float, error: float = 1e-7) -> Result:
    errors = {"convc": error, "onnxruntime": 1e-7}
    return Result(name, 1, True, {"convc": [ours], "onnxruntime": [theirs]}, errors)


def test_wrong_and_failed_models_are_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "DOCS", tmp_path / "exporters.md")
    results = [
        measured("a.keras", 1, 2),
        measured("b.tf2onnx", 8, 4),
        measured("c.keras", 1, 100, error=1e-3),
        Result("d.keras", 1, failure="no such | operator"),
    ]
    page.write_docs(FACTS, results)
    text = (tmp_path / "exporters.md").read_text()
    assert "convc takes 1.00 of ONNX Runtime's time in the geometric mean, 2.00 at the most" in text
    assert "Slower: b.tf2onnx 2.00." in text
    assert "| 1.0e-03 (wrong: not counted) |" in text
    assert "failed: no such \\| operator" in text
