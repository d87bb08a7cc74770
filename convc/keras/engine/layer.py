"""The layer: weights plus a `call` that is traced."""

from __future__ import annotations

import functools
import inspect
import math
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from convc.errors import ModelError, UnsupportedError
from convc.keras import backend, constraints, initializers, regularizers
from convc.keras.dtype_policies import DTypePolicy, tell_of_mixed
from convc.keras.engine.call import (
    Call,
    collected_losses,
    collecting_losses,
    flatten,
    map_tensors,
    record,
    sole,
)
from convc.keras.engine.masks import masked, masks_of, passed_on, with_masks
from convc.keras.engine.naming import (
    entered,
    nearest,
    outermost,
    scope,
    snake_case,
    unique_name,
    user_line,
)
from convc.keras.engine.phase import said_phase, stepping, training_phase
from convc.keras.engine.registry import reviving
from convc.keras.engine.serialization import serialize_keras_object
from convc.keras.engine.steps import provisional, settled_variables
from convc.keras.engine.tensor import (
    RECORDERS,
    KerasTensor,
    Operators,
    Variable,
    apply,
    as_tensor,
    at_once,
    cast,
    extents,
    function,
    placeholder,
    recording_now,
)
from convc.keras.engine.tracking import Tracking, found_in
from convc.ops.reduce import Count
from convc.types import DType

_COMMON = ("name", "dtype", "trainable", "input_shape", "batch_size", "activity_regularizer")


PASSING = ("built", "calls", "traced_shape", "changes_state", "_build_shape", "_recorded_losses")
"""Attributes that calls set, and don't depend on."""


