"""No kernel reaches the generator except a formula's, scheduled."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import convc
from convc.codegen import llvm
from convc.loops.families import family_of
from convc.loops.ir import Kernel
from convc.loops.verify import verify_kernel
from convc.lower.program import lower
from convc.passes.decompose import Decompose
from convc.plan.memory import plan_memory
from convc.program.verify import verify_program
from convc.schedule import program as schedules
from convc.schedule.choices import Choice
from convc.target import TARGETS, Target
from tests.ops.cases import CASES

ROOT = Path(convc.__file__).parent
GENERATORS = ("codegen", "driver.py", "artifact.py", "plan", "program", "cli")


@pytest.mark.parametrize("place", GENERATORS)
def test_nobody_behind_the_schedules_makes_a_kernel(place: str) -> None:
    start = ROOT / place
    files = [start] if start.is_file() else sorted(start.rglob("*.py"))
    assert files
    for file in files:
        if file.name in ("peak.py", "bounds.py"):
            continue  # what a machine can do at the most is measured by kernels of their own
        for node in ast.walk(ast.parse(file.read_text())):
            made = (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "Kernel"
            )
            assert not made, f"{file.relative_to(ROOT)}:{getattr(node, 'lineno', 0)} makes a kernel"


@pytest.mark.parametrize("case", CASES[::9], ids=lambda c: c.name)
def test_what_the_generator_gets_was_lowered_and_scheduled(
    case: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduled: dict[int, Kernel] = {}
    plain = schedules.schedule_kernel
    lowered = lower({"predict": Decompose()(case.graph())})  # type: ignore[attr-defined]
    sources = {id(k) for k in lowered.kernels.values()}

    def watched(kernel: Kernel, target: Target, choice: Choice) -> Kernel:
        assert id(kernel) in sources
        result = plain(kernel, target, choice)
        scheduled[id(result)] = result
        return result

    monkeypatch.setattr(schedules, "schedule_kernel", watched)
    target = TARGETS["x86-64-avx2"]
    program = plan_memory(schedules.schedule(lowered, target))
    verify_program(program)
    generated: list[Kernel] = []

    def written(kernel: Kernel, target: Target, name: str) -> str:
        generated.append(kernel)
        return ""

    monkeypatch.setattr(llvm, "kernel_function", written)
    llvm.program_module(program, target, "m")
    for kernel in program.kernels.values():
        assert id(kernel) in scheduled
        assert dict(kernel.notes)["strategy"]
        verify_kernel(kernel)
    families = [family_of(kernel).kernel for kernel in program.kernels.values()]
    assert list(dict.fromkeys(generated)) == list(dict.fromkeys(families))
