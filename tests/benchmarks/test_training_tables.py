"""What the training benchmark says of its figures, and that all contenders' networks are the same."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks import training_tables
from benchmarks.tables import verdict
from benchmarks.training import python_of
from benchmarks.training_networks import ROWS, Row
from benchmarks.training_tables import Result, doubt_of, judge, table_of, write_docs
from benchmarks.training_weights import kernels_of, load_weights, save_weights, take
from convc import keras

PARAMETERS = {  # from the tutorials, He et al. and Sandler et al.
    "Conv32-pool-Conv64-pool-Conv64": 93_322,
    "Conv64-pool-Conv32-pool": 70_698,
    "Conv64-Conv32": 823_338,
    "Conv32 5x5, Conv64 5x5, Dense 1000": 1_087_106,
    "Dense 32-32-10": 26_506,
    "CIFAR, BN and dropout": 744_682,
    "ResNet-18 32x32": 11_173_962,
    "MobileNetV2 224": 3_504_872,
}


def result(contender: str, milliseconds: float, **changes: object) -> Result:
    found = Result("Net", 8, 2, contender, draws=False)
    found.add(
        {
            "milliseconds": milliseconds,
            "first_step_seconds": 1.0,
            "memory_bytes": 5 << 20,
            "parameters": 100,
            "flops": 2_000_000 if contender == "convc" else 0,
            "losses": [2.3, 2.0],
        }
        | changes
    )
    return found


@pytest.mark.parametrize("row", ROWS, ids=lambda r: r.name)
def test_networks_have_their_published_parameters(row: Row) -> None:
    model = row.network(keras)
    assert sum(math.prod(w.shape) for w in model.trainable_weights) == PARAMETERS[row.name]


def test_shares_count_the_same_flops_for_all() -> None:
    results = [result("convc", 1.0), result("torch", 2.0)]
    judge(results, {2: 4e9})
    ours, theirs = (r.to_json() for r in results)
    assert (ours["peak_share"], theirs["peak_share"]) == (0.5, 0.25)
    _, (line,) = table_of([ours, theirs])
    assert line[-3:] == ["2.00x as fast as torch", "2", "50% (25%)"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"parameters": 90}, "90 parameters, others 100"),
        ({"losses": [30.0, 2.0]}, "its first loss is 30, the contenders' median 2.3"),
        ({"losses": [2.303, 2.0]}, "its first loss is 2.303, the contenders' median 2.3"),
        ({"losses": [math.nan, 2.0]}, "its first loss is nan, the contenders' median 2.3"),
        ({"losses": [2.3, 9.0]}, "its loss does not fall: 2.3, then 9"),
        ({}, ""),
    ],
)
def test_other_work_is_not_counted(changes: dict[str, object], expected: str) -> None:
    other = result("torch", 0.1, **changes)
    assert doubt_of(other, 100, 2.3) == expected
    results = [result("convc", 1.0), result("keras-tf", 2.0), other]
    judge(results, {2: 4e9})
    ours, *peers = (r.to_json() for r in results)
    assert ("keras-tf" in verdict(ours, peers)) == bool(expected)


@pytest.mark.parametrize(("draws", "counted"), [(True, True), (False, False)])
def test_dropout_may_move_the_first_loss(draws: bool, counted: bool) -> None:
    other = result("torch", 0.1, losses=[2.5, 2.0])
    other.draws = draws
    assert (doubt_of(other, 100, 2.3) == "") == counted


@pytest.mark.parametrize("row", ROWS, ids=lambda r: r.name)
def test_weights_survive_the_file_in_order(row: Row, tmp_path: Path) -> None:
    weights = row.network(keras).get_weights()
    save_weights(tmp_path / "weights.npz", weights)
    loaded = load_weights(tmp_path / "weights.npz")
    assert len(loaded) == len(weights)
    assert all(np.array_equal(a, b) for a, b in zip(loaded, weights, strict=True))
    kernels = kernels_of(loaded)
    assert sum(k.size for k in kernels) > 0.98 * PARAMETERS[row.name]
    left = list(kernels)
    for kernel in kernels:
        assert take(left, kernel.shape).shape == kernel.shape
    with pytest.raises(ValueError, match="no weight of shape"):
        take(left, (3, 3))


def test_biases_that_are_neither_zeros_nor_ones_are_refused() -> None:
    with pytest.raises(ValueError, match="neither zeros nor ones"):
        kernels_of([np.eye(2), np.array([0.5, 0.0])])


def test_the_longest_beginning_of_a_name_decides() -> None:
    given = {"keras": "/a", "keras-jax": "/b"}
    assert python_of("keras-tf-xla", given) == "/a"
    assert python_of("keras-jax", given) == "/b"
    assert python_of("torch", given) not in given.values()


def test_the_document_has_all_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_tables, "DOCS", tmp_path / "training.md")
    results = [result("convc", 1.0), result("torch", 2.0)]
    judge(results, {2: 4e9})
    facts = {"versions": {"convc": "1"}, "absent": {"keras-jax": "jax"}, "remarks": [], "processes": 1, "seconds": 1.0,
             "date": "today", "cpus": 2, "cpu": "C", "python": "3", "load_before": 0.0, "load_after": 0.0}  # fmt: skip
    document = {"machine": facts, "results": [r.to_json() for r in results]}
    write_docs(json.loads(json.dumps(document)))
    text = (tmp_path / "training.md").read_text()
    assert "| Net (8) | 0.002 | 2 | 1 ±0% | 2 ±0% | 2.00x as fast as torch |" in text
    assert "keras-jax did not take part: jax is not installed" in text
    assert "2.00x as fast as the best of the others in the geometric mean of 1 lines" in text
    assert (tmp_path / training_tables.CHART).exists()
