"""Traced tensors: what flows through layers and functions while a model is being described.

A `KerasTensor` has a type and the `Step` that computes it: an operator over other steps, an input, a variable or a
constant. Nothing is computed while tracing; the steps that lead to a model's outputs become its graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol, Union

import numpy as np
from numpy.typing import NDArray

from convc.errors import ModelError
from convc.graph.op import Op, OpError
from convc.keras.engine.naming import scope, scope_name, user_line
from convc.keras.engine.open_sizes import Open, shown
from convc.keras.engine.phase import training_now
from convc.ops import elementwise, reduce, shape
from convc.types import Dim, DType, Extent, Shape, TensorType

Array = NDArray[np.generic]
BATCH = Dim.symbol("N")


@dataclass(eq=False)
class Placeholder:
    """A model input that has no value while tracing."""

    name: str


@dataclass(eq=False)
class Step:
    """How one value comes about. `layer` is the path of the layer that was being traced."""

    source: Union[Op, Placeholder, Variable, Array]
    inputs: tuple[Step, ...]
    type: TensorType
    layer: str = ""
    symbolic: bool = False
    """True if it depends on a placeholder."""
    name: str = ""
    """A wish for the name of the value in the graph: the layer whose output it is."""
    training: bool = False
    """Whether it is computed as in training, in a step of the user's own."""
    known: Array | None = None
    """Its value, once a recording has computed it."""
    recorded: Recording | None = None
    """The recording that it belongs to, which computes its value."""


class Recording(Protocol):
    """What keeps steps on known values together with their history, so that gradients can be taken (training/eager.py).

    Variables are read and assigned in `variables`.
    """

    @property
    def variables(self) -> dict[Variable, Step]: ...

    def made(self, tensor: KerasTensor) -> None:
        """A tensor was computed outside of all layers."""
        ...

    def next_number(self) -> int:
        """Another number for each draw."""
        ...

    def values(self, steps: Sequence[Step]) -> list[Array]: ...


