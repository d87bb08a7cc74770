"""Archives, unpacked where they can do no harm: plain files and folders only, all inside the folder."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from convc.errors import InputFileError

MOST_BYTES = 64 << 30
MOST_FILES = 1 << 21
"""Of one archive: what is past these is taken for a bomb."""


def extract_archive(
    path: Path, folder: Path, archive_format: str | None = "auto", most_bytes: int = MOST_BYTES
) -> None:
    """Unpacks a tar (plain, gz, bz2, xz) or zip file to a folder that replaces what was there, all or nothing.

    InputFileError for what is no archive, is damaged or too large, and for any member that is a link or a device or
    that lies outside the folder.
    """
    formats = ("tar", "zip") if archive_format == "auto" else (archive_format,)
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        members = _opened(path, formats)
        _write(path, members, new, most_bytes)
        os.chmod(new, 0o755)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(new, folder)
    except (
        tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError,
        ValueError,
    ) as error:  # fmt: skip
        raise InputFileError(f"{path}: can't unpack: {error}") from None
    finally:
        shutil.rmtree(new, ignore_errors=True)


Member = tuple[str, bool, IO[bytes] | None]
"""A name, whether it is a folder, and a file's contents."""


def _opened(path: Path, formats: tuple[str | None, ...]) -> Iterator[Member]:
    if "zip" in formats and zipfile.is_zipfile(path):
        return _zip_members(path)
    if "tar" in formats and tarfile.is_tarfile(path):
        return _tar_members(path)
    raise InputFileError(f"{path}: expected a tar or zip archive")


def _tar_members(path: Path) -> Iterator[Member]:
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isdir():
                yield member.name, True, None
            elif member.isreg() and not member.issparse():
                yield member.name, False, archive.extractfile(member)
            else:
                raise InputFileError(f"{path}: {member.name!r} is no plain file or folder")


def _zip_members(path: Path) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.is_dir():
                yield info.filename, True, None
            else:
                with archive.open(info) as file:
                    yield info.filename, False, file


def _write(path: Path, members: Iterator[Member], folder: Path, most_bytes: int) -> None:
    left = most_bytes
    for count, (name, is_folder, file) in enumerate(members):
        if count >= MOST_FILES:
            raise InputFileError(f"{path}: more than {MOST_FILES} members")
        target = folder / inside(path, name)
        if is_folder:
            target.mkdir(parents=True, exist_ok=True)
            continue
        assert file is not None
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as out:
            while chunk := file.read(1 << 20):
                left -= len(chunk)
                if left < 0:
                    raise InputFileError(f"{path}: unpacks to more than {most_bytes} bytes")
                out.write(chunk)


def inside(path: Path, name: str) -> PurePosixPath:
    """A member's name as a path below the folder; InputFileError where it would lead out of it."""
    relative = PurePosixPath(name.replace("\\", "/"))
    if relative.is_absolute() or ".." in relative.parts or "\0" in name:
        raise InputFileError(f"{path}: {name!r} leads out of the folder")
    return relative
