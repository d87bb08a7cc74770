"""Traced tensors: what flows through layers and functions while a model is being described.

A `KerasTensor` has a type and the `Step` that computes it (steps.py, where variables are too). `apply` makes one of an
operator and its operands; what Python's operators and numpy's functions do with tensors is in operators.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from convc.errors import ModelError
from convc.graph.op import Op, OpError
from convc.keras import backend
from convc.keras.engine.naming import scope_name, user_line
from convc.keras.engine.open_sizes import Open, shown
from convc.keras.engine.operators import FUNCTIONS, Operators, binary, function
from convc.keras.engine.phase import said_phase, training_now
from convc.keras.engine.steps import (
    RECORDERS,
    Array,
    Keeper,
    Outputs,
    Part,
    Placeholder,
    Recording,
    Step,
    Traced,
    Variable,
    at_once,
    evaluate,
    put_down,
    recorded,
    recording_now,
    steps_to,
    traced_variables,
)
from convc.ops import elementwise, reduce, shape
from convc.ops.augment import Drawn
from convc.ops.noise import FreshSeed
from convc.passes.training_mode import draws
from convc.types import Dim, DType, Extent, Shape, TensorType

BATCH = Dim.symbol("N")


class KerasTensor(Traced):
    """A tensor of a model under construction, with Keras' `shape` (None for the batch) and `dtype`."""

    def __init__(self, step: Step, name: str | None = None) -> None:
        self.step = step
        self.name = name or step.name or "keras_tensor"
        self.history: tuple[Any, int] | None = None
        """The call that returned it (engine.call.Call) and its position among the outputs."""
        self.mask: KerasTensor | None = None
        """Which of its values count, where some don't: booleans for the first axes (engine.masks)."""
        self.metric: Any = None
        """The metric whose call gave it (layers' `add_metric`)."""
        if step.recorded is not None and step.known is None:
            step.recorded.made(self)

    @property
    def type(self) -> TensorType:
        return self.step.type

    @property
    def shape(self) -> tuple[int | None, ...]:
        return shown(self.type.shape)

    @property
    def dtype(self) -> str:
        return self.type.dtype.value

    @property
    def ndim(self) -> int:
        return self.type.rank

    rank = ndim

    @property
    def size(self) -> int | None:
        return math.prod(d for d in self.shape if d is not None) if None not in self.shape else None

    def __len__(self) -> int:
        if not self.shape or self.shape[0] is None:
            self._refuse("len()")
        return self.shape[0]

    def __repr__(self) -> str:
        """Its form, and its values where they depend on no model input."""
        about = f"shape={self.shape}, dtype={self.dtype}"
        if self.step.symbolic:
            return f"<KerasTensor {about}, name={self.name}>"
        return f"<KerasTensor {about}, value={evaluate(self.step)}>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        """A known number as a number: f"{loss:.3f}"."""
        if spec and not self.shape and not self.step.symbolic:
            return format(self.numpy().item(), spec)
        return super().__format__(spec)


def placeholder(name: str, shape: Shape, dtype: DType) -> KerasTensor:
    """A new model input."""
    step = Step(Placeholder(name), (), TensorType(dtype, shape), symbolic=True, name=name)
    return KerasTensor(step, name)


def as_tensor(value: Any, dtype: Any = None) -> KerasTensor:
    """A tensor, variable, array, number or list of numbers as a KerasTensor.

    Python floats become floatx (float32), ints int32; a `dtype` casts what hasn't got it.
    """
    match value:
        case KerasTensor():
            tensor = value
        case Variable():
            tensor = KerasTensor(value.step, value.name)
        case Dim():
            tensor = _counted(value)
        case _:
            tensor = _constant(value, dtype)
    return tensor if dtype is None else cast(tensor, DType.of(dtype))


def _counted(size: Dim) -> KerasTensor:
    """A size that is known when the compiled program runs, such as the batch's, as an int32."""
    one = _constant(1, "int32")
    return apply(reduce.Count((0,)), apply(shape.Broadcast((size,)), one))


def _constant(value: Any, dtype: Any) -> KerasTensor:
    if isinstance(value, (list, tuple)) and any(isinstance(v, Operators) for v in value):
        return as_tensor(FUNCTIONS["stack"](value))
    try:
        array = np.asarray(value)
        if (
            dtype is None
            and array.dtype == np.float64
            and not isinstance(value, (np.ndarray, np.generic))
        ):
            dtype = backend.floatx()
        if (
            dtype is None
            and array.dtype == np.int64
            and not isinstance(value, (np.ndarray, np.generic))
        ):
            dtype = "int32"
        kind = DType.of(array.dtype) if dtype is None else DType.of(dtype)
    except ModelError:
        raise
    except (TypeError, ValueError):
        is_array = isinstance(value, (np.ndarray, np.generic))
        shown = f"an array of dtype {value.dtype}" if is_array else repr(value)
        raise ModelError(f"{user_line()}: expected a tensor or numbers; received {shown}") from None
    array = np.array(array, dtype=kind.numpy)
    return KerasTensor(Step(array, (), TensorType(kind, array.shape), scope_name()))


