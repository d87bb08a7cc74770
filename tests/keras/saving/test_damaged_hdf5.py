"""Damaged HDF5 files: one line that names the file, whatever libhdf5 does with them, and this process lives on."""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from convc.errors import InputFileError
from convc.keras.engine import hdf5, hdf5_worker
from convc.keras.engine.hdf5 import Hdf5, opened

h5py = pytest.importorskip("h5py")
VARIANTS = 16


def read_all(file: Hdf5, group: str = "") -> int:
    """Reads all arrays and the attributes that loading reads; how many arrays there were."""
    for name in ("layer_names", "weight_names", "model_config", "training_config"):
        file.attribute(group, name)
    count = 0
    for name in file.names(group):
        path = f"{group}/{name}" if group else name
        if file.shape(path) is not None:
            file.array(path)
            count += 1
        elif path.count("/") < 8:
            count += read_all(file, path)
    return count


def a_file() -> bytes:
    with zipfile.ZipFile(Path(__file__).with_name("keras2.zip")) as archive:
        name = min(n for n in archive.namelist() if n.endswith(".h5"))
        return archive.read(name)


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Bits flipped, bytes replaced, words zeroed or the end lost."""
    changed = bytearray(content)
    kind = rng.choice(("flip", "replace", "zero", "cut"))
    for _ in range(rng.choice((1, 5, 40, 400))):
        place = rng.randrange(len(changed) - 8)
        match kind:
            case "flip":
                changed[place] ^= 1 << rng.randrange(8)
            case "replace":
                changed[place] = rng.randrange(256)
            case "zero":
                changed[place : place + 8] = bytes(8)
    return bytes(changed[: rng.randrange(len(changed))] if kind == "cut" else changed)


def test_damaged_files_neither_hang_nor_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5, "CPU_SECONDS", 2)
    content, rng = a_file(), random.Random(11)
    with opened(io.BytesIO(content), "whole.h5") as file:
        assert read_all(file) > 0
    messages = [message_of(damaged(content, rng)) for _ in range(VARIANTS)]
    refused = [m for m in messages if m]
    assert len(refused) >= VARIANTS // 4
    assert all(m.startswith("bad.h5") and "\n" not in m for m in refused)


def message_of(content: bytes) -> str:
    """The error of reading everything; empty where nothing is wrong with what is read."""
    try:
        with opened(io.BytesIO(content), "bad.h5") as file:
            read_all(file)
    except InputFileError as error:
        return str(error)
    return ""


def script(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads with another process in place of the usual one."""
    path = tmp_path / "worker.py"
    path.write_text(text)
    monkeypatch.setattr(hdf5_worker, "__file__", str(path))


def test_a_library_that_never_returns_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = hdf5_worker.__file__
    hang = (
        "import runpy, h5py\ndef hang(*_):\n    while True: pass\n"
        f"h5py.File = hang\nrunpy.run_path({worker!r}, run_name='__main__')"
    )
    script(hang, tmp_path, monkeypatch)
    monkeypatch.setattr(hdf5, "CPU_SECONDS", 1)
    with (
        pytest.raises(
            InputFileError, match=r"^bad\.h5: the HDF5 library does not finish reading it: damaged"
        ),
        opened(io.BytesIO(a_file()), "bad.h5"),
    ):
        pass


def test_a_library_that_crashes_takes_nobody_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(f"import os\nos.kill(os.getpid(), {int(signal.SIGSEGV)})", tmp_path, monkeypatch)
    with (
        pytest.raises(InputFileError, match=r"crashes reading it \(SIGSEGV\)"),
        opened(io.BytesIO(bytes(1 << 20)), "bad.h5"),
    ):
        pass


def test_arrays_come_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "arrays.h5"
    rng = np.random.default_rng(3)
    arrays = {
        "floats": rng.normal(size=(3, 4)).astype(np.float32),
        "big": rng.normal(size=5).astype(">f8"),
        "packed": np.arange(1000, dtype=np.int64).reshape(10, 100),
        "flags": np.array([True, False]),
        "one": np.float16(1.5),
        "none": np.zeros((0, 3), np.float32),
    }
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            options = {"compression": "gzip"} if name == "packed" else {}
            file.create_dataset(f"group/{name}", data=array, **options)
    with opened(path, "arrays.h5") as read:
        assert sorted(read.names("group")) == sorted(arrays)
        for name, array in arrays.items():
            found = read.array(f"group/{name}")
            np.testing.assert_array_equal(found, array)
            assert found.dtype == np.asarray(array).dtype.newbyteorder("=")
            assert found.flags.writeable


def test_no_process_stays_behind() -> None:
    """Even where reading stops in the middle."""
    with opened(io.BytesIO(a_file()), "a.h5") as file, suppress(InputFileError):
        process = file._process
        file.array("nowhere")
    assert process.poll() is not None


def test_the_reading_process_ends_with_its_parent() -> None:
    code = (
        "import io, os, sys\nfrom convc.keras.engine.hdf5 import opened\n"
        "with opened(io.BytesIO(sys.stdin.buffer.read()), 'a') as f:\n"
        "    print(f._process.pid, flush=True)\n    os.kill(os.getpid(), 9)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, input=a_file(), capture_output=True, timeout=60)
    child = int(done.stdout)
    for _ in range(100):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        if state_of(child) == "Z":
            return
        time.sleep(0.05)
    raise AssertionError("it still runs")


def state_of(process: int) -> str:
    """The letter that Linux gives a process's state; empty elsewhere."""
    path = Path(f"/proc/{process}/stat")
    return path.read_text().rpartition(")")[2].split()[0] if path.exists() else ""
