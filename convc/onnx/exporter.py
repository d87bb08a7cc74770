"""Inference graphs as ONNX models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, defs, helper

from convc import __version__
from convc.errors import ConvcError, IRError, UnsupportedError, UsageError
from convc.graph.ir import Array, Builder, Graph, Node, type_of
from convc.graph.op import Op
from convc.graph.requirements import without_requirements
from convc.onnx.data_rules import RULES as OF_DATA
from convc.onnx.data_rules import WIDER, integer_conv
from convc.onnx.export_rules import RULES
from convc.onnx.foreign import Dimensions, Foreign, read_outside
from convc.onnx.training_rules import RULES as OF_TRAINING
from convc.onnx.window_rules import is_grown
from convc.ops.broadcasting import Add, Mul
from convc.ops.conv import Conv2d, ConvTranspose2d
from convc.ops.matmul import MatMul
from convc.ops.volume import Conv3d
from convc.types import Dim, DType, Extent, TensorType, size_of

OLDEST_OPSET = 17
LARGEST_FILE = (1 << 31) - 1

CODES: dict[DType, int] = {
    DType.float64: TensorProto.DOUBLE,
    DType.float32: TensorProto.FLOAT,
    DType.bfloat16: TensorProto.BFLOAT16,
    DType.float16: TensorProto.FLOAT16,
    DType.int64: TensorProto.INT64,
    DType.int32: TensorProto.INT32,
    DType.int16: TensorProto.INT16,
    DType.int8: TensorProto.INT8,
    DType.uint64: TensorProto.UINT64,
    DType.uint32: TensorProto.UINT32,
    DType.uint16: TensorProto.UINT16,
    DType.uint8: TensorProto.UINT8,
    DType.bool: TensorProto.BOOL,
}
"""ONNX' number of each element type."""

INTEGERS = (DType.int32, DType.int64, DType.uint32, DType.uint64, DType.int16, DType.uint16)
"""Dtypes that ONNX has products of matrices for (of the last two, in int32), but no convolution."""

SCHEMA_NAMES = {"float": DType.float32, "double": DType.float64}
"""Where an operator schema's `tensor(...)` says another word than we do."""


def export_graph(
    graph: Graph,
    opset: int = 17,
    symbols: Mapping[str, str] | None = None,
    check: bool = True,
    scales: bool = False,
) -> onnx.ModelProto:
    """The graph as a checked ONNX model: value names are kept, weights are initializers, symbols are `dim_param`s.

    Tensors are logical, so convolutions are NCHW. The first node of a layer has the layer's name. `symbols` gives
    symbols other names. With `scales`, a factor and a summand per channel become one BatchNormalization. Without
    `check`, weights may take more than the 2 GiB of one file: the caller writes them beside it. UnsupportedError lists
    every node that ONNX has no operator for at this opset, or none of its dtype.
    """
    newest = defs.onnx_opset_version()
    if not OLDEST_OPSET <= opset <= newest:
        raise UsageError(f"opset: expected a number from {OLDEST_OPSET} to {newest}, got {opset}")
    size = sum(array.nbytes for array in graph.weights.values())
    if check and size > LARGEST_FILE:
        raise UnsupportedError(
            f"{graph.name}: an ONNX model holds weights of 2 GiB at most, got {size / 2**30:.1f} GiB"
        )
    emitter = Emitter(without_requirements(graph), opset, scales)
    emitter.symbol_names = dict(symbols or {})
    emitter.run()
    model = emitter.model()
    if check:
        onnx.checker.check_model(model, full_check=True)
    return model


class DTypeError(UnsupportedError):
    """ONNX has an operator, but not for this dtype."""


