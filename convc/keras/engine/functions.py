"""Functions between layers, as Keras' files hold them: one operation class each, `Mean` for `mean`."""

from __future__ import annotations

import inspect
from typing import Any

from convc.errors import UnsupportedError
from convc.keras.engine.call import Call, Operation, flatten, record
from convc.keras.engine.legacy import FUNCTIONS as TENSORFLOW
from convc.keras.engine.naming import nearest, snake_case
from convc.keras.engine.tensor import FUNCTIONS

_MODULES = {
    "keras.src.ops.nn": (
        "average_pool", "batch_normalization", "celu", "conv", "depth_to_space", "depthwise_conv", "elu", "gelu",
        "glu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_tanh", "layer_normalization", "leaky_relu",
        "log_sigmoid", "log_softmax", "max_pool", "moments", "normalize", "one_hot", "psnr", "relu", "relu6", "selu",
        "sigmoid", "silu", "soft_shrink", "softmax", "softplus", "softsign", "space_to_depth", "sparse_plus",
        "sparse_sigmoid", "sparsemax", "squareplus", "tanh_shrink", "threshold",
    ),
    "keras.src.ops.core": ("cast", "convert_to_tensor", "stop_gradient"),
    "keras.src.ops.math": ("erf", "logsumexp", "rsqrt"),
    "keras.src.ops.linalg": ("norm",),
    "keras.src.ops.image": (
        "crop_images", "extract_patches", "gaussian_blur", "hsv_to_rgb", "pad_images", "resize", "rgb_to_grayscale",
        "rgb_to_hsv",
    ),
}  # fmt: skip
_NAMES = {
    "batch_normalization": "BatchNorm",
    "layer_normalization": "LayerNorm",
    "hsv_to_rgb": "HSVToRGB",
    "rgb_to_grayscale": "RGBToGrayscale",
    "rgb_to_hsv": "RGBToHSV",
}
_PLACES = {name: module for module, names in _MODULES.items() for name in names}
_CALLED_WITH = frozenset(
    {
        "x",
        "x1",
        "x2",
        "xs",
        "key",
        "condition",
        "indices",
        "weights",
        "fill_value",
        "constant_values",
    }
)
"""The parameters that Keras' operations take when they are called; all others belong to their configs."""


def operation_entry(call: Call) -> dict[str, Any]:
    """How Keras names the operation of a call, with the arguments that it makes the operation with."""
    function = call.operation.function
    name = function.__name__.rstrip("_")
    _, config = divided(call)
    class_name = _NAMES.get(name, "".join(part.capitalize() for part in name.split("_")))
    module = _PLACES.get(name, "keras.src.ops.numpy")
    if name == "gelu":  # Keras' operation has another default than its activation
        default = inspect.signature(function).parameters["approximate"].default
        config = {"approximate": default, **config}
    if name == "relu" and config:
        module, class_name = "keras.src.activations.activations", "ReLU"
    return {
        "module": module,
        "class_name": class_name,
        "config": {"name": call.operation.name, **config},
        "registered_name": class_name,
    }


def divided(call: Call) -> tuple[dict[str, Any], dict[str, Any]]:
    """A call's arguments by name: what Keras' operation is called with, and its config."""
    bound = inspect.signature(call.operation.function).bind(*call.args, **call.kwargs)
    called: dict[str, Any] = {}
    config: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        inside = name in _CALLED_WITH or any(True for _ in flatten(value))
        (called if inside else config)[name] = value
    return called, config


def variadic(function: Any) -> str | None:
    """The name of a function's `*parameter`, if it has one."""
    parameters = inspect.signature(function).parameters.values()
    found = [p.name for p in parameters if p.kind is inspect.Parameter.VAR_POSITIONAL]
    return found[0] if found else None


class RevivedOperation(Operation):
    """A function of a file, under its name there."""

    def __init__(self, name: str, function: Any, config: dict[str, Any]) -> None:
        super().__init__(function.__name__.rstrip("_"), function)
        self.name = name
        self.config = config

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.function.__name__ == "get_item" and len(args) > 1 and isinstance(args[1], list):
            args = (args[0], tuple(args[1]), *args[2:])
        kwargs = {**self.config, **kwargs}
        if (several := variadic(self.function)) is not None:  # einsum(subscripts, *operands)
            names = list(inspect.signature(self.function).parameters)
            first = names[: names.index(several)]
            args = (*(kwargs.pop(name) for name in first if name in kwargs), *args)
        return record(self, args, kwargs, super().__call__(*args, **kwargs))


