"""Convolutions, pooling and borders of sequences (batch, steps, channels): images of one row."""

from __future__ import annotations

from typing import Any, ClassVar

from convc.errors import ModelError
from convc.keras.engine.arguments import is_integer, positive, refuse
from convc.keras.engine.tensor import (
    KerasTensor,
    apply,
    as_tensor,
    cast,
    floating,
    function,
    reshape,
    transpose,
)
from convc.keras.layers.convolution import (
    Conv2D,
    Conv2DTranspose,
    DepthwiseConv2D,
    ImageLayer,
    Pair,
    SeparableConv2D,
)
from convc.keras.layers.pool import AveragePooling2D, MaxPooling2D
from convc.ops import broadcasting, reduce
from convc.ops import shape as shapes

_PAIRS = ("kernel_size", "strides", "dilation_rate", "pool_size", "output_padding")


class SequenceLayer(ImageLayer):
    """The step from (batch, steps, channels) to images of one row and back."""

    spatial: ClassVar[int] = 1

    def _sizes(self, argument: str, value: Any, least: int = 1) -> Pair:
        single = value[0] if isinstance(value, (tuple, list)) and len(value) == 1 else value
        if not is_integer(single) or single < least:
            kind = {0: "non-negative", 1: "positive"}[least]
            refuse(self, argument, f"a {kind} integer or a tuple of one", value)
        return (least, int(single))

    @property
    def channel_axis(self) -> int:
        return 1 if self.data_format == "channels_first" else 2

    def _check_image(self, input_shape: Any) -> None:
        last = self.data_format == "channels_last"
        order = "(batch, steps, channels)" if last else "(batch, channels, steps)"
        if not isinstance(input_shape, tuple) or len(input_shape) != 3:
            raise ModelError(
                f"layer {self.name!r} ({type(self).__name__}): expected shape {order}; received {input_shape}"
            )

    def _first(self, x: KerasTensor) -> KerasTensor:
        self._check_image(x.shape)
        x = transpose(x, (0, 2, 1)) if self.data_format == "channels_last" else x
        batch, channels, steps = x.type.shape
        return reshape(x, (batch, channels, 1, steps))

    def _back(self, x: KerasTensor) -> KerasTensor:
        batch, channels, _, steps = x.type.shape
        x = reshape(x, (batch, channels, steps))
        return transpose(x, (0, 2, 1)) if self.data_format == "channels_last" else x

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        for name in _PAIRS:
            if isinstance(config.get(name), (tuple, list)):
                config[name] = config[name][-1:]
        return config


