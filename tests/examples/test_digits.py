"""The digits example holds what its README says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from tests.test_imports import ROOT, environment

FOLDER = ROOT / "examples" / "digits"


def test_there_are_enough_held_out_digits() -> None:
    data = np.load(FOLDER / "digits-test.npz")
    assert data["images"].shape == (1000, 8, 8)
    assert data["images"].max() == 16
    assert np.bincount(data["labels"]).min() > 80


def test_the_weights_are_small() -> None:
    path = FOLDER / "weights.safetensors"
    assert path.stat().st_size < 1 << 20
    assert sum(a.size for a in load_file(path).values()) == 45_546


def test_the_example_runs_and_most_digits_are_right(tmp_path: Path) -> None:
    for name in ("model.py", "run.py", "weights.safetensors", "digits-test.npz"):
        (tmp_path / name).symlink_to(FOLDER / name)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "run.py")],
        capture_output=True,
        text=True,
        env=environment(),
        check=True,
    )
    right = int(done.stdout.split(" of 1000 held-out digits right")[0].split()[-1])
    assert right >= 980
    assert (FOLDER / "digits-test.npz").exists()
