"""Layers over sequences: a cell step by step, from the first to the last.

A mask (batch, steps) says which steps count: in others the states stay as they were and the output repeats the one
before, zeros where there is none (with `zero_output_for_mask`, and in Bidirectional with all outputs: zeros always).
"""

from __future__ import annotations

from typing import Any

from convc.errors import ModelError, UnsupportedError
from convc.keras.engine.arguments import refuse
from convc.keras.engine.call import flatten, map_tensors
from convc.keras.engine.layer import Layer
from convc.keras.engine.naming import entered
from convc.keras.engine.phase import stepping
from convc.keras.engine.revival import revived_layer
from convc.keras.engine.serialization import serialize_keras_object
from convc.keras.engine.tensor import (
    KerasTensor,
    Variable,
    apply,
    as_tensor,
    cast,
    floating,
    recording_now,
    reshape,
)
from convc.keras.layers.cells import Cell, flipped, part, where, zeros
from convc.keras.layers.sweep import Sweep
from convc.ops import broadcasting, noise, ordering
from convc.ops.elementwise import StopGradient
from convc.types import DType


class StackedRNNCells(Layer):
    """Cells one on top of the other: the output of each is the input of the next."""

    def __init__(self, cells: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cells = list(cells)
        for cell in self.cells:
            checked_cell(self, cell)

    @property
    def state_size(self) -> list[Any]:
        return [cell.state_size for cell in self.cells]

    @property
    def output_size(self) -> Any:
        return output_size(self.cells[-1])

    def get_initial_state(self, batch_size: Any = None) -> list[Any]:
        return [first_states(cell, batch_size, self.dtype) for cell in self.cells]

    def call(self, inputs: Any, states: Any, training: Any = None) -> Any:
        new = []
        for cell, held in zip(self.cells, states, strict=True):
            inputs, later = cell(inputs, held)
            new.append(later)
        return inputs, new

    def build(self, input_shape: Any) -> None:
        shape = input_shape
        for cell in self.cells:
            built_cell(cell, shape)
            size = output_size(cell)
            shape = (shape[0], *(size if isinstance(size, (list, tuple)) else (size,)))

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        return cls(**{**config, "cells": [revived_layer(cell) for cell in config["cells"]]})

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "cells": [serialize_keras_object(c) for c in self.cells]}


def checked_cell(owner: Any, cell: Any) -> None:
    if not callable(getattr(cell, "call", None)) or not hasattr(cell, "state_size"):
        refuse(owner, "cell", "a layer with call(inputs, states) and state_size", cell)


def output_size(cell: Any) -> Any:
    """The features of a cell's output: its first state's, unless it says so."""
    size = getattr(cell, "output_size", None)
    if size is not None:
        return size
    size = cell.state_size
    return size if isinstance(size, int) else size[0]


def built_cell(cell: Any, shape: Any) -> None:
    if not cell.built:
        cell.build(tuple(shape))
        cell.built = True


def first_states(cell: Any, batch: Any, dtype: DType) -> Any:
    """A cell's states before the first step, in the structure of its `state_size`; zeros, unless it says otherwise."""
    own = getattr(cell, "get_initial_state", None)
    found = (
        own(batch_size=batch)
        if own is not None
        else zeros_like_sizes(cell.state_size, batch, dtype)
    )
    return list(found) if isinstance(found, (list, tuple)) else [found]


def zeros_like_sizes(size: Any, batch: Any, dtype: DType) -> Any:
    match size:
        case int():
            return zeros((batch, size), dtype)
        case tuple() if all(isinstance(s, int) for s in size) and len(size) > 1:
            return zeros((batch, *size), dtype)
        case _:
            return [zeros_like_sizes(s, batch, dtype) for s in size]