class Emitter:
    """Collects the ONNX nodes and constants of a graph. Rules call it to emit one node."""

    def __init__(self, graph: Graph, opset: int, scales: bool = False) -> None:
        self.graph = graph
        self.opset = opset
        self.types: dict[str, TensorType] = dict(graph.types)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Array] = dict(graph.weights)
        self.problems: list[str] = []
        self._dtypes: dict[str, DType] = {n: t.dtype for n, t in graph.types.items()}
        self._counts: dict[str, int] = {}
        self._base = ""
        self._layer = ""
        self._named: set[str] = set()
        self._sources = sources_of(graph)
        self._symbols: dict[str, str] = {}
        self.symbol_names: dict[str, str] = {}
        self.domains: dict[str, int] = {}
        self._biased = biases_of(graph, scales)
        self._joined = {product.outputs[0] for product in self._biased.values()}

    def __call__(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Emits an ONNX operator of one output and returns the output's name. An input "" is left out."""
        schema = defs.get_schema(kind, max_inclusive_version=self.opset, domain="")
        dtype = self._result(schema, inputs, attributes)
        name = self.fresh(self._base)
        self._dtypes[name] = dtype
        given = {k: v for k, v in attributes.items() if v is not None}
        node = helper.make_node(kind, inputs, [name], doc_string=self._layer, **given)
        self.nodes.append(node)
        return name

    def second(self, kind: str, dtype: DType, *inputs: str, **attributes: Any) -> str:
        """Emits an ONNX operator of two outputs and returns the name of the second one, of a dtype."""
        first = self(kind, *inputs, **attributes)
        name = self.fresh(self._base)
        self._dtypes[name] = dtype
        self.nodes[-1].output[:] = [first, name]
        return name

    def constant(self, array: Any, base: str = "constant") -> str:
        """Adds a constant tensor and returns its name."""
        name = self.fresh(base)
        self.constants[name] = np.asarray(array)
        self._dtypes[name] = type_of(self.constants[name]).dtype
        return name

    def integers(self, values: Iterable[Any], base: str) -> str:
        """A constant vector of int64."""
        return self.constant(np.array([int(v) for v in values], np.int64), base)

    def extents(self, values: Iterable[Extent]) -> str:
        """A vector of int64 of extents, computed from the inputs' shapes where they are symbolic."""
        parts = [self._extent(value) for value in values]
        return self("Concat", *parts, axis=0) if len(parts) != 1 else parts[0]

    def _extent(self, value: Extent) -> str:
        """A vector of one extent."""
        if isinstance(value, int):
            return self.integers([value], "extent")
        total = ""
        for monomial, coefficient in value.terms:
            factors = [self._symbol(s) for s in monomial]
            if coefficient != 1 or not factors:
                factors.append(self.integers([coefficient], "factor"))
            product = factors[0]
            for factor in factors[1:]:
                product = self("Mul", product, factor)
            total = self("Add", total, product) if total else product
        return total

    def _symbol(self, symbol: str) -> str:
        """A vector of a symbol's value: the dimension of an earlier value that it is."""
        if symbol not in self._symbols:
            if symbol not in self._sources:
                raise UnsupportedError(f"no value has the symbolic extent {symbol}")
            value, axis = self._sources[symbol]
            self._symbols[symbol] = self("Shape", value, start=axis, end=axis + 1)
        return self._symbols[symbol]

    def is_read_by(self, *kinds: type[Op]) -> bool:
        """Whether an operator of one of the kinds reads what the node in hand makes."""
        return any(isinstance(n.op, kinds) and self._base in n.inputs for n in self.graph.nodes)

    def is_made_by(self, kind: type[Op], value: str) -> bool:
        """Whether an operator of a kind makes a value."""
        return any(isinstance(n.op, kind) and value in n.outputs for n in self.graph.nodes)

    def scalar(self, value: float, like: str) -> str:
        """A constant of rank 0 in the dtype of a value."""
        return self.constant(np.array(value, self._dtypes[like].numpy))

    def cast(self, value: str, dtype: DType) -> str:
        """The value in a dtype, itself where it has it."""
        return value if self._dtypes[value] is dtype else self("Cast", value, to=CODES[dtype])

    def code(self, dtype: DType) -> int:
        """ONNX' number of an element type."""
        return CODES[dtype]

    def known(self, value: str) -> Array | None:
        """A constant's numbers; None for what is computed."""
        return self.constants.get(value)

    def fresh(self, base: str) -> str:
        """A name that isn't taken yet."""
        name = base
        while name in self._dtypes:
            self._counts[base] = self._counts.get(base, 0) + 1
            name = f"{base}_{self._counts[base]}"
        return name

    def run(self) -> None:
        """Emits all nodes; UnsupportedError lists those that could not be."""
        for node in self.graph.nodes:
            before = len(self.nodes)
            try:
                self.emit(node)
            except ConvcError as error:
                del self.nodes[before:]
                where = f"layer {node.layer!r}, " if node.layer else ""
                self.problems.append(f"{where}{node.op} at {node.outputs[0]!r}: {error}")
            self._name(before)
        if self.problems:
            raise UnsupportedError(
                f"{self.graph.name} has no ONNX form at opset {self.opset}: "
                + "; ".join(self.problems)
            )

    def _name(self, before: int) -> None:
        """Names new nodes: the first of a layer like the layer, others like their value."""
        for node in self.nodes[before:]:
            layer = node.doc_string
            name = layer if layer and layer not in self._named else node.output[0]
            node.name, count = name, 0
            while node.name in self._named:
                count += 1
                node.name = f"{name}_{count}"
            self._named.add(node.name)

    def emit(self, node: Node) -> None:
        """Emits one node of the graph, as operators of its decomposition where no rule says it."""
        self._base, self._layer = node.outputs[0], node.layer
        if node.outputs[0] in self._joined:
            return  # its only reader adds a bias, and says both
        if isinstance(node.op, Foreign):
            self._carry(node, node.op)
            return
        before = len(self.nodes)
        try:
            value = self._said(node)
        except DTypeError:
            del self.nodes[before:]
            self._widen(node)
            return
        if value is not None:
            self._define(node.outputs[0], value, before)
        elif node.op.decompose is not None:
            self._expand(node)
        else:
            raise UnsupportedError("ONNX has no such operator")

    def _said(self, node: Node) -> str | None:
        """The value that a rule makes of a node; None where only its decomposition says it."""
        producer = self._biased.get(node.outputs[0])
        if producer is not None:
            return self._with_bias(node, producer)
        if isinstance(node.op, Dimensions):
            return self._dimensions(node.op)
        kind = type(node.op)
        rule = RULES.get(kind) or OF_TRAINING.get(kind) or OF_DATA.get(kind)
        if isinstance(node.op, Conv2d) and self.types[node.inputs[0]].dtype in INTEGERS:
            return integer_conv(self, node.op, *node.inputs)
        return rule(self, node.op, *node.inputs) if rule else None

    def _with_bias(self, node: Node, producer: Node) -> str:
        """A product and the sum with a constant after it as one ONNX operator."""
        (bias,) = (i for i in node.inputs if i != producer.outputs[0])
        array = np.asarray(self.graph.weights[bias])
        self._layer = producer.layer or node.layer
        flat = self.constant(array.reshape(-1), bias) if array.ndim > 1 else bias
        if isinstance(producer.op, MatMul):
            return self("Gemm", *producer.inputs, flat)
        if isinstance(producer.op, Mul):
            return self._scaled(producer, flat)
        rule = RULES[type(producer.op)]
        value = rule(self, producer.op, *producer.inputs)
        assert value is not None
        self.nodes[-1].input.append(flat)
        return value

    def _scaled(self, product: Node, shift: str) -> str:
        (x,) = (i for i in product.inputs if i not in self.graph.weights)
        (factor,) = (i for i in product.inputs if i != x)
        array = np.asarray(self.graph.weights[factor]).reshape(-1)
        scale = self.constant(array, factor)
        mean = self.constant(np.zeros_like(array), "mean")
        variance = self.constant(np.ones_like(array), "variance")
        return self("BatchNormalization", x, scale, shift, mean, variance, epsilon=0.0)

    def _dimensions(self, op: Dimensions) -> str:
        value = self.cast(self.extents(op.values), op.dtype)
        return self("Squeeze", value, self.integers([0], "axes")) if op.scalar else value

    def _widen(self, node: Node) -> None:
        """Emits a node whose dtype ONNX' operator doesn't take in one that has all its numbers, casts around it."""
        narrow = [n for n in dict.fromkeys(node.inputs) if self._dtypes[n] in WIDER]
        if not narrow:
            self._said(node)  # which says what is wrong
        names = {n: n for n in node.inputs}
        for name in narrow:
            dtype = WIDER[self._dtypes[name]]
            names[name] = self.cast(name, dtype)
            self.types[names[name]] = TensorType(dtype, self.types[name].shape)
        inputs = tuple(names[n] for n in node.inputs)
        outputs = tuple(self.fresh(f"{o}_wide") for o in node.outputs)
        for name, type in zip(
            outputs, node.op.infer(*(self.types[i] for i in inputs)), strict=True
        ):
            self.types[name], self._dtypes[name] = type, type.dtype
        self.emit(Node(node.op, inputs, outputs, node.layer))
        self._base, self._layer = node.outputs[0], node.layer
        for wide, name in zip(outputs, node.outputs, strict=True):
            before = len(self.nodes)
            self._define(name, self.cast(wide, self.types[name].dtype), before)

    def _carry(self, node: Node, op: Foreign) -> None:
        proto = op.renamed(node.inputs, node.outputs, "")
        proto.doc_string = node.layer
        if proto.domain not in ("", "ai.onnx"):
            self.domains[proto.domain] = op.opset
        self.nodes.append(proto)

    def _define(self, name: str, value: str, before: int) -> None:
        """Gives the value that the last of its own nodes made its name in the graph; copies any other value."""
        if len(self.nodes) == before or list(self.nodes[-1].output) != [value]:
            value = self("Identity", value)
        if self._dtypes[value] is not self.types[name].dtype:
            raise IRError(f"exported as {self._dtypes[value].value}, is {self.types[name]}")
        self.nodes[-1].output[0] = name
        del self._dtypes[value]
        self._dtypes[name] = self.types[name].dtype

    def _expand(self, node: Node) -> None:
        """Emits the operators that an operator is made of."""
        assert node.op.decompose is not None
        builder = Builder(node.outputs[0])
        for name in dict.fromkeys(node.inputs):
            builder.input(name, self.types[name])
        inner = builder.finish(node.op.decompose(builder, *node.inputs))
        names = {name: name for name in inner.inputs} | dict(
            zip(inner.outputs, node.outputs, strict=True)
        )
        for name, array in inner.weights.items():
            names[name] = self.constant(array, f"{node.outputs[0]}_{name}")
            self.types[names[name]] = type_of(array)
        for part in inner.nodes:
            for name in part.outputs:
                if name not in names:
                    names[name] = self.fresh(f"{node.outputs[0]}_{name}")
                    self.types[names[name]] = inner.types[name]
                    self._dtypes[names[name]] = inner.types[name].dtype
            inputs, outputs = (tuple(names[n] for n in ns) for ns in (part.inputs, part.outputs))
            self.emit(Node(part.op, inputs, outputs, node.layer))

    def _result(
        self, schema: defs.OpSchema, inputs: tuple[str, ...], attributes: dict[str, Any]
    ) -> DType:
        """The output's dtype by the operator's schema; UnsupportedError where an input's dtype isn't in it."""
        by_variable: dict[str, DType] = {}
        for k, name in enumerate(inputs):
            formal = schema.inputs[min(k, len(schema.inputs) - 1)]
            if not name:
                continue
            dtype = self._dtypes[name]
            if dtype not in allowed(formal):
                raise DTypeError(
                    f"ONNX' {schema.name} at opset {self.opset} takes no {dtype.value}"
                )
            by_variable[formal.type_str] = dtype
        if "to" in attributes:
            return next(d for d, code in CODES.items() if code == attributes["to"])
        output = schema.outputs[0]
        only = allowed(output)
        return by_variable.get(output.type_str) or next(iter(only))

    def model(self) -> onnx.ModelProto:
        """The model of what was emitted."""
        graph = self.graph
        made = {o for node in self.nodes for o in node.output}
        known = {*graph.inputs, *graph.outputs, *graph.weights}
        inner = [n for n in graph.types if n in made and n not in known]
        used = {name for node in self.nodes for name in node.input} | {*graph.outputs}
        used |= {name for node in self.nodes for name in read_outside(node)}
        onnx_graph = helper.make_graph(
            self.nodes,
            graph.name,
            [self._info(n) for n in graph.inputs],
            [self._info(n) for n in graph.outputs],
            [tensor(n, a) for n, a in self.constants.items() if n in used],
            value_info=[self._info(n) for n in inner],
        )
        opsets = [helper.make_opsetid("", self.opset)]
        opsets += [helper.make_opsetid(d, v) for d, v in self.domains.items()]
        return helper.make_model(
            onnx_graph,
            opset_imports=opsets,
            ir_version=helper.find_min_ir_version_for(opsets),
            producer_name="convc",
            producer_version=__version__,
        )

    def _info(self, name: str) -> onnx.ValueInfoProto:
        type = self.types[name]
        shape = [self.symbol_names.get(str(e), onnx_dimension(e)) for e in type.shape]
        return helper.make_tensor_value_info(name, CODES[type.dtype], shape)


PRODUCTS = (Conv2d, ConvTranspose2d, Conv3d, MatMul)


def biases_of(graph: Graph, scales: bool) -> dict[str, Node]:
    """The products that the only reader adds a bias per channel to, by the sum's name; with `scales`, factors too."""
    producers, readers = graph.producers(), graph.consumers()
    biased: dict[str, Node] = {}
    for node in graph.nodes:
        if not isinstance(node.op, Add):
            continue
        for x, bias in (node.inputs, node.inputs[::-1]):
            product = producers.get(x)
            alone = len(readers[x]) == 1 and x not in graph.outputs and x != bias
            if not alone or product is None or bias not in graph.weights:
                continue
            if takes_bias(graph, product, node, bias) or (
                scales and is_scale(graph, product, node, bias)
            ):
                biased[node.outputs[0]] = product
                break
    return biased


def takes_bias(graph: Graph, product: Node, total: Node, bias: str) -> bool:
    """Whether ONNX' operator for a product has an input for this bias."""
    if not isinstance(product.op, PRODUCTS):
        return False
    if isinstance(product.op, ConvTranspose2d) and is_grown(product.op):
        return False
    made, added = graph.types[product.outputs[0]], graph.types[bias]
    if graph.types[total.outputs[0]] != made or not made.dtype.is_float:
        return False
    if isinstance(product.op, MatMul):
        flat = all(graph.types[i].rank == 2 for i in product.inputs)
        return flat and added.rank >= 1 and added.shape[-1] == made.shape[1] == size_of(added.shape)
    channel = -(made.rank - 1)
    shape = (1,) * (made.rank - added.rank) + added.shape
    return added.rank >= made.rank - 1 and shape[channel] == made.shape[1] == size_of(shape)


def is_scale(graph: Graph, product: Node, total: Node, bias: str) -> bool:
    """Whether a sum of a product with a constant is what a batch norm of mean 0 and variance 1 computes."""
    made = graph.types[product.outputs[0]]
    factors = [i for i in product.inputs if i in graph.weights]
    if not isinstance(product.op, Mul) or len(factors) != 1 or made.rank < 3:
        return False
    if graph.types[total.outputs[0]] != made or not made.dtype.is_float:
        return False
    (x,) = (i for i in product.inputs if i != factors[0])
    return graph.types[x] == made and all(
        is_per_channel(graph.types[c], made) for c in (factors[0], bias)
    )


def is_per_channel(constant: TensorType, value: TensorType) -> bool:
    """Whether a constant that broadcasts to a value has one number for each channel."""
    shape = (1,) * (value.rank - constant.rank) + constant.shape
    return len(shape) == value.rank and shape[1] == value.shape[1] == size_of(shape)


def sources_of(graph: Graph) -> dict[str, tuple[str, int]]:
    """For each symbol an input, else a carried node's value, and the axis that it is the extent of."""
    found: dict[str, tuple[str, int]] = {}
    carried = (o for node in graph.nodes if isinstance(node.op, Foreign) for o in node.outputs)
    for name in (*graph.inputs, *carried):
        for axis, extent in enumerate(graph.types[name].shape):
            if isinstance(extent, Dim) and extent == Dim.symbol(str(extent)):
                found.setdefault(str(extent), (name, axis))
    return found


def allowed(formal: defs.OpSchema.FormalParameter) -> set[DType]:
    """Our dtypes among those that a schema allows for an input or output."""
    words = {t.removeprefix("tensor(").removesuffix(")") for t in formal.types}
    own = {d.value for d in DType}
    return {SCHEMA_NAMES.get(w) or DType(w) for w in words if w in own or w in SCHEMA_NAMES}


def onnx_dimension(extent: Extent) -> int | str:
    """A number, or the text of a symbolic extent."""
    return extent if isinstance(extent, int) else str(extent)


def tensor(name: str, array: Array) -> TensorProto:
    """An array as an initializer."""
    return TensorProto(
        name=name,
        data_type=CODES[type_of(array).dtype],
        dims=array.shape,
        raw_data=np.ascontiguousarray(array).tobytes(),
    )
