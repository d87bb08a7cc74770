"""Reads loop IR text (the grammar at the top of loops/ir.py) back into the very same nodes."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping

from convc.errors import IRError
from convc.loops.functions import FUNCTIONS, result_dtype
from convc.loops.ir import (
    COMPARISONS,
    INDEX,
    Alloc,
    Axis,
    Barrier,
    Binary,
    Block,
    Buffer,
    Call,
    Cast,
    Const,
    Expr,
    For,
    If,
    Intrinsic,
    Kernel,
    Layout,
    Let,
    Load,
    LoopKind,
    Reduce,
    Role,
    Select,
    Space,
    Stmt,
    Store,
    Var,
    Window,
)
from convc.loops.printer import PRECEDENCE, SUFFIXES
from convc.text import Token, Tokens
from convc.types import DType, Extent, Shape

COMBINERS = ("sum", "max", "min", "prod")
_DTYPES = {d.value: d for d in DType}
_SUFFIX_DTYPES = {suffix: dtype for dtype, suffix in SUFFIXES.items()}
_LITERAL = re.compile(
    r"(?P<digits>(?:\d+\.\d*|\.\d+|\d+)(?:e[+-]?\d+)?)(?P<suffix>[a-z]*\d*)$", re.I
)


def parse_kernel(text: str) -> Kernel:
    """The kernel of a text; IRError with line and column where it breaks the grammar."""
    parser = _Parser(Tokens(text, "kernel text"))
    kernel = parser.kernel()
    parser.end()
    return kernel


def parse_layout(tokens: Tokens, rank: int) -> Layout:
    """The layout that comes next in a text, for a tensor of a rank; the dense one if none does."""
    return _Parser(tokens).layout(rank)


def parse_expr(
    text: str, names: Mapping[str, DType] | None = None, buffers: Mapping[str, DType] | None = None
) -> Expr:
    """An expression over variables (index type unless `names` says otherwise) and buffers' dtypes."""
    parser = _Parser(Tokens(text, "expression"))
    parser.names = dict(names or {})
    parser.buffers = dict(buffers or {})
    parser.free = True
    expr = parser.expr()
    parser.end()
    return expr