class Conv1D(SequenceLayer, Conv2D):
    """1-D convolution; weights `kernel` (steps, channels / groups, filters) and `bias` (filters).

    padding="causal" looks at no later step.
    """

    known_paddings = ("valid", "same", "causal")

    def __init__(
        self, filters: int, kernel_size: Any, strides: Any = 1, padding: str = "valid",
        data_format: str | None = None, dilation_rate: Any = 1, groups: int = 1, activation: Any = None,
        use_bias: bool = True, kernel_initializer: Any = "glorot_uniform", bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None, bias_regularizer: Any = None, activity_regularizer: Any = None,
        kernel_constraint: Any = None, bias_constraint: Any = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(
            filters, kernel_size, strides, padding, data_format, dilation_rate, groups, activation, use_bias,
            kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer, activity_regularizer,
            kernel_constraint, bias_constraint, **kwargs,
        )  # fmt: skip

    def _paddings(self, x: KerasTensor) -> tuple[Pair, Pair]:
        if self.padding == "causal":
            return (0, 0), (self.dilation_rate[1] * (self.kernel_size[1] - 1), 0)
        return super()._paddings(x)


class DepthwiseConv1D(SequenceLayer, DepthwiseConv2D):
    """Each channel with its own filters; weights `kernel` (steps, channels, multiplier) and `bias`."""

    def __init__(
        self, kernel_size: Any, strides: Any = 1, padding: str = "valid", depth_multiplier: int = 1,
        data_format: str | None = None, dilation_rate: Any = 1, activation: Any = None, use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform", bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None, bias_regularizer: Any = None, activity_regularizer: Any = None,
        depthwise_constraint: Any = None, bias_constraint: Any = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(
            kernel_size, strides, padding, depth_multiplier, data_format, dilation_rate, activation, use_bias,
            depthwise_initializer, bias_initializer, depthwise_regularizer, bias_regularizer, activity_regularizer,
            depthwise_constraint, bias_constraint, **kwargs,
        )  # fmt: skip


class SeparableConv1D(SequenceLayer, SeparableConv2D):
    """A depthwise convolution followed by one of size 1."""

    def __init__(
        self, filters: int, kernel_size: Any, strides: Any = 1, padding: str = "valid",
        data_format: str | None = None, dilation_rate: Any = 1, depth_multiplier: int = 1, activation: Any = None,
        use_bias: bool = True, depthwise_initializer: Any = "glorot_uniform",
        pointwise_initializer: Any = "glorot_uniform", bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None, pointwise_regularizer: Any = None, bias_regularizer: Any = None,
        activity_regularizer: Any = None, depthwise_constraint: Any = None, pointwise_constraint: Any = None,
        bias_constraint: Any = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(
            filters, kernel_size, strides, padding, data_format, dilation_rate, depth_multiplier, activation,
            use_bias, depthwise_initializer, pointwise_initializer, bias_initializer, depthwise_regularizer,
            pointwise_regularizer, bias_regularizer, activity_regularizer, depthwise_constraint,
            pointwise_constraint, bias_constraint, **kwargs,
        )  # fmt: skip


class Conv1DTranspose(SequenceLayer, Conv2DTranspose):
    """The transpose of a convolution; weights `kernel` (steps, filters, channels) and `bias`."""

    def __init__(
        self, filters: int, kernel_size: Any, strides: Any = 1, padding: str = "valid", output_padding: Any = None,
        data_format: str | None = None, dilation_rate: Any = 1, activation: Any = None, use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform", bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None, bias_regularizer: Any = None, activity_regularizer: Any = None,
        kernel_constraint: Any = None, bias_constraint: Any = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(
            filters, kernel_size, strides, padding, output_padding, data_format, dilation_rate, activation, use_bias,
            kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer, activity_regularizer,
            kernel_constraint, bias_constraint, **kwargs,
        )  # fmt: skip


class MaxPooling1D(SequenceLayer, MaxPooling2D):
    """The largest element of each window."""

    def __init__(
        self,
        pool_size: Any = 2,
        strides: Any = None,
        padding: str = "valid",
        data_format: str | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(pool_size, strides, padding, data_format, name, **kwargs)


class AveragePooling1D(SequenceLayer, AveragePooling2D):
    """The mean of each window's elements inside the sequence."""

    def __init__(
        self,
        pool_size: Any = 2,
        strides: Any = None,
        padding: str = "valid",
        data_format: str | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(pool_size, strides, padding, data_format, name, **kwargs)


class BaseGlobalPooling1D(SequenceLayer):
    """One number per channel."""

    def __init__(
        self, data_format: str | None = None, keepdims: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._set_format(data_format)
        self.keepdims = bool(keepdims)

    def _axes(self, x: KerasTensor) -> tuple[int, ...]:
        self._check_image(x.shape)
        return (2,) if self.data_format == "channels_first" else (1,)


class GlobalAveragePooling1D(BaseGlobalPooling1D):
    """The mean of each channel, over the steps that a mask (batch, steps) lets count."""

    def call(self, inputs: Any, mask: Any = None) -> Any:
        x, axes = floating(inputs), self._axes(inputs)
        if mask is None:
            return apply(reduce.ReduceMean(axes, self.keepdims), x)
        kept = function("expand_dims")(mask, 1 if axes == (2,) else 2)
        total = apply(reduce.ReduceSum(axes, self.keepdims), function("where")(kept, x, 0.0))
        count = apply(reduce.ReduceSum(axes, self.keepdims), cast(kept, x.type.dtype))
        return apply(broadcasting.Div(), total, count)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return None


class GlobalMaxPooling1D(BaseGlobalPooling1D):
    """The largest element of each channel."""

    def call(self, inputs: Any) -> Any:
        return apply(reduce.ReduceMax(self._axes(inputs), self.keepdims), inputs)


class UpSampling1D(SequenceLayer):
    """Each step `size` times: (batch, steps, channels)."""

    data_format = "channels_last"

    def __init__(self, size: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size = positive(self, "size", size)

    def call(self, inputs: Any) -> Any:
        x = as_tensor(inputs)
        self._check_image(x.shape)
        batch, steps, channels = x.type.shape
        x = reshape(x, (batch, steps, 1, channels))
        x = apply(shapes.Broadcast((batch, steps, self.size, channels)), x)
        return reshape(x, (batch, steps * self.size, channels))


def _ends(owner: Any, argument: str, value: Any) -> Pair:
    """(before, after) from an integer or two."""
    both = (value, value) if is_integer(value) else value
    fits = isinstance(both, (tuple, list)) and len(both) == 2
    if not fits or not all(is_integer(v) and v >= 0 for v in both):
        refuse(owner, argument, "an integer or 2 non-negative integers", value)
    return int(both[0]), int(both[1])


class ZeroPadding1D(SequenceLayer):
    """Zeros before and after each sequence."""

    def __init__(self, padding: Any = 1, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._set_format(data_format)
        self.padding = _ends(self, "padding", padding)

    def call(self, inputs: Any) -> Any:
        self._check_image(inputs.shape)
        last = self.data_format == "channels_last"
        pads = ((0, 0), self.padding, (0, 0)) if last else ((0, 0), (0, 0), self.padding)
        return apply(shapes.Pad(pads), inputs)


class Cropping1D(SequenceLayer):
    """Each sequence without its ends: (batch, steps, channels)."""

    data_format = "channels_last"

    def __init__(self, cropping: Any = (1, 1), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cropping = _ends(self, "cropping", cropping)

    def call(self, inputs: Any) -> Any:
        self._check_image(inputs.shape)
        before, after = self.cropping
        steps = inputs.type.shape[1]
        if before + after >= steps:
            raise ModelError(
                f"layer {self.name!r} (Cropping1D): cropping {self.cropping} leaves nothing of input {inputs.shape}"
            )
        return apply(
            shapes.Slice((None, before, None), (None, steps - after, None), (1, 1, 1)), inputs
        )


Convolution1D, SeparableConvolution1D, Convolution1DTranspose = (
    Conv1D,
    SeparableConv1D,
    Conv1DTranspose,
)
MaxPool1D, AvgPool1D = MaxPooling1D, AveragePooling1D
GlobalMaxPool1D, GlobalAvgPool1D = GlobalMaxPooling1D, GlobalAveragePooling1D
