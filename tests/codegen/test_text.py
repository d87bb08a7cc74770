"""The LLVM text of a kernel follows from the kernel alone: objects are kept under hashes of it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from convc.codegen.llvm_module import kernels_module
from convc.loops.parser import parse_kernel
from convc.target import TARGETS

KERNEL = """
kernel f(in x: float32[8], out y: float32[8]) {
  for t in 2 parallel {
    alloc a: float32[4] register
    alloc b: float32[] register
    b[] = 1.0
    for i in 4 unrolled { a[i] = 0.0 }
    if t < 1 { for i in 4 unrolled { a[i] = x[t * 4 + i] } b[] = 2.0 }
    for i in 4 unrolled { y[t * 4 + i] = a[i] + b[] }
  }
}
"""
SCRIPT = """
import sys
from convc.codegen.llvm_module import kernels_module
from convc.loops.parser import parse_kernel
from convc.target import TARGETS
print(kernels_module([parse_kernel(sys.argv[1])], TARGETS["x86-64-avx2"]))
"""


def written(seed: int) -> str:
    """The text of the kernel in a process that hashes strings differently."""
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, KERNEL],
        env={**os.environ, "PYTHONHASHSEED": str(seed)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
    ).stdout


def test_a_kernels_text_is_the_same_in_every_process() -> None:
    texts = {written(seed) for seed in range(3)}
    (text,) = texts
    assert text.count(" phi float") == 5


@pytest.mark.parametrize(("accesses", "frozen"), [(3, 0), (4, 2)])
def test_pointers_with_many_accesses_are_settled(accesses: int, frozen: int) -> None:
    n = accesses
    text = (
        f"kernel f(in x: float32[{2 * n}], out y: float32[{2 * n}]) {{ for t in 2 parallel {{ "
        f"for i in {n} unrolled {{ y[t * {n} + i] = x[t * {n} + i] }} }} }}"
    )
    found = kernels_module([parse_kernel(text)], TARGETS["x86-64-avx2"])
    assert found.count(" = freeze ptr ") == frozen


def test_conditions_of_unrolled_variables_are_decided_by_the_generator() -> None:
    text = (
        "kernel f(in x: float32[4], out y: float32[4]) { for i in 4 unrolled { "
        "y[i] = select((i < 3) & (0 < i), x[i - 1], 0.0) if i < 1 { y[3] = 1.0 } } }"
    )
    code = kernels_module([parse_kernel(text)], TARGETS["x86-64-avx2"])
    assert "br i1" not in code
    assert code.count("load float") == 2
