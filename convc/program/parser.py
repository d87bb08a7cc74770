"""Reads program text (the grammar at the top of program/ir.py) back into the same program."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from convc.loops.ir import Kernel
from convc.loops.parser import parse_kernel, parse_layout
from convc.program.ir import (
    Argument,
    Array,
    Cut,
    Entry,
    Held,
    Port,
    Program,
    Region,
    RegionKind,
    Share,
    Step,
)
from convc.text import Tokens
from convc.types import Extent


def parse_program(
    text: str,
    kernels: Mapping[str, Kernel] | None = None,
    weights: Mapping[str, Array] | None = None,
) -> Program:
    """The program of a text. Kernels that the text doesn't hold come from `kernels`, weights from `weights`.

    IRError names line and column where the text breaks the grammar.
    """
    tokens = Tokens(text, "program text")
    end = _end_of_program(tokens)
    program = _Parser(Tokens(text[:end], "program text")).program()
    found = {k.name: k for k in map(parse_kernel, _kernel_texts(text, tokens, end))}
    return Program(
        program.name,
        program.regions,
        {**(kernels or {}), **found},
        program.entries,
        dict(weights or {}),
        program.arena,
    )


def _end_of_program(tokens: Tokens) -> int:
    """The offset behind the brace that closes the program."""
    depth = 0
    for token in tokens.tokens:
        if token.kind == "symbol":
            depth += {"{": 1, "}": -1}.get(token.text, 0)
            if token.text == "}" and depth == 0:
                return token.offset + 1
    return len(tokens.text)


def _kernel_texts(text: str, tokens: Tokens, start: int) -> list[str]:
    """The text of each kernel behind the program, on its own lines, so that errors point at the right place."""
    found: list[str] = []
    depth, begin = 0, start
    for token in tokens.tokens:
        if token.offset < start or token.kind != "symbol":
            continue
        depth += {"{": 1, "}": -1}.get(token.text, 0)
        if token.text == "}" and depth == 0:
            found.append("\n" * text.count("\n", 0, begin) + text[begin : token.offset + 1])
            begin = token.offset + 1
    rest = text[begin:].strip()
    return [*found, rest] if rest and not rest.startswith("#") else found


class _Parser:
    """Recursive descent over one program."""

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens

    def program(self) -> Program:
        self.tokens.expect("program")
        name = self.name("the program's name")
        self.tokens.expect("{")
        arena: Extent = 0
        if self.tokens.accept("workspace"):
            arena = self.bytes()
        regions = []
        while not self.tokens.at("entry") and not self.tokens.at("}"):
            regions.append(self.region())
        entries = []
        while not self.tokens.accept("}"):
            entries.append(self.entry())
        if self.tokens.token.kind != "end":
            self.tokens.fail(f"expected the end, got {self.tokens.describe()}")
        return Program(name, tuple(regions), {}, tuple(entries), {}, arena)

    def region(self) -> Region:
        at = self.tokens.token
        kinds = {k.value: k for k in RegionKind}
        if at.text not in kinds:
            self.tokens.fail(f"expected {', '.join(kinds)} or entry, got {self.tokens.describe()}")
        kind = kinds[self.tokens.next().text]
        name = self.string("the region's name")
        self.tokens.expect(":")
        size = self.bytes()
        offset = self.tokens.extent() if self.tokens.accept("at") else None
        return Region(name, kind, size, offset, self.held())

    def held(self) -> Held | None:
        if not self.tokens.accept("holds"):
            return None
        type = self.tokens.tensor_type()
        return Held(type, parse_layout(self.tokens, type.rank))

    def bytes(self) -> Extent:
        size = self.tokens.extent()
        self.tokens.expect("bytes")
        return size

    def entry(self) -> Entry:
        self.tokens.expect("entry")
        name = self.name("the entry's name")
        inputs = self.ports()
        self.tokens.expect("->")
        outputs = self.ports()
        self.tokens.expect("{")
        steps: list[Step] = []
        while not self.tokens.accept("}"):
            steps += self.each() if self.is_each() else [self.step()]
        return Entry(name, inputs, outputs, tuple(steps))

    def is_each(self) -> bool:
        """Whether a loop follows: a kernel may have its name, but then a bracket comes next."""
        return self.tokens.at("each") and self.tokens.ahead(1).kind == "name"

    def each(self) -> list[Step]:
        self.tokens.expect("each")
        symbol = self.tokens.name("a symbol")
        self.tokens.expect("{")
        steps = []
        while not self.tokens.accept("}"):
            steps.append(replace(self.step(), each=symbol))
        return steps

    def ports(self) -> tuple[Port, ...]:
        self.tokens.expect("(")
        found = []
        while not self.tokens.accept(")"):
            name = self.name("a port's name")
            self.tokens.expect(":")
            type = self.tokens.tensor_type()
            self.tokens.expect("in")
            found.append(Port(name, type, self.string("a region")))
            self.tokens.separator(")")
        return tuple(found)

    def step(self) -> Step:
        value = ""
        if self.tokens.token.kind == "string":
            value = self.string("a value")
            self.tokens.expect("=")
        kernel = self.tokens.name("a kernel's name")
        self.tokens.expect("(")
        args = []
        while not self.tokens.accept(")"):
            region = self.string("a region")
            args.append(Argument(region, self.tokens.integer() if self.tokens.accept("+") else 0))
            self.tokens.separator(")")
        share = self.share() if self.is_share() else None
        layers = []
        if self.tokens.accept("from"):
            layers.append(self.string("a layer"))
            while self.tokens.accept(","):
                layers.append(self.string("a layer"))
        return Step(kernel, tuple(args), tuple(layers), value, share=share)

    def is_share(self) -> bool:
        """Whether a share follows: the next step's kernel may be called so, but then a bracket comes next."""
        named = self.tokens.at("alone") or self.tokens.at("share")
        return named and self.tokens.ahead(1).text != "("

    def share(self) -> Share:
        alone = self.tokens.next().text == "alone"
        single, cut = None, self.cut()
        if self.tokens.accept("or"):
            single, cut = cut, self.cut()
        product: Extent = 1
        least = None if alone else 1
        condition = self.tokens.token
        if not alone and self.tokens.accept("if"):
            product = self.tokens.product()
            self.tokens.expect(">=")
            least = self.tokens.integer()
        self.tokens.expect(",")
        share = Share(cut, single, self.tokens.extent(), least)
        self.tokens.expect("ns")
        if least is not None and least > 1 and product != share.product:
            self.tokens.fail(
                f"expected a condition on {share.product}, as the time has it, got {product}",
                condition.offset,
            )
        return share

    def cut(self) -> Cut:
        rows = self.tokens.extent()
        self.tokens.expect("x")
        return Cut(rows, self.tokens.extent())

    # ------------------------------------------------------------ words

    def name(self, meaning: str) -> str:
        if self.tokens.token.kind == "string":
            return self.string(meaning)
        return self.tokens.name(meaning)

    def string(self, meaning: str) -> str:
        return str(json.loads(self.tokens.take("string", meaning).text))
