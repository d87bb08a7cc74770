"""Learning rates that follow from the number of steps done, in the front end's float type.

`fit` computes them on the host, from a number; a step that is compiled to run without Python traces the same functions
with the step as a tensor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from convc.errors import ModelError
from convc.keras import backend
from convc.keras.engine.arguments import real
from convc.keras.engine.tensor import KerasTensor, cast
from convc.types import DType


class LearningRateSchedule:
    """Base of all schedules: subclasses define `__call__(step)`, a number or a tensor of one."""

    def __call__(self, step: Any) -> Any:
        raise ModelError(f"schedule {type(self).__name__} lacks __call__(step)")

    def get_config(self) -> dict[str, Any]:
        raise ModelError(f"schedule {type(self).__name__} lacks get_config()")

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LearningRateSchedule:
        return cls(**config)


def number(value: Any) -> Any:
    """A numpy number, or a tensor, of the float type that Keras computes schedules in, so that both round alike."""
    if isinstance(value, KerasTensor):
        return cast(value, DType.of(backend.floatx()))
    return np.dtype(backend.floatx()).type(np.asarray(value))


def chosen(condition: Any, then: Any, otherwise: Any) -> Any:
    """One of two values, by a boolean or by a tensor of one."""
    if isinstance(condition, KerasTensor):
        return np.where(condition, then, otherwise)
    return then if condition else otherwise


def check_positive(owner: str, name: str, value: Any) -> None:
    if not real(owner, name, value) > 0:
        raise ModelError(f"{owner}: {name} must be positive; received {value!r}")


class ExponentialDecay(LearningRateSchedule):
    """initial * decay_rate ** (step / decay_steps), the exponent rounded down if `staircase`."""

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        decay_rate: float,
        staircase: bool = False,
        name: str = "ExponentialDecay",
    ) -> None:
        check_positive("ExponentialDecay", "decay_steps", decay_steps)
        real("ExponentialDecay", "initial_learning_rate", initial_learning_rate)
        self.initial_learning_rate, self.decay_steps = initial_learning_rate, decay_steps
        self.decay_rate, self.staircase, self.name = decay_rate, staircase, name

    def __call__(self, step: Any) -> Any:
        share = number(step) / number(self.decay_steps)
        share = np.floor(share) if self.staircase else share
        return number(self.initial_learning_rate) * np.power(number(self.decay_rate), share)

    def get_config(self) -> dict[str, Any]:
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "decay_rate": self.decay_rate,
            "staircase": self.staircase,
            "name": self.name,
        }


class InverseTimeDecay(ExponentialDecay):
    """initial / (1 + decay_rate * step / decay_steps), the share rounded down if `staircase`."""

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        decay_rate: float,
        staircase: bool = False,
        name: str = "InverseTimeDecay",
    ) -> None:
        super().__init__(initial_learning_rate, decay_steps, decay_rate, staircase, name)

    def __call__(self, step: Any) -> Any:
        share = number(step) / number(self.decay_steps)
        share = np.floor(share) if self.staircase else share
        return number(self.initial_learning_rate) / (number(1) + number(self.decay_rate) * share)


class PiecewiseConstantDecay(LearningRateSchedule):
    """values[k] up to and with step boundaries[k], the last value after all of them."""

    def __init__(
        self, boundaries: Sequence[float], values: Sequence[float], name: str = "PiecewiseConstant"
    ) -> None:
        if len(boundaries) != len(values) - 1:
            raise ModelError(
                f"PiecewiseConstantDecay: expected one value more than boundaries; received {len(boundaries)} "
                f"boundaries and {len(values)} values"
            )
        self.boundaries, self.values, self.name = list(boundaries), list(values), name

    def __call__(self, step: Any) -> Any:
        done = step if isinstance(step, KerasTensor) else int(step)
        found = number(self.values[-1])
        for boundary, value in zip(self.boundaries[::-1], self.values[-2::-1], strict=True):
            found = chosen(done <= boundary, number(value), found)
        return found

    def get_config(self) -> dict[str, Any]:
        return {"boundaries": self.boundaries, "values": self.values, "name": self.name}


class PolynomialDecay(LearningRateSchedule):
    """From initial to end along (1 - step / decay_steps) ** power; again and again, ever longer, if `cycle`."""

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        end_learning_rate: float = 0.0001,
        power: float = 1.0,
        cycle: bool = False,
        name: str = "PolynomialDecay",
    ) -> None:
        check_positive("PolynomialDecay", "decay_steps", decay_steps)
        real("PolynomialDecay", "initial_learning_rate", initial_learning_rate)
        self.initial_learning_rate, self.decay_steps = initial_learning_rate, decay_steps
        self.end_learning_rate, self.power = end_learning_rate, power
        self.cycle, self.name = cycle, name

    def __call__(self, step: Any) -> Any:
        done, steps = number(step), number(self.decay_steps)
        if self.cycle:
            steps = steps * chosen(done == number(0), number(1), np.ceil(done / steps))
        else:
            done = np.minimum(done, steps)
        end = number(self.end_learning_rate)
        left = np.power(number(1) - done / steps, number(self.power))
        return (number(self.initial_learning_rate) - end) * left + end

    def get_config(self) -> dict[str, Any]:
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "end_learning_rate": self.end_learning_rate,
            "power": self.power,
            "cycle": self.cycle,
            "name": self.name,
        }


def cosine(share: Any) -> Any:
    """From 1 to 0 along half a cosine."""
    return number(0.5) * (number(1) + np.cos(number(math.pi) * share))


class CosineDecay(LearningRateSchedule):
    """A line from initial to `warmup_target`, if there is one, then half a cosine down to `alpha` of it.

    Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts" (2017).
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        alpha: float = 0.0,
        name: str = "CosineDecay",
        warmup_target: float | None = None,
        warmup_steps: float = 0,
    ) -> None:
        check_positive("CosineDecay", "decay_steps", decay_steps)
        real("CosineDecay", "initial_learning_rate", initial_learning_rate)
        self.initial_learning_rate, self.decay_steps = initial_learning_rate, decay_steps
        self.alpha, self.name = alpha, name
        self.warmup_target, self.warmup_steps = warmup_target, warmup_steps

    def __call__(self, step: Any) -> Any:
        start, steps = number(self.initial_learning_rate), number(self.decay_steps)
        if self.warmup_target is None:
            return self._decayed(np.minimum(number(step), steps), steps, start)
        target, warmup = number(self.warmup_target), number(self.warmup_steps)
        done = np.minimum(number(step), steps + warmup)
        decayed = self._decayed(done - warmup, steps, target)
        if not warmup:
            return decayed
        return chosen(done < warmup, (target - start) * (done / warmup) + start, decayed)

    def _decayed(self, done: Any, steps: Any, start: Any) -> Any:
        alpha = number(self.alpha)
        return start * ((number(1) - alpha) * cosine(done / steps) + alpha)

    def get_config(self) -> dict[str, Any]:
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "alpha": self.alpha,
            "name": self.name,
            "warmup_target": self.warmup_target,
            "warmup_steps": self.warmup_steps,
        }


