"""Keras 2's backend functions on whole graphs: `K.function`, `K.gradients`, `K.placeholder`, `K.rnn`, the phase.

convc.keras.backend finds them here by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np

from convc.errors import ModelError, UnsupportedError
from convc.graph.ir import Builder
from convc.graph.op import Op
from convc.keras import backend
from convc.keras.engine.call import flatten, operation
from convc.keras.engine.input import Input
from convc.keras.engine.model import Model
from convc.keras.engine.naming import clear_names, scope_name, unique_name, user_line
from convc.keras.engine.operators import Operators
from convc.keras.engine.phase import training_now
from convc.keras.engine.steps import Step, Variable
from convc.keras.engine.tensor import KerasTensor, as_tensor
from convc.keras.ops import control, elementwise, reductions, shaping
from convc.keras.training.tracing import Trace
from convc.ops.differentiation import add_gradients
from convc.passes.training_mode import draws

LONGEST = 1000
"""Steps that `rnn` unrolls at most."""

# ---------------------------------------------------------------- the learning phase


class Phase(int):
    """0 for prediction, 1 for training: a number that `function` also takes among its inputs."""


_phase: list[int] = [0]


def learning_phase() -> Phase:
    """1 within what is traced as training, else what `set_learning_phase` said last, 0 at first."""
    return Phase(1 if training_now() else _phase[0])


def set_learning_phase(value: Any) -> None:
    """What `learning_phase` is outside of training. `fit` trains and `predict` predicts whatever it is."""
    if value not in (0, 1):
        raise ModelError(f"set_learning_phase: value must be 0 or 1; received {value!r}")
    _phase[0] = int(value)


@contextmanager
def learning_phase_scope(value: Any) -> Iterator[None]:
    """Within it `learning_phase` is the value."""
    before = _phase[0]
    set_learning_phase(value)
    try:
        yield
    finally:
        _phase[0] = before


def in_train_phase(x: Any, alt: Any, training: Any = None) -> Any:
    """x in training, else alt; either may be a function that gives it."""
    taken = x if (learning_phase() if training is None else training) else alt
    return taken() if callable(taken) else taken


def in_test_phase(x: Any, alt: Any, training: Any = None) -> Any:
    """x in prediction, alt in training; either may be a function that gives it."""
    return in_train_phase(alt, x, training)


# ---------------------------------------------------------------- inputs, functions, gradients


def placeholder(
    shape: Any = None, ndim: int | None = None, dtype: Any = None, sparse: bool = False, name: Any = None,
    ragged: bool = False,
) -> KerasTensor:  # fmt: skip
    """A model's input of this shape, the batch included."""
    if sparse or ragged:
        raise UnsupportedError(f"{user_line()}: placeholder: sparse and ragged aren't supported")
    if shape is None and ndim is None:
        raise ModelError(f"{user_line()}: placeholder: expected shape or ndim; received neither")
    sizes = (None,) * int(ndim or 0) if shape is None else tuple(shape)
    return Input(batch_shape=sizes, dtype=dtype, name=name or unique_name("placeholder"))


