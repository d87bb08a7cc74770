"""Whole compilations kept between runs: all of an artifact but its weights, which are made anew from the model's.

An entry stands for all models whose graphs read alike and whose numbers, where the compiler looked at them, are the
same. Its key is the hash of what a compilation follows from: the graphs' text, which of their weights are one array,
the bytes of every weight but those of convolutions and products, target, options and the compiler's own sources. What
is done to the weights of convolutions and products is kept as expressions (program/deferred.py), so that an
entry takes about as many bytes as the code and serves the model with other weights as well. A compilation that
looked at such a weight's numbers isn't kept, and neither is one whose constants take more than `LARGEST`.

    entry     = bytes of the text (8, little-endian), the text, the code, the constants' bytes
    text      = JSON {"description", "symbols", "machine", "code": bytes, "summary", "size": bytes of the weights,
                "constants": [[dtype, shape], …], "layouts": a kernel without statements whose parameters
                are the weights', "weights": [[offset, expr], …]}      expr: the grammar of program/deferred.py

Entries lie in the cache of objects (codegen/cache.py), which checks them by hash and bounds what they take.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import convc_runtime
import numpy as np
from convc_runtime.description import Description, from_json, to_json

from convc.artifact import Artifact
from convc.codegen.cache import Cache
from convc.codegen.link import Image
from convc.graph.ir import Array, Graph
from convc.graph.printer import print_graph
from convc.loops.ir import Buffer, Kernel
from convc.loops.parser import parse_kernel
from convc.loops.printer import print_kernel
from convc.program.deferred import (
    Constant,
    Deferred,
    Filtered,
    Packed,
    Reshaped,
    Scaled,
    Source,
    Transposed,
    deferred,
    evaluate_into,
    is_deferred,
)  # fmt: skip
from convc.program.weights import page_aligned
from convc.report import Row, Summary
from convc.target import Target
from convc.types import DType

LARGEST = 16 << 20
"""Bytes that the constants of an entry may take."""

_FRONT_ENDS = ("cli", "keras", "onnx")


@dataclass(frozen=True)
class Recalled:
    """What a compilation made, from an entry. `weights` are at their offsets in a block of `size` bytes."""

    description: Description
    target: Target
    image: Image
    weights: list[tuple[int, Deferred]]
    size: int
    summary: Summary

    @property
    def rows(self) -> dict[str, list[Row]]:
        entries = self.description.extra["rows"].items()
        return {entry: [Row.from_json(row) for row in rows] for entry, rows in entries}

    def artifact(self) -> Artifact:
        """The artifact, for which the weights are computed."""
        block = page_aligned(self.size)
        evaluate_into(block, self.weights)
        return Artifact(self.description, self.target, self.image, block)


def key_of(graphs: Mapping[str, Graph], target: Target, *parts: str) -> str:
    """The name of a compilation of graphs whose weights were deferred (passes/defer_weights.py)."""
    digest = hashlib.sha256()

    def add(text: str) -> None:
        data = text.encode()
        digest.update(len(data).to_bytes(8, "little") + data)

    for part in ("compilation 1", compiler_fingerprint(), repr(target), *parts):
        add(part)
    numbers = {id(array): number for number, array in enumerate(originals(graphs))}
    for entry, graph in graphs.items():
        add(entry)
        add(print_graph(graph))
        for name, array in graph.weights.items():
            number = numbers[id(original(array))]
            add(f"{name} is {number}{' deferred' if is_deferred(array) else ''}")
            if not is_deferred(array):
                digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


@functools.cache
def compiler_fingerprint() -> str:
    """A hash of the compiler's own sources and of numpy's version; front ends aside, whose result is the graphs."""
    digest = hashlib.sha256(np.__version__.encode())
    for package in (Path(__file__).parent, Path(convc_runtime.__file__).parent):
        for source in sorted(package.rglob("*")):
            place = source.relative_to(package)
            if source.suffix in (".py", ".ll") and place.parts[0] not in _FRONT_ENDS:
                text = source.read_bytes()
                digest.update(f"{place.as_posix()} {len(text)}\n".encode() + text)
    return digest.hexdigest()


def keep(
    cache: Cache,
    key: str,
    graphs: Mapping[str, Graph],
    artifact: Artifact,
    weights: list[tuple[int, Deferred]],
    summary: Summary,
) -> None:
    """Keeps a compilation of `graphs`, unless it followed from more than its key. `weights` are at their offsets."""
    if any(map(was_seen, graphs.values())):
        return
    writer = _Writer({id(array): number for number, array in enumerate(originals(graphs))})
    expressions = [[offset, writer.expression(value)] for offset, value in weights]
    constants = b"".join(c.tobytes() for c in writer.constants)
    if len(constants) > LARGEST:
        return
    text = json.dumps(
        {
            "description": to_json(artifact.description),
            "symbols": artifact.image.symbols,
            "machine": artifact.image.machine,
            "code": len(artifact.image.code),
            "summary": summary.to_json(),
            "size": artifact.weights.size,
            "constants": [[DType.of(c.dtype).value, c.shape] for c in writer.constants],
            "layouts": print_kernel(Kernel("layouts", tuple(writer.buffers), ())),
            "weights": expressions,
        }
    ).encode()
    cache.put(key, len(text).to_bytes(8, "little") + text + artifact.image.code + constants)


def recall(cache: Cache, key: str, graphs: Mapping[str, Graph], target: Target) -> Recalled | None:
    """The compilation of `graphs` with their weights, if there is one."""
    entry = cache.get(key)
    if entry is None:
        return None
    start = 8 + int.from_bytes(entry[:8], "little")
    data = json.loads(entry[8:start])
    end = start + data["code"]
    constants = memoryview(entry)[end:]
    reader = _Reader(originals(graphs), data["constants"], constants, data["layouts"])
    return Recalled(
        description=from_json(data["description"]),
        target=target,
        image=Image(data["machine"], entry[start:end], data["symbols"]),
        weights=[(offset, reader.expression(e)) for offset, e in data["weights"]],
        size=data["size"],
        summary=Summary.from_json(data["summary"]),
    )


def originals(graphs: Mapping[str, Graph]) -> list[Array]:
    """The model's arrays, each once, in the order in which the graphs name them."""
    arrays = [original(w) for graph in graphs.values() for w in graph.weights.values()]
    return list({id(array): array for array in arrays}.values())


