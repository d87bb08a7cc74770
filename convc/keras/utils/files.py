"""Files from the network, kept in Keras' cache folder: checksummed, and never there by half."""

from __future__ import annotations

import hashlib
import os
import urllib.parse
from pathlib import Path
from typing import IO, Any

from convc_runtime import WriteError
from convc_runtime.writing import appearing

from convc.errors import InputFileError, OutputError, UsageError
from convc.keras.utils.archives import extract_archive

CHUNK = 1 << 20
TIMEOUT = 60.0
"""Seconds without a byte after which a download is given up."""


def cache_folder() -> Path:
    """Keras' own: the environment's KERAS_HOME, else ~/.keras."""
    return Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser()


def get_file(
    fname: str | None = None,
    origin: str | None = None,
    untar: bool = False,
    md5_hash: str | None = None,
    file_hash: str | None = None,
    cache_subdir: str = "datasets",
    hash_algorithm: str = "auto",
    extract: bool = False,
    archive_format: str | None = "auto",
    cache_dir: str | os.PathLike[str] | None = None,
    force_download: bool = False,
) -> str:
    """The path of a file, downloaded to `cache_dir/cache_subdir/fname` if it isn't there.

    With `extract` (or `untar`), the path of the folder with the archive's contents: `NAME` for an archive kept as
    `NAME_archive`, or `NAME_extracted` for `NAME.ext`. A file with another checksum than `file_hash` (SHA-256 or MD5
    in hexadecimal digits) is downloaded again. InputFileError says what to put where if that fails.
    """
    if origin is None:
        raise UsageError("get_file: origin must be the file's URL; received None")
    if md5_hash is not None and file_hash is None:
        file_hash, hash_algorithm = md5_hash, "md5"
    name = fname or Path(urllib.parse.urlsplit(origin).path).name
    if not name or name in (".", "..") or os.sep in name:
        raise UsageError(f"get_file: fname must be a file's name, not a path; received {name!r}")
    base = cache_folder() if cache_dir is None else Path(cache_dir).expanduser()
    folder = base / cache_subdir
    unpack = extract or untar
    if not unpack:
        target, contents = folder / name, folder
    elif fname and "." in name:
        target, contents = folder / name, folder / f"{name[: name.find('.')]}_extracted"
    else:
        target, contents = folder / f"{name}_archive", folder / name
    fetched = force_download or not is_intact(target, file_hash, hash_algorithm)
    if fetched:
        download(origin, target, file_hash, hash_algorithm)
    if not unpack:
        return str(target)
    if fetched or not contents.is_dir():
        extract_archive(target, contents, "tar" if untar else archive_format)
    return str(contents)


def is_intact(path: Path, file_hash: str | None, algorithm: str = "auto") -> bool:
    """True for a file that is there and has the checksum, if one is known."""
    return path.is_file() and (
        file_hash is None or checksum(path, _algorithm(file_hash, algorithm)) == file_hash.lower()
    )


def checksum(path: Path, algorithm: str) -> str:
    """A file's hexadecimal digest by "sha256" or "md5"."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _algorithm(file_hash: str, algorithm: str) -> str:
    known = {64: "sha256", 32: "md5"}
    found = known.get(len(file_hash), "") if algorithm == "auto" else algorithm
    if found not in known.values():
        raise UsageError(
            f"get_file: expected a checksum by sha256 or md5; received {file_hash!r} by {algorithm!r}"
        )
    return found


def download(url: str, target: Path, file_hash: str | None, algorithm: str = "auto") -> None:
    """Fetches a URL to a temporary file beside the target, which it becomes once whole and checked."""
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise UsageError(f"get_file: origin must be an http or https URL; received {url!r}")
    print(f"Downloading data from {url}", flush=True)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with appearing(target) as scratch:
            with scratch.open("wb") as file:
                digest = _fetch(url, target, file, file_hash and _algorithm(file_hash, algorithm))
            if file_hash is not None and digest != file_hash.lower():
                raise InputFileError(
                    f"{url}: checksum is {digest}, expected {file_hash}: {_advice(url, target)}"
                )
    except InputFileError:
        raise
    except OSError as error:
        raise OutputError(f"can't write {target}: {error.strerror or error}") from None
    except WriteError as error:
        raise OutputError(str(error)) from None


def _fetch(url: str, target: Path, file: IO[bytes], algorithm: str | None) -> str:
    """Copies what the URL gives, and returns its digest ("" without an algorithm)."""
    import urllib.request  # the network's protocols are slow to load
    from http.client import HTTPException

    digest = hashlib.new(algorithm, usedforsecurity=False) if algorithm else None
    count = 0
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            expected = _length(answer)
            while chunk := answer.read(CHUNK):
                count += len(chunk)
                file.write(chunk)
                if digest is not None:
                    digest.update(chunk)
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise InputFileError(f"can't download {url} ({reason}): {_advice(url, target)}") from None
    if expected is not None and count != expected:
        raise InputFileError(
            f"can't download {url} (got {count} of {expected} bytes): {_advice(url, target)}"
        )
    return digest.hexdigest() if digest is not None else ""


def _length(answer: Any) -> int | None:
    text = answer.headers.get("Content-Length")
    return int(text) if text and text.isdigit() else None


def _advice(url: str, target: Path) -> str:
    name = Path(urllib.parse.urlsplit(url).path).name
    return f"get {name} another way and put it at {target}"
