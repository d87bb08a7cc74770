"""The file of tuning records: there and back, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from convc.errors import OutputError, UsageError
from convc.passes.choose_algorithm import Algorithm
from convc.schedule.choices import Choice
from convc.target import TARGETS
from convc.tuning.records import FORMAT, Record, Records, read_records, to_json

TARGET = TARGETS["x86-64-avx2"]
KERNEL = Record("a CPU", TARGET.name, "k", "conv2d", Choice((6, 2), "rows"), 2e-3, 1e-3)
CONVOLUTION = replace(KERNEL, key="c", choice=Algorithm((4, 4), 1 << 20))
DIRECT = replace(KERNEL, key="d", choice=Algorithm())


def test_records_are_read_as_they_were_written(tmp_path: Path) -> None:
    records = Records(tmp_path / "new" / "records.json")
    records.add([KERNEL, CONVOLUTION, DIRECT])
    records.write()
    assert read_records(records.path).found == records.found


def test_records_that_others_wrote_meanwhile_stay(tmp_path: Path) -> None:
    path = tmp_path / "records.json"
    ours, theirs = read_records(path), read_records(path)
    theirs.add([KERNEL, DIRECT])
    theirs.write()
    ours.add([replace(DIRECT, choice=Algorithm((2, 2)))])
    ours.write()
    selected = read_records(path).selected("a CPU", TARGET)
    assert dict(selected.kernels) == {"k": KERNEL.choice}
    assert dict(selected.convolutions) == {"d": Algorithm((2, 2))}


@pytest.mark.parametrize(
    ("cpu", "target"), [("another CPU", TARGET), ("a CPU", TARGETS["x86-64-avx512"])]
)
def test_records_of_others_are_not_selected(cpu: str, target: object) -> None:
    records = Records()
    records.add([KERNEL, CONVOLUTION])
    assert not records.selected(cpu, target)  # type: ignore[arg-type]
    assert records.selected("a CPU", TARGET)


def damaged(**changes: object) -> str:
    return json.dumps({"format": FORMAT, "records": [to_json(KERNEL) | changes]})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"format": "another"}',
        json.dumps({"format": FORMAT, "records": 3}),
        damaged(kind="other"),
        damaged(key=3),
        damaged(choice={"tile": [1], "order": ""}),
        damaged(choice={"tile": [-1, 2], "order": ""}),
        damaged(choice={"tile": None, "order": "sideways"}),
        damaged(choice=None),
        damaged(seconds="soon"),
        "[" * 100_000,
    ],
)
def test_a_damaged_file_is_one_line_and_ignored_or_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "records.json"
    path.write_text(text)
    records = read_records(path)
    assert records.found == {}
    assert "\n" not in records.warning
    assert str(path) in records.warning
    with pytest.raises(UsageError, match="no tuning records"):
        read_records(path, strict=True)


def test_no_file_is_no_record(tmp_path: Path) -> None:
    assert read_records(tmp_path / "none", strict=True).warning == ""
    assert read_records(None).found == {}


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    records = Records(tmp_path / "file" / "records.json")
    with pytest.raises(OutputError, match=r"records\.json"):
        records.write()