class Layer(Tracking):
    """Base of all layers. Subclasses define `build(input_shape)`, if they have weights, and `call(inputs)`.

    `call` runs on `KerasTensor`s: whatever it does with Python's operators, `convc.keras.ops` and other layers
    becomes part of the model's graph.

    What a call says by `training=` holds for it and for the layers inside, however the model is run, as in Keras 2 and
    as Keras' guides have it: `Dropout(0.5)(x, training=True)` draws in predictions too, `base(x, training=False)` keeps
    its statistics in `fit`. (Keras 3's own `fit` and `predict` overrule functional models' calls.)
    """

    calls: list[Call]
    init_arguments: dict[str, Any]
    _changes: int = 0
    """How often attributes were set: calls are alike as long as it stays (training/replay.py)."""
    changes_state: bool = False
    """Whether a call assigns to variables, whatever the mode: models with the layer run it in steps of their own."""
    supports_masking: bool = False
    """Whether outputs get the mask that `compute_mask` gives; True for a class that defines `compute_mask`."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "compute_mask" in cls.__dict__ and "supports_masking" not in cls.__dict__:
            cls.supports_masking = True
        if "build" in cls.__dict__:
            cls.build = _known_as_built(cls.__dict__["build"])  # type: ignore[method-assign]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        self = super().__new__(cls)
        signature = signature_of(cls.__init__)
        try:
            bound = signature.bind(self, *args, **kwargs)
        except TypeError as error:
            raise ModelError(_misfit(cls, signature, kwargs, error)) from None
        arguments = dict(list(bound.arguments.items())[1:])
        for name, parameter in signature.parameters.items():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                arguments.update(arguments.pop(name, {}))
        object.__setattr__(self, "init_arguments", arguments)
        return self

    def __init__(
        self,
        *,
        activity_regularizer: Any = None,
        trainable: bool = True,
        dtype: Any = None,
        autocast: bool = True,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        given_shape = kwargs.pop("input_shape", None)
        batch_size = kwargs.pop("batch_size", None)
        batch_shape = kwargs.pop("batch_input_shape", kwargs.pop("batch_shape", None))
        input_dim = kwargs.pop("input_dim", None)
        initial_weights = kwargs.pop("weights", None)
        if kwargs:
            raise ModelError(_unknown(type(self), next(iter(kwargs))))
        if name is not None and (not str(name) or ("/" in str(name) and not reviving.get())):
            raise ModelError(
                f"{type(self).__name__}: name must be a non-empty string without '/'; received {name!r}"
            )
        self.name = name or unique_name(snake_case(type(self).__name__))
        self.dtype, self.dtype_policy = _policy(self.name, dtype)
        tell_of_mixed(self.dtype_policy)
        self.autocast = autocast
        self.activity_regularizer = regularizers.get(activity_regularizer)
        self.built = False
        self.traced_shape: Any = None
        """The output's shape in the latest call."""
        self._build_shape: Any = None
        self._recorded_losses: tuple[KerasTensor, ...] | None = None
        """What its latest call on known values added to the loss."""
        self._initial_weights = initial_weights
        """What `set_weights` is given once they are made, from Keras 2's argument `weights`."""
        self.calls = []
        self._trainable = bool(trainable)
        self._own_weights: list[Variable] = []
        if input_dim is not None:
            given_shape = (input_dim,)
        if given_shape is not None:
            given_shape = (given_shape,) if isinstance(given_shape, int) else tuple(given_shape)
            batch_shape = (batch_size, *given_shape)
        self.declared_shape: tuple[int | None, ...] | None = (
            None if batch_shape is None else tuple(batch_shape)
        )
        """The shape of the first layer's input, batch included, from the old `input_shape=` argument."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in PASSING:
            self.__dict__["_changes"] = self._changes + 1
        super().__setattr__(name, value)

    def __reduce_ex__(self, protocol: Any) -> Any:
        # Copies keep what the layer has become; __new__ would ask for its arguments again.
        return object.__new__, (type(self),), vars(self)

    # Subclasses override these two.

    def build(self, input_shape: Any) -> None:
        """Makes the weights for inputs of this shape (a list of shapes for several inputs)."""

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """The outputs for traced inputs."""
        raise ModelError(f"layer {self.name!r} ({type(self).__name__}) has no call() method")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not hasattr(self, "_own_weights"):
            raise ModelError(
                f"layer {type(self).__name__} was not initialised: call super().__init__() in its __init__ first"
            )
        if at_once() and not any(t.step.symbolic for t in flatten((args, kwargs))):
            return RECORDERS[0](lambda: self(*args, **kwargs))
        recording = recording_now()
        if recording is not None:
            return recording.called(self, args, kwargs)
        return self._traced_call(args, kwargs)

    def _traced_call(self, args: Any, kwargs: Any) -> Any:
        """The outputs of a call, traced or recorded now."""
        parameters = signature_of(self.call).parameters
        said = _said(list(parameters), args, kwargs)
        training = said_phase() if said is None else bool(said)
        args, kwargs = self._prepared(args, kwargs)
        with (
            collecting_losses() as losses,
            entered(self._scope_part()),
            training_phase(training),
            self._noticing_changes(),
        ):
            with settled_variables():
                self._ensure_built(args, kwargs)
            given = with_masks(parameters, args, kwargs)
            if training is not None and "training" in list(parameters)[len(args) :]:
                given["training"] = training
            outputs = _read(self.call(*args, **given))
            self._check_outputs(outputs)
            if self.supports_masking:
                first = args[0] if args else next(iter(kwargs.values()))
                outputs = passed_on(self, first, given.get("mask", masks_of(first)), outputs)
            if self.activity_regularizer is not None:
                for output in flatten(outputs):
                    self.add_loss(per_row(self.activity_regularizer(output), output))
        self.traced_shape = map_tensors(lambda t: t.shape, outputs)
        if recording_now() is not None:
            self._recorded_losses = None if scope() else tuple(losses)
        return record(self, args, kwargs, outputs, losses)

    @contextmanager
    def _noticing_changes(self) -> Iterator[None]:
        """Within it a call on symbolic tensors is made; what it assigns is provisional."""
        with provisional() as changes:
            before = changes.writes
            yield
            if changes.writes > before:
                self.changes_state = True

    @property
    def compute_dtype(self) -> str:
        """What the layer computes in; with a mixed policy it says so (see dtype_policies)."""
        return self.dtype_policy.compute_dtype

    @property
    def variable_dtype(self) -> str:
        """What its weights are kept in."""
        return self.dtype_policy.variable_dtype

    def _scope_part(self) -> str:
        return self.name

    def _prepared(self, args: Any, kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arrays as constant tensors, floats in the layer's dtype, `training` and `mask` where `call` takes them."""
        parameters = signature_of(self.call).parameters
        takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
        for name in ("training", "mask"):
            if name in kwargs and name not in parameters and not takes_any:
                kwargs.pop(name)
        prepared = tuple(_tensors(a) for a in args), {k: _tensors(v) for k, v in kwargs.items()}
        if self.autocast and self.dtype.is_float:
            prepared = map_tensors(self._autocast, prepared)
        if not any(True for _ in flatten(prepared)):
            raise ModelError(
                f"layer {self.name!r}: expected a tensor to call it on; received {args!r}"
            )
        return prepared

    def _autocast(self, tensor: KerasTensor) -> KerasTensor:
        kind = tensor.type.dtype
        if not kind.is_float or kind is self.dtype:
            return tensor
        found = masked(cast(tensor, self.dtype), tensor.mask)
        found.history = tensor.history  # Whoever makes the calls again casts again.
        return found

    def _ensure_built(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.built:
            return
        first = args[0] if args else next(iter(kwargs.values()))
        self._build_shape = map_tensors(lambda t: t.shape, first)
        self.build(self._build_shape)
        self.built = True
        if self._initial_weights is not None:
            given, self._initial_weights = self._initial_weights, None
            self.set_weights(given if isinstance(given, (list, tuple)) else [given])

    def _check_outputs(self, outputs: Any) -> None:
        if not any(True for _ in flatten(outputs)):
            raise ModelError(
                f"layer {self.name!r} ({type(self).__name__}): call() must return tensors; it returned {outputs!r}"
            )

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """The output's mask for inputs and theirs: the same one, unless a subclass knows better."""
        return previous_mask

    def add_weight(
        self,
        shape: Any = None,
        initializer: Any = None,
        dtype: Any = None,
        trainable: bool = True,
        autocast: bool = True,
        regularizer: Any = None,
        constraint: Any = None,
        aggregation: Any = None,
        name: str | None = None,
    ) -> Variable:
        """A new weight `layer/name` (Glorot uniform for floats unless told otherwise)."""
        if isinstance(shape, str):
            raise ModelError(f"{self.name}.add_weight: shape comes first; write name={shape!r}")
        shape = () if shape is None else shape
        shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
        name = name or f"variable_{len(self._own_weights)}".removesuffix("_0")
        if not all(isinstance(d, (int, np.integer)) and d >= 0 for d in shape):
            raise ModelError(
                f"weight {self.name}/{name}: expected a shape of known integers; received {shape}"
            )
        kind = self.dtype if dtype is None else _dtype(self.name, dtype)
        default = "glorot_uniform" if kind.is_float else "zeros"
        variable = Variable(
            initializers.get(initializer if initializer is not None else default),
            shape,
            kind,
            trainable,
            name,
            regularizers.get(regularizer),
            constraints.get(constraint),
        )
        self._own_weights.append(variable)
        return variable

    def add_loss(self, loss: Any, inputs: Any = None) -> None:
        """Adds a tensor's sum (or several tensors') to the loss that training makes smaller. Used within `call`.

        `inputs` said in Keras 2 what the loss depends on: the tensors know that.
        """
        found = collected_losses()
        if found is None:
            raise ModelError(
                f"{user_line()}: {self.name}.add_loss: expected to be used within call(); received {loss!r} outside"
            )
        found.extend(as_tensor(x) for x in (loss if isinstance(loss, (list, tuple)) else [loss]))

    @property
    def losses(self) -> list[KerasTensor]:
        """What the calls of the layer added to the loss, and its trainable weights' regularizers."""
        parts = self.sublayers if not self.calls else [self]
        added = [x for part in parts for call in part.calls for x in call.losses]
        if stepping():
            added = list(collected_losses() or ())
        elif self._recorded_losses is not None:
            added = list(self._recorded_losses)
        weights = [w for w in self.trainable_weights if w.regularizer is not None]
        return [*added, *(as_tensor(w.regularizer(w)) for w in weights)]

    @property
    def sublayers(self) -> list[Layer]:
        """The layers that this one keeps in its attributes, in the order they were set."""
        return list(dict.fromkeys(found_in(vars(self), Layer)))

    @property
    def own_weights(self) -> list[Variable]:
        """The variables made by `add_weight` or kept in attributes, without those of layers inside."""
        return list(dict.fromkeys([*self._own_weights, *found_in(vars(self), Variable)]))

    def trainable_itself(self, value: Any) -> None:
        """Whether the layer's weights are trained, without a word to the layers inside."""
        self._trainable = bool(value)

    @property
    def trainable(self) -> bool:
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)
        for layer in self.sublayers:
            layer.trainable = value

    @property
    def weights(self) -> list[Variable]:
        """Own trainable weights, own others, then those of the layers inside."""
        own = self.own_weights
        found = [w for w in own if w.trainable] + [w for w in own if not w.trainable]
        for layer in self.sublayers:
            found.extend(layer.weights)
        return list(dict.fromkeys(found))

    @property
    def variables(self) -> list[Variable]:
        return self.weights

    @property
    def trainable_weights(self) -> list[Variable]:
        if not self._trainable:
            return []
        found = [w for w in self.own_weights if w.trainable]
        for layer in self.sublayers:
            found.extend(layer.trainable_weights)
        return list(dict.fromkeys(found))

    @property
    def trainable_variables(self) -> list[Variable]:
        return self.trainable_weights

    @property
    def non_trainable_weights(self) -> list[Variable]:
        trainable = set(self.trainable_weights)
        return [w for w in self.weights if w not in trainable]

    @property
    def non_trainable_variables(self) -> list[Variable]:
        return self.non_trainable_weights

    def count_params(self) -> int:
        """The number of elements of all weights."""
        if not self.built:
            raise ModelError(
                f"layer {self.name!r} has no weights yet: give it an input, or call build(input_shape), first"
            )
        return sum(math.prod(w.shape) for w in self.weights)

    def get_weights(self) -> list[NDArray[Any]]:
        """Copies of all weights, in the order of `weights`."""
        return [w.value.copy() for w in self.weights]

    def set_weights(self, weights: Any) -> None:
        """Replaces all weights by arrays in the order of `weights`."""
        mine = self.weights
        if len(weights) != len(mine):
            raise ModelError(
                f"set_weights of {self.name!r}: expected {len(mine)} arrays ({_listed(mine)}); received {len(weights)}"
            )
        for variable, array in zip(mine, weights, strict=True):
            if np.shape(array) != variable.shape:
                raise ModelError(
                    f"set_weights of {self.name!r}: {variable.path} has shape {variable.shape}; "
                    f"received {np.shape(array)}"
                )
        for variable, array in zip(mine, weights, strict=True):
            variable.assign(array)

    def compute_output_shape(self, *args: Any, **kwargs: Any) -> Any:
        """The output's shape for an input of a given shape (builds the layer)."""
        shapes = args[0] if args else next(iter(kwargs.values()))
        traced = inputs_like(shapes, self.dtype)
        with outermost():
            if not self.built:
                with entered(self._scope_part()):
                    self._ensure_built((traced,), {})
            with entered(""):
                return map_tensors(lambda t: t.shape, self(traced))

    def get_config(self) -> dict[str, Any]:
        """The name, the dtype and the arguments of `__init__`, as the layer holds them now.

        An argument's value is the attribute of that name, else what was given, else its default.
        """
        config: dict[str, Any] = {
            "name": self.name,
            "trainable": self.trainable,
            "dtype": self.dtype_policy,
        }
        if self.activity_regularizer is not None:
            config["activity_regularizer"] = serialize_keras_object(self.activity_regularizer)
        variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        for name, parameter in list(inspect.signature(type(self).__init__).parameters.items())[1:]:
            if parameter.kind not in variadic and name not in (
                *config,
                "activity_regularizer",
                "autocast",
            ):
                given = self.init_arguments.get(name, parameter.default)
                held = vars(self).get(name, given)
                kept = given if isinstance(held, Operators) else held
                found = serialize_keras_object(kept)
                config[name] = tuple(found) if isinstance(kept, tuple) else found
        return {**self._passed_on(), **config}

    def _passed_on(self) -> dict[str, Any]:
        """What a subclass was given for `**kwargs` and passed on to a layer that it extends."""
        parameters = inspect.signature(type(self).__init__).parameters
        left = {
            "activity_regularizer",
            "input_dim",
            "batch_input_shape",
            "batch_shape",
            "weights",
            *_COMMON,
        }
        return {
            name: serialize_keras_object(vars(self).get(name, given))
            for name, given in self.init_arguments.items()
            if name not in parameters and name not in left
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(**config)

    def get_build_config(self) -> dict[str, Any] | None:
        """The shape of the input that the weights were made for."""
        return None if self._build_shape is None else {"input_shape": self._build_shape}

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Makes the weights for the shape of `get_build_config`."""
        if config.get("input_shape"):
            self.build(config["input_shape"])
            self.built = True

    def save_own_variables(self, store: Any) -> None:
        """Puts the layer's own weights into a file's group, arrays by name; subclasses may choose theirs."""
        own = self.own_weights
        for number, variable in enumerate(
            [w for w in own if w.trainable] + [w for w in own if not w.trainable]
        ):
            store[str(number)] = variable.value

    def load_own_variables(self, store: Any) -> None:
        """Takes the layer's own weights from what `save_own_variables` has put there."""
        own = self.own_weights
        ordered = [w for w in own if w.trainable] + [w for w in own if not w.trainable]
        if len(store) != len(ordered):
            raise ModelError(
                f"layer {self.name!r} expects {len(ordered)} weights; the file has {', '.join(store) or 'none'}"
            )
        for number, variable in enumerate(ordered):
            variable.assign(store[str(number)])

    def _first_call(self, what: str) -> Call:
        if not self.calls:
            raise ModelError(
                f"layer {self.name!r} has no {what} yet: it was not called on a symbolic input"
            )
        return self.calls[0]

    @property
    def input(self) -> Any:
        """The input tensor of the first call (a list for several)."""
        return _single(self._first_call("input").inputs)

    @property
    def output(self) -> Any:
        """The output tensor of the first call (a list for several)."""
        return _single(self._first_call("output").outputs)

    @property
    def input_shape(self) -> Any:
        return sole(map_tensors(lambda t: t.shape, self.input))

    @property
    def output_shape(self) -> Any:
        return sole(map_tensors(lambda t: t.shape, self.output))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}, built={self.built}>"


