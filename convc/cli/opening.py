"""Opening what a command is given: an artifact, or a script whose model is compiled at once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from convc.cli.heavy import building, convc_runtime

if TYPE_CHECKING:
    from convc_runtime import Model

    from convc.cli.building import Built


def open_model(
    source: str, target: str = "host", threads: int | None = None
) -> tuple[Model, Built | None]:
    """A model that is ready to run, with how it was built if it wasn't loaded from a .cvc file."""
    if is_artifact(source):
        return convc_runtime.load(source, threads), None
    built = building.build(building.Request(source, target))
    return built.artifact.model(threads), built


def is_artifact(source: str) -> bool:
    return Path(source).suffix == ".cvc"
