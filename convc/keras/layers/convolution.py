"""Convolutions of images."""

from __future__ import annotations

from typing import Any, ClassVar

from convc.errors import ModelError
from convc.keras import activations, backend, constraints, initializers, regularizers
from convc.keras.engine.arguments import choice, pair, positive, refuse
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
from convc.keras.layers.weights import add_weight
from convc.ops import broadcasting, conv
from convc.types import Extent

Pair = tuple[int, int]


def same_padding(size: Extent, kernel: int, stride: int, dilation: int) -> Pair:
    """TensorFlow's rule: ceil(size / stride) outputs, the odd element of padding after the image."""
    assert isinstance(size, int)
    reach = dilation * (kernel - 1) + 1
    total = max((-(-size // stride) - 1) * stride + reach - size, 0)
    return total // 2, total - total // 2


def paddings(
    padding: str, x: KerasTensor, kernel: Pair, stride: Pair, dilation: Pair = (1, 1)
) -> tuple[Pair, Pair]:
    """((top, bottom), (left, right)) for an NCHW tensor."""
    if padding == "valid":
        return (0, 0), (0, 0)
    rows, columns = (
        same_padding(x.type.shape[2 + d], kernel[d], stride[d], dilation[d]) for d in (0, 1)
    )
    return rows, columns


class ImageLayer(Layer):
    """Shared by layers on images: data_format, and the step to logical NCHW and back."""

    data_format: str
    spatial: ClassVar[int] = 2
    """How many axes a window moves along; sequences are images of one row."""

    def _sizes(self, argument: str, value: Any, least: int = 1) -> Pair:
        """(rows, columns) from an argument."""
        return pair(self, argument, value, least)

    def _set_format(self, data_format: Any) -> None:
        self.data_format = backend.standardize_data_format(data_format, type(self).__name__)

    @property
    def channel_axis(self) -> int:
        return 1 if self.data_format == "channels_first" else 3

    def _channels_of(self, input_shape: Any) -> int:
        """The number of channels; ModelError for what is no batch of images."""
        self._check_image(input_shape)
        channels = input_shape[self.channel_axis]
        if channels is None:
            raise ModelError(
                f"layer {self.name!r}: the number of channels must be known; received {input_shape}"
            )
        return int(channels)

    def _check_image(self, input_shape: Any) -> None:
        order = "(batch, channels, height, width)"
        if self.data_format == "channels_last":
            order = "(batch, height, width, channels)"
        if not isinstance(input_shape, tuple) or len(input_shape) != 4:
            raise ModelError(
                f"layer {self.name!r} ({type(self).__name__}): expected shape {order}; received {input_shape}"
            )

    def _first(self, x: KerasTensor) -> KerasTensor:
        self._check_image(x.shape)
        return transpose(x, (0, 3, 1, 2)) if self.data_format == "channels_last" else x

    def _back(self, x: KerasTensor) -> KerasTensor:
        return transpose(x, (0, 2, 3, 1)) if self.data_format == "channels_last" else x


class BaseConv(ImageLayer):
    """What all convolutions share: arguments, bias and activation."""

    known_paddings: ClassVar[tuple[str, ...]] = ("valid", "same")
    kernel_initializer: Any
    kernel_regularizer: Any
    kernel_constraint: Any
    depthwise_initializer: Any
    depthwise_regularizer: Any
    depthwise_constraint: Any
    pointwise_initializer: Any
    pointwise_regularizer: Any
    pointwise_constraint: Any

    def _set_common(self, arguments: dict[str, Any]) -> None:
        """Checks and keeps the arguments that every convolution has."""
        self._set_format(arguments["data_format"])
        self.kernel_size = self._sizes("kernel_size", arguments["kernel_size"])
        self.strides = self._sizes("strides", arguments["strides"])
        self.dilation_rate = self._sizes("dilation_rate", arguments["dilation_rate"])
        self.padding = choice(self, "padding", arguments["padding"], self.known_paddings)
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ModelError(
                f"{type(self).__name__} {self.name!r}: strides > 1 don't go with dilation_rate > 1; "
                f"received strides={self.strides}, dilation_rate={self.dilation_rate}"
            )
        self.activation = activations.get(arguments["activation"])
        self.use_bias = bool(arguments["use_bias"])
        self.bias_initializer = initializers.get(arguments["bias_initializer"])
        self.bias_regularizer = regularizers.get(arguments["bias_regularizer"])
        self.bias_constraint = constraints.get(arguments["bias_constraint"])
        self.bias: Variable | None = None

    def _add_kernel(self, name: str, shape: tuple[int, ...], kind: str) -> Variable:
        return add_weight(self, name, shape, kind)

    @property
    def _window(self) -> tuple[int, ...]:
        """The kernel's size along the axes that its weights have."""
        return self.kernel_size[2 - self.spatial :]

    def _image_kernel(self, kernel: Variable) -> KerasTensor:
        """A kernel (rows, columns, …), whatever the number of spatial axes of its weights."""
        return reshape(as_tensor(kernel), (1,) * (2 - self.spatial) + kernel.shape)

    def _add_bias(self, filters: int) -> None:
        if self.use_bias:
            self.bias = self._add_kernel("bias", (filters,), "bias")

    def _finish(self, y: KerasTensor) -> KerasTensor:
        """Bias and activation on NCHW, then the layer's own order; functions of whole tensors come after that."""
        if self.bias is not None:
            bias = reshape(as_tensor(self.bias), (self.bias.shape[0], 1, 1))
            y = apply(broadcasting.Add(), y, bias)
        if self.activation is None:  # as programs set it on trained models
            return self._back(y)
        if activations.is_elementwise(self.activation):
            return self._back(as_tensor(self.activation(y)))
        return as_tensor(self.activation(self._back(y)))

    def _kernel_regularization(self, arguments: dict[str, Any], kind: str = "kernel") -> None:
        setattr(self, f"{kind}_initializer", initializers.get(arguments[f"{kind}_initializer"]))
        setattr(self, f"{kind}_regularizer", regularizers.get(arguments[f"{kind}_regularizer"]))
        setattr(self, f"{kind}_constraint", constraints.get(arguments[f"{kind}_constraint"]))

    def _paddings(self, x: KerasTensor) -> tuple[Pair, Pair]:
        return paddings(self.padding, x, self.kernel_size, self.strides, self.dilation_rate)

    def _convolve(self, x: KerasTensor, kernel: KerasTensor, groups: int) -> KerasTensor:
        pads = self._paddings(x)
        return apply(conv.Conv2d(self.strides, pads, self.dilation_rate, groups), x, kernel)

    def _depthwise(self, x: KerasTensor, kernel: Variable) -> KerasTensor:
        """Each channel with its own filters: kernel (rows, columns, channels, multiplier)."""
        channels, multiplier = kernel.shape[-2:]
        weights = reshape(
            transpose(self._image_kernel(kernel), (2, 3, 0, 1)),
            (channels * multiplier, 1, *self.kernel_size),
        )
        return self._convolve(x, weights, channels)


class Conv2D(BaseConv):
    """2-D convolution; weights `kernel` (rows, columns, channels / groups, filters) and `bias` (filters)."""

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = (1, 1),
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = (1, 1),
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
        arguments = locals()
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.filters = positive(self, "filters", filters)
        self.groups = positive(self, "groups", groups)
        if self.filters % self.groups:
            refuse(self, "filters", f"a multiple of groups={self.groups}", filters)
        self._set_common(arguments)
        self._kernel_regularization(arguments)

    def build(self, input_shape: Any) -> None:
        channels = self._channels_of(input_shape)
        if channels % self.groups:
            refuse(self, "groups", f"a divisor of the {channels} input channels", self.groups)
        shape = (*self._window, channels // self.groups, self.filters)
        self.kernel = self._add_kernel("kernel", shape, "kernel")
        self._add_bias(self.filters)

    def call(self, inputs: Any) -> Any:
        weights = transpose(self._image_kernel(self.kernel), (3, 2, 0, 1))
        return self._finish(self._convolve(floating(self._first(inputs)), weights, self.groups))


class DepthwiseConv2D(BaseConv):
    """Convolution of each channel by itself; weights `kernel` (rows, columns, channels, multiplier), `bias`."""

    def __init__(
        self,
        kernel_size: Any,
        strides: Any = (1, 1),
        padding: str = "valid",
        depth_multiplier: int = 1,
        data_format: str | None = None,
        dilation_rate: Any = (1, 1),
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        depthwise_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        arguments = locals()
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.depth_multiplier = positive(self, "depth_multiplier", depth_multiplier)
        self._set_common(arguments)
        self._kernel_regularization(arguments, "depthwise")

    def build(self, input_shape: Any) -> None:
        channels = self._channels_of(input_shape)
        shape = (*self._window, channels, self.depth_multiplier)
        self.kernel = self._add_kernel("kernel", shape, "depthwise")
        self._add_bias(channels * self.depth_multiplier)

    def call(self, inputs: Any) -> Any:
        return self._finish(self._depthwise(floating(self._first(inputs)), self.kernel))


class SeparableConv2D(BaseConv):
    """A depthwise convolution followed by a 1×1 one; weights `depthwise_kernel`, `pointwise_kernel`, `bias`."""

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = (1, 1),
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = (1, 1),
        depth_multiplier: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        pointwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        pointwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        depthwise_constraint: Any = None,
        pointwise_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        arguments = locals()
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.filters = positive(self, "filters", filters)
        self.depth_multiplier = positive(self, "depth_multiplier", depth_multiplier)
        self._set_common(arguments)
        self._kernel_regularization(arguments, "depthwise")
        self._kernel_regularization(arguments, "pointwise")

    def build(self, input_shape: Any) -> None:
        channels = self._channels_of(input_shape)
        depthwise = (*self._window, channels, self.depth_multiplier)
        pointwise = (*(1,) * self.spatial, channels * self.depth_multiplier, self.filters)
        self.depthwise_kernel = self._add_kernel("depthwise_kernel", depthwise, "depthwise")
        self.pointwise_kernel = self._add_kernel("pointwise_kernel", pointwise, "pointwise")
        self._add_bias(self.filters)

    def call(self, inputs: Any) -> Any:
        y = self._depthwise(floating(self._first(inputs)), self.depthwise_kernel)
        weights = transpose(self._image_kernel(self.pointwise_kernel), (3, 2, 0, 1))
        return self._finish(apply(conv.Conv2d(), y, weights))


class Conv2DTranspose(BaseConv):
    """The transpose of a convolution; weights `kernel` (rows, columns, filters, channels) and `bias`."""

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = (1, 1),
        padding: str = "valid",
        output_padding: Any = None,
        data_format: str | None = None,
        dilation_rate: Any = (1, 1),
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
        arguments = locals()
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.filters = positive(self, "filters", filters)
        self._set_common(arguments)
        self._kernel_regularization(arguments)
        self.output_padding: Pair | None = None
        if output_padding is not None:
            self.output_padding = self._sizes("output_padding", output_padding, least=0)
            if any(p >= s for p, s in zip(self.output_padding, self.strides, strict=True)):
                refuse(self, "output_padding", f"less than strides={self.strides}", output_padding)

    def build(self, input_shape: Any) -> None:
        channels = self._channels_of(input_shape)
        shape = (*self._window, self.filters, channels)
        self.kernel = self._add_kernel("kernel", shape, "kernel")
        self._add_bias(self.filters)

    def call(self, inputs: Any) -> Any:
        x = floating(self._first(inputs))
        rows, columns = (self._crop(d) for d in (0, 1))
        crops = ((rows[0], rows[1]), (columns[0], columns[1]))
        op = conv.ConvTranspose2d(self.strides, crops, (rows[2], columns[2]), self.dilation_rate)
        return self._finish(apply(op, x, transpose(self._image_kernel(self.kernel), (3, 2, 0, 1))))

    def _crop(self, d: int) -> tuple[int, int, int]:
        """(cropped before, cropped after, added after) relative to the full output (n - 1) * stride + reach.

        Keras' output sizes: n * stride for "same", (n - 1) * stride + max(reach, stride) for "valid"; with
        output_padding p, (n - 1) * stride + reach - 2 * (reach // 2) + p and (n - 1) * stride + reach + p.
        The crop before is TensorFlow's: the padding of the forward convolution that this one transposes.
        """
        stride = self.strides[d]
        reach = self.dilation_rate[d] * (self.kernel_size[d] - 1) + 1
        added = None if self.output_padding is None else self.output_padding[d]
        if self.padding == "valid":
            longer = max(stride - reach, 0) if added is None else added
            return 0, 0, longer
        change = stride - reach if added is None else added - 2 * (reach // 2)
        before = max(-change, 0) // 2
        after = -change - before
        return before, max(after, 0), max(-after, 0)


Convolution2D = Conv2D
DepthwiseConvolution2D = DepthwiseConv2D
SeparableConvolution2D = SeparableConv2D
Convolution2DTranspose = Conv2DTranspose
Deconv2D = Deconvolution2D = Conv2DTranspose