class Function:
    """What `function` gives: called with a list of arrays, it returns a list of arrays."""

    def __init__(
        self, inputs: list[Any], outputs: Any, updates: list[tuple[Variable, Any]]
    ) -> None:
        self._single = not isinstance(outputs, (list, tuple))
        self._phase_at = [k for k, x in enumerate(inputs) if isinstance(x, int)]
        given = [x for x in inputs if not isinstance(x, int)]
        self._variables = [variable for variable, _ in updates]
        wanted = [*([outputs] if self._single else outputs), *(value for _, value in updates)]
        self._wanted = [as_tensor(x) for x in wanted]
        # Values of variables and constants alone are read when the function is called.
        self._symbolic = [k for k, x in enumerate(self._wanted) if x.step.symbolic]
        self._known = {k: x for k, x in enumerate(wanted) if k not in self._symbolic}
        self._model = None
        if self._symbolic:
            self._model = model = Model(
                given, [self._wanted[k] for k in self._symbolic], name="function"
            )
            # Variables outside of layers count among its weights, so that it follows them.
            _, read = model.graph_of_variables(nominal=True)
            inside = set(model.weights)
            model._own_weights += [v.variable for v in read.values() if v.variable not in inside]
        self._takes = len(given)

    def __call__(self, inputs: Any = ()) -> Any:
        given = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
        phases = [given.pop(k) for k in reversed(self._phase_at) if k < len(given)]
        if len(given) != self._takes:
            raise ModelError(
                f"K.function: expected {self._takes} arrays, one for each input; received {len(given)}"
            )
        arrays = self._computed(given, bool(phases[0]) if phases else bool(_phase[0]))
        kept = len(arrays) - len(self._variables)
        for variable, array in zip(self._variables, arrays[kept:], strict=True):
            variable.assign(array)
        return arrays[0] if self._single else arrays[:kept]

    def _computed(self, given: list[Any], training: bool) -> list[Any]:
        found: dict[int, Any] = {k: backend.get_value(x) for k, x in self._known.items()}
        model = self._model
        if model is not None:
            data = [np.asarray(x) for x in given]
            if training:
                outputs = [t.numpy() for t in flatten([model(data, training=True)])]
            else:
                outputs = model.predict_on_batch(data)
                outputs = outputs if isinstance(outputs, list) else [outputs]
            found |= dict(zip(self._symbolic, outputs, strict=True))
        return [found[k] for k in range(len(found))]


def function(
    inputs: Any, outputs: Any, updates: Any = None, name: str | None = None, **kwargs: Any
) -> Function:
    """A compiled function of arrays. Among its inputs `learning_phase()` stands for a 0 or 1.

    `updates` are pairs of variables and tensors, which are assigned when it is called.
    """
    if kwargs:
        raise ModelError(
            f"K.function has no argument {next(iter(kwargs))!r}; it takes updates, name"
        )
    pairs = [(variable, value) for variable, value in updates or ()]
    return Function(list(inputs) if isinstance(inputs, (list, tuple)) else [inputs], outputs, pairs)


class _History(Trace):
    """A graph in the making of the steps to a tensor: what isn't computed by an operator is an input."""

    def _emitted(self, step: Step) -> str:
        if not isinstance(step.source, Op):
            return self.builder.input(self.builder.fresh("x"), step.type)
        if step.training and draws(step.source):
            raise UnsupportedError(
                f"{user_line()}: K.gradients in training, through random numbers of layer {step.layer!r}, isn't "
                f"supported: take gradients with GradientTape in a train_step"
            )
        return super()._emitted(step)

    @property
    def steps(self) -> dict[str, Step]:
        return {name: step for step, name in self._names.items()}


@operation
def gradients(loss: Any, variables: Any) -> list[KerasTensor]:
    """The gradients of a tensor's sum for each of several tensors or variables, as a list."""
    wanted = variables if isinstance(variables, (list, tuple)) else [variables]
    total = as_tensor(loss)
    trace = _History(Builder("gradients"))
    name = trace.value(reductions.sum(total) if total.ndim else total).name
    given = [trace.value(as_tensor(v)).name for v in wanted]
    found = add_gradients(trace.builder, name, given)
    steps = trace.steps
    for node in trace.builder.nodes:
        if node.outputs[0] in steps:
            continue
        if len(node.outputs) > 1:
            raise UnsupportedError(
                f"{user_line()}: K.gradients through {node.op.mnemonic} isn't supported: take gradients with "
                f"GradientTape"
            )
        inputs = tuple(_step(trace, steps, i) for i in node.inputs)
        type = trace.builder.types[node.outputs[0]]
        symbolic = any(s.symbolic for s in inputs)
        steps[node.outputs[0]] = Step(node.op, inputs, type, scope_name(), symbolic)
    return [KerasTensor(_step(trace, steps, n)) for n in found]


def _step(trace: _History, steps: dict[str, Step], name: str) -> Step:
    if name in steps:
        return steps[name]
    return Step(trace.builder.weights[name], (), trace.builder.types[name])


# ---------------------------------------------------------------- loops


