"""Programs as text: the grammar of program/ir.py."""

from __future__ import annotations

import json
import re
from itertools import groupby

from convc.loops.printer import print_kernel, print_layout
from convc.program.ir import Argument, Cut, Entry, Port, Program, Region, Share, Step

_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z0-9_]+)*")


def print_program(program: Program, kernels: bool = False) -> str:
    """The text of a program; with `kernels`, their texts follow. The contents of weights stand beside it, by name."""
    lines = [f"program {print_name(program.name)} {{"]
    if program.arena != 0:
        lines.append(f"  workspace {program.arena} bytes")
    lines += [f"  {print_region(region)}" for region in program.regions]
    for entry in program.entries:
        lines += [f"  {line}" for line in print_entry(entry).splitlines()]
    text = "\n".join([*lines, "}"])
    return "\n\n".join([text, *map(print_kernel, program.kernels.values())]) if kernels else text


def print_region(region: Region) -> str:
    place = f" at {region.offset}" if region.offset is not None else ""
    text = f"{region.kind.value} {print_string(region.name)}: {region.size} bytes{place}"
    if region.held is None:
        return text
    type, layout = region.held.type, region.held.layout
    return f"{text} holds {type}{print_layout(layout, type.rank)}"


def print_entry(entry: Entry) -> str:
    inputs = ", ".join(map(print_port, entry.inputs))
    outputs = ", ".join(map(print_port, entry.outputs))
    lines = [f"entry {print_name(entry.name)}({inputs}) -> ({outputs}) {{"]
    for symbol, steps in groupby(entry.steps, key=lambda step: step.each):
        indent = "    " if symbol else "  "
        inside = [f"{indent}{print_step(step)}" for step in steps]
        lines += [f"  each {symbol} {{", *inside, "  }"] if symbol else inside
    return "\n".join([*lines, "}"])


def print_port(port: Port) -> str:
    return f"{print_name(port.name)}: {port.type} in {print_string(port.region)}"


def print_step(step: Step) -> str:
    layers = ", ".join(map(print_string, step.layers))
    arguments = ", ".join(map(print_argument, step.args))
    value = f"{print_string(step.value)} = " if step.value else ""
    share = f" {print_share(step.share)}" if step.share else ""
    return f"{value}{step.kernel}({arguments}){share}" + (f" from {layers}" if layers else "")


def print_share(share: Share) -> str:
    cuts = print_cut(share.cut)
    if share.single is not None:
        cuts = f"{print_cut(share.single)} or {cuts}"
    if share.least is None:
        return f"alone {cuts}, {share.time} ns"
    condition = f" if {share.product} >= {share.least}" if share.least > 1 else ""
    return f"share {cuts}{condition}, {share.time} ns"


def print_cut(cut: Cut) -> str:
    return f"{cut.rows} x {cut.length}"


def print_argument(argument: Argument) -> str:
    offset = f" + {argument.offset}" if argument.offset else ""
    return f"{print_string(argument.region)}{offset}"


def print_name(name: str) -> str:
    """A name as it is where it is a word, else as a string."""
    return name if _PLAIN_NAME.fullmatch(name) else print_string(name)


def print_string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
