"""Models as drawings: Graphviz's language, and pictures where its program is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from convc.errors import ModelError, UnsupportedError
from convc.keras.engine.arguments import refuse

SUFFIXES = (".dot", ".gv")
DIRECTIONS = ("TB", "BT", "LR", "RL")


class Dot:
    """A drawing in Graphviz's language."""

    def __init__(self, text: str) -> None:
        self.text = text

    def to_string(self) -> str:
        return self.text

    __str__ = to_string


def model_to_dot(
    model: Any,
    show_shapes: bool = False,
    show_dtype: bool = False,
    show_layer_names: bool = True,
    rankdir: str = "TB",
    expand_nested: bool = False,
    dpi: int = 200,
    subgraph: bool = False,
    show_layer_activations: bool = False,
    show_trainable: bool = False,
    **kwargs: Any,
) -> Dot:
    """The layers as boxes and what goes between them as arrows."""
    if rankdir not in DIRECTIONS:
        refuse("model_to_dot", "rankdir", f"one of {', '.join(DIRECTIONS)}", rankdir)
    if getattr(model, "network", None) is None:
        raise ModelError(
            f"model_to_dot: model {model.name!r} has no layers yet: build it, or call it on an Input"
        )
    shown = (show_shapes, show_dtype, show_layer_names, show_layer_activations, show_trainable)
    lines = [
        f"digraph {_quoted(model.name)} {{",
        f"  graph [rankdir={rankdir} dpi={dpi}];",
        "  node [shape=record];",
    ]
    for operation in model.network.operations:
        lines.append(f"  {_key(operation)} [label={_quoted(_label(operation, shown))}];")
    lines += [f"  {one} -> {two};" for one, two in dict.fromkeys(_arrows(model))]
    return Dot("\n".join([*lines, "}"]) + "\n")


def _label(operation: Any, shown: tuple[bool, ...]) -> str:
    shapes, dtype, names, activations, trainable = shown
    kind = getattr(operation, "type_name", type(operation).__name__)
    rows = [f"{operation.name} ({kind})" if names else kind]
    activation = getattr(operation, "activation", None)
    if activations and activation is not None:
        rows.append(f"activation: {getattr(activation, '__name__', activation)}")
    if operation.calls:
        call = operation.calls[0]
        if shapes:
            rows.append(f"in: {', '.join(str(t.shape) for t in call.inputs) or '-'}")
            rows.append(f"out: {', '.join(str(t.shape) for t in call.outputs)}")
        if dtype:
            rows.append(f"dtype: {', '.join(t.dtype for t in call.outputs)}")
    if trainable and hasattr(operation, "trainable"):
        rows.append("trainable" if operation.trainable else "not trainable")
    return "{" + "|".join(_escaped(row) for row in rows) + "}"


def _arrows(model: Any) -> Iterator[tuple[str, str]]:
    for call in model.network.calls:
        for tensor in call.inputs:
            if tensor.history is not None:
                yield _key(tensor.history[0].operation), _key(call.operation)


def _key(operation: Any) -> str:
    return _quoted(operation.name)


def _escaped(text: str) -> str:
    return "".join(f"\\{c}" if c in "{}|<>" else c for c in text)


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '\\"') + '"'


def plot_model(model: Any, to_file: str | os.PathLike[str] = "model.png", **settings: Any) -> None:
    """Draws a model into a file: its text for `.dot` and `.gv`, a picture by Graphviz's `dot` for other endings."""
    path, dot = Path(to_file), model_to_dot(model, **settings)
    if path.suffix in SUFFIXES:
        path.write_text(dot.text, encoding="utf-8")
        return
    program = shutil.which("dot")
    if program is None:
        raise UnsupportedError(
            f"plot_model: {path.suffix or 'a picture'} needs Graphviz's program 'dot' on the PATH; "
            f"to_file='model.dot' writes its text"
        )
    command = [program, f"-T{path.suffix.removeprefix('.') or 'png'}", "-o", str(path)]
    subprocess.run(command, input=dot.text.encode(), check=True)