def is_operation(entry: dict[str, Any]) -> bool:
    """True for functions between layers: Keras 3 writes no `trainable` for them, TensorFlow a class of its own."""
    if entry["class_name"] in ("TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer"):
        return True
    module = str(entry.get("module") or "")
    config = entry.get("config")
    if module.startswith(("keras.src.ops.", "keras.ops", "keras.src.activations.")):
        return True
    if module or not isinstance(config, dict):
        return False
    of_a_layer = {"trainable", "layers", "batch_shape"} & config.keys()
    return not of_a_layer and _named(entry) in FUNCTIONS


def _named(entry: dict[str, Any]) -> str:
    back = {v: k for k, v in _NAMES.items()} | {"ReLU": "relu"}
    name = str(entry["class_name"])
    return back.get(name, snake_case(name))


def revived_operation(entry: dict[str, Any], name: str) -> RevivedOperation:
    """The operation of an entry; UnsupportedError if convc has no such function."""
    config = {k: v for k, v in dict(entry["config"]).items() if k != "name"}
    if entry["class_name"] in ("TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer"):
        return _tensorflow(config, name)
    function = FUNCTIONS.get(_named(entry))
    if function is None:
        kind = entry["class_name"]
        raise UnsupportedError(f"function {kind!r}{nearest(_named(entry), FUNCTIONS)} isn't known")
    if "dtype" not in inspect.signature(_plain(function)).parameters:
        config.pop("dtype", None)  # the policy that every operation of Keras has
    return RevivedOperation(name, _plain(function), config)


def _tensorflow(config: dict[str, Any], name: str) -> RevivedOperation:
    wanted = str(config.get("function", config.get("node_def", "?")))
    if wanted == "__operators__.getitem":
        return TensorFlowSlice(name, _plain(FUNCTIONS["get_item"]), {})
    if wanted not in TENSORFLOW:
        raise UnsupportedError(
            f"TensorFlow's function {wanted!r} isn't known{nearest(wanted, TENSORFLOW)}"
        )
    ours, parameters = TENSORFLOW[wanted]
    return TensorFlowOperation(name, _plain(FUNCTIONS[ours]), wanted, parameters)


class TensorFlowOperation(RevivedOperation):
    """A function of TensorFlow in a file of Keras 2: called with TensorFlow's parameters, it is one of ours."""

    def __init__(self, name: str, function: Any, wanted: str, parameters: tuple[str, ...]) -> None:
        super().__init__(name, function, {})
        self.wanted, self.parameters = wanted, parameters

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        for key, value in kwargs.items():
            if key not in (*self.parameters, "name") and value is not None:
                raise UnsupportedError(
                    f"TensorFlow's {self.wanted} with argument {key!r} isn't known"
                )
        ours = list(inspect.signature(self.function).parameters)
        pairs = zip(self.parameters, ours, strict=False)
        named = {mine: kwargs[theirs] for theirs, mine in pairs if theirs in kwargs}
        return super().__call__(*args, **named)


class TensorFlowSlice(RevivedOperation):
    """`x[…]` in a file of Keras 2, whose `slice_spec` has integers, None, and slices as their three parts."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        spec = kwargs.pop("slice_spec", None)
        if not isinstance(spec, list) or kwargs.pop("tensor", None) is not None or kwargs:
            raise UnsupportedError("TensorFlow's slicing of tensors isn't known in this form")
        return super().__call__(*args, tuple(map(_index, spec)))


def _index(part: Any) -> Any:
    match part:
        case None | int():
            return part
        case {"class_name": "__ellipsis__"} | {"type": "ellipsis"}:
            return Ellipsis
        case {
            "start": (None | int()) as a,
            "stop": (None | int()) as b,
            "step": (None | int()) as c,
        }:
            return slice(a, b, c)
        case _ if part is Ellipsis:
            return part
        case _:
            raise UnsupportedError(f"TensorFlow's slicing of tensors by {part!r} isn't known")


def _plain(function: Any) -> Any:
    """The function itself, below what remembers its calls."""
    return getattr(function, "__wrapped__", function)
