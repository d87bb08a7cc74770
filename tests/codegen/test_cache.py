"""Entries of the object cache are whole or absent, whoever writes, dies or meddles."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from convc.codegen import cache as module
from convc.codegen.cache import Cache, default_folder, key_of

KEY = key_of("kernel", "target")
BODY = bytes(range(256)) * 400


def test_an_object_comes_back_in_another_process_as_it_was(tmp_path: Path) -> None:
    Cache(tmp_path / "c").put(KEY, BODY)
    again = Cache(tmp_path / "c")
    assert again.get(KEY) == BODY
    assert again.get(key_of("another")) is None
    assert (again.hits, again.misses) == (1, 1)


def test_keys_tell_apart_where_one_text_ends() -> None:
    assert key_of("ab", "c") != key_of("a", "bc")


@pytest.mark.parametrize("keep", [0, 10, 40, len(BODY)])
def test_a_truncated_entry_is_ignored_and_written_again(tmp_path: Path, keep: int) -> None:
    cache = Cache(tmp_path)
    cache.put(KEY, BODY)
    path = tmp_path / KEY
    path.write_bytes(path.read_bytes()[:keep])
    assert cache.get(KEY) is None
    cache.put(KEY, BODY)
    assert cache.get(KEY) == BODY


@pytest.mark.parametrize("position", [0, 20, 47, 60, -1])
def test_an_altered_entry_is_ignored(tmp_path: Path, position: int) -> None:
    cache = Cache(tmp_path)
    cache.put(KEY, BODY)
    path = tmp_path / KEY
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
    assert cache.get(KEY) is None


def test_an_entry_under_another_key_is_ignored(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put(KEY, BODY)
    (tmp_path / KEY).rename(tmp_path / key_of("another"))
    assert cache.get(key_of("another")) is None


def test_what_another_user_owns_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = Cache(tmp_path)
    ours.put(KEY, BODY)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert ours.get(KEY) is None
    assert Cache(tmp_path).folder is None


def test_the_folder_is_the_users_alone(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    Cache(folder).put(KEY, BODY)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / KEY).stat().st_mode & 0o077 == 0


def test_a_folder_that_cannot_be_made_is_an_empty_cache(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = Cache(tmp_path / "file" / "cache")
    cache.put(KEY, BODY)
    assert cache.get(KEY) is None


def test_a_full_disk_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    Cache(tmp_path).put(KEY, BODY)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_variable_means_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVC_CACHE_DIR", "")
    assert default_folder() is None
    cache = Cache(default_folder())
    cache.put(KEY, BODY)
    assert cache.get(KEY) is None


WRITER = """
import sys
from pathlib import Path
from convc.codegen.cache import Cache, key_of
print("ready", flush=True)
cache, bodies = Cache(Path(sys.argv[1])), [bytes([n]) * 50_000 for n in range(20)]
for turn in range(int(sys.argv[2])):
    for n, body in enumerate(bodies):
        cache.put(key_of(str(n)), body)
        assert cache.get(key_of(str(n))) in (body, None), n
"""


def writer(folder: Path, turns: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), str(turns)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
    )


def assert_whole(folder: Path, least: int) -> None:
    cache = Cache(folder)
    found = [cache.get(key_of(str(n))) for n in range(20)]
    assert all(body in (None, bytes([n]) * 50_000) for n, body in enumerate(found))
    entries = [p for p in folder.iterdir() if not p.name.startswith(".")]
    assert len(entries) == sum(body is not None for body in found) >= least


def test_writers_at_once_leave_whole_entries(tmp_path: Path) -> None:
    writers = [writer(tmp_path, 10) for _ in range(3)]
    for process in writers:
        process.communicate()
        assert process.returncode == 0
    assert_whole(tmp_path, 20)


def test_a_writer_killed_at_any_moment_does_no_damage(tmp_path: Path) -> None:
    for n in range(6):
        process = writer(tmp_path, 10_000)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.011 * n)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert_whole(tmp_path, 0)
    assert writer(tmp_path, 1).wait() == 0
    assert_whole(tmp_path, 20)


def test_entries_unused_for_longest_go_when_there_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Cache(tmp_path)
    for n in range(10):
        first.put(str(n), BODY)
        os.utime(tmp_path / str(n), (0, 1_000_000 + n))
    assert first.get("0") == BODY  # used again: now the youngest
    monkeypatch.setattr(module, "LIMIT", 5 * (len(BODY) + 100))
    Cache(tmp_path).put("new", BODY)
    assert {p.name for p in tmp_path.iterdir()} == {"0", "7", "8", "9", "new"}


def test_what_a_killed_process_left_is_dropped_after_a_while(tmp_path: Path) -> None:
    old, young = tmp_path / ".old.1-2.part", tmp_path / ".young.3-4.part"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (0, time.time() - 7200))
    Cache(tmp_path).put(KEY, BODY)
    assert not old.exists()
    assert young.exists()


IMPORTED = """
import sys
import convc.codegen.llvm
print(*(m.__file__ for name, m in sys.modules.items() if name.startswith("convc.")), sep="\\n")
"""


def test_objects_of_other_sources_are_other_objects() -> None:
    """All that is imported to write a kernel's code is part of its key, but what only says what is wrong."""
    done = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, text=True)
    imported = {Path(line) for line in done.stdout.split()}
    others = imported - set(module.generator_sources())
    assert {path.stem for path in others} <= {"errors"}
    assert len(imported) > 20
