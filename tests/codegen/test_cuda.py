"""The CUDA generator: what it writes compiles for GPUs, and on the host computes the interpreter's very bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from convc.codegen.cuda import generate
from convc.errors import IRError
from convc.loops.interp import run_kernel
from convc.loops.ir import Kernel, Role
from convc.loops.parser import parse_kernel
from convc.types import DType, evaluate
from tests.codegen.cuda_host import build_host, compile_device, run_host
from tests.codegen.cuda_kernels import KERNELS

Array = NDArray[Any]
SPECIAL = [
    0.0,
    -0.0,
    np.inf,
    -np.inf,
    np.nan,
    0.5,
    1.5,
    2.5,
    -0.5,
    127.5,
    128.0,
    255.7,
    3e9,
    -3e9,
    1e19,
    -1e19,
    1e-41,
]
SYMBOLS = {"N": 5}


def values(dtype: DType, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Random numbers of every size, among them the ones that rounding and conversions treat specially."""
    count = int(np.prod(shape))
    if dtype.is_float:
        wide = rng.standard_normal(count) * 10.0 ** rng.integers(-3, 3, count)
        wide[: len(SPECIAL)] = SPECIAL[:count]
        with np.errstate(over="ignore"):
            return wide.astype(dtype.numpy).reshape(shape)
    if dtype is DType.bool:
        return np.zeros(shape, bool)
    info = np.iinfo(dtype.numpy)
    return rng.integers(info.min, info.max, shape, dtype.numpy, endpoint=True)


def arrays_of(kernel: Kernel) -> dict[str, Array]:
    rng = np.random.default_rng(len(kernel.name))
    found = {}
    for buffer in kernel.params:
        shape = tuple(evaluate(e, SYMBOLS) for e in buffer.shape)
        found[buffer.name] = values(buffer.dtype, shape, rng)
    match kernel.name:
        case "gather":
            found["index"] = rng.integers(-2, 8, 9)
        case "mma_gemm":
            # Small integers: no sum is rounded, so its order does not matter.
            found["a"], found["b"] = (
                rng.integers(-4, 5, found[n].shape).astype(np.float16) for n in "ab"
            )
    return found


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    kernels = list(KERNELS.values())
    return build_host(generate(kernels), kernels, tmp_path_factory.mktemp("host"))


@pytest.mark.parametrize("name", KERNELS)
def test_the_source_computes_the_interpreters_bits(name: str, program: Path) -> None:
    kernel = KERNELS[name]
    expected, got = arrays_of(kernel), arrays_of(kernel)
    run_kernel(kernel, expected, {s: SYMBOLS[s] for s in kernel.symbols})
    for seed in (0, 1):
        got = arrays_of(kernel)
        run_host(program, kernel, got, SYMBOLS, seed)
        for buffer in kernel.params:
            if buffer.role is not Role.in_:
                assert_same_bits(got[buffer.name], expected[buffer.name], buffer.name)


def assert_same_bits(got: Array, expected: Array, name: str) -> None:
    """Equal bytes, but any NaN equals any other."""
    same = got.view(f"u{got.itemsize}") == expected.view(f"u{got.itemsize}")
    if got.dtype.kind != "b" and DType.of(got.dtype).is_float:
        same |= (got != got) & (expected != expected)
    at = np.argwhere(~same)
    assert not len(at), (
        f"{name}{at[0].tolist()} and {len(at) - 1} more: {got[~same][0]}, expected {expected[~same][0]}"
    )


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_the_source_compiles_for_gpus_without_warnings(architecture: str, tmp_path: Path) -> None:
    compile_device(generate(list(KERNELS.values())), architecture, tmp_path)


def test_the_host_check_sees_an_access_past_a_buffer(tmp_path: Path) -> None:
    text = (
        "kernel past(in x: float32[8], out y: float32[8]) { for t in 8 thread_x { y[t] = x[t] } }"
    )
    kernel = parse_kernel(text)
    program = build_host(generate([kernel]).replace("= x[t]", "= x[t + 1]"), [kernel], tmp_path)
    with pytest.raises(pytest.fail.Exception, match="heap-buffer-overflow"):
        run_host(program, kernel, arrays_of(kernel), {})


def test_the_host_check_sees_a_missing_barrier(tmp_path: Path) -> None:
    kernel = KERNELS["transpose"]
    program = build_host(generate([kernel]).replace("__syncthreads();", ""), [kernel], tmp_path)
    expected, got = arrays_of(kernel), arrays_of(kernel)
    run_kernel(kernel, expected, {})
    run_host(program, kernel, got, {})
    assert not np.array_equal(got["y"], expected["y"], equal_nan=True)


def test_the_host_check_sees_a_barrier_that_some_threads_never_reach(tmp_path: Path) -> None:
    kernel = KERNELS["transpose"]
    source = generate([kernel]).replace(
        "__syncthreads();", "if (threadIdx.x != 3) __syncthreads();"
    )
    program = build_host(source, [kernel], tmp_path)
    with pytest.raises(pytest.fail.Exception, match="is done while others wait at a barrier"):
        run_host(program, kernel, arrays_of(kernel), {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "kernel k(out y: float32[8]) { for t in 8 thread_x { y[t] = exp(1.0) } }",
            "function exp: expected one expanded into arithmetic",
        ),
        (
            "kernel k(out y: float32[2048]) { for t in 2048 thread_x { y[t] = 1.0 } }",
            "kernel k: at most 1024 threads per block, got 2048",
        ),
        (
            "kernel k(in n: int64[1], out y: float32[8]) { for b in n[0] block_x { y[b] = 1.0 } }",
            "kernel k: the grid may depend on symbols only",
        ),
        (
            "kernel k(out y: float32[70000]) { for b in 70000 block_y { y[b] = 1.0 } }",
            "kernel k: at most 65535 blocks along y, got 70000",
        ),
        (
            "kernel k(out y: float32[8]) { y[0] = 0.0 for t in 8 thread_x { y[t] = 1.0 } }",
            "kernel k: a store stands outside of the thread loops",
        ),
        (
            "kernel k(out y: float32[N]) { for t in N thread_x { y[t] = 1.0 } }",
            "kernel k: the thread_x loop t needs a constant extent",
        ),
    ],
)
def test_what_cannot_be_launched_is_refused(text: str, message: str) -> None:
    with pytest.raises(IRError, match=message.replace("(", r"\(")):
        generate([parse_kernel(text)])


def test_what_an_expression_repeats_is_computed_once() -> None:
    body = "x[t]"
    for _ in range(40):
        body = f"({body} + 1.0)"
    head = "kernel k(in x: float32[8], out y: float32[8]) { for t in 8 thread_x {"
    source = generate([parse_kernel(f"{head} y[t] = {body} * {body} }} }}")])
    assert source.count("x[t]") == 1
    assert source.count("1.0f") == 40
    guarded = parse_kernel(f"{head} y[t] = select(t < 4, x[t] * x[t], 0.0) }} }}")
    assert "y[t] = t < 4 ? x[t] * x[t] : 0.0f;" in generate([guarded])
