"""Damaged and hostile ONNX files: one line that names the file and the place, soon and in little memory."""

from __future__ import annotations

import os
import re
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from convc.errors import ConvcError, InputFileError, UnsupportedError
from convc.onnx.importer import import_model
from tests.onnx.models import model_of, node

W = np.ones((6, 5), np.float32)


def good() -> onnx.ModelProto:
    nodes = [node("MatMul", "x w", "h"), node("Relu", "h")]
    return model_of(nodes, {"x": (np.float32, ["n", 6])}, ["y"], {"w": W})


def refused(path: Path) -> str:
    """The message of the error that a file gives, which must be one line that begins with the file."""
    with pytest.raises(ConvcError) as error:
        import_model(path)
    message = str(error.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert isinstance(error.value, InputFileError | UnsupportedError)
    return message.removeprefix(f"{path}: ")


def duplicate_output(m: onnx.ModelProto) -> None:
    m.graph.node[1].output[0] = "h"


def cycle(m: onnx.ModelProto) -> None:
    m.graph.node[0].input[0] = "y"


def undefined(m: onnx.ModelProto) -> None:
    m.graph.node[1].input[0] = "nowhere"


def undefined_output(m: onnx.ModelProto) -> None:
    m.graph.output[0].name = "nowhere"


def twice_an_initializer(m: onnx.ModelProto) -> None:
    m.graph.initializer.append(m.graph.initializer[0])


def twice_an_input(m: onnx.ModelProto) -> None:
    m.graph.input.append(m.graph.input[0])


def lying_dimensions(m: onnx.ModelProto) -> None:
    m.graph.initializer[0].dims[0] = 1 << 40


def overflowing_dimensions(m: onnx.ModelProto) -> None:
    del m.graph.initializer[0].dims[:]
    m.graph.initializer[0].dims.extend([1 << 62, 1 << 62])


def negative_dimensions(m: onnx.ModelProto) -> None:
    m.graph.initializer[0].dims[0] = -6


def huge_input(m: onnx.ModelProto) -> None:
    for dim in m.graph.input[0].type.tensor_type.shape.dim:
        dim.dim_value = 1 << 61


def huge_constant(m: onnx.ModelProto) -> None:
    shape = helper.make_tensor("s", TensorProto.INT64, [2], [1 << 40, 1 << 40])
    m.graph.initializer.append(shape)
    m.graph.node[1].CopyFrom(node("ConstantOfShape", "s"))


def huge_range(m: onnx.ModelProto) -> None:
    for name, value in (("a", 0), ("b", 1 << 60), ("c", 1)):
        m.graph.initializer.append(helper.make_tensor(name, TensorProto.INT64, [], [value]))
    m.graph.node[1].CopyFrom(node("Range", "a b c"))


def zero_step(m: onnx.ModelProto) -> None:
    for name, value in (("a", 0), ("b", 10), ("c", 0)):
        m.graph.initializer.append(helper.make_tensor(name, TensorProto.INT64, [], [value]))
    m.graph.node[1].CopyFrom(node("Range", "a b c"))


def wrong_attribute(m: onnx.ModelProto) -> None:
    m.graph.node[1].CopyFrom(node("Concat", "h h", axis="sideways"))


def missing_input(m: onnx.ModelProto) -> None:
    del m.graph.node[0].input[1]


def unknown_operator(m: onnx.ModelProto) -> None:
    m.graph.node[1].op_type = "Relax"


def unknown_domain(m: onnx.ModelProto) -> None:
    m.graph.node[1].domain = "com.example"


def opset_of_the_future(m: onnx.ModelProto) -> None:
    m.opset_import[0].version = 999


def endless_function(m: onnx.ModelProto) -> None:
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("own", 1)]
    call = helper.make_node("F", ["a"], ["b"], domain="own")
    m.functions.append(helper.make_function("own", "F", ["a"], ["b"], [call], opsets))
    m.opset_import.append(helper.make_opsetid("own", 1))
    m.graph.node[1].op_type, m.graph.node[1].domain = "F", "own"


def multiplying_functions(m: onnx.ModelProto) -> None:
    """Each function calls the one before ten times: 10^12 nodes."""
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("own", 1)]
    for level in range(12):
        kind, domain = (f"F{level - 1}", "own") if level else ("Relu", "")
        inner = [helper.make_node(kind, [f"v{k}"], [f"v{k + 1}"], domain=domain) for k in range(10)]
        m.functions.append(helper.make_function("own", f"F{level}", ["v0"], ["v10"], inner, opsets))
    m.opset_import.append(helper.make_opsetid("own", 1))
    m.graph.node[1].op_type, m.graph.node[1].domain = "F11", "own"


def shape_of_nothing(m: onnx.ModelProto) -> None:
    """A shape that is a value of shape [0, n]."""
    first = helper.make_tensor("zero", TensorProto.INT64, [1], [0])
    m.graph.initializer.append(first)
    nodes = [
        node("Shape", "x", "size", start=0, end=1),
        node("Concat", "zero size", "both", axis=0),
    ]
    nodes += [node("Expand", "zero both", "shape")]
    kept = [*nodes, m.graph.node[0], node("Reshape", "h shape", "y")]
    del m.graph.node[:]
    m.graph.node.extend(kept)