def apply(op: Op, *operands: Any) -> KerasTensor:
    """The output of an operator of one output; a ModelError says what doesn't fit, and in which layer."""
    steps = tuple(as_tensor(o).step for o in operands)
    try:
        (type_,) = op.infer(*(s.type for s in steps))
    except OpError as error:
        where = f"layer {scope_name()!r}" if scope_name() else user_line()
        raise ModelError(f"{where}: {error}") from None
    if said_phase() is False and draws(op) and not isinstance(op, FreshSeed):
        return KerasTensor(steps[op.passes_on if isinstance(op, Drawn) else 0])
    symbolic = any(s.symbolic for s in steps)
    tensor = KerasTensor(Step(op, steps, type_, scope_name(), symbolic, training=training_now()))
    return tensor if symbolic else settled(tensor)


def apply_all(op: Op, *operands: Any) -> tuple[KerasTensor, ...]:
    """The outputs of an operator of several, in a step that is traced or recorded."""
    steps = tuple(as_tensor(o).step for o in operands)
    types, whole = op.infer(*(s.type for s in steps)), Outputs(op)
    symbolic = any(s.symbolic for s in steps)
    found = [
        KerasTensor(Step(Part(whole, k), steps, type_, scope_name(), symbolic))
        for k, type_ in enumerate(types)
    ]
    return tuple(t if symbolic else settled(t) for t in found)


def settled(tensor: KerasTensor) -> KerasTensor:
    """A tensor of known values: left to the recording that is under way, else computed at once outside of layers."""
    recording = recording_now()
    if recording is None and at_once():
        # What follows from something that is put down is put down, too.
        recording = next((r for i in tensor.step.inputs if (r := put_down(i)) is not None), None)
        if recording is not None:
            known = recording.variables
            inputs = [
                known[s] if isinstance(s := i.source, Variable) else i for i in tensor.step.inputs
            ]
            tensor.step.inputs = tuple(inputs)
    if recording is not None:
        tensor.step.recorded = recording
        recording.made(tensor)
        return tensor
    return as_tensor(evaluate(tensor.step), tensor.type.dtype) if at_once() else tensor


def cast(x: Any, dtype: DType) -> KerasTensor:
    """The tensor with another element type (itself if it has that already)."""
    tensor = as_tensor(x)
    return tensor if tensor.type.dtype is dtype else apply(elementwise.Cast(dtype), tensor)


def default_float() -> DType:
    """`floatx`, which Python floats have, and what integers become in functions of floats."""
    return DType.of(backend.floatx())


_FLOATS = (DType.float64, DType.float32, DType.bfloat16, DType.float16)


def common_dtype(*operands: Any) -> DType:
    """The element type that Keras computes with: floats win over integers, Python numbers adapt to the tensors."""
    strong = [o for o in operands if not isinstance(o, (bool, int, float))]
    kinds = [as_tensor(o).type.dtype for o in strong]
    weak_float = any(isinstance(o, float) for o in operands)
    floats = [k for k in kinds if k.is_float]
    if floats:
        if DType.bfloat16 in floats and DType.float16 in floats:
            return DType.float32 if DType.float64 not in floats else DType.float64
        return min(floats, key=_FLOATS.index)
    if weak_float or (not kinds and not all(isinstance(o, int) for o in operands)):
        return default_float()
    if not kinds:
        return DType.bool if all(isinstance(o, bool) for o in operands) else DType.int32
    if all(k is DType.bool for k in kinds):
        weak_int = any(isinstance(o, int) and not isinstance(o, bool) for o in operands)
        return DType.int32 if weak_int else DType.bool
    found = np.result_type(*(k.numpy for k in kinds))
    return default_float() if found.kind == "f" else DType.of(found)


def promoted(*operands: Any) -> tuple[KerasTensor, ...]:
    """The operands as tensors of their common element type."""
    kind = common_dtype(*operands)
    return tuple(as_tensor(o, kind) for o in operands)


def floating(x: Any) -> KerasTensor:
    """The tensor as floats: integers and booleans become the default ones."""
    tensor = as_tensor(x)
    return tensor if tensor.type.dtype.is_float else cast(tensor, default_float())


def transpose(x: KerasTensor, perm: tuple[int, ...]) -> KerasTensor:
    """The tensor with its axes in another order (itself if that changes nothing)."""
    return x if perm == tuple(range(x.type.rank)) else apply(shape.Transpose(perm), x)


def reshape(x: KerasTensor, to: Shape) -> KerasTensor:
    """The tensor with another shape of the same size (itself if it has that shape)."""
    return x if x.type.shape == to else apply(shape.Reshape(to), x)


def extents(shape: Iterable[Any], what: str) -> tuple[Extent, ...]:
    """A Keras shape: None is the batch in the first place, and an open size in others."""
    return tuple(Open() if k and d is None else extent(d, what) for k, d in enumerate(shape))


def extent(value: Any, what: str) -> Extent:
    """A dimension of a Keras shape: None is the batch."""
    if value is None:
        return BATCH
    if isinstance(value, Dim):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
        raise ModelError(
            f"{what}: expected non-negative integers (None for the batch only); received {value!r}"
        )
    return int(value)


def elementwise_binary(op: type[Op], a: Any, b: Any) -> KerasTensor:
    """A broadcasting operator on operands promoted to their common element type."""
    return apply(op(), *promoted(a, b))


__all__ = [
    "BATCH", "FUNCTIONS", "RECORDERS", "Array", "Keeper", "KerasTensor", "Operators", "Placeholder", "Recording",
    "Step", "Traced", "Variable", "apply", "apply_all", "as_tensor", "at_once", "binary", "cast", "common_dtype",
    "elementwise_binary", "evaluate", "extent", "extents", "floating", "function", "placeholder", "promoted",
    "recorded", "recording_now", "reshape", "settled", "steps_to", "traced_variables", "transpose",
]  # fmt: skip
