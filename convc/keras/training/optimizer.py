"""From gradients to the next parameters: clipping, weight decay, the rule, moving averages."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from convc.keras.training.rules import Rule
from convc.ops.values import Value
from convc.types import DType, TensorType

PREFIX = "optimizer"

Constraint = Callable[[Value], Value]
"""What a parameter becomes after each step."""

NO_CONSTRAINTS: Mapping[str, Constraint] = {}


def slot_name(parameter: str, slot: str) -> str:
    """The state that belongs to a parameter."""
    return f"{PREFIX}/{parameter}/{slot}"


def first_state(rule: Rule, parameters: Mapping[str, TensorType]) -> dict[str, Any]:
    """What an optimizer's state holds before the first step: arrays by name.

    A moving average is filled by the first step. Slots are views of one number: nobody may write to them.
    """
    found: dict[str, Any] = {}
    for name, value in rule.scalars.items():
        found[f"{PREFIX}/{name}"] = np.array(value, scalar_type(parameters).dtype.numpy)
    for parameter, type in parameters.items():
        for slot, value in all_slots(rule).items():
            shape: Any = type.shape
            found[slot_name(parameter, slot)] = np.broadcast_to(
                np.array(value, type.dtype.numpy), shape
            )
    return found


def scalar_type(parameters: Mapping[str, TensorType]) -> TensorType:
    """The type of what all parameters share: a scalar of the first one's dtype, as in Keras."""
    first = next(iter(parameters.values()), TensorType(DType.float32, ()))
    return TensorType(first.dtype, ())


def all_slots(rule: Rule) -> dict[str, float]:
    """The state of each parameter and what it is filled with at first: the average, the rule's own, the sum."""
    found = {"average": 0.0} if rule.use_ema else {}
    found |= rule.slots
    return {**found, "accumulator_sum": 0.0} if rule.gradient_accumulation_steps else found


def updated(
    rule: Rule,
    parameters: Mapping[str, Value],
    gradients: Mapping[str, Value],
    state: Mapping[str, Value],
    iterations: Value,
    rate: Value,
    without_decay: Collection[str] = (),
    constraints: Mapping[str, Constraint] = NO_CONSTRAINTS,
) -> dict[str, Value]:
    """The next values of the parameters and of the state, by name.

    `iterations` is an integer scalar: the steps that were made before. `rate` is a float scalar.
    Where gradients are accumulated, the parameters change once in so many steps, and steps count as one then.
    """
    every = rule.gradient_accumulation_steps
    done, due = iterations, None
    if every:
        sums = {n: g + state[slot_name(n, "accumulator_sum")] for n, g in gradients.items()}
        gradients = {n: total / every for n, total in sums.items()}
        done = iterations.apply("floor_div", every)
        due = (iterations + 1).apply("mod", every).equal(0)
    found = stepped(rule, parameters, clip(rule, gradients), state, done, rate, without_decay)
    if due is not None:
        before = {**parameters, **state}
        found = {n: due.where(v, before[n]) for n, v in found.items()}
        found |= {slot_name(n, "accumulator_sum"): due.where(0, v) for n, v in sums.items()}
    if rule.use_ema:
        found |= averaged(rule, {n: found[n] for n in parameters}, state, iterations, done)
    return found | {n: keep(found[n]) for n, keep in constraints.items() if n in parameters}


def stepped(
    rule: Rule,
    parameters: Mapping[str, Value],
    gradients: Mapping[str, Value],
    state: Mapping[str, Value],
    done: Value,
    rate: Value,
    without_decay: Collection[str],
) -> dict[str, Value]:
    """The parameters, slots and shared scalars after decay and the rule's update."""
    shared = {n: state[f"{PREFIX}/{n}"] for n in rule.scalars}
    if shared:
        step = (done + 1).cast(next(iter(shared.values())).dtype)
        shared = rule.advance(shared, step)
    found = {f"{PREFIX}/{n}": v for n, v in shared.items()}
    given = rate
    for name, param in parameters.items():
        rate, step = given.cast(param.dtype), (done + 1).cast(param.dtype)
        common = {n: v.cast(param.dtype) for n, v in shared.items()}
        slots = {s: state[slot_name(name, s)] for s in rule.slots}
        if rule.weight_decay and name not in without_decay:
            param = param - param * (rate * rule.weight_decay)
        found[name], later = rule.update(param, gradients[name], {**slots, **common}, step, rate)
        found |= {slot_name(name, s): v for s, v in later.items()}
    return found


def averaged(
    rule: Rule,
    parameters: Mapping[str, Value],
    state: Mapping[str, Value],
    iterations: Value,
    done: Value,
) -> dict[str, Value]:
    """The moving averages, which begin with the first step's parameters, and parameters that become theirs."""
    found = {}
    for name, param in parameters.items():
        kept = done.equal(0).where(0, param.constant(rule.ema_momentum))
        average = state[slot_name(name, "average")] * kept + param * (1 - kept)
        found[slot_name(name, "average")] = average
        if rule.ema_overwrite_frequency:
            due = (done + 1).apply("mod", rule.ema_overwrite_frequency).equal(0)
            found[name] = due.where(average, param)
    return found


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
