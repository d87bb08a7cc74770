"""Normalization by statistics of the training set, of the input's features, or given ones."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from convc.errors import ModelError
from convc.keras import backend, constraints, initializers, regularizers
from convc.keras.engine.arguments import axis_of, fraction, is_integer, number, refuse
from convc.keras.engine.layer import Layer
from convc.keras.engine.phase import said_phase, stepping, training_now
from convc.keras.engine.tensor import (
    KerasTensor,
    Variable,
    apply,
    apply_all,
    as_tensor,
    floating,
    promoted,
    reshape,
)
from convc.keras.layers.weights import add_weight
from convc.ops import broadcasting, elementwise, norm, reduce
from convc.ops import shape as shapes


class BatchNormalization(Layer):
    """gamma * (x - moving_mean) / sqrt(moving_variance + epsilon) + beta per channel.

    With `renorm`, training corrects the batch's statistics towards their moving averages, by a factor and an offset
    that gradients take for constants (Ioffe, "Batch Renormalization", 2017), limited by `renorm_clipping`: "rmin",
    "rmax" and "dmax".
    """

    supports_masking = True

    @property
    def traced_in_training(self) -> bool:
        """Whether steps with it are traced from Python: it has statistics of its own to follow the batch's."""
        return self.renorm

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 0.001,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        renorm: bool = False,
        renorm_clipping: Any = None,
        renorm_momentum: float = 0.99,
        synchronized: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if isinstance(axis, (list, tuple)) and len(axis) == 1:
            axis = axis[0]
        if not is_integer(axis):
            refuse(self, "axis", "an integer", axis)
        self.renorm = bool(renorm)
        self.renorm_clipping = _clipping(self, renorm_clipping) if renorm else renorm_clipping
        self.renorm_momentum = fraction(self, "renorm_momentum", renorm_momentum)
        self.axis = int(axis)
        self.momentum = fraction(self, "momentum", momentum)
        self.epsilon = number(self, "epsilon", epsilon, "a positive number")
        self.center, self.scale = bool(center), bool(scale)
        self.synchronized = bool(synchronized)
        self.beta_initializer = initializers.get(beta_initializer)
        self.gamma_initializer = initializers.get(gamma_initializer)
        self.moving_mean_initializer = initializers.get(moving_mean_initializer)
        self.moving_variance_initializer = initializers.get(moving_variance_initializer)
        self.beta_regularizer = regularizers.get(beta_regularizer)
        self.gamma_regularizer = regularizers.get(gamma_regularizer)
        self.beta_constraint = constraints.get(beta_constraint)
        self.gamma_constraint = constraints.get(gamma_constraint)
        self.gamma: Variable | None = None
        self.beta: Variable | None = None

    def build(self, input_shape: Any) -> None:
        axis = axis_of(self, self.axis, len(input_shape))
        if input_shape[axis] is None:
            raise ModelError(
                f"layer {self.name!r} (BatchNormalization): axis {self.axis} of input {input_shape} must be known"
            )
        shape = (input_shape[axis],)
        if self.scale:
            self.gamma = add_weight(self, "gamma", shape)
        if self.center:
            self.beta = add_weight(self, "beta", shape)
        self.moving_mean = self.add_weight(
            shape, self.moving_mean_initializer, trainable=False, name="moving_mean"
        )
        self.moving_variance = self.add_weight(
            shape, self.moving_variance_initializer, trainable=False, name="moving_variance"
        )
        if self.renorm:
            self._add_renorm_weights(shape)

    def _add_renorm_weights(self, shape: tuple[int, ...]) -> None:
        """The moving deviation, of which `moving_variance` is made, and the averages that training corrects towards."""

        def deviations(shape: Any, dtype: Any = None) -> Any:
            return np.sqrt(np.asarray(self.moving_variance_initializer(shape, dtype=dtype)))

        self.moving_stddev = self.add_weight(
            shape, deviations, trainable=False, name="moving_stddev"
        )
        self.renorm_mean = self.add_weight(
            shape, self.moving_mean_initializer, trainable=False, name="renorm_mean"
        )
        self.renorm_stddev = self.add_weight(
            shape, deviations, trainable=False, name="renorm_stddev"
        )

    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        x = floating(inputs)
        axis = axis_of(self, self.axis, x.type.rank)
        size, dtype = self.moving_mean.shape, x.type.dtype.numpy
        gamma = self.gamma if self.gamma is not None else as_tensor(np.ones(size, dtype))
        beta = self.beta if self.beta is not None else as_tensor(np.zeros(size, dtype))
        mask = None if mask is None else self._matching(mask, x)
        if training_now() and self.trainable:
            return self._trained(x, axis, gamma, beta, mask)
        frozen = said_phase() is False
        if mask is not None:
            masked = norm.MaskedBatchNorm(axis, self.epsilon, backend.epsilon(), frozen)
            return apply(masked, x, gamma, beta, self.moving_mean, self.moving_variance, mask)
        op = norm.BatchNorm(axis, self.epsilon, frozen)
        return apply(op, x, gamma, beta, self.moving_mean, self.moving_variance)

    def _matching(self, mask: Any, x: KerasTensor) -> KerasTensor:
        """The mask as a tensor; ModelError unless it has x's axes but the last."""
        found = as_tensor(mask, "bool")
        if found.ndim != x.ndim - 1:
            refuse(self, "mask", f"one axis less than the inputs' shape {x.shape}", found.shape)
        return found

    def _trained(
        self, x: KerasTensor, axis: int, gamma: Any, beta: Any, mask: KerasTensor | None
    ) -> KerasTensor:
        """By the batch's statistics, which the moving ones follow in a step of the user's own.

        In the graph of a model that is to predict nothing is assigned.
        """
        following = stepping() or not x.step.symbolic
        if following and mask is None and not self.renorm:
            together = norm.BatchNormTraining(axis, self.epsilon)
            y, mean, variance = apply_all(together, x, gamma, beta)
            self._follow(*self._batch_statistics(mean, variance))
            return y
        others = tuple(d for d in range(x.type.rank) if d != axis)
        if mask is None:
            mean = apply(reduce.ReduceMean(others, True), x)
            apart = apply(broadcasting.Sub(), x, mean)
            variance = apply(reduce.ReduceMean(others, True), apply(elementwise.Square(), apart))
        else:
            mean, apart, variance = self._masked_moments(x, others, mask)
        found = self._batch_statistics(mean, variance)
        if self.renorm:
            gamma, beta = self._corrected(*found, as_tensor(gamma), as_tensor(beta))
        if following:
            self._follow(*found)
        lifted = apply(broadcasting.Add(), *promoted(variance, self.epsilon))
        scaled = apply(broadcasting.Mul(), apart, apply(elementwise.Rsqrt(), lifted))
        shape = tuple(e if d == axis else 1 for d, e in enumerate(x.type.shape))
        wide = apply(broadcasting.Mul(), scaled, reshape(as_tensor(gamma), shape))
        return apply(broadcasting.Add(), wide, reshape(as_tensor(beta), shape))

    def _batch_statistics(
        self, mean: KerasTensor, variance: KerasTensor
    ) -> tuple[KerasTensor, KerasTensor, KerasTensor]:
        """Mean, variance and deviation of the batch, (channels,), as constants to gradients."""
        size = self.moving_mean.shape
        mean, variance = (
            apply(elementwise.StopGradient(), reshape(t, size)) for t in (mean, variance)
        )
        lifted = apply(broadcasting.Add(), *promoted(variance, self.epsilon))
        return mean, variance, apply(elementwise.Sqrt(), lifted)

    def _corrected(
        self,
        mean: KerasTensor,
        variance: KerasTensor,
        deviation: KerasTensor,
        gamma: KerasTensor,
        beta: KerasTensor,
    ) -> tuple[KerasTensor, KerasTensor]:
        """gamma and beta such that (x * r + d) * gamma + beta is x * gamma + beta of theirs."""
        limits = self.renorm_clipping
        usual = as_tensor(self.renorm_stddev)
        least = apply(elementwise.Clip(math.sqrt(self.epsilon), None), usual)
        r = apply(broadcasting.Div(), deviation, least)
        d = apply(
            broadcasting.Div(), apply(broadcasting.Sub(), mean, as_tensor(self.renorm_mean)), least
        )
        if limits.get("rmin") is not None or limits.get("rmax") is not None:
            r = apply(elementwise.Clip(limits.get("rmin"), limits.get("rmax")), r)
        if limits.get("dmax") is not None:
            d = apply(elementwise.Clip(-limits["dmax"], limits["dmax"]), d)
        r, d = (apply(elementwise.StopGradient(), t) for t in (r, d))
        offset = apply(broadcasting.Mul(), d, gamma)
        return apply(broadcasting.Mul(), r, gamma), apply(broadcasting.Add(), offset, beta)

    def _follow(self, mean: KerasTensor, variance: KerasTensor, deviation: KerasTensor) -> None:
        """Moves the averages towards a batch's statistics."""
        pairs = [(self.moving_mean, mean, self.momentum)]
        if self.renorm:
            pairs += [
                (self.renorm_mean, mean, self.renorm_momentum),
                (self.renorm_stddev, deviation, self.renorm_momentum),
                (self.moving_stddev, deviation, self.momentum),
            ]
        else:
            pairs.append((self.moving_variance, variance, self.momentum))
        for moving, batch, momentum in pairs:
            moving.assign(moving * momentum + batch * (1 - momentum))
        if self.renorm:
            square = apply(elementwise.Square(), as_tensor(self.moving_stddev))
            spread = apply(broadcasting.Sub(), *promoted(square, self.epsilon))
            self.moving_variance.assign(apply(elementwise.Clip(0.0, None), spread))

    def _masked_moments(
        self, x: KerasTensor, others: tuple[int, ...], mask: KerasTensor
    ) -> tuple[KerasTensor, KerasTensor, KerasTensor]:
        """The mean of what the mask lets through, x apart from it, and the variance."""
        counts = apply(shapes.Broadcast(x.type.shape), reshape(mask, (*mask.type.shape, 1)))
        total = apply(reduce.ReduceSum(others, True), as_tensor(counts, x.dtype))
        total = apply(broadcasting.Add(), *promoted(total, backend.epsilon()))
        zero = as_tensor(0, x.dtype)

        def mean_of(values: KerasTensor) -> KerasTensor:
            through = apply(broadcasting.Where(), counts, values, zero)
            return apply(broadcasting.Div(), apply(reduce.ReduceSum(others, True), through), total)

        mean = mean_of(x)
        apart = apply(broadcasting.Sub(), x, mean)
        return mean, apart, mean_of(apply(elementwise.Square(), apart))


