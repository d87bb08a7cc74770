"""`convc curves`: which metrics it shows, and what it refuses in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.test_main import outcome

LOG = "epoch,accuracy,loss,val_accuracy,val_loss\n0,.5,2,.4,2.5\n1,.75,1,.5,1.5\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.csv"
    path.write_text(LOG)
    return path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--separator", ";;"), "separator: expected one character such as ';', got ';;'"),
        (("--separator", '"'), "separator: expected one character"),
        (("-o", "c.webp"), "c.webp: expected a name that ends in .png, .svg, .pdf"),
        (("--metric", "acc"), "no metric 'acc': there are"),
    ],
)
def test_what_curves_refuses(
    capsys: pytest.CaptureFixture[str], log: Path, options: tuple[str, ...], message: str
) -> None:
    code, _, err = outcome(capsys, "curves", log, *options)
    assert (code, len(err)) == (2, 1)
    assert message in err[0]


def test_a_metric_is_chosen_for_the_table_too(
    capsys: pytest.CaptureFixture[str], log: Path
) -> None:
    code, out, err = outcome(capsys, "curves", log, "--metric", "loss", "--json")
    assert (code, err) == (0, [])
    assert [row["metric"] for row in json.loads(out)["metrics"]] == ["loss", "val_loss"]


def test_the_help_names_the_extra(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = outcome(capsys, "curves", "--help")
    assert "convc[plot]" in out
