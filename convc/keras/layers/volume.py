"""Layers of volumes (batch, depth, height, width, channels)."""

from __future__ import annotations

from typing import Any, ClassVar

from convc.errors import ModelError
from convc.keras import activations, backend, constraints, initializers, regularizers
from convc.keras.engine.arguments import choice, is_integer, positive, refuse
from convc.keras.engine.layer import Layer
from convc.keras.engine.tensor import (
    KerasTensor,
    Variable,
    apply,
    as_tensor,
    floating,
    reshape,
    transpose,
)
from convc.keras.layers.convolution import same_padding
from convc.keras.layers.weights import add_weight
from convc.ops import broadcasting, pool, reduce, volume
from convc.ops import shape as shapes

Triple = tuple[int, int, int]
Pairs = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
_PADDINGS = ("valid", "same")


def triple(owner: object, argument: str, value: Any) -> Triple:
    """A positive integer, used three times, or three."""
    three = (value,) * 3 if is_integer(value) else value
    fits = isinstance(three, (tuple, list)) and len(three) == 3
    if not fits or not all(is_integer(v) and v >= 1 for v in three):
        refuse(owner, argument, "an integer or a tuple of 3 positive integers", value)
    return int(three[0]), int(three[1]), int(three[2])


def ends(owner: object, argument: str, value: Any) -> Pairs:
    """Three pairs (before, after) from an integer, three integers or three pairs."""
    three = (value,) * 3 if is_integer(value) else value
    if not isinstance(three, (tuple, list)) or len(three) != 3:
        refuse(owner, argument, "an integer, 3 integers or 3 pairs", value)
    pairs = [(v, v) if is_integer(v) else v for v in three]
    for pair in pairs:
        fits = isinstance(pair, (tuple, list)) and len(pair) == 2
        if not fits or not all(is_integer(v) and v >= 0 for v in pair):
            refuse(owner, argument, "an integer, 3 integers or 3 pairs, none negative", value)
    a, b, c = ((int(p[0]), int(p[1])) for p in pairs)
    return a, b, c


class VolumeLayer(Layer):
    """data_format, and the step to logical NCDHW and back."""

    def _set_format(self, data_format: Any) -> None:
        self.data_format = backend.standardize_data_format(data_format, type(self).__name__)

    @property
    def _last(self) -> bool:
        return self.data_format == "channels_last"

    def _check_volume(self, shape: Any) -> None:
        if not isinstance(shape, tuple) or len(shape) != 5:
            order = "(batch, depth, height, width, channels)"
            order = order if self._last else "(batch, channels, depth, height, width)"
            raise ModelError(
                f"layer {self.name!r} ({type(self).__name__}): expected shape {order}; received {shape}"
            )

    def _first(self, x: Any) -> KerasTensor:
        x = as_tensor(x)
        self._check_volume(x.shape)
        return transpose(x, (0, 4, 1, 2, 3)) if self._last else x

    def _back(self, x: KerasTensor) -> KerasTensor:
        return transpose(x, (0, 2, 3, 4, 1)) if self._last else x

    def _spatial(self, pairs: Any, other: Any) -> tuple[Any, ...]:
        """A value per axis, in the layer's own order."""
        return (other, *pairs, other) if self._last else (other, other, *pairs)


def _pads(padding: str, x: KerasTensor, kernel: Triple, stride: Triple, dilation: Triple) -> Pairs:
    if padding == "valid":
        return (0, 0), (0, 0), (0, 0)
    found = [same_padding(x.type.shape[2 + d], kernel[d], stride[d], dilation[d]) for d in range(3)]
    return found[0], found[1], found[2]


