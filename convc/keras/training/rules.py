"""Optimizers' update rules as graph nodes, with the arithmetic of Keras 3 in its order.

A rule keeps slots per parameter, tensors of the parameter's shape, and scalars of its own. Everything is of the
parameter's dtype. `step` counts from 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from convc.ops.values import Value

Slots = Mapping[str, Value]
Updated = tuple[Value, dict[str, Value]]
"""The parameter's next value and its slots'."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Base: `update(param, gradient, slots, step, rate)` is the next parameter and its next slots.

    Before it gradients are clipped (`clipnorm` each by its norm, else `global_clipnorm` by that of all, else
    `clipvalue` by element) and weights decay; after it their exponential moving average follows.
    """

    update: ClassVar[Callable[..., Updated]]
    weight_decay: float | None = None
    clipnorm: float | None = None
    clipvalue: float | None = None
    global_clipnorm: float | None = None
    use_ema: bool = False
    ema_momentum: float = 0.99
    ema_overwrite_frequency: int | None = None
    """After how many steps the parameters become their averages, again and again."""
    gradient_accumulation_steps: int | None = None
    """Over how many steps gradients are averaged before the parameters change."""

    @property
    def slots(self) -> dict[str, float]:
        """The slots of each parameter and what they are filled with at first."""
        return {}

    @property
    def scalars(self) -> dict[str, float]:
        """Numbers that all parameters share, and their first values."""
        return {}

    def advance(self, scalars: Slots, step: Value) -> dict[str, Value]:
        """The next scalars; `update` finds them among the slots."""
        return dict(scalars)


@dataclass(frozen=True, kw_only=True)
class SGD(Rule):
    """Gradient descent; momentum as in Sutskever et al. (2013), with `nesterov` their variant of Nesterov's."""

    momentum: float = 0.0
    nesterov: bool = False

    @property
    def slots(self) -> dict[str, float]:
        return {"momentum": 0.0} if self.momentum else {}

    def update(
        self, param: Value, gradient: Value, slots: Slots, step: Value, rate: Value
    ) -> Updated:
        move = gradient * rate
        if not self.momentum:
            return param - move, {}
        velocity = slots["momentum"] * self.momentum - move
        along = velocity * self.momentum - move if self.nesterov else velocity
        return param + along, {"momentum": velocity}


@dataclass(frozen=True, kw_only=True)
class RMSprop(Rule):
    """The gradient over the root of its squares' moving average (Hinton 2012), over the variance's if `centered`."""

    rho: float = 0.9
    momentum: float = 0.0
    epsilon: float = 1e-7
    centered: bool = False

    @property
    def slots(self) -> dict[str, float]:
        found = {"velocity": 0.0}
        if self.momentum > 0:
            found["momentum"] = 0.0
        if self.centered:
            found["average_gradient"] = 0.0
        return found

    def update(
        self, param: Value, gradient: Value, slots: Slots, step: Value, rate: Value
    ) -> Updated:
        velocity = slots["velocity"] * self.rho + gradient.square() * (1 - self.rho)
        updated = {"velocity": velocity}
        spread = velocity
        if self.centered:
            average = slots["average_gradient"] * self.rho + gradient * (1 - self.rho)
            updated["average_gradient"] = average
            spread = velocity - average.square()
        increment = rate * gradient / (spread + self.epsilon).sqrt()
        if self.momentum > 0:
            increment = slots["momentum"] * self.momentum + increment
            updated["momentum"] = increment
        return param - increment, updated


@dataclass(frozen=True, kw_only=True)
class Moments(Rule):
    """Base of rules with moving averages of the gradient (`momentum`) and of its square (`velocity`)."""

    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7

    @property
    def slots(self) -> dict[str, float]:
        return {"momentum": 0.0, "velocity": 0.0}

    def moments(self, gradient: Value, slots: Slots) -> tuple[Value, Value]:
        """The averages' next values."""
        momentum = towards(slots["momentum"], gradient, self.beta_1)
        return momentum, towards(slots["velocity"], gradient.square(), self.beta_2)


