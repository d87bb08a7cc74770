"""All layers."""

from typing import NoReturn as _NoReturn

from convc.keras.engine.input import Input, InputLayer
from convc.keras.engine.layer import Layer
from convc.keras.engine.naming import missing as _missing
from convc.keras.engine.registry import LAYERS as _LAYERS
from convc.keras.layers.activation import ELU, LeakyReLU, PReLU, ReLU, Softmax
from convc.keras.layers.convolutional import (
    Conv2D,
    Conv2DTranspose,
    Convolution2D,
    Convolution2DTranspose,
    Deconv2D,
    Deconvolution2D,
    DepthwiseConv2D,
    DepthwiseConvolution2D,
    SeparableConv2D,
    SeparableConvolution2D,
)
from convc.keras.layers.core import (
    Activation,
    ActivityRegularization,
    AlphaDropout,
    Dense,
    Dropout,
    GaussianDropout,
    GaussianNoise,
    Identity,
    Lambda,
    Masking,
    SpatialDropout2D,
)
from convc.keras.layers.merging import (
    Add,
    Average,
    Concatenate,
    Dot,
    Maximum,
    Minimum,
    Multiply,
    Subtract,
    add,
    average,
    concatenate,
    dot,
    maximum,
    minimum,
    multiply,
    subtract,
)
from convc.keras.layers.normalization import (
    BatchNormalization,
    LayerNormalization,
    Normalization,
    Rescaling,
    UnitNormalization,
)
from convc.keras.layers.pooling import (
    AveragePooling2D,
    AvgPool2D,
    GlobalAveragePooling2D,
    GlobalAvgPool2D,
    GlobalMaxPool2D,
    GlobalMaxPooling2D,
    MaxPool2D,
    MaxPooling2D,
)
from convc.keras.layers.reshaping import (
    Cropping2D,
    Flatten,
    Permute,
    RepeatVector,
    Reshape,
    UpSampling2D,
    ZeroPadding2D,
)

__all__ = [
    "ELU", "Activation", "ActivityRegularization", "Add", "AlphaDropout", "Average", "AveragePooling2D", "AvgPool2D",
    "BatchNormalization", "Concatenate", "Conv2D", "Conv2DTranspose", "Convolution2D", "Convolution2DTranspose",
    "Cropping2D", "Deconv2D", "Deconvolution2D", "Dense", "DepthwiseConv2D", "DepthwiseConvolution2D", "Dot",
    "Dropout", "Flatten", "GaussianDropout", "GaussianNoise", "GlobalAveragePooling2D", "GlobalAvgPool2D",
    "GlobalMaxPool2D", "GlobalMaxPooling2D", "Identity", "Input", "InputLayer", "Lambda", "Layer",
    "LayerNormalization", "LeakyReLU", "Masking", "MaxPool2D", "MaxPooling2D", "Maximum", "Minimum", "Multiply",
    "Normalization", "PReLU", "Permute", "ReLU", "RepeatVector", "Rescaling", "Reshape", "SeparableConv2D",
    "SeparableConvolution2D", "Softmax", "SpatialDropout2D", "Subtract", "UnitNormalization", "UpSampling2D",
    "ZeroPadding2D", "add", "average", "concatenate", "dot", "maximum", "minimum", "multiply", "subtract",
]  # fmt: skip

_LAYERS.update({_name: globals()[_name] for _name in __all__ if _name[0].isupper() and _name != "Input"})


def __getattr__(name: str) -> _NoReturn:
    raise _missing("convc.keras.layers", name, __all__)
