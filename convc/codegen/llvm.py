"""LLVM text for scheduled kernels and for the entries that call them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from convc.codegen.llvm_entry import Code, entry_function, support_functions
from convc.codegen.llvm_kernel import kernel_function
from convc.codegen.llvm_module import module
from convc.codegen.llvmc import QUICK
from convc.codegen.support import support_ir
from convc.loops.families import family_of
from convc.loops.ir import Kernel, LoopKind
from convc.program.ir import Program
from convc.program.printer import print_program
from convc.target import Target


def entry_name(prefix: str, entry: str) -> str:
    """The function of an entry."""
    return f"{prefix}_entry_{entry}"


def program_module(program: Program, target: Target, prefix: str) -> str:
    """A module with all kernels and entries of a program; every function's name starts with the prefix."""
    codes = {name: Code(family_of(kernel), prefix) for name, kernel in program.kernels.items()}
    functions = [kernel_function(c.family.kernel, target, c.name) for c in distinct(codes.values())]
    functions += entry_functions(program, prefix, codes)
    return module([support_functions(prefix), *functions], target)


def entry_functions(program: Program, prefix: str, codes: Mapping[str, Code]) -> list[str]:
    """The functions of a program's entries, which call the code of its kernels."""
    return [
        entry_function(program, e, prefix, entry_name(prefix, e.name), codes)
        for e in program.entries
    ]


def distinct(codes: Iterable[Code]) -> list[Code]:
    """The codes of different names: one of each family."""
    return list({c.name: c for c in codes}.values())


@dataclass(frozen=True)
class Unit:
    """What becomes one object: `identity` is all that its code follows from, `text` writes the LLVM module.

    A `baseline` unit runs on every machine of the instruction set. Of a `short` one the identity is a kernel's loop IR,
    under its function's name, which is read much faster than its module is written.
    """

    name: str
    identity: str
    text: Callable[[], str]
    baseline: bool = False
    short: bool = False


_UNROLLED = f" {LoopKind.unrolled.value} {{"
_SHORT = 4000
"""Characters of a kernel with unrolled loops: a thousand are read in 1 ms, its module is written in 5 to 20."""


class Units:
    """The units of a program's kernels, each made once."""

    def __init__(self, target: Target, prefix: str) -> None:
        self.target = target
        self.prefix = prefix
        self._known: dict[str, tuple[Kernel, Code, Unit]] = {}

    def of(self, kernel: Kernel) -> Unit:
        """The unit of a scheduled kernel: nothing else of its program matters to it."""
        return self._made(kernel)[2]

    def _made(self, kernel: Kernel) -> tuple[Kernel, Code, Unit]:
        known = self._known.get(kernel.name)
        if known is not None and known[0] is kernel:
            return known
        code = Code(family_of(kernel), self.prefix)
        family, text = code.family, code.family.under(code.name)
        unit = Unit(
            family.name,
            text,
            lambda: module([kernel_function(family.kernel, self.target, code.name)], self.target),
            short=_UNROLLED in text and len(text) < _SHORT,
        )
        self._known[kernel.name] = (kernel, code, unit)
        return self._known[kernel.name]

    def of_program(self, program: Program) -> list[Unit]:
        """One unit per family of kernels and one for the entries, so that equal code is made once in a lifetime."""
        made = {name: self._made(kernel) for name, kernel in program.kernels.items()}
        codes = {name: code for name, (_, code, _) in made.items()}

        def entries() -> str:
            declared = (
                f"declare hidden void @{c.name}(ptr, i64, i64)\n" for c in distinct(codes.values())
            )
            functions = entry_functions(program, self.prefix, codes)
            support = support_functions(self.prefix)
            return QUICK + module([support, "".join(declared), *functions], self.target)

        # Kernels of other families and sizes may have the same names in a program of the same text.
        called = "".join(f"{n} {c.name} {c.family.arguments}\n" for n, c in codes.items())
        text = f"entries of {self.prefix}\n{called}{print_program(program)}"
        units = {unit.name: unit for _, _, unit in made.values()}
        return [*units.values(), Unit("entries", text, entries)]


def support_unit(target: Target, prefix: str) -> Unit:
    """The unit of the support code."""
    text = support_ir(target, prefix)
    return Unit("support", text, lambda: text, baseline=True)
