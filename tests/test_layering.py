"""The import rules of docs/ARCHITECTURE.md, held by parsing every file."""

from __future__ import annotations

import ast
import re
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RUNTIME = ROOT / "runtime" / "convc_runtime"

# Each room imports only rooms of a lower rank; rooms of one rank don't import one another, except at rank 0.
RANKS = (
    ("errors", "frozen", "types", "text", "target", "collector"),
    ("loops",),
    ("program",),
    ("graph",),
    ("ops",),
    ("passes", "lower", "schedule", "plan", "codegen", "onnx", "scripts", "report"),
    ("artifact",),
    ("compilations",),
    ("tuning",),
    ("driver", "onnx_files"),
    ("keras", "onnx.backend"),
    ("cli",),
    ("__main__",),
)
RANK = {room: rank for rank, rooms in enumerate(RANKS) for room in rooms}

BELOW_THE_GRAPH = ("schedule", "codegen")
"""Rooms that work on loops and never see a graph or an operator."""

OWNERS = {
    "llvmlite": ("convc/codegen/llvmc.py",),
    "onnx": ("convc/onnx/",),
    "typer": ("convc/cli/",),
    "rich": ("convc/cli/", "convc/keras/engine/summary.py"),
}
"""The only places that may import a package."""

OPTIONAL = {
    "PIL": "convc/keras/utils/images.py",
    "h5py": "convc/keras/",
    "matplotlib": "convc/keras/visualization/curves.py",
    "ml_dtypes": "runtime/",
    "onnxruntime": "convc/onnx/peers.py",
    "sklearn": "convc/keras/wrappers/scikit_learn.py",
    "rich": "convc/keras/engine/summary.py",
    "http": "convc/keras/utils/files.py",
    "importlib": "convc/codegen/llvmc.py",
    "urllib": "convc/keras/utils/files.py",
}
"""Packages that may be missing or are slow to load, and where they may be imported inside a function."""

LAZY_DOORS = ("convc/__init__.py", "convc/scripts.py", "convc/cli/heavy.py")
"""The only files that may load a part of convc by its name, on first use."""

RUNTIME_NEEDS = {"numpy", "convc_runtime"}

