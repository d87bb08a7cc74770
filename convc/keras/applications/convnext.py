"""ConvNeXt, tiny to extra large (Liu et al., 2022). Images of 0 … 255 go in as they are: a layer scales them."""

from __future__ import annotations

from typing import Any

from convc.errors import ModelError
from convc.keras import initializers, layers, ops, random
from convc.keras.applications import frame
from convc.keras.applications.imagenet_utils import decode_predictions
from convc.keras.engine.layer import Layer
from convc.keras.engine.model import Model, Sequential
from convc.keras.engine.registry import LAYERS

__all__ = [
    "ConvNeXtBase", "ConvNeXtLarge", "ConvNeXtSmall", "ConvNeXtTiny", "ConvNeXtXLarge", "decode_predictions",
    "preprocess_input",
]  # fmt: skip

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class LayerScale(Layer):
    """Each channel times a weight of its own (Touvron et al., 2021), `init_values` at first."""

    def __init__(self, init_values: float, projection_dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.init_values, self.projection_dim = init_values, projection_dim

    def build(self, input_shape: Any) -> None:
        start = initializers.Constant(self.init_values)
        self.gamma = self.add_weight((self.projection_dim,), start, name="gamma")

    def call(self, x: Any) -> Any:
        return x * self.gamma


class StochasticDepth(Layer):
    """In training each sample's values, or nothing with a probability of `drop_path_rate` (Huang et al., 2016)."""

    traced_in_training = True

    def __init__(self, drop_path_rate: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.drop_path_rate = drop_path_rate
        self.generator = random.SeedGenerator()

    def call(self, x: Any, training: Any = None) -> Any:
        if not training:
            return x
        kept = 1 - self.drop_path_rate
        shape = (ops.shape(x)[0], *[1] * (x.ndim - 1))
        drawn = random.uniform(shape, dtype=x.dtype, seed=self.generator)
        return x / kept * ops.floor(kept + drawn)


LAYERS.update(LayerScale=LayerScale, StochasticDepth=StochasticDepth)


def _norm(name: str | None = None) -> Any:
    return layers.LayerNormalization(epsilon=1e-6, name=name)


def _block(x: Any, name: str) -> Any:
    """A 7×7 convolution of each channel, two dense layers over the channels, and a shortcut around them."""
    size = frame.channels(x)
    y = layers.Conv2D(size, 7, padding="same", groups=size, name=f"{name}_depthwise_conv")(x)
    y = _norm(f"{name}_layernorm")(y)
    y = layers.Dense(4 * size, name=f"{name}_pointwise_conv_1")(y)
    y = layers.Activation("gelu", name=f"{name}_gelu")(y)
    y = layers.Dense(size, name=f"{name}_pointwise_conv_2")(y)
    y = LayerScale(1e-6, size, name=f"{name}_layer_scale")(y)
    return x + layers.Activation("linear", name=f"{name}_identity")(y)


def _smaller(stage: int, size: int, name: str) -> Sequential:
    """What is before each stage: the stem, or a normalization and a convolution by 2×2 pixels."""
    if not stage:
        conv = layers.Conv2D(size, 4, strides=4, name=f"{name}_stem_conv")
        return Sequential([conv, _norm(f"{name}_stem_layernorm")], name=f"{name}_stem")
    conv = layers.Conv2D(size, 2, strides=2, name=f"{name}_downsampling_conv_{stage - 1}")
    norm = _norm(f"{name}_downsampling_layernorm_{stage - 1}")
    return Sequential([norm, conv], name=f"{name}_downsampling_block_{stage - 1}")


def _convnext(
    depths: tuple[int, int, int, int],
    filters: int,
    include_top: bool,
    include_preprocessing: bool,
    weights: Any,
    input_tensor: Any,
    input_shape: Any,
    pooling: Any,
    classes: int,
    classifier_activation: Any,
    name: str,
) -> Model:
    if frame.channel_axis() == 1:
        raise ModelError(f"{name}: expected the data format channels_last, as in Keras")
    inputs = frame.image_input(name, input_tensor, input_shape, 224, 32, weights, include_top)
    x: Any = inputs
    if include_preprocessing and frame.channels(x) == 3:
        mean, variance = [m * 255 for m in _MEAN], [(d * 255) ** 2 for d in _DEVIATION]
        x = layers.Normalization(
            mean=mean, variance=variance, name=f"{name}_prestem_normalization"
        )(x)
    before = [_smaller(stage, filters << stage, name) for stage in range(4)]
    for stage, depth in enumerate(depths):
        x = before[stage](x)
        for block in range(depth):
            x = _block(x, f"{name}_stage_{stage}_block_{block}")
    if include_top:
        x = layers.GlobalAveragePooling2D(name=f"{name}_head_gap")(x)
        x = _norm(f"{name}_head_layernorm")(x)
        units = frame.classes_of(name, classes)
        x = layers.Dense(units, activation=classifier_activation, name=f"{name}_head_dense")(x)
    else:
        x = _norm()(frame.global_pooling(x, pooling, name, named=False))
    return frame.assembled(inputs, x, name, weights)


def preprocess_input(x: Any, data_format: str | None = None) -> Any:
    """The images themselves: the network scales them."""
    return x


def ConvNeXtTiny(  # noqa: N802
    include_top: bool = True, include_preprocessing: bool = True, weights: Any = "imagenet", input_tensor: Any = None,
    input_shape: Any = None, pooling: Any = None, classes: int = 1000, classifier_activation: Any = "softmax",
    name: str = "convnext_tiny",
) -> Model:  # fmt: skip
    """28,589,128 parameters; input 224×224×3."""
    return _convnext(
        (3, 3, 9, 3), 96, include_top, include_preprocessing, weights, input_tensor, input_shape, pooling, classes,
        classifier_activation, name,
    )  # fmt: skip


def ConvNeXtSmall(  # noqa: N802
    include_top: bool = True, include_preprocessing: bool = True, weights: Any = "imagenet", input_tensor: Any = None,
    input_shape: Any = None, pooling: Any = None, classes: int = 1000, classifier_activation: Any = "softmax",
    name: str = "convnext_small",
) -> Model:  # fmt: skip
    """50,223,688 parameters; input 224×224×3."""
    return _convnext(
        (3, 3, 27, 3), 96, include_top, include_preprocessing, weights, input_tensor, input_shape, pooling, classes,
        classifier_activation, name,
    )  # fmt: skip


def ConvNeXtBase(  # noqa: N802
    include_top: bool = True, include_preprocessing: bool = True, weights: Any = "imagenet", input_tensor: Any = None,
    input_shape: Any = None, pooling: Any = None, classes: int = 1000, classifier_activation: Any = "softmax",
    name: str = "convnext_base",
) -> Model:  # fmt: skip
    """88,591,464 parameters; input 224×224×3."""
    return _convnext(
        (3, 3, 27, 3), 128, include_top, include_preprocessing, weights, input_tensor, input_shape, pooling, classes,
        classifier_activation, name,
    )  # fmt: skip


def ConvNeXtLarge(  # noqa: N802
    include_top: bool = True, include_preprocessing: bool = True, weights: Any = "imagenet", input_tensor: Any = None,
    input_shape: Any = None, pooling: Any = None, classes: int = 1000, classifier_activation: Any = "softmax",
    name: str = "convnext_large",
) -> Model:  # fmt: skip
    """197,767,336 parameters; input 224×224×3."""
    return _convnext(
        (3, 3, 27, 3), 192, include_top, include_preprocessing, weights, input_tensor, input_shape, pooling, classes,
        classifier_activation, name,
    )  # fmt: skip


def ConvNeXtXLarge(  # noqa: N802
    include_top: bool = True, include_preprocessing: bool = True, weights: Any = "imagenet", input_tensor: Any = None,
    input_shape: Any = None, pooling: Any = None, classes: int = 1000, classifier_activation: Any = "softmax",
    name: str = "convnext_xlarge",
) -> Model:  # fmt: skip
    """350,196,968 parameters; input 224×224×3."""
    return _convnext(
        (3, 3, 27, 3), 256, include_top, include_preprocessing, weights, input_tensor, input_shape, pooling, classes,
        classifier_activation, name,
    )  # fmt: skip
