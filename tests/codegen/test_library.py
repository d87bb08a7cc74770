"""Models as C libraries: written without a linker, taken by every linker and loader."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from convc_runtime import TensorInfo

from convc.artifact import assemble, c_identifier
from convc.codegen.library import dlpack_type, header, write_object
from convc.driver import compile as compile_model
from convc.errors import IRError, UnsupportedError
from convc.graph.parser import parse_graph
from convc.target import TARGETS
from tests.handwritten import scale_model

HERE = Path(__file__).parent
CC = shutil.which("cc")
needs_cc = pytest.mark.skipif(CC is None, reason="no C compiler")


def _compile(folder: Path, *arguments: str) -> None:
    run = subprocess.run(
        [CC or "cc", *arguments, "-pthread"], cwd=folder, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr


def _run(folder: Path, *command: str) -> str:
    # As without a sanitizer: what is too much gives NULL.
    environment = {"LD_LIBRARY_PATH": str(folder), "ASAN_OPTIONS": "allocator_may_return_null=1"}
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library")
    for name, factor in (("scale", 2.0), ("triple", 3.0)):
        for suffix in (".o", ".so"):
            scale_model(name, factor).save(folder / f"{name}{suffix}")
    return folder


@needs_cc
@pytest.mark.parametrize("sanitizer", ["-O2", "-fsanitize=address,undefined"])
def test_two_models_link_into_one_program(folder: Path, sanitizer: str) -> None:
    strict = (
        "-std=c99",
        "-Wall",
        "-Wextra",
        "-Wpedantic",
        "-Wconversion",
        "-Werror",
        "-g",
        sanitizer,
    )
    _compile(folder, *strict, "-I.", str(HERE / "abi.c"), "scale.o", "triple.o", "-o", "abi")
    assert _run(folder, "./abi") == "ok\n"


@needs_cc
def test_an_object_and_a_shared_library_link_too(folder: Path) -> None:
    _compile(folder, "-I.", str(HERE / "abi.c"), "scale.o", "./triple.so", "-o", "mixed")
    assert _run(folder, "./mixed") == "ok\n"


_WITHOUT_SERVICES = """
#define CONVC_NO_SERVICES
#include "scale.h"
int main(void) {
    float x[8] = {1, 2, 3, 4, 5, 6, 7, 8}, y[8];
    const int64_t shape[] = {1, 8};
    const convc_tensor in = convc_tensor_of(x, CONVC_FLOAT, 32, 2, shape);
    const convc_tensor out = convc_tensor_of(y, CONVC_FLOAT, 32, 2, shape);
    convc_context *context;
    int32_t status = convc_context_create(&scale_model, NULL, &context);
    if (!status) status = convc_run(context, 0, &in, 1, &out, 1);
    if (context) puts(status ? convc_context_message(context) : y[7] == 17 ? "ok" : "wrong");
    convc_context_destroy(context);
    return status;
}
"""


@needs_cc
def test_a_host_without_threads_runs_on_its_own(folder: Path) -> None:
    (folder / "alone.c").write_text(_WITHOUT_SERVICES)
    _compile(folder, "-std=c99", "-Wall", "-Wextra", "-Werror", "alone.c", "scale.o", "-o", "alone")
    assert _run(folder, "./alone") == "ok\n"


_EMPTY_BATCH = """
#include "sums.h"
int main(void) {
    float x[3] = {1, 2, 3}, y[3], s[3];
    const int64_t none[] = {0, 3}, one[] = {1, 3}, three[] = {3};
    convc_context *context;
    int64_t n;
    if (convc_context_create(&sums_model, NULL, &context)) return 1;
    for (n = 0; n < 2; n++) {
        const convc_tensor in = convc_tensor_of(x, CONVC_FLOAT, 32, 2, n ? one : none);
        convc_tensor out[2];
        out[0] = convc_tensor_of(y, CONVC_FLOAT, 32, 2, n ? one : none);
        out[1] = convc_tensor_of(s, CONVC_FLOAT, 32, 1, three);
        puts(convc_run(context, 0, &in, 1, out, 2) ? convc_context_message(context) : "ok");
    }
    convc_context_destroy(context);
    return 0;
}
"""


@needs_cc
def test_a_batch_of_nothing_has_no_sum(folder: Path) -> None:
    text = "graph sums(x: float32[N, 3]) -> (y, s) { y = relu(x)  s = reduce_sum(x) {axes=(0,)} }"
    compile_model(parse_graph(text, {})).save(folder / "sums.o")
    (folder / "empty.c").write_text(_EMPTY_BATCH)
    _compile(folder, "-std=c99", "-Wall", "-Wextra", "-Werror", "empty.c", "sums.o", "-o", "empty")
    assert _run(folder, "./empty") == "sums: output 1: wrong shape: expected 0, got 3\nok\n"


@needs_cc
def test_objects_need_no_executable_stack_and_no_writable_code(folder: Path) -> None:
    flags = "-Wl,--fatal-warnings,-z,text,-z,noexecstack"
    _compile(folder, "-shared", flags, "scale.o", "-o", "linked.so")
    assert _model_name(folder / "linked.so") == b"scale"


def test_a_shared_library_loads_as_it_is(folder: Path) -> None:
    assert _model_name(folder / "scale.so") == b"scale"


def _model_name(path: Path) -> bytes:
    """`scale_model.name`, read in a process of its own."""
    code = (
        "import ctypes, sys; m = (ctypes.c_uint64 * 17).in_dll(ctypes.CDLL(sys.argv[1]), 'scale_model');"
        "assert m[0] == 208 and m[1] & 0xffffffff == 1; check = ctypes.CFUNCTYPE(ctypes.c_uint64)(m[10]);"
        "assert check() == 0; print(ctypes.string_at(m[3]).decode(), end='')"
    )
    return subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, check=True
    ).stdout


def test_an_aarch64_library_is_written(tmp_path: Path) -> None:
    files = scale_model(target=TARGETS["aarch64-neon"]).save(tmp_path / "scale.so")
    assert [f.name for f in files] == ["scale.so", "scale.h", "convc.h", "convc.hpp"]
    assert int.from_bytes(files[0].read_bytes()[18:20], "little") == 183


def test_the_header_names_entries_and_tensors() -> None:
    text = header(scale_model().description, "scale")
    assert "extern const convc_model scale_model;" in text
    assert " * input   x float32[N, 8]" in text
    assert "#define SCALE_PREDICT 0" in text


def test_the_same_model_gives_the_same_object(tmp_path: Path) -> None:
    paths = [tmp_path / name / "scale.o" for name in ("a", "b")]
    for path in paths:
        path.parent.mkdir()
        scale_model().save(path)
    assert paths[0].read_bytes() == paths[1].read_bytes()


_TWO = """
#include "first.h"
#include "second_net.h"
int main(void) {
    printf("%s %s %d %d", first_model.name, second_net_model.name, FIRST_PREDICT, SECOND_NET_PREDICT);
    return first_model.run == second_net_model.run;
}
"""


@needs_cc
def test_models_of_one_name_are_told_apart_by_their_files(tmp_path: Path) -> None:
    for file, factor in (("first.o", 2.0), ("second-net.o", 3.0)):
        scale_model("sequential", factor).save(tmp_path / file)
    assert not (tmp_path / "sequential.h").exists()
    (tmp_path / "two.c").write_text(_TWO)
    _compile(tmp_path, "-I.", "two.c", "first.o", "second-net.o", "-o", "two")
    assert _run(tmp_path, "./two") == "sequential sequential 0 0"


def test_too_many_weights_are_refused(tmp_path: Path) -> None:
    artifact = scale_model()
    weights = np.zeros(1 << 31, np.uint8)  # never touched, so it takes no memory
    with pytest.raises(UnsupportedError, match=r"2147483648 bytes of weights .* save a \.cvc file"):
        write_object(tmp_path / "x.o", artifact.description, artifact.image, weights, "x")


def test_an_extent_that_c_can_not_say_is_refused(tmp_path: Path) -> None:
    artifact = scale_model()
    entry = artifact.description.entries[0]
    odd = replace(entry, inputs=(TensorInfo("x", "float32", ("N*N",)),))
    description = replace(artifact.description, entries=(odd,))
    with pytest.raises(UnsupportedError, match=r"extent N\*N can't be said in C"):
        write_object(tmp_path / "x.o", description, artifact.image, artifact.weights, "x")


def test_an_entry_without_code_is_named() -> None:
    entry = scale_model().description.entries[0]
    with pytest.raises(IRError, match="no code was generated for the entries scale_predict"):
        assemble("other", TARGETS["x86-64-v2"], [], [entry], np.zeros(4, np.uint8))


@pytest.mark.parametrize(
    ("name", "identifier"),
    [("digits", "digits"), ("my net-2", "my_net_2"), ("2nd", "model_2nd"), ("", "model"),
     ("convc", "model_convc"), ("_x", "model_x"), ("größe", "gr__e")],
)  # fmt: skip
def test_names_become_c_identifiers(name: str, identifier: str) -> None:
    assert c_identifier(name) == identifier


@pytest.mark.parametrize(
    ("dtype", "code"),
    [
        ("float32", (2, 32)),
        ("bfloat16", (4, 16)),
        ("uint8", (1, 8)),
        ("int64", (0, 64)),
        ("bool", (6, 8)),
    ],
)
def test_types_have_dlpack_codes(dtype: str, code: tuple[int, int]) -> None:
    assert dlpack_type(dtype) == code
