"""ONNX' backend interface over the compiler: every model runs as native code.

    import convc.onnx.backend
    rep = convc.onnx.backend.prepare(model)
    outputs = rep.run([array, …])

Shapes are compiled in, so each new combination of input shapes compiles once. Where a shape depends on the value of an
input (the `shape` of Reshape, the `axes` of a reduction), each new value of that input compiles once too; everything
else is computed from the arrays that `run` gets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx
from onnx.backend.base import Backend, BackendRep

from convc import driver
from convc.driver import CompiledModel
from convc.errors import DataError, UnsupportedError
from convc.graph.ir import Array, Graph
from convc.graph.requirements import results_of
from convc.onnx.importer import Incomplete, import_parts
from convc.onnx.narrow import BY_NUMPY, NARROW

__all__ = ["CompiledRep", "ConvcBackend", "prepare", "run_model", "run_node", "supports_device"]


@dataclass(frozen=True)
class Made:
    """One compiled form of a model; `sequences` are the outputs that are several of the graph's."""

    graph: Graph
    sequences: Mapping[str, tuple[str, ...]]
    model: CompiledModel


class CompiledRep(BackendRep):
    """A model that compiles for the shapes (and the shape-giving values) that it is run on."""

    constant: ClassVar[bool] = False
    """Whether some model had an output that no input decides (for the suite's count)."""

    def __init__(
        self, model: onnx.ModelProto, threads: int | None = None, strict: bool = False
    ) -> None:
        self.model = model
        self.threads = threads
        self.strict = strict
        initialized = {t.name for t in model.graph.initializer}
        self.names = [i.name for i in model.graph.input if i.name not in initialized]
        self.read: tuple[str, ...] = ()  # the inputs whose values decide shapes
        self.made: dict[Any, Made] = {}

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The outputs for inputs in the order of the model, or by name. Sequences are lists of arrays."""
        given = self.by_name(inputs)
        shapes = {name: shapes_of(value) for name, value in given.items()}
        arrays = flattened(given)
        made = self.specialised(shapes, arrays)
        result = made.model(*(arrays[n] for n in made.graph.inputs))
        outputs = result if isinstance(result, list | tuple) else (result,)
        found = dict(zip(results_of(made.graph), map(np.asarray, outputs), strict=True))
        return tuple(
            [found[n] for n in made.sequences[o.name]]
            if o.name in made.sequences
            else restored(found[o.name], o)
            for o in self.model.graph.output
        )

    def by_name(self, inputs: Any) -> dict[str, Any]:
        if isinstance(inputs, Mapping):
            return dict(inputs)
        many = inputs if isinstance(inputs, Sequence) else [inputs]
        if len(many) != len(self.names):
            raise DataError(f"expected {len(self.names)} inputs, got {len(many)}")
        return dict(zip(self.names, many, strict=True))

    def specialised(self, shapes: Mapping[str, Any], arrays: Mapping[str, Array]) -> Made:
        """The compiled model for the arrays' shapes, and for the values of those that decide shapes."""
        key = self.key(shapes, arrays)
        if key not in self.made:
            graph, sequences = self.imported(shapes, arrays)
            constant = constant_outputs(graph)
            if self.strict and constant and self.read:
                raise UnsupportedError(
                    f"output {constant[0]!r} is folded at compile time, from the values of {', '.join(self.read)}"
                )
            CompiledRep.constant |= bool(constant)
            compiled = driver.compile(graph, threads=self.threads)
            key = self.key(shapes, arrays)
            self.made[key] = Made(graph, sequences, compiled)
        return self.made[key]

    def key(self, shapes: Mapping[str, Any], arrays: Mapping[str, Array]) -> Any:
        values = tuple(arrays[n].tobytes() for n in self.read)
        return repr(shapes), tuple(a.dtype.str for a in arrays.values()), self.read, values

    def imported(
        self, shapes: Mapping[str, Any], arrays: Mapping[str, Array]
    ) -> tuple[Graph, dict[str, tuple[str, ...]]]:
        """The graph, imported again as often as another input turns out to decide a shape."""
        while True:
            try:
                return import_parts(self.model, shapes, {n: arrays[n] for n in self.read})
            except Incomplete as error:
                more = tuple(n for n in error.needed if n not in self.read)
                if not more:
                    raise
                self.read += more


def shapes_of(value: Any) -> Any:
    """The shape of an array, those of a sequence's, None for an optional value that isn't there."""
    if value is None:
        return None
    return [np.shape(v) for v in value] if isinstance(value, list | tuple) else np.shape(value)


def flattened(given: Mapping[str, Any]) -> dict[str, Array]:
    """Every tensor by its name in the graph."""
    found: dict[str, Any] = {}
    for name, value in given.items():
        if isinstance(value, list | tuple):
            found |= {f"{name}.{k}": v for k, v in enumerate(value)}
        elif value is not None:
            found[name] = value
    return {n: carried(v) for n, v in found.items()}


def carried(value: Any) -> Array:
    """A contiguous array, of narrow element types in the dtype that carries them."""
    array = np.asarray(value)
    kind = BY_NUMPY.get(array.dtype)
    whole = np.ascontiguousarray(array).reshape(array.shape)
    return whole if kind is None else kind.carried(whole)


def restored(value: Array, info: onnx.ValueInfoProto) -> Array:
    """An output in the numpy type of what the model declares."""
    kind = NARROW.get(info.type.tensor_type.elem_type)
    return value if kind is None else kind.restored(value)


def constant_outputs(graph: Graph) -> list[str]:
    """The outputs that nothing given at run time decides."""
    live: set[str] = set(graph.inputs)
    for node in graph.nodes:
        if live.intersection(node.inputs):
            live.update(node.outputs)
    return [name for name in graph.outputs if name not in live]


class ConvcBackend(Backend):
    """`onnx.backend.base.Backend` for this machine's CPU."""

    threads: int | None = None
    strict = False
    """Refuse models with outputs that were folded from the values of inputs."""

    @classmethod
    def is_compatible(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        return cls.supports_device(device)

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> CompiledRep:
        """A runnable model. UnsupportedError comes with the first run, when the shapes are known."""
        if not cls.supports_device(device):
            raise UnsupportedError(f"device {device!r} is not supported: expected 'CPU'")
        return CompiledRep(model, cls.threads, cls.strict)

    @classmethod
    def run_model(
        cls, model: onnx.ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any
    ) -> tuple[Array, ...]:
        return cls.prepare(model, device).run(inputs)

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Any = None,
        **kwargs: Any,
    ) -> tuple[Array, ...]:
        """One node as a model whose inputs have the arrays' types."""
        arrays = [np.asarray(a) for a in inputs]
        given = zip((n for n in node.input if n), arrays, strict=True)
        infos = [
            onnx.helper.make_tensor_value_info(
                n, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape
            )
            for n, a in given
        ]
        outputs = [onnx.helper.make_empty_tensor_value_info(n) for n in node.output if n]
        graph = onnx.helper.make_graph([node], "node", infos, outputs)
        return cls.run_model(onnx.helper.make_model(graph), arrays, device)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        return device.split(":")[0] == "CPU"


prepare = ConvcBackend.prepare
run_model = ConvcBackend.run_model
run_node = ConvcBackend.run_node
supports_device = ConvcBackend.supports_device
