"""The five commands on a small real model, from the script to numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from convc_runtime import load

from convc.cli import main
from convc.cli.compiled import memory_text
from tests.cli.test_main import outcome

SCRIPT = """
import keras
from tensorflow.keras import layers

small = keras.Sequential([
    keras.Input((8, 8, 3)),
    layers.Conv2D(16, 3, padding="same", activation="relu", name="edges"),
    layers.MaxPooling2D(name="pool"),
    layers.Flatten(),
    layers.Dense(5, name="scores"),
], name="small")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small.py and small.cvc."""
    path = tmp_path_factory.mktemp("small")
    (path / "small.py").write_text(SCRIPT)
    assert main(["compile", str(path / "small.py"), "-o", str(path / "small.cvc")]) == 0
    np.save(path / "x.npy", np.random.default_rng(0).random((3, 8, 8, 3), np.float32))
    return path


def printed(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Any:
    """What a command prints with --json."""
    code, out, err = outcome(capsys, *arguments, "--json")
    assert (code, err) == (0, [])
    return json.loads(out)


def test_compile_tells_what_became_of_each_layer(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    facts = printed(capsys, "compile", folder / "small.py", "-o", tmp_path / "a.cvc")
    layers = [layer for row in facts["entries"]["predict"] for layer in row["layers"]]
    assert [n for n in layers if n in ("edges", "pool", "scores")] == ["edges", "pool", "scores"]
    assert facts["files"] == [
        {"path": str(tmp_path / "a.cvc"), "bytes": (tmp_path / "a.cvc").stat().st_size}
    ]
    assert facts["flops"] >= 2 * (8 * 8 * 27 * 16 + 4 * 4 * 16 * 5)
    assert facts["arena_bytes_batch_1"] >= facts["live_bytes_batch_1"] > 0
    share = sum(s for name, s in facts["phases"].items() if name != "machine code")
    assert 0 < facts["python_seconds"] <= share + 0.05


def test_compile_for_size_reports_packed_beside_raw_weights(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    goal = ("--optimize", "size")
    facts = printed(capsys, "compile", folder / "small.py", "-o", tmp_path / "a.cvc", *goal)
    assert 0 < facts["weight_bytes"] <= 1.05 * facts["raw_weight_bytes"]
    code, _, err = outcome(capsys, "compile", folder / "small.py", "--optimize", "fast")
    assert (code, err) == (2, ["convc: optimize: expected one of speed, size, got 'fast'"])


def test_the_threads_of_a_file_are_those_it_was_compiled_for(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "three.cvc"
    assert (
        printed(capsys, "compile", folder / "small.py", "-o", path, "--threads", "3")["threads"]
        == 3
    )
    assert (load(path).threads, load(path, threads=2).threads) == (3, 2)
    assert "threads" not in load(folder / "small.cvc").description.extra
    code, _, err = outcome(capsys, "compile", folder / "small.py", "-o", "a.so", "--threads", "3")
    assert (code, err) == (2, ["convc: --threads: only a .cvc file keeps it, a.so can't"])


def test_compile_prints_a_table(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    code, out, err = outcome(capsys, "compile", folder / "small.py", "-o", tmp_path / "a.cvc")
    assert (code, err) == (0, [])
    for word in ("layers", "layout", "algorithm", "tile", "edges", "memory", "weights", "compiled"):
        assert word in out
    assert "(Python " in out


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("a.o", b"ELF"),
        ("a.s", b"vfmadd"),
        ("a.ll", b"define"),
        ("a.kernel", b"kernel "),
        ("a.cu", b"__global__"),
    ],
)
def test_other_results_are_written(folder: Path, tmp_path: Path, name: str, word: bytes) -> None:
    target = ["--target", "x86-64-avx2"]
    assert main(["compile", str(folder / "small.py"), "-o", str(tmp_path / name), *target]) == 0
    assert word in (tmp_path / name).read_bytes()


def test_emit_names_the_file_after_the_script(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compile", str(folder / "small.py") + ":small", "--emit", "llvm"]) == 0
    assert [p.name for p in tmp_path.iterdir()] == ["small.ll"]


def test_a_gpu_gets_source(
    capsys: pytest.CaptureFixture[str],
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    facts = printed(capsys, "compile", folder / "small.py", "--target", "cuda-sm90")
    assert facts["target"] == "cuda-sm90"
    assert "__global__" in (tmp_path / "small.cu").read_text()
    code, _, err = outcome(capsys, "bench", folder / "small.py", "--target", "cuda-sm90")
    assert code == 6
    assert "only compile --emit cuda" in err[0]


def test_dump_writes_every_stage_in_order(folder: Path, tmp_path: Path) -> None:
    dump = tmp_path / "dump"
    arguments = ["compile", str(folder / "small.py"), "-o", str(tmp_path / "a.cvc")]
    assert main([*arguments, "--dump", str(dump)]) == 0
    names = sorted(p.name for p in dump.iterdir())
    assert names[0] == "00-input.graph"
    assert names[-1].endswith(".ll")
    assert {Path(n).suffix for n in names} == {".graph", ".program", ".kernel", ".ll"}
    kernels = [n.partition("-")[2] for n in names if n.endswith(".kernel")]
    plain = [n for n in kernels if n.startswith("lowered-")]
    assert plain == [f"lowered-{n}" for n in kernels if n not in plain]
    assert kernels[: len(plain)] == plain
    assert "parallel" not in (dump / next(n for n in names if plain[0] in n)).read_text()


def test_a_fixed_batch_takes_that_batch_only(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "two.cvc"
    assert main(["compile", str(folder / "small.py"), "-o", str(path), "--batch", "2"]) == 0
    capsys.readouterr()
    code, _, err = outcome(capsys, "run", path, "-i", folder / "x.npy")
    assert code == 7
    assert "expected shape (2, 8, 8, 3)" in err[0]


def test_run_writes_what_the_model_returns(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    facts = printed(
        capsys, "run", folder / "small.cvc", "-i", folder / "x.npy", "-o", tmp_path / "y.npy"
    )
    y = np.load(tmp_path / "y.npy")
    np.testing.assert_array_equal(y, load(folder / "small.cvc")(np.load(folder / "x.npy")))
    (shown,) = facts["outputs"]
    assert shown["shape"] == [3, 5]
    assert (shown["min"], shown["max"]) == (float(y.min()), float(y.max()))


def test_run_refuses_what_does_not_fit(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    np.save(folder / "bad.npy", np.zeros((3, 8, 8, 1), np.float32))
    code, _, err = outcome(capsys, "run", folder / "small.cvc", "-i", folder / "bad.npy")
    assert (code, len(err)) == (7, 1)
    assert "got (3, 8, 8, 1)" in err[0]


def test_run_refuses_a_damaged_artifact(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    data = bytearray((folder / "small.cvc").read_bytes())
    data[-1] ^= 1
    (tmp_path / "bad.cvc").write_bytes(data)
    code, _, err = outcome(capsys, "run", tmp_path / "bad.cvc", "-i", folder / "x.npy")
    assert code == 3
    assert "altered" in err[0]


def test_bench_measures(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    facts = printed(
        capsys, "bench", folder / "small.cvc", "--batch", "2", "--threads", "1", "--seconds", "0.05"
    )
    assert (
        facts["min_ms"] <= facts["p50_ms"] <= facts["p90_ms"] <= facts["p99_ms"] <= facts["max_ms"]
    )
    assert 0 < facts["share_of_peak"] < 1.1
    assert facts["gflops"] == pytest.approx(facts["gflop"] / facts["p50_ms"] * 1e3)


def test_bench_takes_the_batch_that_a_model_was_compiled_for(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    fixed = tmp_path / "fixed.cvc"
    assert main(["compile", str(folder / "small.py"), "--batch", "4", "-o", str(fixed)]) == 0
    capsys.readouterr()
    facts = printed(capsys, "bench", fixed, "--seconds", "0.05")
    assert facts["batch"] == 4
    assert facts["images_per_second"] == pytest.approx(4e3 / facts["p50_ms"])
    code, _, err = outcome(capsys, "bench", fixed, "--batch", "7")
    assert (code, err) == (2, [f"convc: {fixed}: --batch: compiled for 4, got 7"])


def test_run_refuses_two_arrays_for_one_input(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    x = folder / "x.npy"
    code, _, err = outcome(capsys, "run", folder / "small.cvc", "-i", x, "-i", x)
    assert code == 2
    assert "a second array for input_layer" in err[0]


def test_profile_shares_out_the_time(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    facts = printed(capsys, "bench", folder / "small.py", "--seconds", "0.05", "--profile")
    assert sum(row["share"] for row in facts["kernels"]) == pytest.approx(1)
    assert any("edges" in row["layers"] for row in facts["kernels"])


def test_profile_needs_the_script(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    code, _, err = outcome(capsys, "bench", folder / "small.cvc", "--profile")
    assert code == 2
    assert "--profile needs the model script" in err[0]


def test_inspect_lists_and_prints_stages(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    stages = printed(capsys, "inspect", folder / "small.py")["stages"]
    assert stages[0] == stages[0] | {"kind": "graph"}
    code, out, _ = outcome(capsys, "inspect", folder / "small.py", "--stage", "lowered")
    assert code == 0
    assert out.startswith("program small {")
    code, out, _ = outcome(capsys, "inspect", folder / "small.py", "--stage", "lowered/")
    kernels = [line.split()[-1] for line in out.splitlines() if line.startswith("# --- kernel ")]
    assert len(kernels) == out.count("kernel predict_") > 1
    assert all(f"# --- kernel {name}\nkernel {name.partition('/')[2]}(" in out for name in kernels)
    code, _, err = outcome(capsys, "inspect", folder / "small.py", "--stage", "nonsense")
    assert code == 2
    assert "expected one of" in err[0]


def test_inspect_shows_the_memory_plan(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    facts = printed(capsys, "inspect", folder / "small.py", "--memory")
    kinds = {row["kind"] for row in facts["regions"]}
    assert kinds == {"input", "output", "weight", "arena"}
    for row in facts["regions"]:
        assert row["bytes"] == int(row["bytes"]) if row["kind"] == "weight" else "N" in row["bytes"]
        assert type(row["offset"]) is int or row["offset"] is None or row["kind"] == "arena"


def test_inspect_describes_an_artifact(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    facts = printed(capsys, "inspect", folder / "small.cvc")
    assert facts["name"] == "small"
    (entry,) = facts["entries"]
    (image,) = entry["inputs"]
    name = image["name"]  # numbered by how many models this process has made
    assert image == {"name": name, "dtype": "float32", "shape": ["N", 8, 8, 3]}
    assert name.startswith("input_layer")
    _, out, _ = outcome(capsys, "inspect", folder / "small.cvc")
    assert f"{name} float32[N, 8, 8, 3]" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["small.py", "-o", "y.txt"], "y.txt: expected a name that ends in .onnx"),
        (["small.cvc"], "small.cvc: a .cvc can't be exported: expected the model it was made of"),
    ],
)
def test_export_refuses_what_it_can_not_do(
    capsys: pytest.CaptureFixture[str],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(folder)
    assert outcome(capsys, "export", *arguments) == (2, "", [f"convc: {message}"])


def test_verify_passes_and_fails_by_its_tolerance(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    facts = printed(capsys, "verify", folder / "small.py")
    assert facts["passed"]
    assert all(row["error"] < 1e-5 for row in facts["layers"])
    assert {"edges"} <= {layer for row in facts["layers"] for layer in row["layers"]}
    code, out, err = outcome(capsys, "verify", folder / "small.py", "--tolerance", "1e-30")
    assert (code, err) == (1, [])
    assert "past the tolerance" in out


def test_verify_says_that_there_is_nothing_to_compare(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    script = "import keras\nx = keras.Input((3,))\nm = keras.Model(x, keras.ops.log(x * 0 - 1))\n"
    (tmp_path / "nan.py").write_text(script)
    code, out, err = outcome(capsys, "verify", tmp_path / "nan.py")
    assert (code, err) == (1, [])
    assert "outputs: not finite in float64 either (NaN or infinity): nothing to compare" in out
    code, out, _ = outcome(capsys, "verify", tmp_path / "nan.py", "--json")
    assert json.loads(out)["layers"][-1]["largest"] is None


def test_verify_finds_a_wrong_weight(
    capsys: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import convc.cli.stepping as stepping

    honest = stepping._bytes
    monkeypatch.setattr(stepping, "_bytes", lambda a: np.roll(honest(a), 4))
    code, out, _ = outcome(capsys, "verify", folder / "small.py", "--json")
    assert code == 1
    assert not json.loads(out)["passed"]


@pytest.mark.parametrize(
    ("arena", "text"),
    [
        (2000, "2.0 kB for a call (largest live set 1.0 kB)"),
        ("2000*N", "2.0 kB for one image (largest live set 1.0 kB); 2000*N bytes for a batch of N"),
        ("64*h*w + 64", "64*h*w + 64 bytes"),
    ],
)
def test_memory_is_told_for_what_is_free(arena: int | str, text: str) -> None:
    facts = {"arena_bytes": arena, "arena_bytes_batch_1": 2000, "live_bytes_batch_1": 1000}
    assert memory_text(facts) == text


OPEN_SIZES = """
from convc import keras
from convc.keras import layers
image = keras.Sequential(
    [keras.Input((None, None, 3), name="x"), layers.Conv2D(4, 3, name="c"), layers.GlobalAveragePooling2D()]
)
text = keras.Sequential([keras.Input((None,), name="t", dtype="int32"), layers.Embedding(9, 4), layers.LSTM(2)])
"""


def test_a_script_takes_the_sizes_that_it_leaves_open(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path, made = tmp_path / "open.py", tmp_path / "m.cvc"
    path.write_text(OPEN_SIZES)
    image, text = f"{path}:image", f"{path}:text"
    code, _, err = outcome(capsys, "compile", image)
    assert (code, len(err)) == (5, 1)
    assert "by --shape x=…" in err[0]
    for source, shape, wanted in (
        (image, "x=1,8,6,3", ("N", 8, 6, 3)),
        (image, "x=8,6,3", ("N", 8, 6, 3)),
        (text, "t=5", ("N", 5)),
    ):
        assert outcome(capsys, "compile", source, "--shape", shape, "-o", made)[0] == 0
        assert load(made).inputs[0].shape == wanted
    for command in ("verify", "inspect", "export"):
        more = ("-o", tmp_path / "m.onnx") if command == "export" else ()
        assert outcome(capsys, command, text, "--shape", "t=5", *more)[0] == 0
    assert outcome(capsys, "features", image, "--filters", "--shape", "x=8,8,3")[0] == 0


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("image", "y=8,8,3", "no input is called so: expected x"),
        ("image", "x=8,8,4", "expected one like (None, None, None, 3), got (8, 8, 4)"),
        ("image", "x=8", "expected one like (None, None, None, 3), got 8"),
        ("text", "t=2,3,4", "expected one like (None, None), got (2, 3, 4)"),
    ],
)
def test_shapes_that_a_script_cannot_have_are_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, shape: str, said: str
) -> None:
    (tmp_path / "open.py").write_text(OPEN_SIZES)
    code, _, err = outcome(capsys, "compile", f"{tmp_path / 'open.py'}:{name}", "--shape", shape)
    assert (code, len(err)) == (2, 1)
    assert said in err[0]