class _Parser:
    """Recursive descent, with the dtypes of the names and buffers in scope."""

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens
        self.names: dict[str, DType] = {}
        self.buffers: dict[str, DType] = {}
        self.free = False  # whether unknown names are index variables

    def end(self) -> None:
        if self.tokens.token.kind != "end":
            self.tokens.fail(f"expected the end, got {self.tokens.describe()}")

    # ------------------------------------------------------------ kernels and buffers

    def kernel(self) -> Kernel:
        self.tokens.expect("kernel")
        name = self.tokens.name("the kernel's name")
        self.tokens.expect("(")
        params = []
        while not self.tokens.accept(")"):
            params.append(self.param())
            if not self.tokens.at(")"):
                self.tokens.expect(",")
        self.tokens.expect("{")
        notes = []
        while self.tokens.at("note") and self.tokens.ahead(1).kind == "string":
            self.tokens.next()
            notes.append((self.string(), self.string()))
        kernel = Kernel(name, tuple(params), (), tuple(notes))
        self.names.update(dict.fromkeys(kernel.symbols, INDEX))
        return Kernel(name, tuple(params), self.statements(), tuple(notes))

    def string(self) -> str:
        return str(json.loads(self.tokens.take("string", "a string").text))

    def param(self) -> Buffer:
        roles = {r.value: r for r in Role if r is not Role.local}
        role = Role.local
        if self.tokens.token.text in roles and self.tokens.ahead(1).text != ":":
            role = roles[self.tokens.next().text]
        return self.buffer(role, Space.global_)

    def buffer(self, role: Role, space: Space | None) -> Buffer:
        name = self.tokens.name("a buffer's name")
        self.tokens.expect(":")
        dtype = self.dtype()
        shape = self.shape()
        layout = self.layout(len(shape))
        spaces = {s.value: s for s in Space}
        if self.tokens.token.text in spaces:
            space = spaces[self.tokens.next().text]
        if space is None:
            self.tokens.fail(
                f"expected a space ({', '.join(spaces)}), got {self.tokens.describe()}"
            )
        self.buffers[name] = dtype
        return Buffer(name, dtype, shape, layout, space, role)

    def dtype(self) -> DType:
        token = self.tokens.take("name", "a dtype")
        if token.text not in _DTYPES:
            self.tokens.fail(f"unknown dtype {token.text!r}", token.offset)
        return _DTYPES[token.text]

    def shape(self) -> Shape:
        self.tokens.expect("[")
        extents = []
        while not self.tokens.accept("]"):
            extents.append(self.tokens.extent())
            if not self.tokens.at("]"):
                self.tokens.expect(",")
        return tuple(extents)

    def layout(self, rank: int) -> Layout:
        layout = Layout.dense(rank)
        axes, border = layout.axes, layout.border
        if self.tokens.accept("@"):
            axes = self.axes(rank)
        if self.tokens.accept("border"):
            border = self.border(rank)
        return Layout(axes, border)

    def axes(self, rank: int) -> tuple[Axis, ...]:
        self.tokens.expect("(")
        axes = []
        while not self.tokens.accept(")"):
            token = self.tokens.take("name", "an axis like d0")
            if not re.fullmatch(r"d\d+", token.text) or int(token.text[1:]) >= rank:
                message = f"expected an axis d0 … d{rank - 1}, got {token.text!r}"
                self.tokens.fail(message, token.offset)
            divide = self.tokens.integer() if self.tokens.accept("/") else 1
            modulus = self.tokens.integer() if self.tokens.accept("%") else None
            extent = self.tokens.integer() if self.tokens.accept(":") else None
            axes.append(Axis(int(token.text[1:]), divide, modulus, extent))
            if not self.tokens.at(")"):
                self.tokens.expect(",")
        return tuple(axes)

    def border(self, rank: int) -> tuple[tuple[int, int], ...]:
        start = self.tokens.expect("(")
        border = []
        while not self.tokens.accept(")"):
            before = self.tokens.integer()
            self.tokens.expect(":")
            border.append((before, self.tokens.integer()))
            if not self.tokens.at(")"):
                self.tokens.expect(",")
        if len(border) != rank:
            self.tokens.fail(f"expected {rank} borders, got {len(border)}", start.offset)
        return tuple(border)

    # ------------------------------------------------------------ statements

    def statements(self) -> Block:
        """The statements up to a closing brace; names bound there are gone afterwards."""
        names, buffers = dict(self.names), dict(self.buffers)
        block = []
        while not self.tokens.accept("}"):
            block.append(self.statement())
        self.names, self.buffers = names, buffers
        return tuple(block)

    def statement(self) -> Stmt:
        token = self.tokens.token
        if token.kind != "name":
            self.tokens.fail(f"expected a statement, got {self.tokens.describe()}")
        # A store begins like any other statement's keyword if its buffer is called so.
        if self.tokens.ahead(1).text == "[":
            return self.store()
        keywords: dict[str, Callable[[], Stmt]] = {
            "for": self.for_,
            "if": self.if_,
            "let": self.let,
            "alloc": self.alloc,
            "do": self.intrinsic,
            "barrier": self.barrier,
        }
        if token.text not in keywords:
            self.tokens.fail(f"expected a statement, got {self.tokens.describe()}")
        return keywords[token.text]()

    def alloc(self) -> Alloc:
        self.tokens.expect("alloc")
        return Alloc(self.buffer(Role.local, None))

    def for_(self) -> For:
        self.tokens.expect("for")
        var = self.tokens.name("a loop variable")
        self.tokens.expect("in")
        extent = self.expr()
        kind = LoopKind.serial
        if self.tokens.token.kind == "name":
            token = self.tokens.next()
            kinds = {k.value: k for k in LoopKind}
            if token.text not in kinds:
                self.tokens.fail(f"unknown kind of loop {token.text!r}", token.offset)
            kind = kinds[token.text]
        self.tokens.expect("{")
        outer = self.names.get(var)
        self.names[var] = INDEX
        body = self.statements()
        del self.names[var]
        if outer is not None:
            self.names[var] = outer
        return For(var, extent, body, kind)

    def if_(self) -> If:
        self.tokens.expect("if")
        condition = self.expr()
        self.tokens.expect("{")
        then = self.statements()
        otherwise: Block = ()
        if self.tokens.accept("else"):
            self.tokens.expect("{")
            otherwise = self.statements()
        return If(condition, then, otherwise)

    def let(self) -> Let:
        self.tokens.expect("let")
        name = self.tokens.name("the name to bind")
        self.tokens.expect(":")
        at = self.tokens.token
        dtype = self.dtype()
        self.tokens.expect("=")
        value = self.expr()
        if value.dtype is not dtype:
            self.tokens.fail(f"{name} is {dtype.value}, its value {value.dtype.value}", at.offset)
        self.names[name] = dtype
        return Let(name, value)

    def store(self) -> Store:
        name = self.tokens.name("a buffer")
        index = self.list("[", "]")
        self.tokens.expect("=")
        return Store(name, index, self.expr())

    def intrinsic(self) -> Intrinsic:
        self.tokens.expect("do")
        name = self.tokens.name("a special instruction")
        self.tokens.expect("(")
        windows = []
        while not self.tokens.accept(")"):
            windows.append(self.window())
            if not self.tokens.at(")"):
                self.tokens.expect(",")
        return Intrinsic(name, tuple(windows))

    def window(self) -> Window:
        name = self.tokens.name("a buffer")
        self.tokens.expect("[")
        index, sizes = [], []
        while not self.tokens.accept("]"):
            index.append(self.expr())
            self.tokens.expect("+:")
            sizes.append(self.tokens.integer("a size"))
            if not self.tokens.at("]"):
                self.tokens.expect(",")
        return Window(name, tuple(index), tuple(sizes))

    def barrier(self) -> Barrier:
        self.tokens.expect("barrier")
        if not self.tokens.accept("("):
            return Barrier()
        scope = self.tokens.name("a scope")
        self.tokens.expect(")")
        return Barrier(scope)

    # ------------------------------------------------------------ expressions

    def expr(self, level: int = 1) -> Expr:
        """Infix operators by precedence, all left-associative; comparisons don't chain."""
        left = self.operand()
        while PRECEDENCE.get(self.tokens.token.text, 0) >= level:
            op = self.tokens.next()
            left = Binary(op.text, left, self.expr(PRECEDENCE[op.text] + 1))
            if op.text in COMPARISONS and self.tokens.token.text in COMPARISONS:
                self.tokens.fail("comparisons don't chain: use parentheses")
        return left

    def operand(self) -> Expr:
        token = self.tokens.token
        if token.text == "(" and token.kind == "symbol":
            self.tokens.next()
            inner = self.expr()
            self.tokens.expect(")")
            return inner
        if token.text == "-" and token.kind == "symbol":
            self.tokens.next()
            literal = self.operand()
            if not isinstance(literal, Const) or literal.dtype is DType.bool:
                self.tokens.fail(
                    "a minus sign stands before numbers only: write 0 - x", token.offset
                )
            return Const(-literal.value, literal.dtype)
        if token.kind == "number":
            return self.number()
        name = self.tokens.name("an expression")
        if self.tokens.at("[") and self.reduction_follows(name):
            return self.reduction(name)
        if self.tokens.at("["):
            return self.load(name, token)
        if self.tokens.at("("):
            return self.call(name, token)
        return self.word(name, token)

    def number(self) -> Const:
        token = self.tokens.next()
        match = _LITERAL.match(token.text)
        digits, suffix = (match["digits"], match["suffix"]) if match else (token.text, "?")
        if suffix and suffix not in _SUFFIX_DTYPES:
            self.tokens.fail(f"unknown literal {token.text!r}", token.offset)
        integral = digits.isdigit()
        dtype = _SUFFIX_DTYPES[suffix] if suffix else INDEX if integral else DType.float32
        if dtype.is_integer and not integral:
            self.tokens.fail(f"{token.text!r} is not an integer", token.offset)
        return Const(float(digits) if dtype.is_float else int(digits), dtype)

    def word(self, name: str, token: Token) -> Expr:
        """A name, or one of the literals true, false, inf and nan."""
        if name in self.names:
            return Var(name, self.names[name])
        if name in ("true", "false"):
            return Const(name == "true", DType.bool)
        stem, _, suffix = name.partition("_")
        if stem in ("inf", "nan") and (not suffix or suffix in _SUFFIX_DTYPES):
            dtype = _SUFFIX_DTYPES[suffix] if suffix else DType.float32
            return Const(math.inf if stem == "inf" else math.nan, dtype)
        if not self.free:
            self.tokens.fail(f"unknown name {name!r}", token.offset)
        return Var(name)

    def load(self, name: str, token: Token) -> Load:
        if name not in self.buffers:
            self.tokens.fail(f"unknown buffer {name!r}", token.offset)
        index = self.list("[", "]")
        width = 1
        # A width touches its bracket; apart from it, `x4` begins the next statement.
        touching = self.tokens.token.offset == self.tokens.ahead(-1).offset + 1
        if touching and re.fullmatch(r"x\d+", self.tokens.token.text):
            width = int(self.tokens.next().text[1:])
        return Load(name, index, self.buffers[name], width)

    def call(self, name: str, token: Token) -> Expr:
        if name == "bitcast":
            return self.bitcast(token)
        args = self.list("(", ")")
        wanted = {"select": 3, "min": 2, "max": 2}.get(name, 1 if name in _DTYPES else len(args))
        if len(args) != wanted:
            self.tokens.fail(f"{name}: expected {wanted} operands, got {len(args)}", token.offset)
        if name == "select":
            return Select(*args)
        if name in ("min", "max"):
            return Binary(name, *args)
        if name in _DTYPES:
            return Cast(args[0], _DTYPES[name])
        return Call(name, args, self.result(name, args, None, token))

    def bitcast(self, token: Token) -> Call:
        self.tokens.expect("(")
        value = self.expr()
        self.tokens.expect(",")
        dtype = self.dtype()
        self.tokens.expect(")")
        return Call("bitcast", (value,), self.result("bitcast", (value,), dtype, token))

    def result(self, name: str, args: tuple[Expr, ...], asked: DType | None, token: Token) -> DType:
        if name not in FUNCTIONS:
            self.tokens.fail(f"unknown function {name!r}", token.offset)
        operands = [(a.dtype, a.width if isinstance(a, Load) else 1) for a in args]
        try:
            return result_dtype(name, operands, asked)
        except IRError as error:
            self.tokens.fail(str(error), token.offset)

    def reduction_follows(self, name: str) -> bool:
        return (
            name in COMBINERS
            and self.tokens.ahead(1).kind == "name"
            and self.tokens.ahead(2).text == ":"
        )

    def reduction(self, combiner: str) -> Reduce:
        self.tokens.expect("[")
        axes: list[tuple[str, Extent]] = []
        while not self.tokens.accept("]"):
            name = self.tokens.name("a reduction variable")
            self.tokens.expect(":")
            axes.append((name, self.tokens.extent()))
            if not self.tokens.at("]"):
                self.tokens.expect(",")
        outer = dict(self.names)
        self.names.update((name, INDEX) for name, _ in axes)
        self.tokens.expect("(")
        value = self.expr()
        self.tokens.expect(")")
        self.names = outer
        return Reduce(combiner, tuple(axes), value)

    def list(self, opening: str, closing: str) -> tuple[Expr, ...]:
        self.tokens.expect(opening)
        exprs = []
        while not self.tokens.accept(closing):
            exprs.append(self.expr())
            if not self.tokens.at(closing):
                self.tokens.expect(",")
        return tuple(exprs)