class Operators:
    """Python's operators on tensors and variables; what would need a number raises a ModelError."""

    __array_priority__ = 1000

    def __add__(self, other: Any) -> Any:
        return binary("add", self, other)

    def __radd__(self, other: Any) -> Any:
        return binary("add", other, self)

    def __sub__(self, other: Any) -> Any:
        return binary("subtract", self, other)

    def __rsub__(self, other: Any) -> Any:
        return binary("subtract", other, self)

    def __mul__(self, other: Any) -> Any:
        return binary("multiply", self, other)

    def __rmul__(self, other: Any) -> Any:
        return binary("multiply", other, self)

    def __truediv__(self, other: Any) -> Any:
        return binary("true_divide", self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return binary("true_divide", other, self)

    def __floordiv__(self, other: Any) -> Any:
        return binary("floor_divide", self, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return binary("floor_divide", other, self)

    def __mod__(self, other: Any) -> Any:
        return binary("mod", self, other)

    def __rmod__(self, other: Any) -> Any:
        return binary("mod", other, self)

    def __pow__(self, other: Any) -> Any:
        return binary("power", self, other)

    def __rpow__(self, other: Any) -> Any:
        return binary("power", other, self)

    def __matmul__(self, other: Any) -> Any:
        return binary("matmul", self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return binary("matmul", other, self)

    def __lt__(self, other: Any) -> Any:
        return binary("less", self, other)

    def __le__(self, other: Any) -> Any:
        return binary("less_equal", self, other)

    def __gt__(self, other: Any) -> Any:
        return binary("greater", self, other)

    def __ge__(self, other: Any) -> Any:
        return binary("greater_equal", self, other)

    def __eq__(self, other: object) -> Any:
        return binary("equal", self, other)

    def __ne__(self, other: object) -> Any:
        return binary("not_equal", self, other)

    __hash__ = object.__hash__

    def __and__(self, other: Any) -> Any:
        return binary("logical_and", self, other)

    def __or__(self, other: Any) -> Any:
        return binary("logical_or", self, other)

    def __xor__(self, other: Any) -> Any:
        return binary("logical_xor", self, other)

    def __invert__(self) -> Any:
        return function("logical_not")(self)

    def __neg__(self) -> Any:
        return function("negative")(self)

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return function("absolute")(self)

    def __getitem__(self, key: Any) -> Any:
        return function("get_item")(self, key)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        name = str(ufunc.__name__)
        if method != "__call__" or name not in FUNCTIONS or kwargs:
            self._refuse(f"numpy.{name}")
        return FUNCTIONS[name](*inputs)

    def __array_function__(self, called: Any, types: Any, args: Any, kwargs: Any) -> Any:
        name = str(called.__name__)
        tracing = scope() or (_traced_variables.get() is not None and _recording.get() is None)
        if not tracing and all(not t.step.symbolic for t in _tensors_in((args, kwargs))):
            return called(*_as_arrays(args), **_as_arrays(kwargs))
        # numpy's functions of submodules share names with others that mean something else.
        if name not in FUNCTIONS or called.__module__ != "numpy":
            self._refuse(f"{called.__module__}.{name}")
        try:
            return FUNCTIONS[name](*args, **kwargs)
        except TypeError as error:
            raise ModelError(f"{user_line()}: {error}") from None

    def __bool__(self) -> bool:
        return bool(self._value("bool()", "use convc.keras.ops.where for a choice by value"))

    def __float__(self) -> float:
        return float(self._value("float()", "").item())

    def __int__(self) -> int:
        return int(self._value("int()", "").item())

    def __index__(self) -> int:
        return int(self._value("an index", "").item())

    def __iter__(self) -> Any:
        shape = as_tensor(self).shape
        if not shape or shape[0] is None:
            self._refuse(
                "iteration", "index its axes, or use convc.keras.ops functions over whole tensors"
            )
        return iter([self[k] for k in range(shape[0])])

    def __contains__(self, item: Any) -> NoReturn:
        self._refuse("'in'")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.asarray(self._value("conversion to a numpy array", ""), dtype=dtype)

    def __round__(self, digits: int | None = None) -> Any:
        return round(self._value("round()", "use convc.keras.ops.round").item(), digits)

    def numpy(self) -> Any:
        """The values, if they don't depend on a model input: an array, or a numpy scalar without axes."""
        return self._value(".numpy()", "")[()]

    def _value(self, what: str, instead: str) -> Array:
        tensor = as_tensor(self)
        if tensor.step.symbolic:
            self._refuse(what, instead)
        return evaluate(tensor.step)

    def _refuse(self, what: str, instead: str = "") -> NoReturn:
        raise ModelError(
            f"{user_line()}: {what} of a traced tensor {as_tensor(self)} can't be traced: its values are known only "
            f"when the compiled model runs" + (f"; {instead}" if instead else "")
        )


class KerasTensor(Operators):
    """A tensor of a model under construction, with Keras' `shape` (None for the batch) and `dtype`."""

    def __init__(self, step: Step, name: str | None = None) -> None:
        self.step = step
        self.name = name or step.name or "keras_tensor"
        self.history: tuple[Any, int] | None = None
        """The call that returned it (engine.call.Call) and its position among the outputs."""
        self.mask: KerasTensor | None = None
        """Which of its values count, where some don't: booleans for the first axes (engine.masks)."""

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


def _tensors_in(structure: Any) -> Iterator[KerasTensor]:
    match structure:
        case Operators():
            yield as_tensor(structure)
        case list() | tuple():
            for item in structure:
                yield from _tensors_in(item)
        case dict():
            for item in structure.values():
                yield from _tensors_in(item)


def _as_arrays(structure: Any) -> Any:
    match structure:
        case Operators():
            return structure.__array__()
        case list() | tuple():
            return type(structure)(_as_arrays(item) for item in structure)
        case dict():
            return {key: _as_arrays(item) for key, item in structure.items()}
        case _:
            return structure


class Keeper(Protocol):
    """What holds the latest values of variables elsewhere: a training, in the memory of its compiled steps."""

    def refresh(self, variable: Variable) -> None:
        """Gives the variable its latest value, by `receive`, if it lacks it."""
        ...

    def assigned(self, variable: Variable) -> None:
        """The variable was assigned to: its value is the latest one."""
        ...

    def lost(self, variable: Variable) -> None:
        """Another one keeps the variable from now on."""
        ...


class Variable(Operators):
    """A weight: an array with a name, made by its initializer when it is first needed.

    `path` is `layer/name`, the name of the weight in the graph.
    """

    def __init__(
        self,
        initializer: Any,
        shape: Iterable[int] | None = None,
        dtype: Any = None,
        trainable: bool = True,
        name: str = "variable",
        regularizer: Any = None,
        constraint: Any = None,
    ) -> None:
        self._make: Callable[[], Array] | None = None
        self._array: Array | None = None
        if callable(initializer):
            if shape is None:
                raise ModelError(f"variable {name!r}: an initializer needs a shape")
            self.shape = tuple(int(d) for d in shape)
            self._dtype = DType.of(dtype or "float32")
            self._make = getattr(initializer, "seeded", lambda: initializer)()
        else:
            array = np.asarray(initializer)
            wanted = dtype or ("float32" if array.dtype == np.float64 else array.dtype)
            self._dtype = DType.of(wanted)
            self._array = np.array(array, dtype=self._dtype.numpy)
            self.shape = self._array.shape
        self.trainable = trainable
        self.name = name
        self.regularizer = regularizer
        self.constraint = constraint
        self.path = f"{scope_name()}/{name}" if scope_name() else name
        self.keeper: Keeper | None = None
        self._version = 0
        self._step = Step(self, (), TensorType(self._dtype, self.shape))

    @property
    def dtype(self) -> str:
        return self._dtype.value

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def step(self) -> Step:
        traced = _traced_variables.get()
        return traced[self] if traced is not None and self in traced else self._step

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self._dtype.itemsize

    @property
    def value(self) -> Any:
        """The array itself (call `assign` to change it); a tensor within `traced_variables`."""
        traced = _traced_variables.get()
        if traced is not None and self in traced:
            return KerasTensor(traced[self], self.name)
        return self.array

    @property
    def array(self) -> Array:
        """The array itself, whatever is being traced."""
        if self.keeper is not None:
            self.keeper.refresh(self)
        if self._array is None:
            assert self._make is not None
            made: Any = self._make
            array = np.asarray(made(self.shape, dtype=self._dtype.value))
            if array.shape != self.shape:
                raise ModelError(
                    f"variable {self.path!r}: its initializer gave {array.shape}; expected {self.shape}"
                )
            self._array = np.asarray(array, dtype=self._dtype.numpy, order="C")
        return self._array

    def assign(self, value: Any) -> None:
        """Replaces the values by an array of the same shape."""
        traced = _traced_variables.get()
        if traced is not None and self in traced:
            traced[self] = self._assigned(value)
            return
        array = np.asarray(value)
        if array.shape != self.shape:
            raise ModelError(
                f"variable {self.path!r}: expected shape {self.shape}; received {array.shape}"
            )
        self.receive(np.array(array, dtype=self._dtype.numpy, order="C"))
        if self.keeper is not None:
            self.keeper.assigned(self)

    def receive(self, array: Array) -> None:
        """Takes an array of the variable's type as the value, without a word to the keeper."""
        self._array = array
        self._version += 1

    def hand_over(self, keeper: Keeper | None) -> None:
        """Changes the keeper, once the present one has given the latest value."""
        if self.keeper is not None and self.keeper is not keeper:
            self.keeper.refresh(self)
            self.keeper.lost(self)
        self.keeper = keeper

    @property
    def version(self) -> int:
        """How often the value has changed."""
        if self.keeper is not None:
            self.keeper.refresh(self)
        return self._version

    def __getstate__(self) -> dict[str, Any]:
        # A copy has the present value and trains on its own.
        if self.keeper is not None:
            self.keeper.refresh(self)
        return {**vars(self), "keeper": None}

    def assign_add(self, value: Any) -> None:
        self.assign(self + value)

    def assign_sub(self, value: Any) -> None:
        self.assign(self - value)

    def _assigned(self, value: Any) -> Step:
        """The step that computes a traced variable's next value."""
        tensor = as_tensor(value, self._dtype)
        if tensor.type.shape != self.shape:
            raise ModelError(
                f"{user_line()}: variable {self.path!r}: expected shape {self.shape}; received {tensor.shape}"
            )
        return tensor.step

    def __repr__(self) -> str:
        about = f"path={self.path}, shape={self.shape}, dtype={self.dtype}"
        if self._array is None or self.keeper is not None:
            return f"<Variable {about}>"
        return f"<Variable {about}, value={self._array}>"

    __str__ = __repr__


_traced_variables: ContextVar[dict[Variable, Step] | None] = ContextVar(
    "convc_keras_traced_variables", default=None
)


@contextmanager
def traced_variables(steps: dict[Variable, Step] | None) -> Iterator[None]:
    """Within it these variables are traced: they read as the steps, and what they are assigned takes their place."""
    token = _traced_variables.set(steps)
    try:
        yield
    finally:
        _traced_variables.reset(token)


FUNCTIONS: dict[str, Callable[..., Any]] = {}
"""The functions of convc.keras.ops by name; that package fills it in, Python's operators look it up."""


def function(name: str) -> Callable[..., Any]:
    return FUNCTIONS[name]


def binary(name: str, a: Any, b: Any) -> Any:
    """An operator's result, or NotImplemented for operands that are no tensors."""
    for operand in (a, b):
        if not isinstance(
            operand, (Operators, np.ndarray, np.generic, int, float, bool, list, tuple, Dim)
        ):
            return NotImplemented
    return FUNCTIONS[name](a, b)


def placeholder(name: str, shape: Shape, dtype: DType) -> KerasTensor:
    """A new model input."""
    step = Step(Placeholder(name), (), TensorType(dtype, shape), symbolic=True, name=name)
    return KerasTensor(step, name)


def as_tensor(value: Any, dtype: Any = None) -> KerasTensor:
    """A tensor, variable, array, number or list of numbers as a KerasTensor.

    Python floats become float32, ints int32; a `dtype` casts what hasn't got it.
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
            dtype = "float32"
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
    symbolic = any(s.symbolic for s in steps)
    tensor = KerasTensor(Step(op, steps, type_, scope_name(), symbolic, training=training_now()))
    return tensor if symbolic else settled(tensor)


_recording: ContextVar[Recording | None] = ContextVar("convc_keras_recording", default=None)


def recording_now() -> Recording | None:
    """The recording that is under way."""
    return _recording.get()


@contextmanager
def recorded(recording: Recording | None) -> Iterator[None]:
    """Within it what is computed of known values is kept with its history; None ends that."""
    token = _recording.set(recording)
    try:
        with traced_variables(None if recording is None else recording.variables):
            yield
    finally:
        _recording.reset(token)


RECORDERS: list[Callable[[Callable[[], Any]], Any]] = []
"""How layers are called on known values outside of recordings: training/eager.py fills it in."""


def at_once() -> bool:
    """Whether what is known is computed at once: outside of layers, of steps being traced and of recordings."""
    return not scope() and _traced_variables.get() is None


def settled(tensor: KerasTensor) -> KerasTensor:
    """A tensor of known values: left to the recording that is under way, else computed at once outside of layers."""
    recording = _recording.get()
    if recording is not None:
        tensor.step.recorded = recording
        if not scope():
            recording.made(tensor)
        return tensor
    return as_tensor(evaluate(tensor.step), tensor.type.dtype) if at_once() else tensor


def cast(x: Any, dtype: DType) -> KerasTensor:
    """The tensor with another element type (itself if it has that already)."""
    tensor = as_tensor(x)
    return tensor if tensor.type.dtype is dtype else apply(elementwise.Cast(dtype), tensor)


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
        return DType.float32
    if not kinds:
        return DType.bool if all(isinstance(o, bool) for o in operands) else DType.int32
    if all(k is DType.bool for k in kinds):
        weak_int = any(isinstance(o, int) and not isinstance(o, bool) for o in operands)
        return DType.int32 if weak_int else DType.bool
    found = np.result_type(*(k.numpy for k in kinds))
    return DType.float32 if found.kind == "f" else DType.of(found)


def promoted(*operands: Any) -> tuple[KerasTensor, ...]:
    """The operands as tensors of their common element type."""
    kind = common_dtype(*operands)
    return tuple(as_tensor(o, kind) for o in operands)


def floating(x: Any) -> KerasTensor:
    """The tensor as floats: integers and booleans become float32."""
    tensor = as_tensor(x)
    return tensor if tensor.type.dtype.is_float else cast(tensor, DType.float32)


def steps_to(
    outputs: Iterable[Step], stop: Iterable[Step] = (), settles: bool = False
) -> list[Step]:
    """Every step that the outputs need, each after its inputs; `stop` steps are included, not what they need.

    With `settles`, steps of recordings and those whose values are known stop too.
    """
    stops = {id(s) for s in stop}
    done: set[int] = set()
    order: list[Step] = []
    for output in outputs:
        stack = [(output, False)]
        while stack:
            step, ready = stack.pop()
            if ready:
                order.append(step)
            elif id(step) not in done:
                done.add(id(step))
                stack.append((step, True))
                ends = settles and (step.known is not None or step.recorded is not None)
                if id(step) not in stops and not ends:
                    stack.extend((i, False) for i in reversed(step.inputs))
    return order


def evaluate(step: Step) -> Array:
    """The value of a step that depends on no model input, by the operators' reference functions.

    What a recording has is asked of it.
    """
    values: dict[int, Array] = {}
    for each in steps_to([step], settles=True):
        if each.known is not None:
            values[id(each)] = each.known
            continue
        if each.recorded is not None:
            (values[id(each)],) = each.recorded.values([each])
            continue
        match each.source:
            case Placeholder(name):
                raise ModelError(f"the value of input {name!r} isn't known while tracing")
            case Variable() as variable:
                values[id(each)] = variable.array
            case Op() as op:
                # As quiet about infinities as compiled code.
                with np.errstate(all="ignore"):
                    found = op.reference(*(values[id(i)] for i in each.inputs))
                values[id(each)] = np.asarray(found[0] if isinstance(found, tuple) else found)
            case array:
                values[id(each)] = array
    return values[id(step)]


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
