"""Downloads are whole and checked, or not there; archives unpack inside their folder, or not at all."""

from __future__ import annotations

import hashlib
import io
import stat
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from convc.errors import ConvcError, InputFileError, UsageError
from convc.keras.utils import get_file
from convc.keras.utils.archives import extract_archive

URL = "https://example.org/sets/data.bin"
DATA = bytes(range(256)) * 5000
SHA256 = hashlib.sha256(DATA).hexdigest()


class Answer(io.BytesIO):
    """What urlopen returns: a stream with headers."""

    def __init__(self, data: bytes, length: int | None = None) -> None:
        super().__init__(data)
        self.headers = {"Content-Length": str(len(data) if length is None else length)}


class Network:
    """A network with one answer. `asked` has the URLs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.answer: Any = lambda: Answer(DATA)
        monkeypatch.setattr("urllib.request.urlopen", self.open)

    def open(self, url: str, timeout: float) -> Any:
        self.asked.append(url)
        return self.answer()


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    return Network(monkeypatch)


def test_a_file_is_downloaded_once(tmp_path: Path, network: Network) -> None:
    for _ in range(2):
        path = Path(get_file(origin=URL, cache_dir=tmp_path, file_hash=SHA256))
    assert path == tmp_path / "datasets" / "data.bin"
    assert path.read_bytes() == DATA
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert network.asked == [URL]
    assert list(path.parent.iterdir()) == [path]


def test_the_cache_folder_is_the_environments(
    tmp_path: Path, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    assert get_file("a.bin", URL, cache_subdir="models") == str(tmp_path / "home/models/a.bin")
    monkeypatch.delenv("KERAS_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert get_file("a.bin", URL) == str(tmp_path / ".keras/datasets/a.bin")


def test_another_file_is_downloaded_again(tmp_path: Path, network: Network) -> None:
    path = tmp_path / "datasets" / "data.bin"
    path.parent.mkdir()
    path.write_bytes(b"old")
    assert Path(get_file(origin=URL, cache_dir=tmp_path)).read_bytes() == b"old"
    md5 = hashlib.md5(DATA).hexdigest()
    assert Path(get_file(origin=URL, cache_dir=tmp_path, md5_hash=md5)).read_bytes() == DATA
    assert network.asked == [URL]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda: Answer(DATA[:-1]), "checksum"),
        (lambda: Answer(DATA, len(DATA) + 9), "got 1280000 of 1280009 bytes"),
        (lambda: (_ for _ in ()).throw(TimeoutError("timed out")), "timed out"),
    ],
    ids=["checksum", "length", "timeout"],
)
def test_half_a_file_is_never_there(
    tmp_path: Path, network: Network, answer: Any, reason: str
) -> None:
    network.answer = answer
    with pytest.raises(InputFileError, match=reason) as caught:
        get_file(origin=URL, cache_dir=tmp_path, file_hash=SHA256)
    target = tmp_path / "datasets" / "data.bin"
    assert f"get data.bin another way and put it at {target}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(target.parent.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        {"origin": None},
        {"origin": "file:///etc/passwd"},
        {"origin": "https://example.org/"},
        {"origin": URL, "fname": "../data.bin"},
        {"origin": URL, "fname": ".."},
        {"origin": URL, "file_hash": "123"},
    ],
)
def test_wrong_arguments_are_named(tmp_path: Path, network: Network, arguments: Any) -> None:
    with pytest.raises(UsageError, match="get_file: "):
        get_file(cache_dir=tmp_path, **arguments)
    assert not network.asked


# ---------------------------------------------------------------- archives


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for info, data in members:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def member(name: str, data: bytes = b"x", **attributes: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    for key, value in attributes.items():
        setattr(info, key, value)
    return info, data


def zip_of(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


def test_an_archive_is_unpacked_where_keras_does(tmp_path: Path, network: Network) -> None:
    network.answer = lambda: Answer(tar_of(member("a/b.txt", b"hello")))
    bare = get_file("flowers", "https://example.org/f.tgz", cache_dir=tmp_path, extract=True)
    assert bare == str(tmp_path / "datasets/flowers")
    assert (tmp_path / "datasets/flowers/a/b.txt").read_bytes() == b"hello"
    assert (tmp_path / "datasets/flowers_archive").is_file()
    named = get_file("flowers.tgz", "https://example.org/f.tgz", untar=True, cache_dir=tmp_path)
    assert named == str(tmp_path / "datasets/flowers_extracted")
    assert get_file("flowers", URL, cache_dir=tmp_path, extract=True) == bare
    assert len(network.asked) == 2


def test_a_zip_is_unpacked(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zip_of(**{"x/": b"", "x/y": b"hello"}))
    extract_archive(tmp_path / "a.zip", tmp_path / "out")
    assert (tmp_path / "out/x/y").read_bytes() == b"hello"


HOSTILE = {
    "parent": tar_of(member("good"), member("../evil")),
    "absolute": tar_of(member("/tmp/evil")),
    "inner parent": tar_of(member("a/../../evil")),
    "symlink": tar_of(member("a", b"", type=tarfile.SYMTYPE, linkname="/etc")),
    "through a symlink": tar_of(
        member("a", b"", type=tarfile.SYMTYPE, linkname=".."), member("a/evil")
    ),
    "hard link": tar_of(member("a", b"", type=tarfile.LNKTYPE, linkname="/etc/passwd")),
    "device": tar_of(member("a", b"", type=tarfile.CHRTYPE)),
    "pipe": tar_of(member("a", b"", type=tarfile.FIFOTYPE)),
    "file as folder": tar_of(member("a"), member("a/evil")),
    "zip parent": zip_of(**{"../evil": b""}),
    "zip backslash": zip_of(**{"..\\evil": b""}),
    "bomb": tar_of(member("a", bytes(3 << 20))),
    "zip bomb": zip_of(a=bytes(3 << 20)),
    "no archive": b"hello",
    "empty": b"",
    "cut": tar_of(member("a", DATA))[:-900],
    "cut zip": zip_of(a=DATA)[:900],
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_archive_leaves_nothing(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "archive").write_bytes(data)
    folder = tmp_path / "inner" / "out"
    with pytest.raises(ConvcError, match="archive") as caught:
        extract_archive(tmp_path / "archive", folder, most_bytes=2 << 20)
    assert "\n" not in str(caught.value)
    assert not list(folder.parent.iterdir())
    assert not (tmp_path / "evil").exists()


def test_an_archive_replaces_what_was_there_only_if_it_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").write_bytes(b"")
    (tmp_path / "bad").write_bytes(HOSTILE["parent"])
    with pytest.raises(InputFileError):
        extract_archive(tmp_path / "bad", out)
    assert (out / "old").exists()
    (tmp_path / "good").write_bytes(tar_of(member("new")))
    extract_archive(tmp_path / "good", out)
    assert [p.name for p in out.iterdir()] == ["new"]