def rnn(
    step_function: Callable[..., Any], inputs: Any, initial_states: Sequence[Any], go_backwards: bool = False,
    mask: Any = None, constants: Any = None, unroll: bool = False, input_length: Any = None,
    time_major: bool = False, zero_output_for_mask: bool = False, return_all_outputs: bool = True,
) -> tuple[Any, Any, list[Any]]:  # fmt: skip
    """(last output, outputs, last states) of `output, states = step_function(input, states)` over axis 1, unrolled."""
    x = as_tensor(inputs)
    x = x if time_major else shaping.swapaxes(x, 0, 1)
    count = x.type.shape[0]
    if not isinstance(count, int) or count > LONGEST or x.shape[0] is None:
        raise UnsupportedError(
            f"{user_line()}: K.rnn: expected a known number of steps up to {LONGEST}; received shape "
            f"{as_tensor(inputs).shape}: use layers.RNN with a cell"
        )
    states, outputs, last = list(initial_states), [], None
    order = range(count - 1, -1, -1) if go_backwards else range(count)
    given = None if mask is None else shaping.swapaxes(as_tensor(mask), 0, 1)
    for k in order:
        output, later = step_function(x[k], [*states, *(constants or ())])
        if given is not None:
            blank = shaping.zeros_like(output)
            before = blank if last is None or zero_output_for_mask else last
            output = _where(given[k], output, before)
            later = [_where(given[k], new, old) for new, old in zip(later, states, strict=True)]
        last, states = output, list(later)
        outputs.append(output)
    rows = shaping.stack(outputs if return_all_outputs else outputs[-1:], 0 if time_major else 1)
    return last, rows, states


def _where(mask: KerasTensor, new: Any, old: Any) -> KerasTensor:
    while mask.ndim < as_tensor(new).ndim:
        mask = shaping.expand_dims(mask, -1)
    return elementwise.where(elementwise.cast_(mask, "bool"), new, old)


def map_fn(fn: Callable[[Any], Any], elems: Any, name: Any = None, dtype: Any = None) -> Any:
    """What a function gives for each row, as rows."""
    return control.map_(fn, elems)


def foldl(
    fn: Callable[[Any, Any], Any], elems: Any, initializer: Any = None, name: Any = None
) -> Any:
    """`fn(accumulated, row)` over the rows, from the first to the last."""
    rows = list(as_tensor(elems))
    found = initializer if initializer is not None else rows.pop(0)
    for row in rows:
        found = fn(found, row)
    return found


def foldr(
    fn: Callable[[Any, Any], Any], elems: Any, initializer: Any = None, name: Any = None
) -> Any:
    """`fn(accumulated, row)` over the rows, from the last to the first."""
    return foldl(fn, shaping.flip(elems, 0), initializer)


# ---------------------------------------------------------------- variables and names


def batch_get_value(tensors: Any) -> list[Any]:
    """The values of several variables."""
    return [backend.get_value(x) for x in tensors]


def batch_set_value(tuples: Any) -> None:
    """Assigns to several variables: pairs of a variable and a value."""
    for variable, value in tuples:
        backend.set_value(variable, value)


def moving_average_update(x: Variable, value: Any, momentum: float) -> Variable:
    """x becomes momentum * x + (1 - momentum) * value."""
    x.assign(x * momentum + value * (1.0 - momentum))
    return x


def print_tensor(x: Any, message: str = "", summarize: int = 3) -> Any:
    """The tensor; its values are printed where they are known, which those of a compiled model aren't."""
    if not isinstance(x, Operators) or not as_tensor(x).step.symbolic:
        print(message, backend.get_value(x))
    return x


def name_scope(name: str) -> Any:
    """Nothing: names of values are those of layers."""
    return nullcontext(name)


def get_uid(prefix: str = "") -> int:
    """1, 2, … for a prefix."""
    found = unique_name(f"{prefix}_uid").rpartition("_")[2]
    return int(found) + 1 if found.isdigit() else 1


def reset_uids() -> None:
    """Makes automatic names start again."""
    clear_names()


def manual_variable_initialization(value: bool) -> None:
    """Nothing: variables are made when they are first needed."""


GRAPHS: tuple[Callable[..., Any], ...] = (
    batch_get_value, batch_set_value, foldl, foldr, function, get_uid, gradients, in_test_phase, in_train_phase,
    learning_phase, learning_phase_scope, manual_variable_initialization, map_fn, moving_average_update, name_scope,
    placeholder, print_tensor, reset_uids, rnn, set_learning_phase,
)  # fmt: skip
backend.FUNCTIONS.update({f.__name__: f for f in GRAPHS})