@dataclass(frozen=True, kw_only=True)
class Adam(Moments):
    """Kingma and Ba, "Adam: A Method for Stochastic Optimization" (2015); `amsgrad` of Reddi et al. (2018)."""

    amsgrad: bool = False

    @property
    def slots(self) -> dict[str, float]:
        found = super().slots
        return {**found, "velocity_hat": 0.0} if self.amsgrad else found

    def update(
        self, param: Value, gradient: Value, slots: Slots, step: Value, rate: Value
    ) -> Updated:
        alpha = rate * (1 - power(self.beta_2, step)).sqrt() / (1 - power(self.beta_1, step))
        momentum, velocity = self.moments(gradient, slots)
        updated = {"momentum": momentum, "velocity": velocity}
        if self.amsgrad:
            velocity = slots["velocity_hat"].maximum(velocity)
            updated["velocity_hat"] = velocity
        return param - momentum * alpha / (velocity.sqrt() + self.epsilon), updated


@dataclass(frozen=True, kw_only=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    weight_decay: float | None = 0.004


@dataclass(frozen=True, kw_only=True)
class Adagrad(Rule):
    """The gradient over the root of the sum of all its squares (Duchi et al. 2011)."""

    initial_accumulator_value: float = 0.1
    epsilon: float = 1e-7

    @property
    def slots(self) -> dict[str, float]:
        return {"accumulator": self.initial_accumulator_value}

    def update(
        self, param: Value, gradient: Value, slots: Slots, step: Value, rate: Value
    ) -> Updated:
        accumulator = slots["accumulator"] + gradient.square()
        move = rate * gradient / (accumulator + self.epsilon).sqrt()
        return param - move, {"accumulator": accumulator}


@dataclass(frozen=True, kw_only=True)
class Adadelta(Rule):
    """Steps as long as those before, by moving averages of squares (Zeiler 2012)."""

    rho: float = 0.95
    epsilon: float = 1e-7

    @property
    def slots(self) -> dict[str, float]:
        return {"accumulated_gradient": 0.0, "accumulated_delta": 0.0}

    def update(
        self, param: Value, gradient: Value, slots: Slots, step: Value, rate: Value
    ) -> Updated:
        squares = slots["accumulated_gradient"] * self.rho + gradient.square() * (1 - self.rho)
        deltas = slots["accumulated_delta"]
        delta = -(deltas + self.epsilon).sqrt() * gradient / (squares + self.epsilon).sqrt()
        deltas = deltas * self.rho + delta.square() * (1 - self.rho)
        updated = {"accumulated_gradient": squares, "accumulated_delta": deltas}
        return param + rate * delta, updated


@dataclass(frozen=True, kw_only=True)
class Nadam(Moments):
    """Dozat, "Incorporating Nesterov Momentum into Adam" (2016), with its schedule of momenta."""

    decay: ClassVar[float] = 0.96

    @property
    def scalars(self) -> dict[str, float]:
        return {"momentum_product": 1.0}

    def momentum_at(self, step: Value) -> Value:
        """The schedule's momentum of a step."""
        return (1 - power(self.decay, step) * 0.5) * self.beta_1

    def advance(self, scalars: Slots, step: Value) -> dict[str, Value]:
        return {"momentum_product": scalars["momentum_product"] * self.momentum_at(step)}

    def update(
        self, param: Value, gradient: Value, slots: Slots, step: Value, rate: Value
    ) -> Updated:
        now, later = self.momentum_at(step), self.momentum_at(step + 1)
        product = slots["momentum_product"]
        momentum, velocity = self.moments(gradient, slots)
        ahead = momentum * (later / (1 - product * later)) + gradient * ((1 - now) / (1 - product))
        spread = (velocity / (1 - power(self.beta_2, step))).sqrt() + self.epsilon
        return param - ahead * rate / spread, {"momentum": momentum, "velocity": velocity}


@dataclass(frozen=True, kw_only=True)
class Lion(Rule):
    """Chen et al., "Symbolic Discovery of Optimization Algorithms" (2023)."""

    beta_1: float = 0.9
    beta_2: float = 0.99

    @property
    def slots(self) -> dict[str, float]:
        return {"momentum": 0.0}

    def update(
        self, param: Value, gradient: Value, slots: Slots, step: Value, rate: Value
    ) -> Updated:
        momentum = slots["momentum"]
        sign = (momentum * self.beta_1 + gradient * (1 - self.beta_1)).apply("sign")
        later = momentum * self.beta_2 + gradient * (1 - self.beta_2)
        return param - rate * sign, {"momentum": later}


@dataclass(frozen=True, kw_only=True)
class Adamax(Rule):
    """Adam with the largest gradient in place of the mean square (Kingma and Ba 2015, section 7.1)."""

    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7

    @property
    def slots(self) -> dict[str, float]:
        return {"momentum": 0.0, "norm": 0.0}

    def update(
        self, param: Value, gradient: Value, slots: Slots, step: Value, rate: Value
    ) -> Updated:
        momentum = towards(slots["momentum"], gradient, self.beta_1)
        norm = (slots["norm"] * self.beta_2).maximum(gradient.abs())
        scale = rate / (1 - power(self.beta_1, step))
        return param - momentum * scale / (norm + self.epsilon), {
            "momentum": momentum,
            "norm": norm,
        }


@dataclass(frozen=True, kw_only=True)
class Lamb(Moments):
    """You et al., "Large Batch Optimization for Deep Learning: Training BERT in 76 Minutes" (2019)."""

    def update(
        self, param: Value, gradient: Value, slots: Slots, step: Value, rate: Value
    ) -> Updated:
        momentum, velocity = self.moments(gradient, slots)
        spread = (velocity / (1 - power(self.beta_2, step))).sqrt() + self.epsilon
        move = momentum / (1 - power(self.beta_1, step)) / spread
        size, length = (v.square().sum(range(v.rank)).sqrt() for v in (param, move))
        both = (size > 0) & (length > 0)
        ratio = both.where(size / (length > 0).where(length, 1), 1)
        return param - ratio * rate * move, {"momentum": momentum, "velocity": velocity}


@dataclass(frozen=True, kw_only=True)
class Ftrl(Rule):
    """McMahan et al., "Ad Click Prediction: a View from the Trenches" (2013)."""

    learning_rate_power: float = -0.5
    initial_accumulator_value: float = 0.1
    l1_regularization_strength: float = 0.0
    l2_regularization_strength: float = 0.0
    l2_shrinkage_regularization_strength: float = 0.0
    beta: float = 0.0

    @property
    def slots(self) -> dict[str, float]:
        return {"accumulator": self.initial_accumulator_value, "linear": 0.0}

    def update(
        self, param: Value, gradient: Value, slots: Slots, step: Value, rate: Value
    ) -> Updated:
        accumulator, linear = slots["accumulator"], slots["linear"]
        later = accumulator + gradient.square()
        before, after = self.raised(accumulator), self.raised(later)
        if self.l2_shrinkage_regularization_strength:
            gradient = gradient + param * (2 * self.l2_shrinkage_regularization_strength)
        linear = linear + gradient - (after - before) / rate * param
        l2 = self.beta / (rate * 2) + self.l2_regularization_strength
        limit = self.l1_regularization_strength
        clipped = linear.apply("clip", min=-limit, max=limit)
        found = (clipped - linear) / (after / rate + l2 * 2)
        return found, {"accumulator": later, "linear": linear}

    def raised(self, value: Value) -> Value:
        """The accumulator to the power that scales the rate."""
        if self.learning_rate_power == -0.5:
            return value.sqrt()
        return value.apply("pow", -self.learning_rate_power)


def power(base: float, exponent: Value) -> Value:
    """base ** exponent, of the exponent's type."""
    return exponent.constant(base).apply("pow", exponent)


def towards(average: Value, value: Value, beta: float) -> Value:
    """An exponential moving average's next value."""
    return average + (value - average) * (1 - beta)
