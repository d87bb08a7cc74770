"""`GradientTape`: gradients with TensorFlow's names, in traced steps and by hand."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from types import TracebackType
from typing import Any, Self

from convc.errors import ModelError, UnsupportedError
from convc.keras.engine.naming import user_line
from convc.keras.engine.steps import Part, Step, recorded, recording_now
from convc.keras.engine.tensor import FUNCTIONS, KerasTensor, Variable, as_tensor
from convc.keras.training.jacobians import Jacobians
from convc.keras.training.ledger import Ledger, ledger_now
from convc.keras.training.own_steps import leaves, rebuilt, tracing_step
from convc.keras.training.wholes import Update, gradients
from convc.ops.elementwise import StopGradient


class GradientTape(Jacobians):
    """Gradients, with TensorFlow's names: in a `train_step`, or of what is computed within `with` on known values.

    Nothing needs to be watched: any value may be asked for.
    """

    def __init__(self, persistent: bool = False, watch_accessed_variables: bool = True) -> None:
        del watch_accessed_variables
        self.persistent = persistent
        self.open = False
        """Whether gradients are still to be asked for, by hand."""
        self.over = False
        """Whether what was recorded is forgotten."""
        self._recorded = self._used = False
        self._within: Any = None
        self._ledger: Ledger = ledger_now()

    def __enter__(self) -> Self:
        if tracing_step() is None:
            if recording_now() is None:
                ledger_now().begin()
            self.open = self._recorded = True
            self.over = self._used = False
            self._ledger = ledger_now()
            self._ledger.tapes.add(self)
            self._within = recorded(self._ledger)
            self._within.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._within is not None:
            self._within.__exit__(kind, error, trace)
            self._within = None
            self.open = error is None and not self._used

    def watch(self, tensor: Any) -> None:
        """Nothing: all tensors are watched."""

    def stop_recording(self) -> Any:
        """Within it nothing is recorded."""
        if self._within is None:
            return nullcontext()
        return self._ledger.paused()

    def reset(self) -> None:
        """Forgets what was recorded; within `with`, what follows is recorded anew."""
        if self._within is None:
            self._recorded = self.open = False
        else:
            self.__exit__(None, None, None)
            self.open = False
            self.__enter__()

    def gradient(
        self,
        target: Any,
        sources: Any,
        output_gradients: Any = None,
        unconnected_gradients: Any = "none",
    ) -> Any:
        """The gradients of the target's sum for variables or tensors in a structure; None where it depends on none.

        `output_gradients` weigh the elements of the target, in its structure. `unconnected_gradients="zero"` gives
        zeros in place of None.
        """
        zeros = (
            str(getattr(unconnected_gradients, "value", unconnected_gradients)).lower() == "zero"
        )
        flat = list(leaves(sources))
        trace = tracing_step()
        if trace is not None:
            found = _gradients(_total(target, output_gradients), flat, trace, zeros)
            return rebuilt(sources, iter(found))
        if not self._recorded:
            raise ModelError(
                f"{user_line()}: GradientTape.gradient: nothing was recorded: compute the loss within `with`"
            )
        if self.over:
            raise UnsupportedError(
                f"{user_line()}: GradientTape.gradient: what this tape recorded was forgotten when another one began: "
                f"ask for all of its gradients before that"
            )
        with recorded(self._ledger):
            found = _gradients(_total(target, output_gradients), flat, self._ledger, zeros)
        self._used = True
        self.open = self._within is not None
        return rebuilt(sources, iter(found))


def _gradients(
    total: KerasTensor, sources: Sequence[Any], book: Any, zeros: bool
) -> list[KerasTensor | None]:
    """A gradient for each source: for a variable the sum of those for all that it was on the way to the total."""
    reached = differentiable(total.step)
    versions = [_versions(book, source) for source in sources]
    steps = [[s for s in each if id(s) in reached] for each in versions]
    for k, each in enumerate(versions):
        if zeros and not steps[k]:
            steps[k] = each[-1:]
    found = iter(gradients(total, [s for each in steps for s in each]))
    tensors = [[KerasTensor(next(found)) for _ in each] for each in steps]
    return [functools.reduce(FUNCTIONS["add"], each) if each else None for each in tensors]


def _versions(book: Any, source: Any) -> list[Step]:
    if not isinstance(source, Variable):
        return [as_tensor(source).step]
    latest = book.variables[source]
    return book.variables.read.get(source) or [latest]


def differentiable(target: Step) -> set[int]:
    """The ids of the steps that a target's gradient reaches: floats, on ways that nothing stops."""
    found: set[int] = set()
    stack = [target]
    while stack:
        step = stack.pop()
        if id(step) not in found and step.type.dtype.is_float:
            found.add(id(step))
            if not _stops(step.source):
                stack.extend(step.inputs)
    return found


def _stops(source: Any) -> bool:
    """Whether no gradient goes through."""
    return isinstance(source, StopGradient) or (
        isinstance(source, Part) and isinstance(source.whole, Update)
    )


def _total(target: Any, weights: Any) -> KerasTensor:
    """The sum of all elements of tensors in a structure, weighed by those of another in the same one."""
    parts = [as_tensor(part) for part in leaves(target)]
    if weights is not None:
        single = not isinstance(target, (list, tuple, Mapping))
        pairs = zip(parts, [weights] if single else leaves(weights), strict=True)
        parts = [p if w is None else FUNCTIONS["multiply"](p, w) for p, w in pairs]
    sums = [part if part.ndim == 0 else FUNCTIONS["sum"](part) for part in parts]
    return functools.reduce(FUNCTIONS["add"], sums)
