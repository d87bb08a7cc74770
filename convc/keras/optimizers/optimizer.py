"""The base of optimizers: a learning rate, the count of steps, and the rule that a compiled step follows."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any, ClassVar

import numpy as np

from convc.errors import ModelError
from convc.keras import backend
from convc.keras.engine.arguments import fraction, number, refuse
from convc.keras.engine.naming import nearest, snake_case, unique_name
from convc.keras.engine.tensor import FUNCTIONS, Operators, Variable, as_tensor
from convc.keras.optimizers import schedules
from convc.keras.optimizers.schedules import LearningRateSchedule
from convc.keras.training.eager import apply_gradients
from convc.keras.training.rules import Rule

COMMON = (
    "weight_decay",
    "clipnorm",
    "clipvalue",
    "global_clipnorm",
    "use_ema",
    "ema_momentum",
    "ema_overwrite_frequency",
    "loss_scale_factor",
    "gradient_accumulation_steps",
)
"""The arguments that all optimizers take, besides the learning rate and the name."""

OLD = {"lr": "learning_rate"}
"""Keras 2's names of arguments."""


class Optimizer:
    """Base of all optimizers.

    Gradients are clipped by the norm of each (`clipnorm`), by that of all (`global_clipnorm`) or by element
    (`clipvalue`); weights shrink by `weight_decay` times the learning rate; an exponential moving average of them is
    kept with `use_ema`. `decay` divides the learning rate by 1 + decay * step, as in Keras 2. `loss_scale_factor` is
    taken and changes nothing: gradients don't underflow in float32 and float64.
    """

    rule_class: ClassVar[type[Rule]]
    settings: ClassVar[tuple[str, ...]] = ()
    """The arguments of the class's own, which its rule has too."""

    name: str
    weight_decay: float | None
    gradient_accumulation_steps: int | None

    def __init__(self, learning_rate: Any = 0.001, name: str | None = None, **kwargs: Any) -> None:
        cls = type(self).__name__
        for old, new in OLD.items():
            if old in kwargs:
                learning_rate = kwargs.pop(old)
                assert new == "learning_rate"
        self.decay = float(kwargs.pop("decay", None) or 0.0)
        known = (*self.settings, *COMMON)
        for argument in kwargs:
            if argument not in known:
                raise ModelError(
                    f"{cls} has no argument {argument!r}{nearest(argument, ('learning_rate', *known, 'name'))}; "
                    f"it takes learning_rate, {', '.join(known)}, name"
                )
        self.name = name or unique_name(snake_case(cls))
        for argument in known:
            setattr(self, argument, kwargs.get(argument, DEFAULTS.get(argument)))
        self._check(cls)
        self.step_count = Variable(np.zeros((), np.int64), name="iteration", trainable=False)
        """How often gradients were applied or added up: what schedules follow."""
        self._rate: Any = None
        self._set_rate(learning_rate)
        self._excluded: set[Any] = set()
        self._excluded_names: tuple[str, ...] = ()

    def _check(self, cls: str) -> None:
        for argument in (*self.settings, *COMMON):
            value = getattr(self, argument)
            if argument in SHARES and value is not None:
                fraction(cls, argument, value)
            elif argument in SIZES and value is not None:
                number(cls, argument, value, "a number ≥ 0")
        clips = ("clipnorm", "clipvalue", "global_clipnorm")
        given = [n for n in clips if getattr(self, n) is not None]
        if len(given) > 1:
            raise ModelError(
                f"{cls}: only one of {', '.join(clips)} can be set; received {' and '.join(given)}"
            )
        for name, least in (("ema_overwrite_frequency", 1), ("gradient_accumulation_steps", 2)):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < least):
                raise ModelError(
                    f"{cls}: {name} must be an integer of at least {least}; received {value!r}"
                )

    @property
    def iterations(self) -> Any:
        """How often weights were updated: with `gradient_accumulation_steps`, a part of the steps."""
        each = self.gradient_accumulation_steps
        return self.step_count if each is None else FUNCTIONS["floor_divide"](self.step_count, each)

    @iterations.setter
    def iterations(self, variable: Variable) -> None:
        self.step_count = variable

    @property
    def rule(self) -> Rule:
        """What a compiled step does, from the settings as they are now."""
        own = {n: getattr(self, n) for n in self.settings}
        common = {n: getattr(self, n) for n in COMMON if n != "loss_scale_factor"}
        return self.rule_class(**own, **common)

    @property
    def learning_rate(self) -> Any:
        """The learning rate's variable; with a schedule or a function, its value at the current step."""
        if isinstance(self._rate, Variable):
            return self._rate
        return as_tensor(np.asarray(self.rate_at(int(self.step_count)), backend.floatx()))

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        if isinstance(self._rate, LearningRateSchedule) and not callable(value):
            raise ModelError(
                f"optimizer {self.name!r} was made with a schedule: its learning rate can't be set to {value!r}; "
                f"make it with a number"
            )
        self._set_rate(value)

    @property
    def schedule(self) -> LearningRateSchedule | None:
        """What the learning rate follows from the step by, if that isn't a number or a function of nothing."""
        return self._rate if isinstance(self._rate, LearningRateSchedule) else None

    @property
    def lr(self) -> Any:
        """Keras 2's name for the learning rate."""
        return self.learning_rate

    @lr.setter
    def lr(self, value: Any) -> None:
        self.learning_rate = value

    def _set_rate(self, value: Any) -> None:
        if isinstance(value, dict):
            value = schedules.deserialize(value)
        if isinstance(value, LearningRateSchedule) or (
            callable(value) and not isinstance(value, Operators)
        ):
            self._rate = value
            return
        try:
            if isinstance(value, (str, bytes, bool)):
                raise TypeError
            rate = np.asarray(float(value), backend.floatx())
            usable = 0 <= rate < np.inf
        except (TypeError, ValueError):
            raise ModelError(
                f"{type(self).__name__}: learning_rate must be a number, a LearningRateSchedule or a function; "
                f"received {value!r}"
            ) from None
        if not usable:
            refuse(type(self).__name__, "learning_rate", "a number ≥ 0", value)
        if isinstance(self._rate, Variable):
            self._rate.assign(rate)
        else:
            dtype = backend.floatx()
            self._rate = Variable(rate, dtype=dtype, name="learning_rate", trainable=False)

    def rate_at(self, step: int) -> float:
        """The learning rate of the step after `step` others."""
        if isinstance(self._rate, Variable):
            rate = float(self._rate.value)
        elif isinstance(self._rate, LearningRateSchedule):
            rate = float(np.asarray(self._rate(step)))
        else:
            rate = float(np.asarray(self._rate()))
        return rate / (1.0 + self.decay * step) if self.decay else rate

    def exclude_from_weight_decay(
        self, var_list: Iterable[Any] | None = None, var_names: Iterable[str] | None = None
    ) -> None:
        """Leaves variables out of weight decay: these, and those whose names have one of these patterns in them."""
        self._excluded = set(var_list or ())
        self._excluded_names = tuple(var_names or ())

    def without_decay(self, variables: Collection[Variable]) -> list[Variable]:
        """Those of the variables that don't decay."""
        pattern = re.compile("|".join(self._excluded_names)) if self._excluded_names else None
        return [
            v
            for v in variables
            if v in self._excluded or (pattern is not None and pattern.search(v.name))
        ]

    def apply(self, grads: Iterable[Any], trainable_variables: Iterable[Variable]) -> Any:
        """Updates variables by gradients, in a model's `train_step`; the steps made so far."""
        apply_gradients(self, zip(grads, trainable_variables, strict=True))
        return self.step_count

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Any, Variable]]) -> Any:
        """`apply` for pairs (gradient, variable)."""
        apply_gradients(self, grads_and_vars)
        return self.step_count

    def scale_loss(self, loss: Any) -> Any:
        """The loss: no scale keeps its gradients from underflow in float32."""
        return loss

    get_scaled_loss = scale_loss
    """Its name in Keras 2's LossScaleOptimizer."""

    def get_unscaled_gradients(self, grads: Any) -> Any:
        """The gradients, as Keras 2's LossScaleOptimizer gives those of a scaled loss."""
        return grads

    @property
    def inner_optimizer(self) -> Optimizer:
        """What a LossScaleOptimizer was given."""
        return self

    def get_config(self) -> dict[str, Any]:
        rate = self._rate
        config = {
            "name": self.name,
            "learning_rate": float(rate)
            if isinstance(rate, Variable)
            else schedules.serialize(rate),
            **{n: getattr(self, n) for n in COMMON},
            **{n: getattr(self, n) for n in self.settings},
        }
        return {**config, "decay": self.decay} if self.decay else config

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Optimizer:
        config = dict(config)
        if isinstance(config.get("learning_rate"), dict):
            config["learning_rate"] = schedules.deserialize(config["learning_rate"], custom_objects)
        return cls(**config)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}>"


SHARES = ("beta_1", "beta_2", "rho", "momentum", "ema_momentum")
"""Arguments that are numbers from 0 to 1."""

SIZES = (
    "epsilon", "weight_decay", "clipnorm", "clipvalue", "global_clipnorm", "initial_accumulator_value",
    "l1_regularization_strength", "l2_regularization_strength", "l2_shrinkage_regularization_strength", "beta",
)  # fmt: skip
"""Arguments that are numbers from 0."""

DEFAULTS: dict[str, Any] = {"use_ema": False, "ema_momentum": 0.99}
