"""A `.cvc` file is whole, ours and for this machine, or it is refused before any of its code runs."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import convc_runtime
import numpy as np
import pytest
from convc_runtime import format as formats
from convc_runtime.format import fingerprint, read_contents, write_artifact

from convc.artifact import Artifact
from convc.codegen.llvmc import host_cpu
from convc.codegen.support import _CPUID
from convc.errors import OutputError, UsageError
from convc.target import TARGETS
from tests.handwritten import expected, scale_model


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    return scale_model()


@pytest.fixture
def path(artifact: Artifact, tmp_path: Path) -> Path:
    artifact.save(tmp_path / "scale.cvc")
    return tmp_path / "scale.cvc"


def test_a_saved_model_computes_what_the_one_in_memory_does(artifact: Artifact, path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    np.testing.assert_array_equal(convc_runtime.load(path)(x), expected(x))
    np.testing.assert_array_equal(artifact.model()(x), expected(x))


def test_the_same_model_gives_the_same_bytes(artifact: Artifact, path: Path) -> None:
    first = path.read_bytes()
    artifact.save(path)
    assert path.read_bytes() == first


def test_code_and_weights_lie_on_pages(path: Path) -> None:
    with path.open("rb") as file:
        contents = read_contents(file, "x")
    assert contents.code.offset % 4096 == contents.weights.offset % 4096 == 0
    assert path.read_bytes()[contents.weights.offset :] == np.full(8, 2, np.float32).tobytes()


def test_a_truncated_file_is_refused_at_any_length(path: Path) -> None:
    data = path.read_bytes()
    for size in (1, 7, 8, 20, 63, 64, 500, 4096, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(convc_runtime.ArtifactError, match=r"truncated|not a \.cvc"):
            convc_runtime.load(path)


def test_an_empty_file_and_a_longer_one_are_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(convc_runtime.ArtifactError, match="altered: "):
        convc_runtime.load(path)
    path.write_bytes(b"")
    with pytest.raises(convc_runtime.ArtifactError, match=r"not a \.cvc"):
        convc_runtime.load(path)


def test_any_altered_byte_is_refused(path: Path) -> None:
    data = path.read_bytes()
    with path.open("rb") as file:
        contents = read_contents(file, "x")
    places = {
        "header": (16, 24, 32, 64, 200),
        "code": (contents.code.offset, contents.code.offset + contents.code.size - 1),
        "weights": (contents.weights.offset, len(data) - 1),
    }
    for part, offsets in places.items():
        for offset in offsets:
            altered = bytearray(data)
            altered[offset] ^= 1
            path.write_bytes(altered)
            with pytest.raises(
                convc_runtime.ArtifactError, match=f"altered: the {part}|truncated|altered: "
            ):
                convc_runtime.load(path)


def test_unchecked_weights_are_what_was_asked_for(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    convc_runtime.load(path, check_weights=False)


def test_another_format_version_is_named(path: Path) -> None:
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, 8, 2)
    path.write_bytes(data)
    with pytest.raises(convc_runtime.VersionError, match="version 2, this runtime reads version 1"):
        convc_runtime.load(path)


def test_a_file_of_another_version_says_what_to_do(artifact: Artifact, path: Path) -> None:
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, 8, 0)
    path.write_bytes(data)
    with pytest.raises(convc_runtime.VersionError, match=r"compile the model again$"):
        convc_runtime.load(path)
    symbols = {n: o for n, o in artifact.image.symbols.items() if not n.endswith("_invoke")}
    write_artifact(path, artifact.description, artifact.image.code, symbols, artifact.weights)
    with pytest.raises(
        convc_runtime.ArtifactError, match=r"no function .*_invoke.*compile it again"
    ):
        convc_runtime.load(path)


def test_a_header_without_a_part_is_another_versions(
    artifact: Artifact, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "to_json", lambda description: {"name": description.name})
    write_artifact(path, artifact.description, artifact.image.code, {}, artifact.weights)
    with pytest.raises(convc_runtime.ArtifactError, match=r"another version's .*'identifier'"):
        convc_runtime.load(path)


def test_another_machine_is_named(artifact: Artifact, path: Path) -> None:
    description = replace(artifact.description, machine="riscv64")
    write_artifact(path, description, artifact.image.code, artifact.image.symbols, artifact.weights)
    with pytest.raises(convc_runtime.CpuError, match="made for riscv64, this machine is"):
        convc_runtime.load(path)


def test_missing_cpu_features_are_named(tmp_path: Path) -> None:
    missing = sorted(set(_CPUID) - host_cpu()[1])
    if not missing:
        pytest.skip("this CPU has every feature that the check knows")
    target = replace(TARGETS["x86-64-v2"], features=("sse3", missing[0], missing[-1]))
    scale_model(target=target).save(tmp_path / "x.cvc")
    names = ", ".join(dict.fromkeys((missing[0], missing[-1])))
    with pytest.raises(convc_runtime.CpuError, match=f"this CPU lacks {names}$"):
        convc_runtime.load(tmp_path / "x.cvc")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, "can't read .*: No such file"),
        (lambda p: p.mkdir(), "can't read .*: Is a directory"),
        (lambda p: p.write_bytes(b"PK\3\4 a zip file" * 100), "not a .cvc artifact"),
    ],
)
def test_what_is_no_artifact_is_refused(
    make: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    make(tmp_path / "x.cvc")
    with pytest.raises(convc_runtime.ArtifactError, match=message):
        convc_runtime.load(tmp_path / "x.cvc")


_FULL = """
import resource, sys
sys.path[:0] = sys.argv[2:]
from tests.handwritten import scale_model
artifact = scale_model()
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
try:
    artifact.save(sys.argv[1])
except Exception as error:
    print(type(error).__name__, error)
"""


def test_a_full_disk_leaves_the_old_file_and_nothing_else(path: Path) -> None:
    before = path.read_bytes()
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-c", _FULL, path, root, root / "runtime"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert run.stdout.startswith(f"OutputError can't write {path}: File too large")
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_a_folder_that_is_missing_is_named(artifact: Artifact, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"can't write .*nowhere/x\.cvc: No such file"):
        artifact.save(tmp_path / "nowhere" / "x.cvc")


def test_an_unknown_suffix_is_refused(artifact: Artifact, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"can't save as '\.dll': expected \.cvc, \.so or \.o"):
        artifact.save(tmp_path / "x.dll")


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 200_000])
def test_the_fingerprint_sees_every_byte_and_the_length(size: int) -> None:
    data = np.random.default_rng(size).integers(0, 256, size, np.uint8)
    whole = fingerprint(data)
    assert fingerprint(np.append(data, np.uint8(0))) != whole
    for place in {0, size // 2, size - 1} if size else ():
        other = data.copy()
        other[place] ^= 0x80
        assert fingerprint(other) != whole
