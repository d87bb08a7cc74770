"""What every stage of the compiler made, as text: for --dump, --emit and inspect."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from convc_runtime.writing import write_whole

from convc.errors import OutputError
from convc.graph.ir import Graph
from convc.graph.printer import print_graph
from convc.loops.ir import Kernel
from convc.loops.printer import print_kernel
from convc.program.ir import Program
from convc.program.printer import print_program

SUFFIXES = {"graph": ".graph", "program": ".program", "kernel": ".kernel", "llvm": ".ll"}


@dataclass(frozen=True)
class Stage:
    """The result of one step: its kind ("graph", "program", "kernel", "llvm"), its name, what came out."""

    kind: str
    name: str
    result: object

    @property
    def text(self) -> str:
        match self.result:
            case Graph():
                return print_graph(self.result)
            case Program():
                return print_program(self.result)
            case Kernel():
                return print_kernel(self.result)
            case _:
                return str(self.result)


@dataclass
class Stages:
    """A trace that keeps every stage, in order."""

    all: list[Stage] = field(default_factory=list)

    def __call__(self, kind: str, name: str, result: object) -> None:
        self.all.append(Stage(kind, name, result))

    def write(self, folder: Path) -> list[Path]:
        """Writes `00-input.graph`, `01-fold-batch-norm.graph`, … into a folder, which is made if need be."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = "it is a file" if folder.is_file() else error.strerror or error
            raise OutputError(f"can't make the folder {folder}: {reason}") from None
        width = max(2, len(str(len(self.all) - 1)))
        paths = []
        for number, stage in enumerate(self.all):
            slug = re.sub(r"[^A-Za-z0-9_]+", "-", stage.name).strip("-") or "stage"
            path = folder / f"{number:0{width}}-{slug}{SUFFIXES.get(stage.kind, '.txt')}"
            write_whole(path, stage.text.rstrip("\n").encode() + b"\n")
            paths.append(path)
        return paths
