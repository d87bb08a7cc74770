"""Programs as text: the grammar of program/ir.py."""

from __future__ import annotations

from convc.program.ir import Argument, Entry, Port, Program, Region, Step


def print_program(program: Program) -> str:
    """The text of a program. Kernels and the contents of weights stand beside it, by name."""
    lines = [f"program {program.name} {{"]
    lines += [f"  {print_region(region)}" for region in program.regions]
    for entry in program.entries:
        lines += [f"  {line}" for line in print_entry(entry).splitlines()]
    return "\n".join([*lines, "}"])


def print_region(region: Region) -> str:
    place = f" at {region.offset}" if region.offset is not None else ""
    return f'{region.kind.value} "{region.name}": {region.size} bytes{place}'


def print_entry(entry: Entry) -> str:
    inputs = ", ".join(map(print_port, entry.inputs))
    outputs = ", ".join(map(print_port, entry.outputs))
    steps = [f"  {print_step(step)}" for step in entry.steps]
    return "\n".join([f"entry {entry.name}({inputs}) -> ({outputs}) {{", *steps, "}"])


def print_port(port: Port) -> str:
    return f'{port.name}: {port.type} in "{port.region}"'


def print_step(step: Step) -> str:
    layers = ", ".join(f'"{layer}"' for layer in step.layers)
    arguments = ", ".join(map(print_argument, step.args))
    value = f'"{step.value}" = ' if step.value else ""
    return f"{value}{step.kernel}({arguments})" + (f" from {layers}" if layers else "")


def print_argument(argument: Argument) -> str:
    offset = f" + {argument.offset}" if argument.offset else ""
    return f'"{argument.region}"{offset}'
