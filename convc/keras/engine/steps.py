"""How values come about: steps, the variables that some of them read, and what is traced or recorded right now.

A step is an operator over other steps, an input, a variable or a constant. Nothing is computed while tracing; the
steps that lead to a model's outputs become its graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol, Union

import numpy as np
from numpy.typing import NDArray

from convc.errors import ModelError
from convc.graph.op import Op
from convc.keras import backend
from convc.keras.engine.naming import scope, scope_name, user_line
from convc.keras.engine.operators import FUNCTIONS, Operators, function
from convc.types import DType, TensorType

Array = NDArray[np.generic]


@dataclass(eq=False)
class Placeholder:
    """A model input that has no value while tracing."""

    name: str


class Whole(Protocol):
    """What computes several values at once from steps: an operator of several outputs, gradients, an update."""

    @property
    def key(self) -> Hashable:
        """What those have in common that compute the same from the same."""
        ...

    def emit(self, trace: Any, inputs: Sequence[str]) -> Sequence[str]:
        """The values' names in a trace's builder, to which their nodes are added, from those of the steps."""
        ...


@dataclass(eq=False)
class Part:
    """One of the values that something computes at once."""

    whole: Whole
    number: int


@dataclass(eq=False)
class Outputs:
    """The outputs of an operator of several."""

    op: Op

    @property
    def key(self) -> Hashable:
        return self.op

    def emit(self, trace: Any, inputs: Sequence[str]) -> Sequence[str]:
        found: Sequence[str] = trace.builder.add_all(self.op, *inputs)
        return found


@dataclass(eq=False)
class Step:
    """How one value comes about. `layer` is the path of the layer that was being traced."""

    source: Union[Op, Part, Placeholder, Variable, Array]
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

    def made(self, tensor: Any) -> None:
        """A tensor shows a value that the recording is still to compute."""
        ...

    def called(self, layer: Any, args: Any, kwargs: Any) -> Any:
        """What a call of a layer gives: by its Python, or the same steps as in an earlier call."""
        ...

    def next_number(self) -> int:
        """Another number for each draw."""
        ...

    def values(self, steps: Sequence[Step]) -> list[Array]: ...


def put_down(step: Step) -> Recording | None:
    """The recording that is still to compute a step's value."""
    return step.recorded if step.known is None else None


class Traced(Operators):
    """A tensor or a variable: what has a step, and values once they are known."""

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

    def _value(self, what: str, instead: str) -> Array:
        tensor = function("convert_to_tensor")(self)
        if tensor.step.symbolic:
            self._refuse(what, instead)
        traced = _traced_variables.get()
        if isinstance(traced, Provisional):
            traced.look_at(tensor.step)
        return evaluate(tensor.step)

    def _refuse(self, what: str, instead: str = "") -> NoReturn:
        tensor = function("convert_to_tensor")(self)
        raise ModelError(
            f"{user_line()}: {what} of a traced tensor {tensor} can't be traced: its values are known only "
            f"when the compiled model runs" + (f"; {instead}" if instead else "")
        )


def _tensors_in(structure: Any) -> Iterator[Any]:
    match structure:
        case Operators():
            yield function("convert_to_tensor")(structure)
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
        """The variable is being assigned to: it has the latest value from now on."""
        ...

    def lost(self, variable: Variable) -> None:
        """Another one keeps the variable from now on."""
        ...


TRIES = 100
"""How often a value is asked for that a step in another thread makes its variable let go at the same time."""


