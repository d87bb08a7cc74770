"""Files that appear whole: written beside their place, brought to the disk, then renamed.

A reader finds the older file or the complete new one, whatever happens in between: an error, a full disk, a process
that is killed, a machine that stops. What a killed process leaves is named `.NAME.…part` and read by nobody.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from convc_runtime.errors import WriteError

PRIVATE = 0o600
"""Permissions of files that are nobody else's."""
PUBLIC = 0o666
"""Permissions of all other new files, of which the umask takes its part away."""


@contextlib.contextmanager
def appearing(
    path: str | os.PathLike[str], durable: bool = True, mode: int = PUBLIC
) -> Iterator[Path]:
    """An empty file beside the path, with its suffix, that takes its place at the end of the block.

    A file that is replaced keeps its permissions; a new one gets `mode` without the umask's bits. A link stays, and
    what it leads to is replaced. Without `durable` nothing waits for the disk: for files whose readers check them.
    WriteError for any OSError of the system on the way, and where the path is something else than a file.
    """
    try:
        place = Path(os.path.realpath(path))
        scratch = beside(place)
        older = _mode_of(place, os.fspath(path))
        os.close(
            os.open(
                scratch, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode if older is None else PRIVATE
            )
        )
        try:
            yield scratch
            settle(scratch, place, durable, older)
        finally:
            scratch.unlink(missing_ok=True)
    except OSError as error:
        if error.errno is None:
            raise  # of whoever writes, not of the system
        raise WriteError(f"can't write {os.fspath(path)}: {error.strerror or error}") from None


def write_atomically(
    path: str | os.PathLike[str],
    parts: Sequence[tuple[int, Any]],
    durable: bool = True,
    mode: int = PUBLIC,
) -> None:
    """Writes (offset, bytes) parts, in order, zeros between, to a file that appears when it is complete."""
    with appearing(path, durable, mode) as scratch, scratch.open("wb") as file:
        for offset, data in parts:
            file.write(bytes(offset - file.tell()))
            file.write(data)


def write_whole(
    path: str | os.PathLike[str], data: bytes, durable: bool = True, mode: int = PUBLIC
) -> None:
    """Writes a file that appears when it is complete."""
    write_atomically(path, [(0, data)], durable, mode)


def settle(scratch: Path, path: Path, durable: bool = True, mode: int | None = None) -> None:
    """Renames a file once its bytes are on the disk, with those permissions, and brings its name there too."""
    if durable:
        _synchronize(scratch, os.O_RDWR)
    if mode is not None:
        scratch.chmod(mode)
    scratch.replace(path)
    if durable:
        with contextlib.suppress(OSError):  # not every file system does it for folders
            _synchronize(path.parent, os.O_RDONLY)


def beside(path: Path) -> Path:
    """A name for a file on its way, in the same folder and with the same suffix."""
    return path.with_name(f".{path.stem}.{os.getpid()}-{os.urandom(4).hex()}.part{path.suffix}")


def _mode_of(place: Path, title: str) -> int | None:
    """The permissions of the file that is there; None if there is none, WriteError for what isn't one."""
    try:
        mode = place.stat().st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "no regular file"
        raise WriteError(f"can't write {title}: it is {kind}")
    return stat.S_IMODE(mode)


def _synchronize(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