def _clipping(layer: Layer, given: Any) -> dict[str, float]:
    """`renorm_clipping` as a dict of the limits that are given."""
    limits = dict(given or {})
    known = ("rmax", "rmin", "dmax")
    if set(limits) - set(known):
        refuse(layer, "renorm_clipping", f"a dict of {', '.join(known)}", given)
    rmax, rmin, dmax = (limits.get(name) for name in known)
    if rmax is not None and rmin is not None and rmax < rmin:
        refuse(layer, "renorm_clipping", "an rmax of at least rmin", given)
    if dmax is not None and dmax < 0:
        refuse(layer, "renorm_clipping", "a dmax of at least 0", given)
    return limits


class LayerNormalization(Layer):
    """gamma * (x - mean) / sqrt(variance + epsilon) + beta with each sample's own statistics over `axis`."""

    supports_masking = True

    def __init__(
        self,
        axis: Any = -1,
        epsilon: float = 0.001,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        rms_scaling = kwargs.pop("rms_scaling", False)
        super().__init__(**kwargs)
        if rms_scaling:
            refuse(self, "rms_scaling", "False", rms_scaling)
        self.axis = (axis,) if is_integer(axis) else tuple(axis)
        if not self.axis or not all(map(is_integer, self.axis)):
            refuse(self, "axis", "an integer or a list of integers", axis)
        self.epsilon = number(self, "epsilon", epsilon, "a positive number")
        self.center, self.scale = bool(center), bool(scale)
        self.beta_initializer = initializers.get(beta_initializer)
        self.gamma_initializer = initializers.get(gamma_initializer)
        self.beta_regularizer = regularizers.get(beta_regularizer)
        self.gamma_regularizer = regularizers.get(gamma_regularizer)
        self.beta_constraint = constraints.get(beta_constraint)
        self.gamma_constraint = constraints.get(gamma_constraint)
        self.gamma: Variable | None = None
        self.beta: Variable | None = None

    def build(self, input_shape: Any) -> None:
        self._axes = tuple(sorted(axis_of(self, a, len(input_shape)) for a in self.axis))
        shape = tuple(input_shape[a] for a in self._axes)
        if None in shape:
            refuse(self, "axis", f"known axes of input {input_shape}", self.axis)
        self._shape = shape
        if self.scale:
            self.gamma = add_weight(self, "gamma", shape)
        if self.center:
            self.beta = add_weight(self, "beta", shape)

    def call(self, inputs: Any) -> Any:
        x = floating(inputs)
        dtype = x.type.dtype.numpy
        gamma = self.gamma if self.gamma is not None else as_tensor(np.ones(self._shape, dtype))
        beta = self.beta if self.beta is not None else as_tensor(np.zeros(self._shape, dtype))
        return apply(norm.LayerNorm(self._axes, self.epsilon), x, gamma, beta)


class Normalization(Layer):
    """(x - mean) / max(sqrt(variance), 1e-7) with given statistics, or those that `adapt` measures.

    Without given ones there are three weights, `mean`, `variance` and `count`, as in Keras.
    """

    supports_masking = True

    def __init__(
        self,
        axis: Any = -1,
        mean: Any = None,
        variance: Any = None,
        invert: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if (mean is None) != (variance is None):
            raise ModelError(
                f"Normalization {self.name!r}: give both mean and variance, or neither"
            )
        self.axis = () if axis is None else (axis,) if is_integer(axis) else tuple(axis)
        self.input_mean, self.input_variance, self.invert = mean, variance, bool(invert)

    def build(self, input_shape: Any) -> None:
        axes = tuple(axis_of(self, a, len(input_shape)) for a in self.axis)
        self._kept = tuple(input_shape[a] for a in axes)
        if None in self._kept:
            refuse(self, "axis", f"known axes of input {input_shape}", self.axis)
        self._broadcast = tuple(d if a in axes else 1 for a, d in enumerate(input_shape))
        if self.input_mean is None:
            self.mean = self.add_weight(self._kept, "zeros", trainable=False, name="mean")
            self.variance = self.add_weight(self._kept, "ones", trainable=False, name="variance")
            self.count = self.add_weight((), "zeros", dtype="int32", trainable=False, name="count")

    def adapt(self, data: Any, batch_size: Any = None, steps: Any = None) -> None:
        """Measures mean and variance of an array, or of `steps` batches (None: all) of a data set.

        Batches are merged by Chan, Golub and LeVeque's "Updating Formulae and a Pairwise Algorithm" (1979).
        """
        if self.input_mean is not None:
            raise ModelError(
                f"Normalization {self.name!r}: adapt() doesn't go with given mean and variance"
            )
        whole = hasattr(data, "dtype") or isinstance(data, (list, int, float))
        count, mean, squares = 0, np.float64(0), np.float64(0)
        for batch in [data] if whole else itertools.islice(iter(data), steps):
            array = np.asarray(batch[0] if isinstance(batch, tuple) else batch, np.float64)
            if not self.built:
                self.build((None, *array.shape[1:]))
                self.built = True
            kept = {axis_of(self, a, array.ndim) for a in self.axis}
            others = tuple(a for a in range(array.ndim) if a not in kept)
            size = array.size // max(1, math.prod(self._kept))
            if size == 0:
                continue
            count, before = count + size, count
            apart = array.mean(others) - mean
            mean = mean + apart * (size / count)
            squares = squares + array.var(others) * size + apart**2 * (before * size / count)
        if count == 0:
            raise ModelError(f"Normalization {self.name!r}: adapt() needs data; received none")
        self.mean.assign(mean)
        self.variance.assign(squares / count)
        self.count.assign(count)

    def call(self, inputs: Any) -> Any:
        x = floating(inputs)
        if self.input_mean is None:
            mean, variance = as_tensor(self.mean), as_tensor(self.variance)
        else:
            dtype = x.type.dtype.numpy
            mean = as_tensor(np.broadcast_to(np.asarray(self.input_mean, dtype), self._kept))
            variance = as_tensor(
                np.broadcast_to(np.asarray(self.input_variance, dtype), self._kept)
            )
        mean = _shaped(mean, self._broadcast)
        deviation = apply(elementwise.Sqrt(), _shaped(variance, self._broadcast))
        deviation = apply(elementwise.Clip(1e-7, None), deviation)
        if self.invert:
            return apply(broadcasting.Add(), mean, apply(broadcasting.Mul(), x, deviation))
        return apply(broadcasting.Div(), apply(broadcasting.Sub(), x, mean), deviation)


def _shaped(x: Any, to: tuple[int, ...]) -> Any:
    return floating(x) if x.shape == to else apply(shapes.Reshape(to), floating(x))


class UnitNormalization(Layer):
    """x divided by its Euclidean norm over `axis`."""

    supports_masking = True

    def __init__(self, axis: Any = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis = (axis,) if is_integer(axis) else tuple(axis)

    def call(self, inputs: Any) -> Any:
        x = floating(inputs)
        axes = tuple(axis_of(self, a, x.type.rank) for a in self.axis)
        squares = apply(reduce.ReduceSum(axes, True), apply(elementwise.Square(), x))
        floor = apply(elementwise.Clip(1e-12, None), squares)
        return apply(broadcasting.Mul(), x, apply(elementwise.Rsqrt(), floor))


class Rescaling(Layer):
    """x * scale + offset, as floats."""

    supports_masking = True
    elementwise = True

    def __init__(self, scale: Any, offset: Any = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for argument, value in (("scale", scale), ("offset", offset)):
            if np.asarray(value).dtype.kind not in "biuf":
                refuse(self, argument, "a number or numbers", value)
        self.scale, self.offset = scale, offset

    def call(self, inputs: Any) -> Any:
        x = as_tensor(inputs, self.dtype)
        scale = np.asarray(self.scale, self.dtype.numpy)
        offset = np.asarray(self.offset, self.dtype.numpy)
        y = apply(broadcasting.Mul(), *promoted(x, scale))
        return y if not offset.any() else apply(broadcasting.Add(), *promoted(y, offset))
