"""The errors that convc raises on purpose. Each carries the process exit code of the command line.

Programs written for Keras catch `ValueError` and `OSError`: an error is also of the built-in kind that Keras raises.
"""

from __future__ import annotations

import tokenize
import zipfile
import zlib


class ConvcError(Exception):
    """Something that the user can mend. The message is one line: the thing, what was expected, what came."""

    exit_code = 1


class UsageError(ConvcError, ValueError):
    """A wrong argument or option."""

    exit_code = 2


class InputFileError(ConvcError, OSError, ValueError):
    """A file that is missing, unreadable, damaged or not what its name says."""

    exit_code = 3


class ModelError(ConvcError, ValueError):
    """A model that can't be built: a script that raises, a wrong layer argument, shapes that don't fit."""

    exit_code = 4


class UnsupportedError(ConvcError, ValueError):
    """Something valid that convc can't compile; the message lists every such place at once."""

    exit_code = 5


class TargetError(ConvcError):
    """An unknown target, or an artifact that this machine can't run."""

    exit_code = 6


class DataError(ConvcError, ValueError):
    """Input arrays whose names, shapes or dtypes don't fit the model."""

    exit_code = 7


class OutputError(ConvcError):
    """A result that could not be written: no space, no permission, no linker."""

    exit_code = 8


class IRError(ConvcError):
    """An IR that breaks its own rules: a bug in a pass or in hand-written IR text."""

    exit_code = 70


def type_text(value: object) -> str:
    """What a value is, with its article: "an int", "a str"."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeioAEIO' else 'a'} {name}"


DAMAGED_ARRAYS = (
    OSError, ValueError, TypeError, KeyError, SyntaxError, EOFError, MemoryError, RuntimeError,
    tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What numpy.load and its .npz files raise where a file is damaged, besides where it is missing."""
