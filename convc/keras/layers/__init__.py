"""All layers."""

from typing import Any as _Any
from typing import NoReturn as _NoReturn

from convc.keras.engine.input import Input, InputLayer
from convc.keras.engine.input_spec import InputSpec
from convc.keras.engine.layer import Layer
from convc.keras.engine.naming import missing as _missing
from convc.keras.engine.registry import LAYERS as _LAYERS
from convc.keras.engine.registry import custom_object_scope as _custom_object_scope
from convc.keras.engine.revival import revived_layer as _revived_layer
from convc.keras.engine.serialization import serialize_keras_object as _serialize_keras_object
from convc.keras.layers.activation import (
    ELU,
    LeakyReLU,
    PReLU,
    ReLU,
    Softmax,
    ThresholdedReLU,
)
from convc.keras.layers.attention import (
    AdditiveAttention,
    Attention,
    GroupQueryAttention,
    MultiHeadAttention,
)
from convc.keras.layers.basic import (
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
    SpatialDropout1D,
    SpatialDropout2D,
    SpatialDropout3D,
)
from convc.keras.layers.category import CategoryEncoding, Discretization
from convc.keras.layers.cells import GRUCell, LSTMCell, SimpleRNNCell
from convc.keras.layers.convolution import (
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
from convc.keras.layers.convolutional_recurrent import ConvLSTM1D, ConvLSTM2D, ConvLSTM3D
from convc.keras.layers.cudnn_recurrent import CuDNNGRU, CuDNNLSTM
from convc.keras.layers.einsum_dense import EinsumDense
from convc.keras.layers.embedding import Embedding
from convc.keras.layers.group_normalization import GroupNormalization, RMSNormalization
from convc.keras.layers.hashing import HashedCrossing, Hashing
from convc.keras.layers.local import LocallyConnected1D, LocallyConnected2D
from convc.keras.layers.lookup import IntegerLookup, StringLookup
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
from convc.keras.layers.norm import (
    BatchNormalization,
    LayerNormalization,
    Normalization,
    Rescaling,
    UnitNormalization,
)
from convc.keras.layers.pool import (
    AveragePooling2D,
    AvgPool2D,
    GlobalAveragePooling2D,
    GlobalAvgPool2D,
    GlobalMaxPool2D,
    GlobalMaxPooling2D,
    MaxPool2D,
    MaxPooling2D,
)
from convc.keras.layers.preprocessing import CenterCrop, Resizing
from convc.keras.layers.preprocessing_colours import (
    AutoContrast,
    RandomColorDegeneration,
    RandomColorJitter,
    RandomErasing,
    RandomGaussianBlur,
    RandomGrayscale,
    RandomHue,
    RandomInvert,
    RandomPosterization,
    RandomSaturation,
    RandomSharpness,
    Solarization,
)
from convc.keras.layers.preprocessing_geometry import RandomElasticTransform, RandomPerspective
from convc.keras.layers.preprocessing_histograms import (
    ContrastLimitedAdaptiveHistogramEqualization,
    Equalization,
)
from convc.keras.layers.preprocessing_mixing import CutMix, MaxNumBoundingBoxes, MixUp
from convc.keras.layers.preprocessing_policies import AugMix, Pipeline, RandAugment
from convc.keras.layers.preprocessing_random import (
    RandomBrightness,
    RandomContrast,
    RandomCrop,
    RandomFlip,
    RandomRotation,
    RandomShear,
    RandomTranslation,
    RandomZoom,
)
from convc.keras.layers.recurrent import GRU, LSTM, SimpleRNN
from convc.keras.layers.reshaping import (
    Cropping2D,
    Flatten,
    Permute,
    RepeatVector,
    Reshape,
    UpSampling2D,
    ZeroPadding2D,
)
from convc.keras.layers.rnn import RNN, StackedRNNCells
from convc.keras.layers.sequence import (
    AveragePooling1D,
    AvgPool1D,
    Conv1D,
    Conv1DTranspose,
    Convolution1D,
    Convolution1DTranspose,
    Cropping1D,
    DepthwiseConv1D,
    GlobalAveragePooling1D,
    GlobalAvgPool1D,
    GlobalMaxPool1D,
    GlobalMaxPooling1D,
    MaxPool1D,
    MaxPooling1D,
    SeparableConv1D,
    SeparableConvolution1D,
    UpSampling1D,
    ZeroPadding1D,
)
from convc.keras.layers.text_vectorization import TextVectorization
from convc.keras.layers.volume import (
    AveragePooling3D,
    AvgPool3D,
    Conv3D,
    Conv3DTranspose,
    Convolution3D,
    Convolution3DTranspose,
    Cropping3D,
    GlobalAveragePooling3D,
    GlobalAvgPool3D,
    GlobalMaxPool3D,
    GlobalMaxPooling3D,
    MaxPool3D,
    MaxPooling3D,
    UpSampling3D,
    ZeroPadding3D,
)
from convc.keras.layers.wrappers import Bidirectional, TimeDistributed, Wrapper

__all__ = [
    "ELU",
    "GRU",
    "LSTM",
    "RNN",
    "Activation",
    "ActivityRegularization",
    "Add",
    "AdditiveAttention",
    "AlphaDropout",
    "Attention",
    "AugMix",
    "AutoContrast",
    "Average",
    "AveragePooling1D",
    "AveragePooling2D",
    "AveragePooling3D",
    "AvgPool1D",
    "AvgPool2D",
    "AvgPool3D",
    "BatchNormalization",
    "Bidirectional",
    "CategoryEncoding",
    "CenterCrop",
    "Concatenate",
    "ContrastLimitedAdaptiveHistogramEqualization",
    "Conv1D",
    "Conv1DTranspose",
    "Conv2D",
    "Conv2DTranspose",
    "Conv3D",
    "Conv3DTranspose",
    "ConvLSTM1D",
    "ConvLSTM2D",
    "ConvLSTM3D",
    "Convolution1D",
    "Convolution1DTranspose",
    "Convolution2D",
    "Convolution2DTranspose",
    "Convolution3D",
    "Convolution3DTranspose",
    "Cropping1D",
    "Cropping2D",
    "Cropping3D",
    "CuDNNGRU",
    "CuDNNLSTM",
    "CutMix",
    "Deconv2D",
    "Deconvolution2D",
    "Dense",
    "DepthwiseConv1D",
    "DepthwiseConv2D",
    "DepthwiseConvolution2D",
    "Discretization",
    "Dot",
    "Dropout",
    "EinsumDense",
    "Embedding",
    "Equalization",
    "Flatten",
    "GRUCell",
    "GaussianDropout",
    "GaussianNoise",
    "GlobalAveragePooling1D",
    "GlobalAveragePooling2D",
    "GlobalAveragePooling3D",
    "GlobalAvgPool1D",
    "GlobalAvgPool2D",
    "GlobalAvgPool3D",
    "GlobalMaxPool1D",
    "GlobalMaxPool2D",
    "GlobalMaxPool3D",
    "GlobalMaxPooling1D",
    "GlobalMaxPooling2D",
    "GlobalMaxPooling3D",
    "GroupNormalization",
    "GroupQueryAttention",
    "HashedCrossing",
    "Hashing",
    "Identity",
    "Input",
    "InputLayer",
    "InputSpec",
    "IntegerLookup",
    "LSTMCell",
    "Lambda",
    "Layer",
    "LayerNormalization",
    "LeakyReLU",
    "LocallyConnected1D",
    "LocallyConnected2D",
    "Masking",
    "MaxNumBoundingBoxes",
    "MaxPool1D",
    "MaxPool2D",
    "MaxPool3D",
    "MaxPooling1D",
    "MaxPooling2D",
    "MaxPooling3D",
    "Maximum",
    "Minimum",
    "MixUp",
    "MultiHeadAttention",
    "Multiply",
    "Normalization",
    "PReLU",
    "Permute",
    "Pipeline",
    "RMSNormalization",
    "RandAugment",
    "RandomBrightness",
    "RandomColorDegeneration",
    "RandomColorJitter",
    "RandomContrast",
    "RandomCrop",
    "RandomElasticTransform",
    "RandomErasing",
    "RandomFlip",
    "RandomGaussianBlur",
    "RandomGrayscale",
    "RandomHue",
    "RandomInvert",
    "RandomPerspective",
    "RandomPosterization",
    "RandomRotation",
    "RandomSaturation",
    "RandomSharpness",
    "RandomShear",
    "RandomTranslation",
    "RandomZoom",
    "ReLU",
    "RepeatVector",
    "Rescaling",
    "Reshape",
    "Resizing",
    "SeparableConv1D",
    "SeparableConv2D",
    "SeparableConvolution1D",
    "SeparableConvolution2D",
    "SimpleRNN",
    "SimpleRNNCell",
    "Softmax",
    "Solarization",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
    "StackedRNNCells",
    "StringLookup",
    "Subtract",
    "TextVectorization",
    "ThresholdedReLU",
    "TimeDistributed",
    "UnitNormalization",
    "UpSampling1D",
    "UpSampling2D",
    "UpSampling3D",
    "Wrapper",
    "ZeroPadding1D",
    "ZeroPadding2D",
    "ZeroPadding3D",
    "add",
    "average",
    "concatenate",
    "deserialize",
    "dot",
    "maximum",
    "minimum",
    "multiply",
    "serialize",
    "subtract",
]  # fmt: skip

_LAYERS.update(
    {_name: globals()[_name] for _name in __all__ if _name[0].isupper() and _name != "Input"}
)


def serialize(layer: _Any) -> _Any:
    """A layer's config, from which `deserialize` makes another with new weights."""
    return _serialize_keras_object(layer)


def deserialize(config: _Any, custom_objects: _Any = None) -> _Any:
    """The layer of a config made by `serialize` or by Keras."""
    with _custom_object_scope(custom_objects):
        return _revived_layer(config)


def __getattr__(name: str) -> _NoReturn:
    raise _missing("convc.keras.layers", name, __all__)
