"""LLVM modules: functions with the declarations and attributes that they need."""

from __future__ import annotations

import re
from collections.abc import Iterable

from convc.codegen.llvm_kernel import kernel_function
from convc.loops.ir import Kernel
from convc.loops.parser import parse_kernel
from convc.target import Target

_KERNEL = "kernel "


def llvm_text(text: str, target: Target) -> str:
    """The text of an LLVM module, which may be given as a kernel in loop IR: a tenth as long, where it is unrolled."""
    return kernels_module([parse_kernel(text)], target) if text.startswith(_KERNEL) else text


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
