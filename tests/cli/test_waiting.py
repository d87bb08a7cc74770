"""What a terminal shows while a command works."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from convc.cli.waiting import waiting


def terminal() -> tuple[io.StringIO, Console]:
    stream = io.StringIO()
    return stream, Console(file=stream, force_terminal=True, width=80)


@pytest.mark.parametrize("still", [True, False])
def test_a_terminal_is_told_at_once_and_left_clean(still: bool) -> None:
    stream, console = terminal()
    with waiting("compiling m[1].py", still=still, console=console):
        assert "compiling m[1].py" in stream.getvalue()
    assert stream.getvalue().endswith("\x1b[2K")


def test_nothing_is_shown_with_json_or_in_a_file() -> None:
    stream, console = terminal()
    with waiting("compiling", quiet=True, console=console):
        pass
    with waiting("compiling", console=Console(file=stream, force_terminal=False)):
        pass
    assert not stream.getvalue()