def _said(parameters: list[str], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The argument `training` of a call, by name or by position; None if it isn't given."""
    place = parameters.index("training") if "training" in parameters else len(args)
    return kwargs.get("training") if place >= len(args) else args[place]


def per_row(penalty: Any, output: KerasTensor) -> KerasTensor:
    """An activity's penalty over the number of rows, as Keras 3 has it: the same strength for every batch size."""
    found = as_tensor(penalty, output.dtype)
    if output.ndim == 0:
        return found
    shared: KerasTensor = function("divide_no_nan")(found, apply(Count((0,)), output))
    return shared


def inputs_like(shapes: Any, dtype: DType) -> Any:
    """Placeholders for a shape, a list of shapes or a dict of shapes."""
    match shapes:
        case dict():
            return {key: inputs_like(shape, dtype) for key, shape in shapes.items()}
        case list() | tuple() if shapes and isinstance(shapes[0], (list, tuple)):
            return [inputs_like(shape, dtype) for shape in shapes]
        case list() | tuple():
            return placeholder("input", extents(shapes, "input_shape"), dtype)
        case _:
            raise ModelError(f"expected a shape such as (None, 28, 28, 1); received {shapes!r}")


def _tensors(value: Any) -> Any:
    match value:
        case KerasTensor() | None | bool() | int() | float() | str():
            return value
        case Operators() | np.ndarray() | np.generic():
            return as_tensor(value)
        case list() | tuple():
            return type(value)(_tensors(v) for v in value)
        case dict():
            return {k: _tensors(v) for k, v in value.items()}
        case _:
            return value


Signatures = weakref.WeakKeyDictionary[Any, inspect.Signature]
_OF_FUNCTIONS: Signatures = weakref.WeakKeyDictionary()
_OF_METHODS: Signatures = weakref.WeakKeyDictionary()


def signature_of(function: Any) -> inspect.Signature:
    """The signature of a class's `__init__` or of a layer's `call`: looked at once for all layers of the class."""
    known, key = _OF_FUNCTIONS, function
    if inspect.ismethod(function):
        known, key = _OF_METHODS, function.__func__
    if not inspect.isfunction(key):
        return inspect.signature(function)
    if key not in known:
        known[key] = inspect.signature(function)
    return known[key]


def _single(tensors: list[KerasTensor]) -> Any:
    return tensors[0] if len(tensors) == 1 else tensors


def _listed(variables: list[Variable]) -> str:
    shown = ", ".join(f"{v.path} {v.shape}" for v in variables[:4])
    return f"{shown}, …" if len(variables) > 4 else shown


def _dtype(name: str, dtype: Any) -> DType:
    try:
        return DType.of(dtype if dtype is not None else backend.floatx())
    except (TypeError, ValueError) as error:
        raise ModelError(f"layer {name!r}: {error}") from None


def _known_as_built(build: Callable[..., Any]) -> Callable[..., Any]:
    """A layer's `build` that says so afterwards: layers build those inside them by hand."""

    @functools.wraps(build)
    def building(self: Any, *args: Any, **kwargs: Any) -> Any:
        part = self._scope_part()
        inside = scope()[-1:] == (part,)
        with nullcontext() if inside else entered(part):
            result = build(self, *args, **kwargs)
        self.built = True
        if self._build_shape is None and args:
            self._build_shape = args[0]
        return result

    return building


def _policy(name: str, dtype: Any) -> tuple[DType, DTypePolicy]:
    """The element type of the weights and its policy's name; "mixed_float16" computes in float32 here."""
    if isinstance(dtype, dict):
        config = dtype.get("config") or {}
        if "name" not in config:
            raise UnsupportedError(
                f"dtype policy {dtype.get('class_name')} of layer {name!r} isn't known: save the model before "
                f"quantize(), and quantize it with convc"
            )
        dtype = config["name"]
    dtype = getattr(dtype, "name", dtype) if not isinstance(dtype, (str, DType)) else dtype
    dtype = backend.policy() if dtype is None else dtype
    if isinstance(dtype, str) and dtype.startswith("mixed_"):
        return DType.float32, DTypePolicy(dtype)
    kind = _dtype(name, dtype)
    return kind, DTypePolicy(kind.value)


def _parameters(cls: type) -> list[str]:
    """The names that a layer class takes, in the order of its signature, with those that every layer takes."""
    names = list(inspect.signature(cls.__init__).parameters.values())[1:]  # type: ignore[misc]
    plain = [p.name for p in names if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    return list(dict.fromkeys([*plain, *_COMMON]))


def _read(structure: Any) -> Any:
    """The outputs of a call, variables as the tensors that they are at that moment."""
    match structure:
        case Variable():
            return as_tensor(structure)
        case [*items] if type(structure) in (list, tuple):
            return type(structure)(map(_read, items))
        case {}:
            return (
                structure
                if type(structure) is not dict
                else {k: _read(v) for k, v in structure.items()}
            )
        case _:
            return structure


def _unknown(cls: type, argument: str) -> str:
    known = _parameters(cls)
    if argument in _COMMON:
        return (
            f"{cls.__name__}.__init__ doesn't take {argument!r}, as every layer must: give it **kwargs and pass them "
            f"on to super().__init__(**kwargs)"
        )
    return f"{cls.__name__} has no argument {argument!r}{nearest(argument, known)}; it takes {', '.join(known)}"


def _misfit(
    cls: type, signature: inspect.Signature, given: dict[str, Any], error: TypeError
) -> str:
    for name in given:
        if name not in signature.parameters and "unexpected keyword" in str(error):
            return _unknown(cls, name)
    return f"{cls.__name__}: {error}; it takes {', '.join(_parameters(cls))}"
