"""Tuning on this machine, end to end: on a small network, in a second."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from convc import cli, driver, keras
from convc.errors import UsageError
from convc.graph.ir import Graph
from convc.keras import layers
from convc.passes.choose_algorithm import Algorithm
from convc.passes.pipelines import before_algorithms
from convc.schedule.choices import Choice, kernel_key
from convc.schedule.cpu import alternatives
from convc.tuning.candidates import convolution_jobs
from convc.tuning.records import Record, Records, Selected, cpu_model, read_records
from convc.tuning.trials import Trial, alone

X = np.random.default_rng(0).standard_normal((1, 16, 16, 16), np.float32)
OPTIONS = driver.Options(verify=False)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    stack = [
        layers.Conv2D(32, 3, padding="same", activation="relu"),
        layers.Conv2D(48, 1, activation="relu"),
        layers.DepthwiseConv2D(3),
    ]
    return keras.Sequential([keras.Input((16, 16, 16)), *stack])


def run(model: keras.Model, selected: Selected | None) -> np.ndarray:
    compiled = driver.compile(model, threads=1, options=replace(OPTIONS, selected=selected))
    return np.asarray(compiled(X))


def test_every_choice_of_a_kernel_gives_the_same_bits(model: keras.Model) -> None:
    target = driver.host_target()
    lowered = driver.plan_graphs("m", model.graphs(), target, OPTIONS).lowered
    options = {kernel_key(k, target): alternatives(k, target) for k in lowered.kernels.values()}
    options = {key: found for key, found in options.items() if len(found) > 1}
    assert len(options) >= 2
    expected = run(model, Selected())
    for turn in range(1, 5):
        chosen = {key: found[-turn % len(found)] for key, found in options.items()}
        assert any(chosen[key] != found[0] for key, found in options.items())
        np.testing.assert_array_equal(run(model, Selected(tuple(chosen.items()))), expected)


def test_every_algorithm_of_a_convolution_agrees(model: keras.Model) -> None:
    (key, *_), compiled = convolution_keys(model), {}
    for algorithm in (
        Algorithm(),
        Algorithm((2, 2)),
        Algorithm((4, 4)),
        Algorithm((4, 4), 1 << 15),
    ):
        compiled[algorithm] = driver.compile(
            model, options=replace(OPTIONS, selected=Selected(convolutions=((key, algorithm),)))
        )
    operators = [[row.operators for row in c.report] for c in compiled.values()]
    counts = [sum("winograd_output" in o for o in found) for found in operators]
    assert counts[0] == 0
    assert counts[1] == counts[2] == 1
    assert counts[3] > 1
    exact = np.asarray(compiled[Algorithm()](X), np.float64)
    for result in compiled.values():
        error = np.abs(np.asarray(result(X)) - exact).max() / np.abs(exact).max()
        assert error < 1e-5


def convolution_keys(model: keras.Model) -> list[str]:
    pipeline, choose = before_algorithms(driver.pipeline_of(OPTIONS, driver.host_target()))
    graphs: list[Graph] = [pipeline.run(g) for g in model.graphs().values()]
    assert choose is not None
    return [job.key for job in convolution_jobs(graphs, choose)[0]]


def test_a_network_is_tuned_and_its_records_serve_later_compilations(
    model: keras.Model, tmp_path: Path
) -> None:
    path = tmp_path / "records.json"
    options = replace(OPTIONS, records=path)
    told: list[str] = []
    compiled = driver.compile_graphs(
        "m",
        model.graphs(),
        driver.host_target(),
        replace(options, tune=1.0),
        progress=lambda progress: told.append(progress.what),
    )
    tuned = compiled.tuned
    assert tuned is not None
    assert tuned.timed + tuned.left >= 2
    assert told
    assert read_records(path).selected(cpu_model(), driver.host_target()) == tuned.selected
    later = driver.compile_graphs("m", model.graphs(), driver.host_target(), options)
    assert later.tuned is None
    assert later.artifact.image.code == compiled.artifact.image.code
    expected = run(model, None)
    error = np.abs(np.asarray(later.artifact.model(1)(X)) - expected).max()
    assert error <= 1e-5 * np.abs(expected).max()


def test_records_are_used_without_timing_and_only_on_their_cpu(
    model: keras.Model, tmp_path: Path
) -> None:
    (key, *_) = convolution_keys(model)
    records = Records(tmp_path / "records.json")
    record = Record(cpu_model(), driver.host_target().name, key, key, Algorithm((2, 2)), 2.0, 1.0)
    tiles = []
    for cpu in ("another CPU", cpu_model()):
        records.add([replace(record, cpu=cpu)])
        records.write()
        found = driver.compile(model, options=replace(OPTIONS, records=records.path))
        shapes = [row.output for row in found.report if row.operators == "winograd_input"]
        tiles.append(shapes[0].split(", ")[1])
    assert tiles == ["36", "16"]


def test_a_trial_reads_large_weights_from_memory(model: keras.Model) -> None:
    target = driver.host_target()
    large = keras.Sequential([keras.Input((4, 4, 256)), layers.Conv2D(512, 1)])
    program = driver.plan_graphs("m", large.graphs(), target, OPTIONS).program
    kernel = next(k for k in program.kernels.values() if ("strategy", "tiled") in k.notes)
    trial = Trial(alone(kernel), target)
    assert trial.memory.copies * 512 * 256 * 4 >= 64 << 20
    assert len({turn[0][1][1] for turn in trial.turns}) == trial.memory.copies
    assert trial.seconds() > 0


@pytest.mark.parametrize("tune", [0, -1.0, True, float("nan"), "20s"])
def test_a_budget_is_a_number_of_seconds(model: keras.Model, tune: object) -> None:
    with pytest.raises(UsageError, match="tune: expected a number of seconds"):
        driver.compile(model, tune=tune)  # type: ignore[arg-type]


@pytest.mark.parametrize("target", ["aarch64-neon", "cuda-sm80"])
def test_tuning_for_another_machine_is_refused(model: keras.Model, target: str) -> None:
    with pytest.raises(UsageError, match=f"can't run {target}"):
        driver.compile_graphs(
            "m", model.graphs(), driver.host_target(target), replace(OPTIONS, tune=1.0)
        )


SCRIPT = """
from convc import keras
from convc.keras import layers
model = keras.Sequential([keras.Input((8, 8, 4)), layers.Conv2D(8, 3)], name="tiny")
"""


def test_the_command_tunes_and_says_what_it_gained(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    script, records = tmp_path / "model.py", tmp_path / "records.json"
    script.write_text(SCRIPT)
    arguments = ["compile", str(script), "-o", str(tmp_path / "m.cvc"), "--records", str(records)]
    assert cli.main([*arguments, "--tune", "1s", "--json"]) == 0
    tuning = json.loads(capfd.readouterr().out)["tuning"]
    assert tuning["timed"] + tuning["left"] >= 1
    assert tuning["kept"] in (True, False)
    assert cli.main([*arguments, "--tune", "0.5"]) == 0
    assert "tuning" in capfd.readouterr().out
    records.write_text("{")
    assert cli.main(arguments) != 0
    assert capfd.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--tune", "soon"], "expected a time like 20s"),
        (["--tune", "5s", "--target", "aarch64-neon"], "can't run aarch64-neon"),
        (["--tune", "5s", "--train"], "are for inference on a CPU"),
    ],
)
def test_the_command_refuses_in_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], extra: list[str], message: str
) -> None:
    script = tmp_path / "model.py"
    script.write_text(SCRIPT)
    assert cli.main(["compile", str(script), "-o", str(tmp_path / "m.cvc"), *extra]) != 0
    error = capfd.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_damaged_file_of_the_cache_is_told_once_and_ignored(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVC_CACHE_DIR", str(tmp_path / "cache"))
    path = tmp_path / "cache" / "tuning" / "records.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    script = tmp_path / "model.py"
    script.write_text(SCRIPT)
    assert cli.main(["compile", str(script), "-o", str(tmp_path / "m.cvc")]) == 0
    error = capfd.readouterr().err
    assert "ignored" in error
    assert error.count("\n") == 1


def test_choices_are_part_of_a_compilations_key(model: keras.Model) -> None:
    keys = {
        repr(replace(OPTIONS, selected=s))
        for s in (None, Selected((("k", Choice((6, 2))),)), Selected((("k", Choice((6, 1))),)))
    }
    assert len(keys) == 3