class Variable(Traced):
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
        """What makes the first value, until it has done so."""
        self._array: Array | None = None
        """The value; None before it is made, and while the keeper alone has it."""
        self.can_wait = True
        """Whether the first value is the same, whenever it is made."""
        if callable(initializer):
            if shape is None:
                raise ModelError(f"variable {name!r}: an initializer needs a shape")
            self.shape = tuple(int(d) for d in shape)
            self._dtype = DType.of(dtype or backend.floatx())
            self._make = getattr(initializer, "seeded", lambda: initializer)()
            self.can_wait = getattr(initializer, "settled", False)
        else:
            array = np.asarray(initializer)
            typed = isinstance(initializer, (np.ndarray, np.generic, Operators))
            is_plain = array.dtype == np.float64 and not typed  # Python's floats
            wanted = dtype or (backend.floatx() if is_plain else array.dtype)
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
            return function("convert_to_tensor")(self)
        return self.array

    @property
    def array(self) -> Array:
        """The array itself, whatever is being traced."""
        for _ in range(TRIES):
            if self.keeper is None:
                break
            self.keeper.refresh(self)
            array = self._array
            if array is not None:
                return array
            if self._make is not None:
                break
        return self.own

    @property
    def own(self) -> Array:
        """The array that the variable itself has, made now if it is the first one; nobody else is asked."""
        if self._array is None:
            assert self._make is not None
            made: Any = self._make
            array = np.asarray(made(self.shape, dtype=self._dtype.value))
            if array.shape != self.shape:
                raise ModelError(
                    f"variable {self.path!r}: its initializer gave {array.shape}; expected {self.shape}"
                )
            self._array = np.asarray(array, dtype=self._dtype.numpy, order="C")
            self._make = None
        return self._array

    def assign(self, value: Any) -> None:
        """Replaces the values by an array of the same shape."""
        traced = _traced_variables.get()
        if traced is not None and (self in traced or isinstance(traced, Provisional)):
            traced[self] = self._assigned(value)
            return
        step = getattr(value, "step", None)
        recording = put_down(step) if isinstance(step, Step) else None
        if recording is not None:
            recording.variables[self] = self._assigned(value)
            return
        if isinstance(step, Step) and step.symbolic:
            raise ModelError(
                f"{user_line()}: variable {self.path!r} can't be assigned a traced tensor here: do it within call() of "
                f"the layer that has the variable, or in a train_step, which carry it out when the model runs"
            )
        array = np.asarray(value)
        if array.shape != self.shape:
            raise ModelError(
                f"variable {self.path!r}: expected shape {self.shape}; received {array.shape}"
            )
        array = np.array(array, dtype=self._dtype.numpy, order="C")
        if self.keeper is not None:
            self.keeper.assigned(self)
        self.receive(array)

    def receive(self, array: Array) -> None:
        """Takes an array of the variable's type as the value, without a word to the keeper."""
        self._array = array
        self._version += 1

    def let_go(self) -> None:
        """Drops the array: the keeper has the value, and gives it when it is asked to refresh the variable."""
        assert self.keeper is not None, f"nobody keeps {self.path}"
        self._array = self._make = None

    def recover(self, array: Array) -> None:
        """Takes back the value that the variable let go."""
        self._array = array

    @property
    def has_value(self) -> bool:
        """Whether the value is in the variable itself."""
        return self._array is not None

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
        tensor = function("convert_to_tensor")(value, self._dtype)
        if tensor.type.shape != self.shape:
            raise ModelError(
                f"{user_line()}: variable {self.path!r}: expected shape {self.shape}; received {tensor.shape}"
            )
        step: Step = tensor.step
        return step

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


class Provisional(dict[Variable, Step]):
    """What calls on symbolic tensors assign to variables: they read so for the rest of the outermost call, and no value
    changes. The steps and recordings that make these calls again carry the assignments out."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0
        """How often something was assigned."""
        self._looked_at: set[Variable] = set()
        """Those whose values Python has seen."""

    def __setitem__(self, variable: Variable, step: Step) -> None:
        self.writes += 1
        super().__setitem__(variable, step)
        self._check()

    def look_at(self, step: Step) -> None:
        """Python sees the value: ModelError if it follows from a variable that the calls assign to."""
        sources = [s.source for s in steps_to([step])]
        self._looked_at.update(s for s in sources if isinstance(s, Variable))
        self._check()

    def _check(self) -> None:
        for variable in self._looked_at & self.keys():
            raise ModelError(
                f"{user_line()}: layer {scope_name()!r} assigns to {variable.path!r} in its call: the value is known "
                f"only when the model runs: Python can't look at it (`if`, float(), numpy): use ops.where or ops.cond"
            )


@contextmanager
def provisional() -> Iterator[Provisional]:
    """Within it assignments are provisional, unless a step or a recording takes them."""
    current = _traced_variables.get()
    if current is not None:
        yield current if isinstance(current, Provisional) else Provisional()
        return
    fresh = Provisional()
    with traced_variables(fresh):
        yield fresh


@contextmanager
def settled_variables() -> Iterator[None]:
    """Within it assignments change values at once where they would be provisional: weights are being made."""
    current = _traced_variables.get()
    with traced_variables(None if isinstance(current, Provisional) else current):
        yield


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
            case Part():
                raise ModelError("a value of a step that is being traced isn't known")
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
