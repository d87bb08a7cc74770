"""Reads graph text (the grammar at the top of graph/ir.py) back into the same graph."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from convc.graph.ir import Array, Builder, Graph, Node, type_of
from convc.graph.op import OPERATORS, Op, OpError
from convc.text import Tokens
from convc.types import DType, TensorType, size_of

WORDS: dict[str, Any] = {
    "none": None, "true": True, "false": False, "inf": float("inf"), "nan": float("nan"),
    **{d.value: d for d in DType},
}  # fmt: skip


def parse_graph(text: str, weights: Mapping[str, Array] | None = None) -> Graph:
    """The graph of a text, its types inferred; arrays of weights without values come from `weights`.

    IRError names line and column where the text breaks the grammar, or where a node can't be typed.
    """
    parser = _Parser(Tokens(text, "graph text"), weights or {})
    graph = parser.graph()
    parser.end()
    return graph


def parse_literal(text: str) -> Any:
    """An attribute's value from its text; IRError where there is none."""
    parser = _Parser(Tokens(text, "literal"), {})
    value = parser.literal()
    parser.end()
    return value


class _Parser:
    """Recursive descent that feeds a builder."""

    def __init__(self, tokens: Tokens, weights: Mapping[str, Array]) -> None:
        self.tokens = tokens
        self.weights = weights

    def end(self) -> None:
        if self.tokens.token.kind != "end":
            self.tokens.fail(f"expected the end, got {self.tokens.describe()}")

    def graph(self) -> Graph:
        self.tokens.expect("graph")
        self.builder = Builder(self.name("the graph's name"))
        self.tokens.expect("(")
        while not self.tokens.accept(")"):
            self.define(self.builder.input)
            self.tokens.separator(")")
        self.tokens.expect("->")
        self.tokens.expect("(")
        outputs = self.names(")")
        self.tokens.expect("{")
        while not self.tokens.accept("}"):
            if self.tokens.at("weight") and self.tokens.ahead(1).kind in ("name", "string"):
                self.weight()
            else:
                self.node()
        missing = [name for name in outputs if name not in self.builder.types]
        if missing:
            self.tokens.fail(f"output {missing[0]!r} is not defined")
        b = self.builder
        return Graph(b.name, tuple(b.inputs), outputs, tuple(b.nodes), b.types, b.weights)

    # ------------------------------------------------------------ declarations

    def define(self, add: Any) -> None:
        at = self.tokens.token.offset
        name = self.name("a value's name")
        self.tokens.expect(":")
        type = self.tokens.tensor_type()
        try:
            add(name, type)
        except OpError as error:
            self.tokens.fail(str(error), at)

    def weight(self) -> None:
        self.tokens.expect("weight")
        at = self.tokens.token.offset
        name = self.name("the weight's name")
        self.tokens.expect(":")
        type = self.tokens.tensor_type()
        if name in self.builder.types:
            self.tokens.fail(f"value {name!r} is defined twice", at)
        if self.tokens.accept("="):
            array = self.elements(type)
        elif name in self.weights:
            array = self.weights[name]
        else:
            self.tokens.fail(f"weight {name!r} has neither values here nor an array", at)
        if type_of(array) != type:
            self.tokens.fail(f"weight {name!r} expects {type}, the array is {type_of(array)}", at)
        self.builder.weight(name, array)

    def elements(self, wanted: TensorType) -> Array:
        at = self.tokens.expect("[").offset
        values = []
        while not self.tokens.accept("]"):
            values.append(self.literal())
            self.tokens.separator("]")
        count = size_of(wanted.shape)
        if len(values) != count:
            self.tokens.fail(f"{wanted} expects {count} values, got {len(values)}", at)
        kinds: tuple[type, ...] = (int, float) if wanted.dtype.is_float else (int,)
        if wanted.dtype is DType.bool:
            kinds = (bool,)
        strange = [v for v in values if type(v) not in kinds]
        if strange:
            self.tokens.fail(f"expected {wanted.dtype.value} values, got {strange[0]}", at)
        wide = np.array(values, np.float64 if wanted.dtype.is_float else wanted.dtype.numpy)
        return wide.astype(wanted.dtype.numpy).reshape(wanted.shape)  # type: ignore[arg-type]

    def node(self) -> None:
        at = self.tokens.token.offset
        outputs = self.names("=")
        op_at = self.tokens.token
        mnemonic = self.tokens.name("an operator")
        if mnemonic not in OPERATORS:
            self.tokens.fail(f"unknown operator {mnemonic!r}", op_at.offset)
        self.tokens.expect("(")
        inputs = self.names(")")
        op = self.operator(OPERATORS[mnemonic])
        layer = self.string() if self.tokens.accept("from") else ""
        try:
            self.builder.emit(Node(op, inputs, outputs, layer))
        except (OpError, TypeError, ValueError) as error:
            self.tokens.fail(str(error), at)

    def operator(self, cls: type[Op]) -> Op:
        known, attributes = [f.name for f in fields(cls)], {}
        if self.tokens.accept("{"):
            while not self.tokens.accept("}"):
                at = self.tokens.token.offset
                name = self.tokens.name("an attribute")
                if name not in known:
                    expected = ", ".join(known) or "none"
                    self.tokens.fail(
                        f"{cls.mnemonic} has no {name!r}, its attributes: {expected}", at
                    )
                self.tokens.expect("=")
                attributes[name] = self.literal()
                self.tokens.separator("}")
        return cls(**attributes)

    # ------------------------------------------------------------ words

    def name(self, meaning: str) -> str:
        return self.string() if self.tokens.token.kind == "string" else self.tokens.name(meaning)

    def names(self, end: str) -> tuple[str, ...]:
        """Names separated by commas, up to a closing symbol."""
        found = []
        while not self.tokens.accept(end):
            found.append(self.name("a value's name"))
            self.tokens.separator(end)
        return tuple(found)

    def string(self) -> str:
        return str(json.loads(self.tokens.take("string", "a string").text))

    def literal(self) -> Any:
        """A number, string, word, dtype, polynomial over symbols, or a tuple of these."""
        token = self.tokens.token
        if token.kind == "string":
            return self.string()
        if self.tokens.accept("("):
            values = []
            while not self.tokens.accept(")"):
                values.append(self.literal())
                self.tokens.separator(")")
            return tuple(values)
        if token.text in WORDS:
            return WORDS[self.tokens.next().text]
        after = self.tokens.ahead(1).text if token.text == "-" else token.text
        if after == "inf":
            self.tokens.next(), self.tokens.next()
            return -float("inf")
        return self.tokens.extent() if after.isdigit() or after.isidentifier() else self.real()

    def real(self) -> float:
        sign = -1.0 if self.tokens.accept("-") else 1.0
        at = self.tokens.token
        try:
            return sign * float(self.tokens.take("number", "a value").text)
        except ValueError:
            self.tokens.fail(f"expected a number, got {at.text!r}", at.offset)
