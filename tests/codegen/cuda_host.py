"""Builds and runs generated CUDA source on the host, through cuda_shim.h, under sanitizers."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from convc.codegen.cuda_prelude import C_TYPES
from convc.loops.ir import Kernel, Role
from convc.loops.memory import pack, physical_size, poison, unpack
from convc.program.ir import Entry

SHIM = Path(__file__).parent / "cuda_shim.h"
HOST_FLAGS = [
    "-std=c++17", "-O1", "-g0", "-w", "-ffp-contract=off", "-fsanitize=address,undefined", "-fno-sanitize-recover=all",
    "-ftrivial-auto-var-init=pattern",
]  # fmt: skip
Array = NDArray[Any]


def nvcc() -> str:
    """The CUDA compiler, or a skip."""
    found = shutil.which("nvcc")
    if found is None:
        pytest.skip("no nvcc on this machine")
    return found


def compile_device(source: str, architecture: str, folder: Path) -> None:
    """Compiles for a GPU with every warning an error; nothing runs."""
    path = folder / f"{architecture}.cu"
    path.write_text(source)
    flags = ["-std=c++17", "-fmad=false", "-Werror", "all-warnings", f"-arch={architecture}", "-c"]
    run([nvcc(), *flags, "-o", str(path.with_suffix(".o")), str(path)])


def build_host(source: str, kernels: Sequence[Kernel], folder: Path) -> Path:
    """A program that runs any of the kernels on files; a skip without a C++ compiler.

    Its arguments: the kernel's name, a seed for the order of threads, the files of its buffers, its symbols' values.
    """
    main = ["  const std::string name = argv[1];", "  shim::generator.seed(std::atoi(argv[2]));"]
    for kernel in kernels:
        main += _call(kernel)
    main += ['  shim::fail("no kernel " + name);']
    return _build(source, main, folder)


def build_host_program(source: str, entry: Entry, folder: Path) -> Path:
    """A program that runs an entry: a seed, the files of weights, inputs and outputs, the symbols' values.

    The workspace is NaN everywhere at first.
    """
    count = len(entry.inputs) + len(entry.outputs) + 1
    main = [
        "  shim::generator.seed(std::atoi(argv[1]));",
        "  std::vector<std::unique_ptr<shim::Memory>> files;",
    ]
    main += [
        f"  for (int i = 0; i < {count}; ++i) files.emplace_back(new shim::Memory(argv[2 + i]));"
    ]
    main += ["  std::vector<int64_t> symbols;"]
    main += [f"  for (int i = {count + 2}; i < argc; ++i) symbols.push_back(std::atoll(argv[i]));"]
    inputs = ", ".join(f"files[{1 + i}]->data" for i in range(len(entry.inputs)))
    outputs = ", ".join(
        f"files[{1 + len(entry.inputs) + i}]->data" for i in range(len(entry.outputs))
    )
    main += [
        f"  const void *inputs[] = {{{inputs}}};",
        f"  void *outputs[] = {{{outputs}}};",
        f"  const int64_t bytes = convc_workspace_{entry.name}(symbols.data());",
        "  void *workspace = shim::allocate(bytes);",
        "  std::memset(workspace, 0xff, bytes);",
        f"  const cudaError_t status = convc_run_{entry.name}(",
        "      files[0]->data, workspace, inputs, outputs, symbols.data(), nullptr);",
        "  std::free(workspace);",
        f"  for (int i = {1 + len(entry.inputs)}; i < {count}; ++i) files[i]->save();",
        "  return status;",
    ]
    return _build(source, main, folder)


def _build(source: str, main: Sequence[str], folder: Path) -> Path:
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler on this machine")
    for header in ("cuda_runtime.h", "cuda_fp16.h", "cuda_bf16.h"):
        (folder / header).write_text(f'#include "{SHIM}"\n')
    path = folder / "host.cpp"
    body = [source, "#include <memory>", "int main(int argc, char **argv) {", *main, "}", ""]
    path.write_text("\n".join(body))
    program = folder / "host"
    run([compiler, *HOST_FLAGS, f"-I{folder}", "-o", str(program), str(path)])
    return program


def _call(kernel: Kernel) -> list[str]:
    """The branch of main that runs one kernel: files of its buffers, then its symbols."""
    lines = [f'  if (name == "{kernel.name}") {{']
    args = []
    for i, buffer in enumerate(kernel.params):
        lines.append(f"    shim::Memory m{i}(argv[{i + 3}]);")
        args.append(f"m{i}.as<{C_TYPES[buffer.dtype]}>()")
    first = len(kernel.params) + 3
    args += [f"std::atoll(argv[{first + i}])" for i in range(len(kernel.symbols))]
    lines.append(
        f"    const cudaError_t status = convc_launch_{kernel.name}({', '.join([*args, 'nullptr'])});"
    )
    lines += [f"    m{i}.save();" for i, b in enumerate(kernel.params) if b.role is not Role.in_]
    return [*lines, "    return status;", "  }"]


def run_host(
    program: Path,
    kernel: Kernel,
    arrays: Mapping[str, Array],
    symbols: Mapping[str, int],
    seed: int = 0,
) -> None:
    """Runs one kernel on logical arrays; writes `out` and `inout` arrays in place."""
    args, paths = [], {}
    for buffer in kernel.params:
        memory = pack(arrays[buffer.name], buffer, symbols)
        if buffer.role is Role.out:
            memory = poison(buffer.dtype, physical_size(buffer, symbols))
        paths[buffer.name] = program.parent / f"{kernel.name}.{buffer.name}"
        paths[buffer.name].write_bytes(memory.tobytes())
        args.append(str(paths[buffer.name]))
    values = [str(symbols[s]) for s in kernel.symbols]
    run([str(program), kernel.name, str(seed), *args, *values])
    for buffer in kernel.params:
        if buffer.role is not Role.in_:
            flat = np.frombuffer(paths[buffer.name].read_bytes(), buffer.dtype.numpy)
            arrays[buffer.name][...] = unpack(flat, buffer, symbols)


def run(command: Sequence[str]) -> None:
    """Runs a command; its output is the failure's message."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.fail(
            f"{command[0]} ended with {done.returncode}:\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
        )