def original(weight: Array) -> Array:
    """The model's array behind a weight that may be deferred."""
    value = deferred(weight)
    return value.array if isinstance(value, Source) else weight


def was_seen(graph: Graph) -> bool:
    """Whether anybody looked at the numbers of a deferred weight."""
    return any(isinstance(a, Source) and a.seen for a in map(deferred, graph.weights.values()))


class _Writer:
    """Turns expressions into JSON. `numbers` are those of the model's arrays, by identity."""

    def __init__(self, numbers: Mapping[int, int]) -> None:
        self.numbers = numbers
        self.buffers: list[Buffer] = []
        self.constants: list[Array] = []

    def expression(self, value: Deferred) -> list[Any]:
        match value:
            case Source(array=array) | Constant(array=array):
                number = self.numbers.get(id(array))
                return ["constant", self.constant(array)] if number is None else ["source", number]
            case Transposed(perm=perm, of=of):
                return ["transpose", perm, self.expression(of)]
            case Reshaped(shape=shape, of=of):
                return ["reshape", shape, self.expression(of)]
            case Scaled(factor=factor, of=of):
                return ["scale", self.constant(factor), self.expression(of)]
            case Filtered(matrix=matrix, of=of):
                return ["filter", self.constant(matrix), self.expression(of)]
            case Packed(buffer=buffer, of=of):
                self.buffers.append(replace(buffer, name=f"w{len(self.buffers)}"))
                return ["pack", len(self.buffers) - 1, self.expression(of)]
        raise TypeError(f"a weight of type {type(value).__name__} has no text")

    def constant(self, array: Array) -> int:
        self.constants.append(array)
        return len(self.constants) - 1


class _Reader:
    """The inverse."""

    def __init__(
        self, given: list[Array], constants: list[Any], data: memoryview, layouts: str
    ) -> None:
        self.given = given
        self.buffers = parse_kernel(layouts).params
        self.constants: list[Array] = []
        end = 0
        for name, shape in constants:
            dtype = DType(name).numpy
            count = int(np.prod(shape, dtype=np.int64))
            array = np.frombuffer(data, dtype, count, end) if count else np.zeros(0, dtype)
            self.constants.append(array.reshape(shape))
            end += array.nbytes

    def expression(self, text: list[Any]) -> Deferred:
        match text:
            case ["source", number]:
                return Source(self.given[number])
            case ["constant", number]:
                return Constant(self.constants[number])
            case ["transpose", perm, of]:
                return Transposed(self.expression(of), perm)
            case ["reshape", shape, of]:
                return Reshaped(self.expression(of), shape)
            case ["scale", factor, of]:
                return Scaled(self.expression(of), self.constants[factor])
            case ["filter", matrix, of]:
                return Filtered(self.expression(of), self.constants[matrix])
            case ["pack", buffer, of]:
                return Packed(self.expression(of), self.buffers[buffer])
        raise ValueError(f"no weight's expression: {text!r}")
