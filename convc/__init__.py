"""convc compiles Keras-like models to native code that an application embeds.

`convc.compile(model_or_path, …)` compiles, `convc.keras` is the front end that models are written with. Both load on
first use, so that `import convc` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from convc import driver, keras
    from convc import onnx_files as onnx_files
    from convc.driver import compile  # noqa: A004  (convc.compile is the name that users type)

__version__ = "0.1.0"

__all__ = ["__version__", "compile", "driver", "keras"]


def __getattr__(name: str) -> object:
    match name:
        case "compile":
            return importlib.import_module("convc.driver").compile
        case "driver" | "keras" | "onnx_files":
            return importlib.import_module(f"convc.{name}")
        case _:
            raise AttributeError(f"module 'convc' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