class CosineDecayRestarts(LearningRateSchedule):
    """Half cosines one after another, each `t_mul` times as long and `m_mul` times as high as the one before.

    Loshchilov and Hutter (2017).
    """

    def __init__(
        self,
        initial_learning_rate: float,
        first_decay_steps: float,
        t_mul: float = 2.0,
        m_mul: float = 1.0,
        alpha: float = 0.0,
        name: str = "SGDRDecay",
    ) -> None:
        check_positive("CosineDecayRestarts", "first_decay_steps", first_decay_steps)
        real("CosineDecayRestarts", "initial_learning_rate", initial_learning_rate)
        self.initial_learning_rate = initial_learning_rate
        self.first_decay_steps, self.t_mul, self.m_mul = first_decay_steps, t_mul, m_mul
        self.alpha, self.name = alpha, name

    def __call__(self, step: Any) -> Any:
        one, growth = number(1), number(self.t_mul)
        share = number(step) / number(self.first_decay_steps)
        if growth == 1:
            restart = np.floor(share)
            share = share - restart
        else:
            restart = np.floor(np.log(one - share * (one - growth)) / np.log(growth))
            before = (one - np.power(growth, restart)) / (one - growth)
            share = (share - before) / np.power(growth, restart)
        alpha = number(self.alpha)
        height = np.power(number(self.m_mul), restart) * cosine(share)
        return number(self.initial_learning_rate) * ((one - alpha) * height + alpha)

    def get_config(self) -> dict[str, Any]:
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "first_decay_steps": self.first_decay_steps,
            "t_mul": self.t_mul,
            "m_mul": self.m_mul,
            "alpha": self.alpha,
            "name": self.name,
        }
