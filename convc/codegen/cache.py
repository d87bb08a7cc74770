"""Compiled objects kept between runs: one file per object, named by the hash of all that it was made from.

Objects are native code, trusted like a shared library: the folder is the user's alone (0700), an entry of another owner
or one whose name and content don't match its hash is ignored, and an entry appears whole or not at all, so that any
number of processes may write at once and be killed at any moment. What was not used for longest goes first when the
entries outgrow `LIMIT`.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import time
from pathlib import Path

_MAGIC = b"convc-object-2\n"
_DIGEST = hashlib.sha256().digest_size
_UNFINISHED = "."
"""What the names of files on their way begin with, which no key does."""

LIMIT = 1 << 30
"""Bytes that the entries may have together. A process looks at that once, before it writes its first one."""

_STALE = 3600.0
"""Seconds after which an entry's time is set again when it is used, and an unfinished file is nobody's any more."""


def default_folder() -> Path | None:
    """`CONVC_CACHE_DIR`, or the user's cache folder; None if `CONVC_CACHE_DIR` is empty (no cache)."""
    chosen = os.environ.get("CONVC_CACHE_DIR")
    if chosen is not None:
        return Path(chosen) if chosen else None
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "convc"


@functools.cache
def generator_fingerprint() -> str:
    """A hash of the sources of the generators and of what they take apart: other ones might make other code."""
    digest = hashlib.sha256()
    for source in generator_sources():
        digest.update(source.read_bytes())
    return digest.hexdigest()


def generator_sources() -> list[Path]:
    """The files that decide what code a scheduled kernel or a planned program becomes."""
    root = Path(__file__).parents[1]
    folders = (root / name for name in ("codegen", "loops", "program"))
    inside = (s for folder in folders for s in folder.iterdir() if s.suffix in (".py", ".ll"))
    return sorted(
        [*inside, *(root / f"{name}.py" for name in ("frozen", "text", "types", "target"))]
    )


def key_of(*parts: str) -> str:
    """The name of an entry made from these texts."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


class Cache:
    """Objects in a folder. A folder that can't be used is as good as an empty one: nothing here raises."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder if folder is not None and _prepared(folder) else None
        self.hits = 0
        self.misses = 0
        self._bounded = False

    def is_empty(self) -> bool:
        """Whether nothing can be in it: there is no object, or no folder."""
        if self.folder is None:
            return True
        try:
            with os.scandir(self.folder) as entries:
                return next(entries, None) is None
        except OSError:
            return False

    def get(self, key: str) -> bytes | None:
        """The object of a key, if there is a whole one of ours."""
        data = self._read(key)
        if data is None:
            self.misses += 1
        else:
            self.hits += 1
        return data

    def _read(self, key: str) -> bytes | None:
        if self.folder is None:
            return None
        try:
            with open(self.folder / key, "rb") as file:
                status = os.fstat(file.fileno())
                if status.st_uid != os.geteuid():
                    return None
                data = file.read()
                if time.time() - status.st_mtime > _STALE:
                    os.utime(file.fileno())
        except OSError:
            return None
        start = len(_MAGIC) + _DIGEST
        body = data[start:]
        return body if data[:start] == _head(key, body) else None

    def put(self, key: str, body: bytes) -> None:
        """Keeps an object. The file gets its name once it is whole."""
        if self.folder is None:
            return
        if not self._bounded:
            self._bounded = True
            _evict(self.folder)
        with contextlib.suppress(OSError):
            _write(self.folder, key, _head(key, body) + body)


def _write(folder: Path, name: str, data: bytes) -> None:
    """Writes a file of this user's alone that appears when it is complete. Nobody waits for the disk."""
    scratch = os.path.join(folder, f"{_UNFINISHED}{name}.{os.getpid()}")
    with open(os.open(scratch, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        try:
            file.write(data)
            file.flush()
            os.replace(scratch, os.path.join(folder, name))
        except OSError:
            os.unlink(scratch)
            raise


def _head(key: str, body: bytes) -> bytes:
    """What an entry begins with: nothing but this key and this body have it."""
    return _MAGIC + hashlib.sha256(key.encode() + b"\n" + body).digest()


def _evict(folder: Path) -> None:
    """Brings the entries to four fifths of the limit if they are over it, and drops what a killed process left."""
    found: list[tuple[float, int, str]] = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # another process may be quicker
                status = entry.stat(follow_symlinks=False)
                if not entry.name.startswith(_UNFINISHED):
                    found.append((status.st_mtime, status.st_size, entry.path))
                elif time.time() - status.st_mtime > _STALE:
                    os.unlink(entry.path)
    total = sum(size for _, size, _ in found)
    if total <= LIMIT:
        return
    for _, size, path in sorted(found):
        with contextlib.suppress(OSError):
            os.unlink(path)
        total -= size
        if total <= LIMIT // 5 * 4:
            return


def _prepared(folder: Path) -> bool:
    """Makes the folder; False if it isn't a folder of this user's alone."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
        if status.st_uid != os.geteuid():
            return False
        if status.st_mode & 0o077:
            folder.chmod(0o700)
    except OSError:
        return False
    return True
