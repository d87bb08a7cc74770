"""Opening what a command is given: an artifact, or a script whose model is compiled at once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from convc.cli.heavy import building, convc_runtime
from convc.errors import UsageError

if TYPE_CHECKING:
    from convc_runtime import Model

    from convc.cli.building import Built
    from convc.scripts import Shapes


def open_model(
    source: str, target: str = "host", threads: int | None = None, shapes: Shapes | None = None
) -> tuple[Model, Built | None]:
    """A model that is ready to run, with how it was built if it wasn't loaded from a .cvc file.

    `shapes` are --shape's. UsageError for those of a model that is compiled already.
    """
    if is_artifact(source):
        refuse_choices(source, target, shapes)
        return convc_runtime.load(source, threads), None
    built = building.build(building.Request(source, target, shapes=shapes))
    return built.artifact.model(threads), built


def refuse_choices(source: str, target: str, shapes: Shapes | None, batch: str = "dynamic") -> None:
    """UsageError for --target, --shape and a compilation's --batch with a .cvc file."""
    given = {"--target": target != "host", "--shape": bool(shapes), "--batch": batch != "dynamic"}
    for option, chosen in given.items():
        if chosen:
            raise UsageError(
                f"{source} is compiled already: {option} is for the model it was made of"
            )


def is_artifact(source: str) -> bool:
    return Path(source).suffix == ".cvc"
