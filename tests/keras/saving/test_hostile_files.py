"""Files made to harm: one line that names file and thing, nothing run, nothing imported, nothing large in memory."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from convc import keras
from convc.errors import ConvcError, InputFileError, UnsupportedError
from convc.keras import layers

h5py = pytest.importorskip("h5py")
KERNEL = "layers/dense/vars/0"


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.keras"
    keras.backend.clear_session()
    keras.Sequential([keras.Input((3,)), layers.Dense(2), layers.ReLU()]).save(path)
    return path


def changed(path: Path, **parts: Any) -> Path:
    """A copy with some files replaced, added (by name) or, for None, left out."""
    other = path.with_name("bad.keras")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(other, "w", zipfile.ZIP_DEFLATED) as new:
        files = {n: old.read(n) for n in old.namelist()} | {
            n.replace("__", "."): b for n, b in parts.items()
        }
        for name, content in files.items():
            if content is not None:
                new.writestr(name, content)
    return other


def with_config(path: Path, edit: Callable[[Any], Any]) -> Path:
    with zipfile.ZipFile(path) as old:
        config = json.loads(old.read("config.json"))
    return changed(path, config__json=json.dumps(edit(config) or config))


def with_layer(path: Path, module: str | None, name: str, config: Any) -> Path:
    entry = {"module": module, "class_name": name, "config": config, "registered_name": None}
    return with_config(path, lambda c: c["config"]["layers"].__setitem__(2, entry))


def with_weights(path: Path, edit: Callable[[Any], None]) -> Path:
    with zipfile.ZipFile(path) as old:
        content = io.BytesIO(old.read("model.weights.h5"))
    with h5py.File(content, "r+") as file:
        edit(file)
    return changed(path, **{"model.weights.h5": content.getvalue()})


def refused(path: Path, kind: type[ConvcError], what: str) -> None:
    with pytest.raises(kind, match=what) as caught:
        keras.models.load_model(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_damaged_archives(good: Path) -> None:
    whole = good.read_bytes()
    other = good.with_name("bad.keras")
    for content, what in (
        (b"", "not a readable .keras file"),
        (whole[: len(whole) // 2], "not a readable .keras file"),
        (whole[:5000] + bytes([whole[5000] ^ 255]) + whole[5001:], "Bad CRC-32"),
    ):
        other.write_bytes(content)
        refused(other, InputFileError, what)


def test_archives_that_lack_or_repeat_or_point_outside(good: Path) -> None:
    refused(changed(good, config__json=None), InputFileError, "it has no config.json")
    refused(
        changed(good, **{"model.weights.h5": None}), InputFileError, "it has no model.weights.h5"
    )
    refused(changed(good, **{"../../evil": b""}), InputFileError, "points outside")
    refused(changed(good, **{"/etc/evil": b""}), InputFileError, "points outside")
    with zipfile.ZipFile(good, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("config.json", b"{}")
    refused(good, InputFileError, "config.json is there 2 times")


def test_a_zip_bomb_is_refused_before_it_is_unpacked(good: Path) -> None:
    refused(
        changed(good, **{"model.weights.h5": bytes(8 << 20)}),
        InputFileError,
        "refused as a zip bomb",
    )


def test_json_that_is_none_or_nests_too_deep(good: Path) -> None:
    refused(changed(good, config__json=b"{"), InputFileError, "not readable JSON")
    refused(changed(good, config__json=b"[]"), InputFileError, "expected a JSON object")
    deep = b'{"class_name":"Sequential","config":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    refused(changed(good, config__json=deep), InputFileError, "nests too deep")
    entry: Any = {"class_name": "Dense", "config": {"units": 1}}
    text = json.dumps(entry)
    for _ in range(300):
        text = f'{{"class_name":"Sequential","config":{{"name":"s","layers":[{text}]}}}}'
    refused(changed(good, config__json=text), InputFileError, "nest too deep")


def test_no_class_or_function_that_a_file_names_is_imported(good: Path) -> None:
    refused(
        with_layer(good, "os", "system", {"command": "exit"}),
        UnsupportedError,
        "convc imports nothing",
    )
    refused(
        with_layer(good, "keras.src.utils.file_utils", "get_file", {}),
        UnsupportedError,
        "'get_file' isn't known",
    )
    system = {
        "module": "os",
        "class_name": "function",
        "config": "system",
        "registered_name": "system",
    }
    refused(
        with_layer(good, "keras.layers", "Activation", {"activation": system}),
        UnsupportedError,
        "unknown activation",
    )
    made = {
        "name": "d",
        "units": 2,
        "kernel_initializer": {"module": "os", "class_name": "system", "config": {}},
    }
    refused(
        with_layer(good, "keras.layers", "Dense", made), UnsupportedError, "unknown initializer"
    )


@pytest.mark.parametrize(
    "function", [{"class_name": "__lambda__", "config": {"code": "4wE="}}, ["4wEAAA", None, None]]
)
def test_marshalled_code_never_runs(good: Path, function: Any) -> None:
    path = with_layer(good, "keras.layers", "Lambda", {"name": "odd", "function": function})
    refused(
        path,
        UnsupportedError,
        r"layer 'odd' \(Lambda\): its function is marshalled Python bytecode",
    )
    with pytest.raises(UnsupportedError, match="whatever safe_mode says"):
        keras.models.load_model(path, safe_mode=False)
    model = keras.models.load_model(path, custom_objects={"odd": lambda x: x + 1})
    assert model.output_shape == (None, 2)


def test_configs_that_lie(good: Path) -> None:
    refused(
        with_layer(good, "keras.layers", "Dense", {"units": "x"}), UnsupportedError, "units must be"
    )
    refused(
        with_layer(good, "keras.layers", "Dense", {"units": 1, "nonsense": 3}),
        UnsupportedError,
        "'nonsense'",
    )
    refused(
        with_config(good, lambda c: {"class_name": "Sequential"}),
        InputFileError,
        "expected an entry",
    )
    refused(
        with_config(good, lambda c: {"class_name": "Dense", "config": {"units": 2}}),
        InputFileError,
        "a Dense",
    )
    loop = {
        "name": "m",
        "layers": [
            {
                "class_name": "ReLU",
                "config": {"name": n},
                "name": n,
                "inbound_nodes": [[[o, 0, 0, {}]]],
            }
            for n, o in (("a", "b"), ("b", "a"))
        ],
        "input_layers": [["a", 0, 0]],
        "output_layers": [["b", 0, 0]],
    }
    refused(
        with_config(good, lambda c: {"class_name": "Functional", "config": loop}),
        InputFileError,
        "form a loop",
    )


def replaced(make: Callable[[Any], Any]) -> Callable[[Any], None]:
    def edit(file: Any) -> None:
        del file[KERNEL]
        make(file)

    return edit


def test_arrays_elsewhere_are_not_read(good: Path) -> None:
    outside = {KERNEL: h5py.ExternalLink("/etc/passwd", "/x")}
    refused(
        with_weights(good, replaced(lambda f: f.update(outside))),
        InputFileError,
        "a link to another file",
    )
    soft = {KERNEL: h5py.SoftLink("/layers/dense/vars/1")}
    refused(
        with_weights(good, replaced(lambda f: f.update(soft))),
        InputFileError,
        "a link to another place",
    )
    stored = replaced(
        lambda f: f.create_dataset(KERNEL, (3, 2), "<f4", external=[("/etc/passwd", 0, 24)])
    )
    refused(with_weights(good, stored), InputFileError, "lies in another file")


@pytest.mark.parametrize("kind", [h5py.string_dtype(), h5py.vlen_dtype("f4"), [("a", "f4")]])
def test_arrays_of_anything_but_numbers_are_not_read(good: Path, kind: Any) -> None:
    edit = replaced(lambda f: f.create_dataset(KERNEL, (3, 2), kind))
    refused(with_weights(good, edit), InputFileError, "expected numbers")


def test_shapes_that_lie(good: Path) -> None:
    edit = replaced(lambda f: f.create_dataset(KERNEL, (3, 10**9), "f4", chunks=(3, 100)))
    refused(
        with_weights(good, edit), InputFileError, r"has shape \(3, 1000000000\); expected \(3, 2\)"
    )

    def huge(config: Any) -> None:
        config["config"]["layers"][1]["config"]["units"] = 10**9

    path = with_config(with_weights(good, edit).replace(good), huge)
    refused(path, InputFileError, r"says 12,000,000,000 bytes of shape .* but stores 0")


def test_damaged_hdf5_is_named_as_such(good: Path) -> None:
    path = good.with_suffix(".h5")
    keras.models.load_model(good).save(path)
    whole = path.read_bytes()
    assert b"TREE" in whole
    for content, what in (
        (whole.replace(b"TREE", b"XREE"), "is damaged|not a readable"),
        (whole[: len(whole) // 2], "not a readable HDF5 file"),
        (b"text", "not a readable HDF5 file"),
    ):
        path.write_bytes(content)
        refused(path, InputFileError, what)
