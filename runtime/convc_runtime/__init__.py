"""Loads and runs models that convc compiled: numpy and the standard library, nothing else.

import convc_runtime
model = convc_runtime.load("digits.cvc")
scores = model(images)
"""

from pathlib import Path

from convc_runtime.description import Description, EntryInfo, StateInfo, TensorInfo
from convc_runtime.errors import (
    ArtifactError,
    ConvcRuntimeError,
    CpuError,
    InputError,
    StateError,
    VersionError,
    WriteError,
)
from convc_runtime.format import read_contents, write_artifact
from convc_runtime.model import Context, Entry, Model, load
from convc_runtime.state import State, state_fingerprint

__version__ = "0.1.0"

__all__ = [
    "ArtifactError",
    "Context",
    "ConvcRuntimeError",
    "CpuError",
    "Description",
    "Entry",
    "EntryInfo",
    "InputError",
    "Model",
    "State",
    "StateError",
    "StateInfo",
    "TensorInfo",
    "VersionError",
    "WriteError",
    "headers",
    "load",
    "read_contents",
    "state_fingerprint",
    "write_artifact",
]


def headers() -> list[Path]:
    """The C and C++ headers of the ABI: installed inside the package, beside it in a source tree."""
    package = Path(__file__).parent
    folders = (package / "include", package.parent / "include")
    return sorted(
        p for f in folders if f.is_dir() for p in f.iterdir() if p.suffix in (".h", ".hpp")
    )