HARMS: dict[Callable[[onnx.ModelProto], None], str] = {
    duplicate_output: r"node 'y' \(Relu\): value 'h' is defined twice",
    cycle: r"node 'h' \(MatMul\): value 'y' is read before any node defines it",
    undefined: r"node 'y' \(Relu\): value 'nowhere' is read before any node defines it",
    undefined_output: "value 'nowhere' is read before any node defines it",
    twice_an_initializer: "initializer 'w' is defined twice",
    twice_an_input: "input 'x' is defined twice",
    lying_dimensions: "tensor 'w' has impossible dimensions|tensor 'w' says",
    overflowing_dimensions: "tensor 'w' has impossible dimensions",
    negative_dimensions: "tensor 'w' has impossible dimensions",
    huge_input: "input 'x' has impossible dimensions",
    huge_constant: "impossible dimensions",
    huge_range: "a range of 1152921504606846976 elements",
    zero_step: "attributes or inputs do not fit",
    wrong_attribute: r"node 'y' \(Concat\)",
    missing_input: r"node 'h' \(MatMul\).*input 1 is missing",
    unknown_operator: "there is no operator Relax",
    unknown_domain: "operators of the domain 'com.example' are not supported",
    opset_of_the_future: "opset 999 is not supported",
    endless_function: "bodies inside one another",
    shape_of_nothing: r"node 'y' \(Reshape\)",
    multiplying_functions: "nodes of bodies, expanded",
}


@pytest.mark.parametrize("harm", HARMS, ids=lambda h: h.__name__)
def test_a_hostile_model_is_refused_by_name(
    harm: Callable[[onnx.ModelProto], None], tmp_path: Path
) -> None:
    model = good()
    harm(model)
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    tracemalloc.start()
    start = time.perf_counter()
    message = refused(path)
    assert time.perf_counter() - start < 30
    assert tracemalloc.get_traced_memory()[1] < 1 << 29
    tracemalloc.stop()
    assert re.search(HARMS[harm], message), message


def test_the_unharmed_model_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(good().SerializeToString())
    assert import_model(path).outputs == ("y",)


def outcome(path: Path) -> str | None:
    """The message of our error, or None where the file is taken; other errors pass through."""
    try:
        import_model(path)
    except ConvcError as error:
        return str(error)
    return None


def test_every_truncation_is_refused_or_read(tmp_path: Path) -> None:
    data = good().SerializeToString()
    path = tmp_path / "m.onnx"
    refusals = 0
    for end in range(len(data)):
        path.write_bytes(data[:end])
        message = outcome(path)
        refusals += message is not None
        assert message is None or message.startswith(str(path))
    assert refusals > len(data) // 2


def test_flipped_bytes_give_an_error_of_ours_or_a_graph(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    data = good().SerializeToString()
    path = tmp_path / "m.onnx"
    for _ in range(400):
        changed = bytearray(data)
        for position in rng.integers(0, len(data), rng.integers(1, 4)):
            changed[position] = rng.integers(0, 256)
        path.write_bytes(bytes(changed))
        assert "\n" not in (outcome(path) or "")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.onnx").startswith("no such file")


# ---------------------------------------------------------------- external data


def external(folder: Path, location: str, **entries: str) -> Path:
    """A model whose weights lie in `location`."""
    model = good()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in ({"location": location} | entries).items():
        tensor.external_data.add(key=key, value=value)
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(
    "location", ["../w.bin", "a/../../w.bin", "/etc/hostname", "", "link.bin", "linked/w.bin"]
)
def test_external_data_outside_of_the_folder_is_refused(location: str, tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(W.tobytes())
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "a").mkdir()
    os.symlink(tmp_path / "w.bin", folder / "link.bin")
    os.symlink(tmp_path, folder / "linked")
    message = refused(external(folder, location))
    assert message.startswith(
        f"tensor 'w' lies in {location!r}: expected a file in the model's folder"
    )


def test_external_data_in_a_folder_below_is_read(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "w.bin").write_bytes(b"12345678" + W.tobytes())
    graph = import_model(external(tmp_path, "data/w.bin", offset="8", length=str(W.nbytes)))
    np.testing.assert_array_equal(graph.weights["w"], W)


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ({"offset": "8"}, "120 bytes at 8 of 'w.bin'"),
        ({"offset": "-8"}, "at -8"),
        ({"length": "60"}, "60 of the file's 120"),
        ({"offset": "many"}, "expected numbers"),
    ],
)
def test_external_data_of_another_size_is_refused(
    entries: dict[str, str], reason: str, tmp_path: Path
) -> None:
    (tmp_path / "w.bin").write_bytes(W.tobytes())
    assert reason in refused(external(tmp_path, "w.bin", **entries))


def test_external_data_that_is_missing_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refused(external(tmp_path, "w.bin"))
