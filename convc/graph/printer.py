"""Graphs as text, in the grammar at the top of graph/ir.py. `parser.parse_graph` reads it back.

A weight of at most 16 elements is printed with its values, so that small graphs are whole in their text; of larger
ones only the name and the type. A node ends with its outputs' types as a comment. Attributes at their default
are left out.
"""

from __future__ import annotations

import json
import re
from dataclasses import MISSING, Field, fields
from typing import Any

import numpy as np

from convc.graph.ir import Array, Graph, Node
from convc.graph.op import Op
from convc.types import Dim, DType

INLINE = 16
"""The most elements of a weight whose values are printed."""

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z0-9_]+)*")


def print_graph(graph: Graph) -> str:
    """The graph's text, ending with a newline."""
    inputs = ", ".join(f"{print_name(n)}: {graph.types[n]}" for n in graph.inputs)
    outputs = ", ".join(map(print_name, graph.outputs))
    lines = [f"graph {print_name(graph.name)}({inputs}) -> ({outputs}) {{"]
    lines += [f"  {print_weight(n, array)}" for n, array in graph.weights.items()]
    for node in graph.nodes:
        types = ", ".join(str(graph.types[n]) for n in node.outputs if n in graph.types)
        lines.append(f"  {print_node(node)}  # {types}")
    return "\n".join([*lines, "}", ""])


def print_node(node: Node) -> str:
    """One node on one line."""
    outputs = ", ".join(map(print_name, node.outputs))
    layer = f" from {json.dumps(node.layer, ensure_ascii=False)}" if node.layer else ""
    inputs = ", ".join(map(print_name, node.inputs))
    return f"{outputs} = {node.op.mnemonic}({inputs}){print_attributes(node.op)}{layer}"


def print_attributes(op: Op) -> str:
    """` {name=literal, …}` for the attributes that differ from their default, or nothing."""
    shown = [
        f"{f.name}={print_literal(getattr(op, f.name))}"
        for f in fields(op)
        if not is_default(f, getattr(op, f.name))
    ]
    return f" {{{', '.join(shown)}}}" if shown else ""


def is_default(field: Field[Any], value: Any) -> bool:
    """Whether a value is the field's default, in value and kind (True is not 1)."""
    return field.default is not MISSING and repr(field.default) == repr(value)


def print_weight(name: str, array: Array) -> str:
    """The declaration of a weight, with its values where they are few."""
    dtype = DType.of(array.dtype)
    text = f"weight {print_name(name)}: {dtype.value}[{', '.join(map(str, array.shape))}]"
    if array.size > INLINE:
        return text
    return f"{text} = [{', '.join(print_element(v) for v in array.reshape(-1))}]"


def print_element(value: Any) -> str:
    """The shortest text that reads back as the same number."""
    if isinstance(value, np.bool_):
        return str(bool(value)).lower()
    # bfloat16 prints whole numbers without a point, and minus zero as -0.
    return str(float(value)) if DType.of(value.dtype) is DType.bfloat16 else str(value)


def print_name(name: str) -> str:
    """A name, in quotes where it isn't a plain word."""
    return name if NAME.fullmatch(name) else json.dumps(name, ensure_ascii=False)


def print_literal(value: Any) -> str:
    """An attribute's value; TypeError for a kind that has no text."""
    match value:
        case None:
            return "none"
        case bool():
            return str(value).lower()
        case int() | float() | Dim():
            return str(value)
        case str():
            return json.dumps(value, ensure_ascii=False)
        case DType():
            return value.value
        case tuple():
            comma = "," if len(value) == 1 else ""
            return f"({', '.join(map(print_literal, value))}{comma})"
    raise TypeError(f"an attribute of type {type(value).__name__} has no text: {value!r}")