WORDS_OF_TARGETS = re.compile(
    r"\b(nhwc|nchw\d*c|hwio|layouts?|pitch|avx\w*|sse\d*|neon|simd|lanes?|vectori[sz]\w*|cuda|gpus?|cpus?|llvm\w*"
    r"|x86\w*|aarch64|targets?|unroll\w*)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Import:
    """One imported module, where it stands, and whether that is inside a function."""

    file: str
    line: int
    module: str
    inside_function: bool

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"


def sources(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def module_name(path: Path) -> str:
    """`convc.loops.ir` for convc/loops/ir.py; a package's own name for its __init__.py."""
    base = ROOT / "runtime" if path.is_relative_to(RUNTIME) else ROOT
    parts = path.relative_to(base).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = [*sources(ROOT / "convc"), *sources(RUNTIME)]
MODULES = {module_name(path) for path in FILES}


def imports_of(path: Path, source: str | None = None) -> Iterator[Import]:
    """Every import statement of a file, resolved to modules."""
    file = path.relative_to(ROOT).as_posix()
    tree = ast.parse(path.read_text() if source is None else source)
    package = (
        module_name(path) if path.name == "__init__.py" else module_name(path).rpartition(".")[0]
    )

    def visit(node: ast.AST, inside: bool) -> Iterator[Import]:
        match node:
            case ast.Import():
                for alias in node.names:
                    yield Import(file, node.lineno, alias.name, inside)
            case ast.ImportFrom():
                up = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = (
                    ".".join([*up, *([node.module] if node.module else [])])
                    if node.level
                    else node.module
                )
                assert base is not None
                for alias in node.names:
                    full = f"{base}.{alias.name}"
                    yield Import(file, node.lineno, full if full in MODULES else base, inside)
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, inside)

    yield from visit(tree, False)


IMPORTS = [found for path in FILES for found in imports_of(path)]


def room_of(module: str) -> str:
    """The room of a first-party module: `loops` for convc.loops.ir, "" for the package itself."""
    parts = module.split(".")[1:]
    two = ".".join(parts[:2])
    return two if two in RANK else ".".join(parts[:1])


def wrong_direction(file: str, importing: str, imported: str) -> str | None:
    """Why one first-party import breaks the order, or None."""
    source, wanted = room_of(importing), room_of(imported)
    if source == wanted or wanted == "":
        return None
    if source == "":
        return None if file in LAZY_DOORS else "the package's root imports nothing"
    for room in (source, wanted):
        if room not in RANK:
            return f"{room} has no rank: add it to RANKS"
    if source in BELOW_THE_GRAPH and wanted in ("graph", "ops"):
        return f"{source} sees {wanted}"
    if RANK[wanted] > RANK[source]:
        return f"{wanted} stands to the right of {source}"
    if RANK[wanted] == RANK[source] and RANK[source] > 0:
        return f"{source} and {wanted} don't know each other"
    return None


def test_imports_point_to_the_left() -> None:
    problems = []
    for found in IMPORTS:
        if not found.module.startswith("convc.") and found.module != "convc":
            continue
        if found.file.startswith("runtime/"):
            problems.append(f"{found}: the runtime stands alone")
            continue
        reason = wrong_direction(found.file, module_name(ROOT / found.file), found.module)
        if reason:
            problems.append(f"{found}: {reason}")
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize(
    ("importing", "imported"),
    [
        ("convc.loops.ir", "convc.graph.ir"),
        ("convc.schedule.cpu", "convc.graph.ir"),
        ("convc.codegen.llvm", "convc.ops.conv"),
        ("convc.lower.fuse", "convc.plan.memory"),
        ("convc.passes.fold", "convc.driver"),
        ("convc.onnx.importer", "convc.keras.model"),
        ("convc.types", "convc.attic"),
    ],
)
def test_a_wrong_import_is_found(importing: str, imported: str) -> None:
    assert wrong_direction("x.py", importing, imported)


@pytest.mark.parametrize(
    ("importing", "imported"),
    [
        ("convc.graph.ir", "convc.loops.ir"),
        ("convc.cli.compile", "convc.driver"),
        ("convc.text", "convc.errors"),
        ("convc.onnx.backend", "convc.driver"),
        ("convc.onnx.importer", "convc.ops.conv"),
    ],
)
def test_a_right_import_passes(importing: str, imported: str) -> None:
    assert wrong_direction("x.py", importing, imported) is None


def test_modules_import_one_another_without_cycles() -> None:
    graph: dict[str, set[str]] = {module: set() for module in MODULES}
    for found in IMPORTS:
        if found.module in MODULES and found.file not in LAZY_DOORS:
            graph[module_name(ROOT / found.file)].add(found.module)
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, "cycle: " + " -> ".join((*path[path.index(module) :], module))
        if module not in done:
            for other in sorted(graph[module] - {module}):
                visit(other, (*path, module))
            done.add(module)

    for module in sorted(graph):
        visit(module, ())


def test_only_optional_dependencies_are_imported_inside_functions() -> None:
    problems = []
    for found in IMPORTS:
        place = OPTIONAL.get(found.module.split(".")[0])
        if found.inside_function and (place is None or not found.file.startswith(place)):
            problems.append(str(found))
    assert not problems, "\n".join(problems)


def test_an_import_inside_a_function_is_found() -> None:
    source = "def f():\n    if True:\n        from convc.loops import ir\n"
    (found,) = imports_of(ROOT / "convc" / "types.py", source)
    assert found.inside_function
    assert found.module == "convc.loops.ir"


def loads_by_name(path: Path) -> Iterator[Import]:
    """Calls of import_module and __import__, with the module that they name ("?" if computed)."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        called = (
            function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        )
        if called in ("import_module", "__import__"):
            first = node.args[0] if node.args else None
            named = first.value if isinstance(first, ast.Constant) else "?"
            yield Import(path.relative_to(ROOT).as_posix(), node.lineno, str(named), True)


def may_load_by_name(found: Import) -> bool:
    """The lazy doors may load convc's parts; an owner may load its own package, and so on first use."""
    return found.file in LAZY_DOORS or found.file.startswith(
        (*OWNERS.get(found.module.split(".")[0], ()), OPTIONAL.get(found.module.split(".")[0], "-"))
    )


def test_modules_are_loaded_by_name_in_the_lazy_doors_only() -> None:
    problems = [
        f"{found.file}:{found.line} loads {found.module} by name"
        for path in FILES
        for found in loads_by_name(path)
        if not may_load_by_name(found)
    ]
    assert not problems, "\n".join(problems)


def test_each_owned_package_is_imported_by_its_owner_only() -> None:
    problems = [
        f"{found}: only {' '.join(owners)} may"
        for found in IMPORTS
        if (owners := OWNERS.get(found.module.split(".")[0])) and not found.file.startswith(owners)
    ]
    assert not problems, "\n".join(problems)


def test_the_runtime_needs_numpy_and_the_standard_library_only() -> None:
    standard = sys.stdlib_module_names
    problems = [
        str(found)
        for found in IMPORTS
        if found.file.startswith("runtime/")
        and found.module.split(".")[0] not in RUNTIME_NEEDS
        and found.module.split(".")[0] not in standard
    ]
    assert not problems, "\n".join(problems)


def words_of_targets(path: Path) -> Iterator[str]:
    """Names, comments and texts of a file that speak of a machine or a memory layout."""
    with path.open("rb") as stream:
        for token in tokenize.tokenize(stream.readline):
            if token.type in (tokenize.NAME, tokenize.COMMENT, tokenize.STRING):
                for word in WORDS_OF_TARGETS.findall(token.string.replace("_", " ")):
                    yield f"{path.relative_to(ROOT)}:{token.start[0]} says {word!r}"


def test_operators_know_no_machine_and_no_layout() -> None:
    problems = [word for path in sources(ROOT / "convc" / "ops") for word in words_of_targets(path)]
    assert not problems, "\n".join(problems)


def test_a_word_of_a_target_is_found() -> None:
    assert WORDS_OF_TARGETS.search("def nhwc_strides".replace("_", " "))
    assert WORDS_OF_TARGETS.search("if target.isa == AVX512:")
    assert not WORDS_OF_TARGETS.search("logical NCHW, weights OIHW, registered")
