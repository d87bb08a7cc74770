"""Everything in an ONNX model that convc can't compile, at once, each with the nearest form that works."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import NodeProto, defs

from convc.errors import ConvcError, UnsupportedError
from convc.onnx.carrying import inferred_types
from convc.onnx.importer import ModelImporter, one_line
from convc.onnx.reading import read_model
from convc.onnx.scope import Broken, Incomplete, Scope

PARTS = re.compile(
    r"node (?P<node>'.*?'|\d+) \((?P<operator>\w+)\)"
    r"(?: at opset (?P<opset>\d+) on \((?P<types>.*?)\))?: (?P<reason>.*)",
    re.DOTALL,
)

BY_OPERATOR: dict[str, str] = {
    "Unique": "the number of results would depend on the numbers: do it in the application",
    "Multinomial": "give the random numbers as an input",
    "ImageDecoder": "decode images in the application, and give their pixels",
    "StringNormalizer": "normalize text in the application, and give numbers",
    "StringSplit": "split text in the application, and give numbers",
    "StringConcat": "join text in the application, and give numbers",
    "RegexFullMatch": "match text in the application, and give numbers",
    "TfIdfVectorizer": "vectorize text in the application, and give numbers",
    "LabelEncoder": "map labels in the application, or use Gather on a table of numbers",
    "MelWeightMatrix": "make the matrix a constant: its inputs decide its shape",
}
"""The nearest form for operators, by name."""

BY_REASON: tuple[tuple[str, str], ...] = (
    (r"give (its shape by )?--shape|is a symbol|symbolic extent|without symbols", "{shapes}"),
    (
        r"or a number of rows by --shape",
        "give a number of rows for all data by --shape, or do it in the application",
    ),
    (
        r"needs the value of the input",
        "make that input a constant of the model: it decides a shape",
    ),
    (r"element type string", "turn text into numbers in the application"),
    (r"element type (float|int|uint)\d+\w* is not supported here", "put a Cast to float before it"),
    (r"element type complex", "keep real and imaginary parts apart, as DFT does"),
    (
        r"operators of the domain 'com\.microsoft'",
        "export without ONNX Runtime's own fusions (optimization level basic at most)",
    ),
    (r"that are strings are not supported", "use integers for labels and categories"),
    (
        r"operators of the domain",
        "give the model a function with a body of ai.onnx operators for it",
    ),
    (r"only the run knows", "fix the number of turns or the branch when exporting"),
    (r"has more than \d+ turns|more than \d+ nodes of bodies", "export with a shorter sequence"),
    (
        r"opset \d+ is not supported",
        "convert it: onnx.version_converter.convert_version(model, {newest})",
    ),
    (r"sparse initializers", "make them dense initializers"),
    (r"a (convolution|pool) in \d+ dimensions", "1, 2 and 3 dimensions work"),
    (r"sequence|optional", "use tensors: Concat and Split in place of sequences"),
    (r"spatial=0", "use LayerNormalization"),
    (r"there is no operator", "the name or the opset is wrong: check the exporter"),
)
"""The nearest form by what the reason says, in this order."""


@dataclass(frozen=True)
class Problem:
    """One thing that can't be compiled; empty texts where it isn't about a node."""

    node: str
    operator: str
    opset: str
    types: str
    reason: str
    advice: str

    def text(self) -> str:
        where = f"node {self.node} ({self.operator})" if self.operator else ""
        if self.opset:
            where += f" at opset {self.opset} on ({self.types})"
        line = f"{where}: {self.reason}" if where else self.reason
        return f"{line}; instead: {self.advice}" if self.advice else line

    def to_json(self) -> dict[str, str]:
        return asdict(self) | {"text": self.text()}


def diagnose(
    path: str | os.PathLike[str], shapes: Mapping[str, int | Sequence[int]] | None = None
) -> list[Problem]:
    """All problems of a file. Nodes behind a problem are looked at too, where ONNX infers the types between.

    InputFileError for a damaged file.
    """
    path = Path(path)
    model = read_model(path)
    importer = _Diagnostician(model, path.parent, shapes or {}, {})
    try:
        importer.run(path.stem)
    except Incomplete as error:
        texts: Sequence[str] = error.problems
    except UnsupportedError as error:
        texts = (str(error),)
    except ConvcError as error:
        error.args = (f"{path}: {one_line(str(error))}",)
        raise
    else:
        return []
    return [problem(text, tuple(importer.signature.labels.values())) for text in texts]


def problem(text: str, dimensions: Sequence[str]) -> Problem:
    """A line of the importer's, in parts, with advice. `dimensions` are the names that --shape takes."""
    found = PARTS.fullmatch(text)
    parts = {k: v or "" for k, v in found.groupdict().items()} if found else {}
    reason = parts.get("reason", text)
    operator = parts.get("operator", "")
    advice = advice_for(operator, reason, dimensions)
    return Problem(
        parts.get("node", ""), operator, parts.get("opset", ""), parts.get("types", ""), reason, advice
    )  # fmt: skip


def advice_for(operator: str, reason: str, dimensions: Sequence[str]) -> str:
    """The nearest form that works; empty where the reason says it already."""
    if reason.startswith("its body"):
        return ""
    shapes = "give " + " ".join(f"--shape {d}=…" for d in dimensions or ("NAME",))
    for pattern, advice in BY_REASON[:4]:
        if re.search(pattern, reason):
            return advice.format(shapes=shapes)
    if operator in BY_OPERATOR:
        return BY_OPERATOR[operator]
    for pattern, advice in BY_REASON:
        if re.search(pattern, reason):
            return advice.format(shapes=shapes, newest=defs.onnx_opset_version())
    return ""


class _Diagnostician(ModelImporter):
    """Goes on behind a node that can't be imported, with values of the types that ONNX infers for it."""

    def __init__(
        self,
        model: onnx.ModelProto,
        folder: Path,
        shapes: Mapping[str, int | Sequence[int]],
        values: Mapping[str, Any],
    ) -> None:
        super().__init__(model, folder, shapes, values)
        self.inferred = inferred_types(model)

    def results_of(
        self, node: NodeProto, values: list[Any], scope: Scope, where: str
    ) -> Sequence[Any]:
        results = super().results_of(node, values, scope, where)
        if scope is not self.top:
            return results
        return [
            self.stand_in(o) if isinstance(r, Broken) and o else r
            for r, o in zip(results, [*node.output, *[""] * len(results)], strict=False)
        ]

    def stand_in(self, name: str) -> Any:
        type = self.signature.inferred(name, self.inferred.get(name), self.legal(name))
        if type is None:
            return Broken()
        return self.builder.input(self.builder.fresh(f"{self.legal(name)}_missing"), type)