class RNN(Layer):
    """A cell over (batch, steps, …): to the last output, or to all of them.

    A cell is one of this package's, several in a list, or any layer with `call(inputs, states)`, which gives the output
    and the new states, and `state_size`. The cells of this package that one operator can do all steps of are that
    operator; others are unrolled.
    """

    def __init__(
        self,
        cell: Any,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        zero_output_for_mask: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if isinstance(cell, (list, tuple)):
            cell = StackedRNNCells(cell)
        checked_cell(self, cell)
        self.cell = cell
        self._set_flags(locals())

    cell: Any
    dropout = 0.0
    return_sequences: bool
    return_state: bool
    go_backwards: bool
    stateful: bool
    zero_output_for_mask: bool

    def _set_flags(self, arguments: dict[str, Any]) -> None:
        for flag in (
            "return_sequences", "return_state", "go_backwards", "stateful", "unroll", "zero_output_for_mask",
        ):  # fmt: skip
            setattr(self, flag, bool(arguments[flag]))
        self.kept_states: list[Variable] = []
        """What a stateful layer ended the latest call with."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        if "cell" not in config:
            return cls(**config)
        return cls(**{**config, "cell": revived_layer(config["cell"])})

    @property
    def cells(self) -> list[Any]:
        return list(self.cell.cells) if isinstance(self.cell, StackedRNNCells) else [self.cell]

    def _checked_shape(self, shape: Any) -> None:
        if len(shape) < 3 or shape[2] is None:
            raise ModelError(
                f"layer {self.name!r} ({type(self).__name__}): expected shape (batch, steps, features); "
                f"received {shape}"
            )

    def build(self, input_shape: Any) -> None:
        shape = input_shape[0] if isinstance(input_shape, list) else input_shape
        self._checked_shape(shape)
        if isinstance(self.cell, Cell) and not self.cell.built:
            with entered(self.cell.name):
                self.cell.build(shape)
            self.cell.built = True
        else:
            built_cell(self.cell, (shape[0], *shape[2:]))
        if self.stateful:
            self._make_states(shape)

    def _make_states(self, shape: Any) -> None:
        if shape[0] is None:
            raise ModelError(
                f"layer {self.name!r} ({type(self).__name__}): stateful needs to know the batch's size: say "
                f"Input(batch_shape=(8, 20, 3)), with the number of rows first"
            )
        first = [first_states(cell, shape[0], self.dtype) for cell in self.cells]
        self.kept_states = [
            Variable(state.numpy(), dtype=self.dtype, name=f"rnn_state_{k}", trainable=False)
            for k, state in enumerate(flatten(first))
        ]

    def reset_state(self) -> None:
        """The states of a stateful layer as they were at first."""
        for variable in self.kept_states:
            variable.assign(zeros(variable.shape, self.dtype).numpy())

    def reset_states(self) -> None:
        """Keras 2's name for `reset_state`."""
        self.reset_state()

    def get_initial_state(self, batch_size: Any) -> list[Any]:
        """The states that a sequence begins with."""
        found = [first_states(cell, batch_size, self.dtype) for cell in self.cells]
        return found if isinstance(self.cell, StackedRNNCells) else found[0]

    def _given(self, initial_state: Any, x: KerasTensor) -> list[Any]:
        """The first states of each cell."""
        if initial_state is None:
            first = [first_states(cell, x.type.shape[0], x.type.dtype) for cell in self.cells]
            if not self.kept_states:
                return first
            kept = iter([as_tensor(v) for v in self.kept_states])
            return [map_tensors(lambda t: next(kept), states) for states in first]
        given = initial_state if isinstance(initial_state, (list, tuple)) else [initial_state]
        per_cell = list(given) if isinstance(self.cell, StackedRNNCells) else [list(given)]
        return [
            map_tensors(floating, list(s) if isinstance(s, (list, tuple)) else [s])
            for s in per_cell
        ]

    def call(self, inputs: Any, initial_state: Any = None, mask: Any = None) -> Any:
        if isinstance(inputs, (list, tuple)):
            inputs, initial_state = inputs[0], list(inputs[1:]) or initial_state
        x = floating(inputs)
        steps = x.type.shape[1]
        if not isinstance(steps, int):
            raise UnsupportedError(
                f"layer {self.name!r} ({type(self).__name__}): expected a known number of steps; received {steps}"
            )
        states = self._given(initial_state, x)
        counted = self._counted(mask, x)
        dropped = self.dropout or (self.cell.dropout if isinstance(self.cell, Cell) else 0.0)
        if dropped:
            # One draw for all steps (Gal & Ghahramani, 2016), as in Keras.
            x = apply(noise.SharedDropout(dropped, (1,)), x)
        y, last = self._swept(x, states, counted)
        if counted is not None:
            y = self._shown(y, counted, initial_state is not None or bool(self.kept_states))
        if self.kept_states and (stepping() or recording_now() is not None):
            for variable, state in zip(self.kept_states, flatten(last), strict=True):
                variable.assign(apply(StopGradient(), state))
        if not self.return_state:
            return y
        return [y, *(last if isinstance(self.cell, StackedRNNCells) else last[0])]

    def _swept(
        self, x: KerasTensor, states: list[Any], counted: KerasTensor | None
    ) -> tuple[KerasTensor, list[Any]]:
        """All cells over the steps, one cell after the other: the last one's output, and the states of each."""
        owner = f"layer {self.name!r} ({type(self).__name__})"
        if len(self.cells) == 1:
            sweep = Sweep(owner, self.go_backwards, self.return_sequences)
            y, last = sweep(self.cells[0], x, states[0], counted)
            return y, [last]
        if self.go_backwards:
            x, counted = flipped(x), None if counted is None else flipped(counted)
        found = []
        for k, (cell, held) in enumerate(zip(self.cells, states, strict=True)):
            whole = self.return_sequences or k + 1 < len(self.cells)
            if isinstance(cell, Cell) and cell.dropout:
                x = apply(noise.SharedDropout(cell.dropout, (1,)), x)
            x, last = Sweep(owner, False, whole)(cell, x, held, counted)
            found.append(last)
        return x, found

    def _counted(self, mask: Any, x: KerasTensor) -> KerasTensor | None:
        """A mask as booleans (batch, steps), in the order of the sequence."""
        mask = mask[0] if isinstance(mask, (list, tuple)) else mask
        if mask is None:
            return None
        found = as_tensor(mask)
        if found.type.shape != x.type.shape[:2]:
            raise ModelError(
                f"layer {self.name!r} ({type(self).__name__}): mask: expected the inputs' (batch, steps), "
                f"{x.shape[:2]}; received {found.shape}"
            )
        if found.type.dtype is DType.bool:
            return found
        return apply(broadcasting.NotEqual(), found, as_tensor(0, found.type.dtype))

    def _shown(self, y: KerasTensor, counted: KerasTensor, started: bool) -> KerasTensor:
        """What the layer returns, zeros for it in steps without an output; `started`: the first states were given."""
        if not self.zero_output_for_mask and not started:
            return y  # The first state, which the steps before the first output have, is zeros.
        has_output = flipped(counted) if self.go_backwards else counted
        if not self.zero_output_for_mask:
            number = apply(ordering.CumSum(1), cast(has_output, DType.int32))
            has_output = apply(broadcasting.Greater(), number, as_tensor(0, DType.int32))
        if self.return_sequences:
            has_output = reshape(has_output, (*has_output.type.shape, *[1] * (y.type.rank - 2)))
        else:
            steps = has_output.type.shape[1]
            assert isinstance(steps, int)
            has_output = part(has_output, 1, steps - 1, steps)
            has_output = reshape(has_output, (has_output.type.shape[0], *[1] * (y.type.rank - 1)))
        return where(has_output, y, as_tensor(0.0, y.type.dtype))

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """That of the inputs for all outputs, if they are returned; none for states."""
        mask = previous_mask[0] if isinstance(previous_mask, (list, tuple)) else previous_mask
        passed = mask if self.return_sequences else None
        count = sum(state_count(cell) for cell in self.cells)
        return [passed, *[None] * count] if self.return_state else passed


def state_count(cell: Any) -> int:
    size = cell.state_size
    return 1 if isinstance(size, int) else len(size)
