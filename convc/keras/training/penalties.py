"""What a model's variables ask of a training step: regularizers in the loss, constraints after the update."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial

from convc.errors import ModelError
from convc.keras.engine.graphs import Viewed
from convc.keras.engine.tensor import KerasTensor, Variable, as_tensor
from convc.keras.engine.tensor import apply as applied
from convc.keras.training.optimizer import Constraint
from convc.keras.training.step import Penalty
from convc.keras.training.tracing import Trace
from convc.ops.values import Value


def regularization(weights: Mapping[str, Viewed], trainable: Collection[Variable]) -> Penalty:
    """The sum of the trainable variables' regularizers; a variable that is read in several ways counts once."""
    regularized = {
        id(w.variable): w.variable
        for w in weights.values()
        if w.variable.regularizer is not None and w.variable in trainable
    }

    def penalty(trace: Trace) -> Value | None:
        total: Value | None = None
        for variable in regularized.values():
            part = trace.run(penalized, variable)
            total = part if total is None else total + part
        return total

    return penalty


def penalized(variable: Variable) -> KerasTensor:
    """What the variable's regularizer gives for it: a scalar of its dtype."""
    found = as_tensor(variable.regularizer(as_tensor(variable)), variable.dtype)
    if found.ndim:
        raise ModelError(
            f"the regularizer of {variable.path} must give a scalar; it gave shape {found.shape}"
        )
    return found


def constraints_of(
    weights: Mapping[str, Viewed], parameters: Collection[str]
) -> dict[str, Constraint]:
    """What parameters become after the update, by name: through their variables' constraints."""
    return {
        name: partial(constrained, weights[name])
        for name in parameters
        if weights[name].variable.constraint is not None
    }


def constrained(weight: Viewed, value: Value) -> Value:
    """The weight after its variable's constraint."""
    variable = weight.variable
    trace = Trace(value.builder)
    trace.bind(variable, value, weight.views)

    def limited(x: Variable) -> KerasTensor:
        found = as_tensor(variable.constraint(as_tensor(x)), variable.dtype)
        if found.shape != variable.shape:
            raise ModelError(
                f"the constraint of {variable.path} must keep its shape {variable.shape}; it gave {found.shape}"
            )
        for view in weight.views:
            found = applied(view, found)
        return found

    result: Value = trace.run(limited, variable)
    return result
