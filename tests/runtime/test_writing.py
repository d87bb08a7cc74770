"""Files appear whole or not at all: after errors, kills and full disks, with the right permissions."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from convc_runtime import WriteError
from convc_runtime.writing import PRIVATE, appearing, write_atomically, write_whole

HALF = """
import sys, time
from convc_runtime.writing import appearing
with appearing(sys.argv[1]) as scratch, scratch.open("wb") as file:
    file.write(b"n" * 100_000)
    file.flush()
    print("half", flush=True)
    time.sleep(60)
"""
FULL = """
import resource, sys
from pathlib import Path
from convc_runtime import WriteError
from convc_runtime.writing import write_whole
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_whole(sys.argv[1], b"n" * 100_000)
except WriteError as error:
    print(error)
"""


@pytest.fixture(autouse=True)
def umask() -> object:
    before = os.umask(0o027)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_parts_lie_at_their_offsets(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write_atomically(path, [(0, b"ab"), (5, memoryview(b"cd"))])
    assert path.read_bytes() == b"ab\0\0\0cd"
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["a.bin"]


def test_a_new_file_has_the_umask_s_permissions_and_a_replaced_one_its_own(tmp_path: Path) -> None:
    path, secret = tmp_path / "a", tmp_path / "b"
    write_whole(path, b"1")
    assert mode(path) == 0o640
    write_whole(secret, b"1", durable=False, mode=PRIVATE)
    assert mode(secret) == 0o600
    write_whole(secret, b"2")
    assert mode(secret) == 0o600
    path.chmod(0o755)
    write_whole(path, b"2")
    assert (mode(path), path.read_bytes()) == (0o755, b"2")


def test_it_is_never_readable_by_more_than_it_will_be(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    for older in (0o600, 0o444):
        path.touch()
        path.chmod(older)
        with appearing(path) as scratch:
            assert (mode(scratch), scratch.suffix) == (0o600, ".h5")
            assert path.read_bytes() == b""
        assert mode(path) == older


def test_an_error_leaves_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"older")

    def write() -> None:
        with appearing(path) as scratch:
            scratch.write_bytes(b"half")
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - it is the test's own
        write()
    assert (names(tmp_path), path.read_bytes()) == (["a"], b"older")


def test_a_killed_process_leaves_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"older")
    with subprocess.Popen(
        [sys.executable, "-c", HALF, str(path)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half\n"
        process.send_signal(signal.SIGKILL)
    assert path.read_bytes() == b"older"
    (left,) = (n for n in names(tmp_path) if n != "a.bin")
    assert left.startswith(".a.")
    assert left.endswith(".part.bin")


def test_a_full_disk_leaves_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"older")
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"can't write {path}: File too large\n"
    assert (names(tmp_path), path.read_bytes()) == (["a"], b"older")


def test_a_link_stays_and_leads_to_the_new_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("real")
    for text in (b"1", b"2"):
        write_whole(tmp_path / "link", text)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "real").read_bytes() == text


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, reason in (
        (tmp_path / "none" / "a", "No such file or directory"),
        (tmp_path, "it is a folder"),
        (tmp_path / "pipe", "it is no regular file"),
        (Path("/dev/null"), "it is no regular file"),
    ):
        with pytest.raises(WriteError, match=f"can't write {path}: {reason}"):
            write_whole(path, b"x")
    assert names(tmp_path) == ["pipe"]
