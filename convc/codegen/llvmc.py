"""LLVM IR text to machine code. The only module that imports llvmlite, and the first call is what loads it."""

from __future__ import annotations

import functools
import importlib
from typing import Any

from convc.codegen import resident
from convc.errors import IRError, TargetError
from convc.target import Target

QUICK = "; compiled quickly: each line runs once per call\n"
"""The first line of a module for which LLVM is not to search for the best code."""

# LLVM's own names of the optimisation pipelines that `optimize` runs.
_PIPELINES = ("O1", "O2", "O3")


def compile_object(ir_text: str, target: Target, optimize: str | None = None) -> bytes:
    """The relocatable ELF object of one LLVM module, position independent.

    Instruction selection and scheduling run at their highest level, or at their lowest for a text that begins
    with `QUICK`; `optimize` (O1, O2, O3) runs LLVM's middle end before, which kernels don't need: their loops are
    already what the schedule wrote.
    IRError names the line that LLVM refuses.
    """
    machine = _machine(target, 0 if ir_text.startswith(QUICK) else 3)
    return bytes(machine.emit_object(_parse(ir_text, machine, optimize)))


def assembly(ir_text: str, target: Target, optimize: str | None = None) -> str:
    """The assembly text of one LLVM module."""
    machine = _machine(target)
    return str(machine.emit_assembly(_parse(ir_text, machine, optimize)))


def host_cpu() -> tuple[str, frozenset[str]]:
    """LLVM's name of this machine's CPU and the features that it has, in LLVM's spelling."""
    binding = _binding()
    features = binding.get_host_cpu_features()
    return str(binding.get_host_cpu_name()), frozenset(f for f, on in features.items() if on)


def host_triple() -> str:
    """LLVM's name of this machine, `x86_64-unknown-linux-gnu` for one."""
    return str(_binding().get_process_triple())


def version() -> str:
    """LLVM's version, which belongs into every cache key."""
    return ".".join(map(str, _binding().llvm_version_info))


@functools.cache
def package_version() -> str:
    """The version of llvmlite, LLVM's with it, without loading it."""
    import importlib.metadata  # a worker, whose start counts, never asks

    return importlib.metadata.version("llvmlite")


def is_loaded() -> bool:
    """Whether this process has loaded LLVM."""
    return _binding.cache_info().currsize > 0


def give_back() -> None:
    """Gives back the memory that LLVM takes between two compilations, as far as it is loaded, and the free heap."""
    if is_loaded():
        resident.give_back("llvmlite")
    else:
        resident.trim()


@functools.cache
def _binding() -> Any:
    binding = importlib.import_module("llvmlite.binding")
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    binding.initialize_native_asmparser()
    return binding


@functools.cache
def _machine(target: Target, level: int = 3) -> Any:
    binding = _binding()
    try:
        description = binding.Target.from_triple(target.triple)
    except RuntimeError as error:
        raise TargetError(
            f"target {target.name}: LLVM has no {target.triple!r} ({error})"
        ) from None
    return description.create_target_machine(
        cpu=target.cpu,
        features=",".join(f"+{f}" for f in target.features),
        opt=level,
        reloc="pic",
        codemodel="small",
    )


def _parse(ir_text: str, machine: Any, optimize: str | None) -> Any:
    binding = _binding()
    _refuse_foreign_assembly(binding, ir_text, machine)
    try:
        module = binding.parse_assembly(ir_text)
        module.triple = machine.triple
        module.data_layout = str(machine.target_data)
        module.verify()
    except RuntimeError as error:
        raise IRError(f"LLVM refuses the module: {' '.join(str(error).split())}") from None
    if optimize is not None:
        _optimize(binding, machine, module, optimize)
    return module


def _refuse_foreign_assembly(binding: Any, ir_text: str, machine: Any) -> None:
    """llvmlite has the assembler of the machine that it runs on only; LLVM aborts without one."""
    here, there = (t.partition("-")[0] for t in (binding.get_process_triple(), machine.triple))
    if here != there and " asm " in ir_text:
        raise TargetError(f"support code for {there} holds assembly: it can't be made on {here}")


def _optimize(binding: Any, machine: Any, module: Any, level: str) -> None:
    if level not in _PIPELINES:
        raise IRError(f"unknown pipeline {level!r}: expected one of {', '.join(_PIPELINES)}")
    tuning = binding.create_pipeline_tuning_options(speed_level=int(level[1]))
    builder = binding.create_pass_builder(machine, tuning)
    builder.getModulePassManager().run(module, builder)
