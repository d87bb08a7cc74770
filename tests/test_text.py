from __future__ import annotations

import pytest

from convc.errors import IRError
from convc.text import Tokens


def test_tokens_have_kinds_and_comments_vanish() -> None:
    tokens = Tokens('for x.1 in 3i32 +: 1.5e-07 "a b" # the rest\n<<')
    kinds = [(t.kind, t.text) for t in tokens.tokens]
    assert kinds == [
        ("name", "for"), ("name", "x.1"), ("name", "in"), ("number", "3i32"), ("symbol", "+:"),
        ("number", "1.5e-07"), ("string", '"a b"'), ("symbol", "<<"), ("end", ""),
    ]  # fmt: skip


def test_an_error_shows_the_line_and_points_at_the_column() -> None:
    tokens = Tokens("let a\nlet ?", "kernel text")
    for _ in range(3):
        tokens.next()
    with pytest.raises(IRError) as caught:
        tokens.expect(":")
    assert str(caught.value).splitlines() == [
        "kernel text, line 2, column 5: expected ':', got '?'",
        "    let ?",
        "        ^",
    ]


def test_a_character_outside_the_alphabet_is_an_error() -> None:
    with pytest.raises(IRError, match="line 1, column 3: unexpected character '§'"):
        Tokens("a §")


def test_the_end_is_named_and_never_passed() -> None:
    tokens = Tokens("a")
    tokens.next()
    assert tokens.next().kind == "end"
    assert tokens.ahead(5).kind == "end"
    with pytest.raises(IRError, match="expected a name, got the end"):
        tokens.name()


@pytest.mark.parametrize(("text", "value"), [("12", 12), ("- 3", -3)])
def test_integers_may_be_negative(text: str, value: int) -> None:
    assert Tokens(text).integer() == value


def test_a_literal_with_a_suffix_is_no_plain_integer() -> None:
    with pytest.raises(IRError, match="expected an integer, got '3i32'"):
        Tokens("3i32").integer()
