"""The command line: compile, run, bench, inspect, verify."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from itertools import pairwise

from convc.cli.heavy import commands
from convc.errors import ConvcError, DataError, InputFileError, OutputError, TargetError

INTERRUPTED = 130
INTERNAL = 70
RUNTIME_CODES = {
    "ArtifactError": InputFileError.exit_code,
    "CpuError": TargetError.exit_code,
    "InputError": DataError.exit_code,
    "StateError": InputFileError.exit_code,
    "WriteError": OutputError.exit_code,
    "ConvcRuntimeError": ConvcError.exit_code,
}
"""The exit codes of the runtime's errors, by name: the help must not load the runtime."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code. Errors are one line on stderr; --debug adds the traceback."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in argv
    try:
        # Loaded here, where an interruption is one line.
        code = commands.app(args=argv, prog_name="convc", standalone_mode=False)
        sys.stdout.flush()
        if code == INTERRUPTED:  # the library below has swallowed the KeyboardInterrupt
            return report(KeyboardInterrupt())
        return code if isinstance(code, int) else 0
    except BrokenPipeError:
        # The reader of our output has left; Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            traceback.print_exc()
        return report(error, argv)


def report(error: BaseException, argv: Sequence[str] = ()) -> int:
    """Prints an error in one line and returns the exit code that belongs to it."""
    message, code = described(error, argv)
    print(f"convc: {' '.join(message.split())}", file=sys.stderr)
    return code


def described(error: BaseException, argv: Sequence[str] = ()) -> tuple[str, int]:
    """The message and the exit code of an error; `argv` is what the user typed."""
    usage = getattr(error, "format_message", None)
    if isinstance(error, ConvcError):
        return str(error), error.exit_code
    for kind in type(error).__mro__:
        if kind.__module__.startswith("convc_runtime") and kind.__name__ in RUNTIME_CODES:
            return str(error), RUNTIME_CODES[kind.__name__]
    if usage is not None:
        return f"{refused_value(error, argv) or usage()} (see --help)", 2
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":
        return "interrupted", INTERRUPTED
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}", OutputError.exit_code
    if isinstance(error, MemoryError):
        return f"out of memory: {error}".removesuffix(": "), OutputError.exit_code
    return f"internal error: {type(error).__name__}: {error} (--debug shows where)", INTERNAL


def refused_value(error: BaseException, argv: Sequence[str]) -> str:
    """What is wrong with an option's value, and which that is; "" for other errors."""
    option = next(iter(getattr(getattr(error, "param", None), "opts", ())), "")
    expected, found, reason = str(getattr(error, "message", "")).partition("Input should be ")
    if expected or not found or not option:
        return ""
    given = [b for a, b in pairwise(argv) if a == option]
    given += [a.partition("=")[2] for a in argv if a.startswith(f"{option}=")]
    shown = f", got {given[-1]!r}" if given else ""
    return f"{option}: expected {wanted(reason)}{shown}"


def wanted(reason: str) -> str:
    """What the option parser says it expects, as convc does."""
    reason = reason.partition(",")[0].removeprefix("a valid ")
    reason = reason.replace("greater than or equal to", "at least").replace(
        "less than or equal to", "at most"
    )
    kind = {"integer": "a whole number", "number": "a number"}
    return kind.get(reason, f"a number of {reason}" if reason.startswith("at ") else reason)