class Conv3D(VolumeLayer):
    """3-D convolution; weights `kernel` (depth, rows, columns, channels / groups, filters) and `bias` (filters)."""

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = (1, 1, 1),
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = (1, 1, 1),
        groups: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self._set_format(data_format)
        self.filters, self.groups = (
            positive(self, "filters", filters),
            positive(self, "groups", groups),
        )
        self.kernel_size = triple(self, "kernel_size", kernel_size)
        self.strides = triple(self, "strides", strides)
        self.dilation_rate = triple(self, "dilation_rate", dilation_rate)
        self.padding = choice(self, "padding", padding, _PADDINGS)
        self.activation = activations.get(activation)
        self.use_bias = bool(use_bias)
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        self.bias: Variable | None = None

    def build(self, input_shape: Any) -> None:
        self._check_volume(input_shape)
        channels = input_shape[4 if self._last else 1]
        if channels is None or channels % self.groups or self.filters % self.groups:
            refuse(self, "groups", f"a divisor of {channels} channels and of filters", self.groups)
        self._add_weights((*self.kernel_size, channels // self.groups, self.filters))

    def _add_weights(self, shape: tuple[int, ...]) -> None:
        self.kernel = add_weight(self, "kernel", shape)
        if self.use_bias:
            self.bias = add_weight(self, "bias", (self.filters,))

    def call(self, inputs: Any) -> Any:
        x = floating(self._first(inputs))
        pads = _pads(self.padding, x, self.kernel_size, self.strides, self.dilation_rate)
        op = volume.Conv3d(self.strides, pads, self.dilation_rate, self.groups)
        y = apply(op, x, transpose(as_tensor(self.kernel), (4, 3, 0, 1, 2)))
        return self._finished(y)

    def _finished(self, y: KerasTensor) -> KerasTensor:
        """With the bias and the activation, in the layer's format."""
        if self.bias is not None:
            y = apply(broadcasting.Add(), y, reshape(as_tensor(self.bias), (self.filters, 1, 1, 1)))
        y = self._back(y)
        return y if self.activation is None else as_tensor(self.activation(y))  # type: ignore[redundant-expr]


class Conv3DTranspose(Conv3D):
    """The transpose of a convolution; weights `kernel` (depth, rows, columns, filters, channels) and `bias`."""

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = (1, 1, 1),
        padding: str = "valid",
        data_format: str | None = None,
        output_padding: Any = None,
        dilation_rate: Any = (1, 1, 1),
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            filters, kernel_size, strides, padding, data_format, dilation_rate, 1, activation, use_bias,
            kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer, activity_regularizer,
            kernel_constraint, bias_constraint, **kwargs,
        )  # fmt: skip
        if output_padding is not None:
            refuse(self, "output_padding", "None", output_padding)
        self.output_padding = None

    def build(self, input_shape: Any) -> None:
        self._check_volume(input_shape)
        channels = input_shape[4 if self._last else 1]
        if channels is None:
            refuse(self, "input", "of known channels", input_shape)
        self._add_weights((*self.kernel_size, self.filters, channels))

    def call(self, inputs: Any) -> Any:
        x = floating(self._first(inputs))
        crops, added = [], []
        for d in range(3):
            before, after, more = self._crop(d)
            crops.append((before, after))
            added.append(more)
        op = volume.ConvTranspose3d(
            self.strides,
            (crops[0], crops[1], crops[2]),
            (added[0], added[1], added[2]),
            self.dilation_rate,
        )
        y = apply(op, x, transpose(as_tensor(self.kernel), (4, 3, 0, 1, 2)))
        return self._finished(y)

    def _crop(self, d: int) -> tuple[int, int, int]:
        """(cropped before, cropped after, added after): `Conv2DTranspose._crop` without output_padding."""
        stride = self.strides[d]
        reach = self.dilation_rate[d] * (self.kernel_size[d] - 1) + 1
        if self.padding == "valid":
            return 0, 0, max(stride - reach, 0)
        change = stride - reach
        before = max(-change, 0) // 2
        after = -change - before
        return before, max(after, 0), max(-after, 0)


class BasePooling3D(VolumeLayer):
    """A window over depth, rows and columns: first over rows and columns, then over depth."""

    operator: ClassVar[Any]

    def __init__(
        self,
        pool_size: Any = (2, 2, 2),
        strides: Any = None,
        padding: str = "valid",
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._set_format(data_format)
        self.pool_size = triple(self, "pool_size", pool_size)
        self.strides = self.pool_size if strides is None else triple(self, "strides", strides)
        self.padding = choice(self, "padding", padding, _PADDINGS)

    def call(self, inputs: Any) -> Any:
        x = floating(self._first(inputs))
        deep, rows, columns = _pads(self.padding, x, self.pool_size, self.strides, (1, 1, 1))
        n, c, d, h, w = x.type.shape
        x = reshape(x, (n, c * d, h, w))
        x = apply(self.operator(self.pool_size[1:], self.strides[1:], (rows, columns)), x)
        h, w = x.type.shape[2:]
        x = reshape(x, (n, c, d, h * w))
        op = self.operator((self.pool_size[0], 1), (self.strides[0], 1), (deep, (0, 0)))
        x = apply(op, x)
        return self._back(reshape(x, (n, c, x.type.shape[2], h, w)))


class MaxPooling3D(BasePooling3D):
    """The largest element of each window."""

    operator = pool.MaxPool2d


class AveragePooling3D(BasePooling3D):
    """The mean of each window's elements inside the volume."""

    operator = pool.AvgPool2d


class BaseGlobalPooling3D(VolumeLayer):
    """One number per channel."""

    operator: ClassVar[Any]

    def __init__(
        self, data_format: str | None = None, keepdims: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._set_format(data_format)
        self.keepdims = bool(keepdims)

    def call(self, inputs: Any) -> Any:
        x = floating(inputs)
        self._check_volume(x.shape)
        return apply(self.operator((1, 2, 3) if self._last else (2, 3, 4), self.keepdims), x)


class GlobalAveragePooling3D(BaseGlobalPooling3D):
    """The mean of each channel."""

    operator = reduce.ReduceMean


class GlobalMaxPooling3D(BaseGlobalPooling3D):
    """The largest element of each channel."""

    operator = reduce.ReduceMax


class ZeroPadding3D(VolumeLayer):
    """Zeros around each volume: an integer, three, or three pairs."""

    def __init__(
        self, padding: Any = (1, 1, 1), data_format: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._set_format(data_format)
        self.padding = ends(self, "padding", padding)

    def call(self, inputs: Any) -> Any:
        self._check_volume(inputs.shape)
        return apply(shapes.Pad(self._spatial(self.padding, (0, 0))), inputs)


class Cropping3D(VolumeLayer):
    """Each volume without its borders."""

    def __init__(
        self,
        cropping: Any = ((1, 1), (1, 1), (1, 1)),
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._set_format(data_format)
        self.cropping = ends(self, "cropping", cropping)

    def call(self, inputs: Any) -> Any:
        self._check_volume(inputs.shape)
        sizes = inputs.type.shape[1:4] if self._last else inputs.type.shape[2:5]
        for (before, after), size in zip(self.cropping, sizes, strict=True):
            if before + after >= size:
                raise ModelError(
                    f"layer {self.name!r} (Cropping3D): cropping {self.cropping} leaves nothing of {inputs.shape}"
                )
        starts = self._spatial([p[0] for p in self.cropping], None)
        stops = [size - p[1] for p, size in zip(self.cropping, sizes, strict=True)]
        return apply(shapes.Slice(starts, self._spatial(stops, None), (1,) * 5), inputs)


class UpSampling3D(VolumeLayer):
    """Each volume larger by whole factors."""

    def __init__(
        self, size: Any = (2, 2, 2), data_format: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._set_format(data_format)
        self.size = triple(self, "size", size)

    def call(self, inputs: Any) -> Any:
        x = self._first(inputs)
        n, c, *sizes = x.type.shape
        apart, wide, out = [n, c], [n, c], [n, c]
        for size, factor in zip(sizes, self.size, strict=True):
            apart += [size, 1]
            wide += [size, factor]
            out += [size * factor]
        x = apply(shapes.Broadcast(tuple(wide)), reshape(x, tuple(apart)))
        return self._back(reshape(x, tuple(out)))


Convolution3D = Conv3D
Convolution3DTranspose = Conv3DTranspose
MaxPool3D, AvgPool3D = MaxPooling3D, AveragePooling3D
GlobalMaxPool3D, GlobalAvgPool3D = GlobalMaxPooling3D, GlobalAveragePooling3D
