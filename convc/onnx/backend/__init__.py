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
from typing import Any, ClassVar

import numpy as np
import onnx
from onnx.backend.base import Backend, BackendRep

from convc import driver
from convc.driver import CompiledModel
from convc.errors import DataError, UnsupportedError
from convc.graph.ir import Array, Graph
from convc.onnx.importer import Incomplete, import_model

__all__ = ["CompiledRep", "ConvcBackend", "prepare", "run_model", "run_node", "supports_device"]


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
        self.compiled: dict[Any, tuple[Graph, CompiledModel]] = {}

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Array, ...]:
        """The outputs for inputs in the order of the model, or by name."""
        arrays = self.by_name(inputs)
        graph, compiled = self.specialised(arrays)
        result = compiled(*(arrays[n] for n in graph.inputs))
        outputs = result if isinstance(result, list | tuple) else (result,)
        return tuple(np.asarray(a) for a in outputs)

    def by_name(self, inputs: Any) -> dict[str, Array]:
        if isinstance(inputs, Mapping):
            found = dict(inputs)
        else:
            many = inputs if isinstance(inputs, Sequence) else [inputs]
            if len(many) != len(self.names):
                raise DataError(f"expected {len(self.names)} inputs, got {len(many)}")
            found = dict(zip(self.names, many, strict=True))
        for name, value in found.items():
            if value is None or isinstance(value, list | tuple | dict):
                raise UnsupportedError(f"input {name!r} is not a tensor")
        return {
            name: np.ascontiguousarray(value).reshape(np.shape(value))
            for name, value in found.items()
        }

    def specialised(self, arrays: Mapping[str, Array]) -> tuple[Graph, CompiledModel]:
        """The compiled model for the arrays' shapes, and for the values of those that decide shapes."""
        key = self.key(arrays)
        if key not in self.compiled:
            graph = self.imported(arrays)
            constant = constant_outputs(graph)
            if self.strict and constant and self.read:
                raise UnsupportedError(
                    f"output {constant[0]!r} is folded at compile time, from the values of {', '.join(self.read)}"
                )
            CompiledRep.constant |= bool(constant)
            compiled = driver.compile(graph, threads=self.threads)
            self.compiled[self.key(arrays)] = graph, compiled
        return self.compiled[self.key(arrays)]

    def key(self, arrays: Mapping[str, Array]) -> Any:
        values = tuple(arrays[n].tobytes() for n in self.read)
        return tuple((n, a.shape, a.dtype.str) for n, a in arrays.items()), self.read, values

    def imported(self, arrays: Mapping[str, Array]) -> Graph:
        shapes = {n: a.shape for n, a in arrays.items()}
        while True:
            try:
                return import_model(self.model, shapes, {n: arrays[n] for n in self.read})
            except Incomplete as error:
                more = tuple(n for n in error.needed if n not in self.read)
                if not more:
                    raise
                self.read += more


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
