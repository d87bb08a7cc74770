"""LLVM text for scheduled kernels and for the entries that call them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from convc.codegen.llvm_entry import entry_function, support_functions
from convc.codegen.llvm_kernel import kernel_function
from convc.codegen.llvmc import QUICK
from convc.codegen.support import support_ir
from convc.loops.ir import Kernel
from convc.loops.printer import print_kernel
from convc.program.ir import Program
from convc.program.printer import print_program
from convc.target import Target


def module(functions: Iterable[str], target: Target) -> str:
    """A module of the given functions: target, attributes and the declarations of what they use."""
    body = "\n\n".join(functions)
    features = ",".join(f"+{f}" for f in target.features)
    width = target.vector_bytes * 8
    attributes = (
        f'attributes #0 = {{ nounwind "target-cpu"="{target.cpu}" "target-features"="{features}" '
        f'"prefer-vector-width"="{width}" "min-legal-vector-width"="{width}" }}'
    )
    header = f'target triple = "{target.triple}"'
    return "\n\n".join([header, body, "\n".join(_declarations(body)), attributes]) + "\n"


def kernels_module(kernels: Iterable[Kernel], target: Target) -> str:
    """A module with one function per kernel, under the kernels' names."""
    return module((kernel_function(k, target, k.name) for k in kernels), target)


def entry_name(prefix: str, entry: str) -> str:
    """The function of an entry."""
    return f"{prefix}_entry_{entry}"


def kernel_name(prefix: str, kernel: str) -> str:
    """The function of a kernel."""
    return f"{prefix}_k_{kernel}"


def program_module(program: Program, target: Target, prefix: str) -> str:
    """A module with all kernels and entries of a program; every function's name starts with the prefix."""

    def named(kernel: str) -> str:
        return kernel_name(prefix, kernel)

    functions = [kernel_function(k, target, named(n)) for n, k in program.kernels.items()]
    functions += [
        entry_function(program, e, prefix, entry_name(prefix, e.name), named)
        for e in program.entries
    ]
    return module([support_functions(prefix), *functions], target)


@dataclass(frozen=True)
class Unit:
    """What becomes one object: `identity` is all that its code follows from, `text` writes the LLVM module.

    A `baseline` unit runs on every machine of the instruction set.
    """

    name: str
    identity: str
    text: Callable[[], str]
    baseline: bool = False


def kernel_unit(kernel: Kernel, target: Target, prefix: str) -> Unit:
    """The unit of a scheduled kernel: nothing else of its program matters to it."""
    name = kernel_name(prefix, kernel.name)
    return Unit(
        kernel.name,
        f"{name}\n{print_kernel(kernel)}",
        lambda: module([kernel_function(kernel, target, name)], target),
    )


def support_unit(target: Target, prefix: str) -> Unit:
    """The unit of the support code."""
    text = support_ir(target, prefix)
    return Unit("support", text, lambda: text, baseline=True)


def program_units(program: Program, target: Target, prefix: str) -> list[Unit]:
    """One unit per kernel and one for the entries, so that equal kernels are compiled once in a lifetime."""

    def named(kernel: str) -> str:
        return kernel_name(prefix, kernel)

    def entries() -> str:
        declared = (f"declare hidden void @{named(k)}(ptr, i64, i64)\n" for k in program.kernels)
        functions = [
            entry_function(program, e, prefix, entry_name(prefix, e.name), named)
            for e in program.entries
        ]
        return QUICK + module([support_functions(prefix), "".join(declared), *functions], target)

    units = [kernel_unit(k, target, prefix) for k in program.kernels.values()]
    units.append(Unit("entries", f"entries of {prefix}\n{print_program(program)}", entries))
    return units


_CALL = re.compile(r"call ([^@\n]+?) (@llvm\.[\w.]+)\(([^\n]*)\)\n", re.MULTILINE)
_ARGUMENT = re.compile(r"(ptr|void|i\d+|float|double|half|bfloat|<\d+ x \w+>)(?= )")


def _declarations(body: str) -> list[str]:
    """A declaration for each LLVM intrinsic that is called, read off its calls."""
    found: dict[str, str] = {}
    for match in _CALL.finditer(body + "\n"):
        result, name, arguments = match.groups()
        if name not in found:
            types = _argument_types(arguments)
            immediate = _IMMEDIATE.get(name.split(".")[1], ())
            marked = [f"{t} immarg" if i in immediate else t for i, t in enumerate(types)]
            found[name] = f"declare {result} {name}({', '.join(marked)})"
    return sorted(found.values())


# Arguments that must be constants, by intrinsic family.
_IMMEDIATE = {"prefetch": (1, 2, 3), "abs": (1,)}


def _argument_types(arguments: str) -> list[str]:
    """The types of a call's arguments: the text up to each value, attributes left out."""
    types, depth, start = [], 0, 0
    for i, c in enumerate([*arguments, ","]):
        depth += (c in "<([") - (c in ">)]")
        if c == "," and depth == 0:
            match = _ARGUMENT.match(arguments[start:i].strip())
            assert match is not None, arguments
            types.append(match.group(1))
            start = i + 1
    return types
