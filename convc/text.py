"""The tokenizer that the IRs' parsers share, with sizes and types, and errors that point at the place."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn

from convc.errors import IRError
from convc.types import Dim, DType, Extent, TensorType

# Order matters: longer operators come before their prefixes.
_PATTERN = re.compile(
    r"""
    (?P<space>[ \t\r\n]+|\#[^\n]*)
  | (?P<number>(?:\d+\.\d*|\.\d+|\d+)(?:[eE][+-]?\d+)?[a-z]*[0-9]*)
  | (?P<string>"(?:[^"\\\n]|\\.)*")
  | (?P<name>[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z0-9_]+)*)
  | (?P<symbol>->|\+:|//|<<|>>|<=|>=|==|!=|[-+*/%&|^<>=@:;,.(){}\[\]!?$~])
    """,
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of text: kind is "name", "number", "string", "symbol" or "end"."""

    kind: str
    text: str
    offset: int


class Tokens:
    """A cursor over the tokens of a text. `#` begins a comment that runs to the end of its line."""

    def __init__(self, text: str, what: str = "text") -> None:
        self.text = text
        self.what = what
        self.tokens: list[Token] = []
        self.position = 0
        offset = 0
        while offset < len(text):
            match = _PATTERN.match(text, offset)
            if match is None:
                self.fail(f"unexpected character {text[offset]!r}", offset)
            if match.lastgroup != "space":
                self.tokens.append(Token(str(match.lastgroup), match.group(), offset))
            offset = match.end()
        self.tokens.append(Token("end", "", len(text.rstrip())))

    @property
    def token(self) -> Token:
        """The token that comes next."""
        return self.tokens[self.position]

    def ahead(self, distance: int) -> Token:
        """The token `distance` places after the next one (the end token past the end)."""
        return self.tokens[min(self.position + distance, len(self.tokens) - 1)]

    def next(self) -> Token:
        """Takes the next token."""
        token = self.token
        if token.kind != "end":
            self.position += 1
        return token

    def at(self, text: str) -> bool:
        """Whether the next token is this word or symbol."""
        return self.token.text == text and self.token.kind != "string"

    def accept(self, text: str) -> bool:
        """Takes the next token if it is this word or symbol."""
        if not self.at(text):
            return False
        self.position += 1
        return True

    def expect(self, text: str) -> Token:
        """Takes the next token, which must be this word or symbol."""
        if not self.at(text):
            self.fail(f"expected {text!r}, got {self.describe()}")
        return self.next()

    def take(self, kind: str, meaning: str) -> Token:
        """Takes a token of a kind; `meaning` says in the error what it would have been."""
        if self.token.kind != kind:
            self.fail(f"expected {meaning}, got {self.describe()}")
        return self.next()

    def name(self, meaning: str = "a name") -> str:
        return self.take("name", meaning).text

    def integer(self, meaning: str = "an integer") -> int:
        """Takes an integer, with an optional minus sign."""
        negative = self.accept("-")
        start = self.token
        text = self.take("number", meaning).text
        if not text.isdigit():
            self.fail(f"expected {meaning}, got {text!r}", start.offset)
        return -int(text) if negative else int(text)

    def separator(self, end: str) -> None:
        """Takes the comma between two parts; before the end there may be one or none."""
        if not self.at(end):
            self.expect(",")

    def extent(self) -> Extent:
        """Takes a polynomial over symbols: products of integers and symbols, added and subtracted."""
        total = self.product()
        while self.at("+") or self.at("-"):
            sign = 1 if self.next().text == "+" else -1
            total = total + self.product() * sign
        return total

    def product(self) -> Extent:
        """Takes a product of integers and symbols, with an optional minus sign."""
        value: Extent = -1 if self.accept("-") else 1
        value = value * self._factor()
        while self.accept("*"):
            value = value * self._factor()
        return value

    def _factor(self) -> Extent:
        return Dim.symbol(self.name()) if self.token.kind == "name" else self.integer()

    def tensor_type(self) -> TensorType:
        """Takes a type like `float32[N, 4]`."""
        at = self.token
        word = self.name("a dtype")
        dtype = {d.value: d for d in DType}.get(word)
        if dtype is None:
            self.fail(f"expected a dtype, got {word!r}", at.offset)
        self.expect("[")
        shape: list[Extent] = []
        while not self.accept("]"):
            shape.append(self.extent())
            self.separator("]")
        return TensorType(dtype, tuple(shape))

    def describe(self) -> str:
        """The next token for an error message."""
        return "the end" if self.token.kind == "end" else repr(self.token.text)

    def fail(self, message: str, offset: int | None = None) -> NoReturn:
        """Raises IRError with line, column, and the line with a mark under the place."""
        at = self.token.offset if offset is None else offset
        line = self.text.count("\n", 0, at) + 1
        begin = self.text.rfind("\n", 0, at) + 1
        end = self.text.find("\n", at)
        source = self.text[begin : end if end >= 0 else len(self.text)]
        column = at - begin + 1
        mark = " " * (column - 1) + "^"
        raise IRError(
            f"{self.what}, line {line}, column {column}: {message}\n    {source}\n    {mark}"
        )
