"""`convc run-script`: a Keras program as it is, with convc's front end in Keras' place."""

from __future__ import annotations

import runpy
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer

from convc.cli.heavy import scripts
from convc.errors import ConvcError, InputFileError, ModelError

PASS_ON: dict[str, Any] = {"allow_interspersed_args": False, "ignore_unknown_options": True}
"""What comes after the script is the script's, options too."""


def run_script(
    script: Annotated[Path, typer.Argument(metavar="SCRIPT", help="A program that uses keras.")],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[ARGUMENT]...", help="The program's own.")
    ] = None,
) -> None:
    """Run a program whose `import keras` and `from tensorflow import keras` mean convc.keras.

    It runs as `python SCRIPT ARGUMENT...` would, with its own arguments, output and exit code; where Keras or
    TensorFlow are installed, they stay out of it.
    """
    require_program(script)
    argv, sys.argv = sys.argv, [str(script), *(arguments or [])]
    folder = str(script.resolve().parent)
    sys.path.insert(0, folder)
    try:
        with scripts.lending(scripts.LENT_AS):
            runpy.run_path(str(script), run_name="__main__")
    except ConvcError as error:
        raise scripts.kind_of(error)(scripts.describe(error, script)) from error
    except Exception as error:
        show(error, script)
        raise typer.Exit(1) from None
    finally:
        sys.argv = argv
        sys.path.remove(folder)


def require_program(script: Path) -> None:
    """InputFileError for a file that is missing, or that Python can't read."""
    try:
        compile(script.read_bytes(), str(script), "exec", dont_inherit=True)
    except FileNotFoundError:
        raise InputFileError(f"{script}: no such file (expected a Python program)") from None
    except OSError as error:
        raise InputFileError(
            f"{script}: {error.strerror or error} (expected a Python program)"
        ) from None
    except SyntaxError as error:
        raise ModelError(f"{script}:{error.lineno or 1}: SyntaxError: {error.msg}") from None
    except ValueError as error:  # null bytes
        raise InputFileError(f"{script}: expected a Python program: {error}") from None


def show(error: Exception, script: Path) -> None:
    """The traceback, from the program's own first frame on."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename != str(script):
        frames = frames.tb_next
    traceback.print_exception(type(error), error, frames or error.__traceback__)
