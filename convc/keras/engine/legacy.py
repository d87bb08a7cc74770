"""Configs of older Keras: class names, arguments and functions under other names."""

from __future__ import annotations

import inspect
from typing import Any

CLASSES = {
    "Model": "Functional",
    "Network": "Functional",
    "Container": "Functional",
    "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization",
    "SyncBatchNormalization": "BatchNormalization",
    "LayerNormalizationV1": "LayerNormalization",
    "DenseV1": "Dense",
    "GRUV1": "GRU",
    "GRUV2": "GRU",
    "LSTMV1": "LSTM",
    "LSTMV2": "LSTM",
    "Swish": "Silu",
    "NormalizationV2": "Normalization",
    "GroupedQueryAttention": "GroupQueryAttention",
}
"""Names that a class had at other times."""

_KERNEL = ("filters", "kernel_initializer", "kernel_regularizer", "kernel_constraint")
_UNUSED = {
    "DepthwiseConv2D": (*_KERNEL, "groups", "rank"),
    "DepthwiseConv1D": (*_KERNEL, "groups", "rank"),
    "SeparableConv2D": (*_KERNEL[1:], "groups", "rank"),
    "SeparableConv1D": (*_KERNEL[1:], "groups", "rank"),
    "Conv2DTranspose": ("groups", "rank"),
    "Conv1DTranspose": ("groups", "rank"),
    "Conv3DTranspose": ("groups", "rank"),
}
"""Arguments that a layer's base class wrote into its config though they say nothing."""

_INERT = frozenset({
    "rank", "fused", "virtual_batch_size", "synchronized", "renorm_momentum", "implementation", "unroll", "use_cudnn",
    "time_major", "input_length", "lora_rank", "lora_alpha", "quantization_config", "quantization_mode",
    "experimental_run_tf_function", "optional", "autocast", "input_axes", "output_axes",
    "vocabulary_size", "query_shape", "key_shape", "value_shape",
})  # fmt: skip
"""Arguments of other versions that don't change what a layer computes."""


def translated(cls: type, config: dict[str, Any]) -> dict[str, Any]:
    """A config without what this class never needs: what says nothing, and unknown arguments that are None or False."""
    unused = _UNUSED.get(cls.__name__, ())
    parameters = inspect.signature(cls.__init__).parameters  # type: ignore[misc]
    common = (
        "name",
        "trainable",
        "dtype",
        "batch_input_shape",
        "batch_shape",
        "activity_regularizer",
    )

    def kept(key: str, value: Any) -> bool:
        if key in unused and key not in parameters:
            return False
        if key in parameters or key in common:
            return True
        return key not in _INERT and value is not None and value is not False

    return {key: _part(key, value) for key, value in config.items() if kept(key, value)}


def _part(key: str, value: Any) -> Any:
    """An initializer's entry without the arguments that only some versions have."""
    match value:
        case {"config": dict() as config} if key.endswith("_initializer"):
            unused = ("dtype", "input_axes", "output_axes")
            return {**value, "config": {k: v for k, v in config.items() if k not in unused}}
        case _:
            return value


# TensorFlow's functions between layers, as `TFOpLambda` names them: ours, and their parameters' names in order.
FUNCTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "math.add": ("add", ("x", "y")),
    "__operators__.add": ("add", ("x", "y")),
    "math.subtract": ("subtract", ("x", "y")),
    "math.multiply": ("multiply", ("x", "y")),
    "math.truediv": ("true_divide", ("x", "y")),
    "math.divide": ("divide", ("x", "y")),
    "math.floordiv": ("floor_divide", ("x", "y")),
    "math.pow": ("power", ("x", "y")),
    "math.maximum": ("maximum", ("x", "y")),
    "math.minimum": ("minimum", ("x", "y")),
    "math.greater": ("greater", ("x", "y")),
    "math.greater_equal": ("greater_equal", ("x", "y")),
    "math.less": ("less", ("x", "y")),
    "math.less_equal": ("less_equal", ("x", "y")),
    "math.equal": ("equal", ("x", "y")),
    "math.not_equal": ("not_equal", ("x", "y")),
    "linalg.matmul": ("matmul", ("a", "b")),
    "math.negative": ("negative", ("x",)),
    "math.abs": ("absolute", ("x",)),
    "math.sqrt": ("sqrt", ("x",)),
    "math.rsqrt": ("rsqrt", ("x",)),
    "math.square": ("square", ("x",)),
    "math.exp": ("exp", ("x",)),
    "math.log": ("log", ("x",)),
    "math.sigmoid": ("sigmoid", ("x",)),
    "math.tanh": ("tanh", ("x",)),
    "math.softplus": ("softplus", ("features",)),
    "math.reduce_mean": ("mean", ("input_tensor", "axis", "keepdims")),
    "math.reduce_sum": ("sum", ("input_tensor", "axis", "keepdims")),
    "math.reduce_max": ("max", ("input_tensor", "axis", "keepdims")),
    "math.reduce_min": ("min", ("input_tensor", "axis", "keepdims")),
    "nn.relu": ("relu", ("features",)),
    "nn.relu6": ("relu6", ("features",)),
    "nn.elu": ("elu", ("features",)),
    "nn.silu": ("silu", ("features",)),
    "nn.swish": ("silu", ("features",)),
    "nn.sigmoid": ("sigmoid", ("x",)),
    "nn.tanh": ("tanh", ("x",)),
    "nn.softmax": ("softmax", ("logits", "axis")),
    "nn.leaky_relu": ("leaky_relu", ("features", "alpha")),
    "clip_by_value": ("clip", ("t", "clip_value_min", "clip_value_max")),
    "reshape": ("reshape", ("tensor", "shape")),
    "transpose": ("transpose", ("a", "perm")),
    "compat.v1.transpose": ("transpose", ("a", "perm")),
    "concat": ("concatenate", ("values", "axis")),
    "expand_dims": ("expand_dims", ("input", "axis")),
    "compat.v1.expand_dims": ("expand_dims", ("input", "axis")),
    "squeeze": ("squeeze", ("input", "axis")),
    "compat.v1.squeeze": ("squeeze", ("input", "axis")),
    "stack": ("stack", ("values", "axis")),
    "tile": ("tile", ("input", "multiples")),
    "cast": ("cast", ("x", "dtype")),
    "identity": ("convert_to_tensor", ("input",)),
    "stop_gradient": ("stop_gradient", ("input",)),
}  # fmt: skip
