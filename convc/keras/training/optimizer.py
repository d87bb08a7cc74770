"""From gradients to the next parameters: clipping, weight decay, the rule, moving averages."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from convc.keras.training.rules import Rule
from convc.ops.values import Value
from convc.types import TensorType

PREFIX = "optimizer"


def slot_name(parameter: str, slot: str) -> str:
    """The state that belongs to a parameter."""
    return f"{PREFIX}/{parameter}/{slot}"


def first_state(rule: Rule, parameters: Mapping[str, TensorType]) -> dict[str, Any]:
    """What an optimizer's state holds before the first step: arrays by name.

    A moving average is filled by the first step.
    """
    found: dict[str, Any] = {}
    dtypes = {t.dtype for t in parameters.values()}
    for name, value in rule.scalars.items():
        (dtype,) = dtypes
        found[f"{PREFIX}/{name}"] = np.array(value, dtype.numpy)
    slots = {**rule.slots, "average": 0.0} if rule.use_ema else rule.slots
    for parameter, type in parameters.items():
        for slot, value in slots.items():
            shape: Any = type.shape
            found[slot_name(parameter, slot)] = np.full(shape, value, type.dtype.numpy)
    return found


def updated(
    rule: Rule,
    parameters: Mapping[str, Value],
    gradients: Mapping[str, Value],
    state: Mapping[str, Value],
    iterations: Value,
    rate: Value,
    without_decay: Collection[str] = (),
) -> dict[str, Value]:
    """The next values of the parameters and of the state, by name.

    `iterations` is an integer scalar: the steps that were made before. `rate` is a scalar of the parameters' dtype.
    """
    clipped = clip(rule, gradients)
    step = (iterations + 1).cast(rate.dtype)
    shared = {n: state[f"{PREFIX}/{n}"] for n in rule.scalars}
    shared = rule.advance(shared, step)
    found = {f"{PREFIX}/{n}": v for n, v in shared.items()}
    for name, param in parameters.items():
        slots = {s: state[slot_name(name, s)] for s in rule.slots}
        if rule.weight_decay and name not in without_decay:
            param = param - param * (rate * rule.weight_decay)
        later, later_slots = rule.update(param, clipped[name], {**slots, **shared}, step, rate)
        found[name] = later
        found |= {slot_name(name, s): v for s, v in later_slots.items()}
        if rule.use_ema:
            average = slot_name(name, "average")
            found[average] = moving_average(rule, state[average], later, iterations)
    return found


def moving_average(rule: Rule, average: Value, param: Value, iterations: Value) -> Value:
    """The first step takes the parameter itself."""
    kept = iterations.equal(0).where(0, param.constant(rule.ema_momentum))
    return average * kept + param * (1 - kept)


def clip(rule: Rule, gradients: Mapping[str, Value]) -> dict[str, Value]:
    """The gradients after the one kind of clipping that the rule asks for."""
    if rule.clipnorm:
        return {n: by_norm(g, rule.clipnorm) for n, g in gradients.items()}
    if rule.global_clipnorm and gradients:
        total, *rest = (squares(g) for g in gradients.values())
        for part in rest:
            total = total + part
        norm = total.sqrt()
        scale = (1 / norm).minimum(1 / rule.global_clipnorm) * rule.global_clipnorm
        return {n: g * scale for n, g in gradients.items()}
    if rule.clipvalue:
        limit = rule.clipvalue
        return {n: g.apply("clip", min=-limit, max=limit) for n, g in gradients.items()}
    return dict(gradients)


def squares(value: Value) -> Value:
    return value.square().sum(range(value.rank))


def by_norm(gradient: Value, limit: float) -> Value:
    """The gradient, scaled down to a norm."""
    return gradient * limit / squares(gradient).sqrt().maximum(limit)
