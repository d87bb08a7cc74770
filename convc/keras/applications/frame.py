"""What all applications share: their input, their classifier, their weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convc.errors import ModelError, UsageError
from convc.keras import backend, layers, ops
from convc.keras.engine.arguments import choice, is_integer, positive
from convc.keras.engine.model import Model
from convc.keras.engine.tensor import KerasTensor, as_tensor

Pair = tuple[int, int]


def channel_axis() -> int:
    return 1 if backend.image_data_format() == "channels_first" else 3


def channels(x: KerasTensor) -> int:
    found = x.shape[channel_axis()]
    assert found is not None
    return found


def image_input(
    name: str,
    input_tensor: Any,
    input_shape: Any,
    default_size: int | None,
    min_size: int,
    weights: Any,
    include_top: bool = True,
) -> KerasTensor:
    """The input tensor of a network; `input_shape` is checked against the smallest that it can take.

    Without its classifier a network takes images of any size, unless `input_shape` says otherwise.
    """
    if weights is not None and not isinstance(weights, (str, Path)):
        raise UsageError(f"{name}: weights must be None or a file; received {weights!r}")
    if str(weights) == "imagenet":
        raise UsageError(
            f"{name}: convc has no ImageNet weights: pass weights=None or a weights file"
        )
    if input_tensor is not None:
        return (
            input_tensor
            if isinstance(input_tensor, KerasTensor)
            else layers.Input(tensor=input_tensor)
        )
    first = backend.image_data_format() == "channels_first"
    size = (default_size, default_size) if include_top else (None, None)
    if input_shape is None:
        input_shape = (3, *size) if first else (*size, 3)
    shape = tuple(input_shape)
    sides = shape[1:] if first else shape[:-1]
    known = [d for d in sides if d is not None]
    if len(shape) != 3 or not all(is_integer(d) and d >= min_size for d in known):
        order = "(channels, height, width)" if first else "(height, width, channels)"
        raise ModelError(
            f"{name}: input_shape must be {order} with sides of at least {min_size}; received {input_shape}"
        )
    return layers.Input(shape)


def global_pooling(x: KerasTensor, pooling: Any, name: str, named: bool = True) -> KerasTensor:
    """What `include_top=False` ends with; Keras names that layer in some networks only."""
    if pooling is None:
        return x
    kind = choice(name, "pooling", pooling, ("avg", "max"))
    layer = f"{kind}_pool" if named else None
    pool = layers.GlobalAveragePooling2D if kind == "avg" else layers.GlobalMaxPooling2D
    pooled: KerasTensor = pool(name=layer)(x)
    return pooled


def classes_of(name: str, classes: Any) -> int:
    """The number of classes, if it is one."""
    return positive(name, "classes", classes)


def classifier(
    x: KerasTensor, classes: int, activation: Any, name: str, initializer: Any = "glorot_uniform"
) -> KerasTensor:
    """The last dense layer."""
    dense = layers.Dense(
        classes_of(name, classes),
        activation=activation,
        kernel_initializer=initializer,
        name="predictions",
    )
    y: KerasTensor = dense(x)
    return y


def assembled(inputs: KerasTensor, outputs: KerasTensor, name: str, weights: Any) -> Model:
    """The model, with the weights of a file if one is given."""
    model = Model(inputs, outputs, name=name)
    if weights is not None:
        model.load_weights(weights)
    return model


def correct_pad(x: KerasTensor, kernel: int) -> tuple[Pair, Pair]:
    """The padding before a strided "valid" convolution: one less at the top and left of even images.

    Images of open sizes count as even, as in Keras.
    """
    first = 2 if channel_axis() == 1 else 1
    sizes = x.shape[first : first + 2]
    rows, columns = (1 if size is None else 1 - size % 2 for size in sizes)
    half = kernel // 2
    return (half - rows, half), (half - columns, half)


def preprocess(x: Any, data_format: str | None, mode: str) -> Any:
    """Images of 0 … 255 as a network was trained on them.

    "tf" scales to -1 … 1, "torch" to 0 … 1 and normalizes by ImageNet's mean and deviation, "caffe" turns RGB into BGR
    and takes the mean away. Tensors of a model stay tensors.
    """
    first = backend.standardize_data_format(data_format, "preprocess_input") == "channels_first"
    if isinstance(x, KerasTensor):
        return traced_preprocess(x, first, mode)
    images = np.array(x, np.float32)
    if mode == "tf":
        return images / np.float32(127.5) - np.float32(1)
    images = np.moveaxis(images, -3, -1) if first else images
    if mode == "torch":
        images = (images / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    else:
        images = images[..., ::-1] - np.array([103.939, 116.779, 123.68])
    images = np.moveaxis(images, -1, -3) if first else images
    return np.ascontiguousarray(images, np.float32)


def traced_preprocess(x: KerasTensor, first: bool, mode: str) -> KerasTensor:
    """`preprocess` of a model's images; channels are the `first` axis or the last one."""
    images = ops.cast(x, "float32")
    if mode == "tf":
        return as_tensor(images / 127.5 - 1.0)
    axis, shape = (-3, (3, 1, 1)) if first else (-1, (3,))
    if mode == "torch":
        mean, deviation = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
        images = (images / 255.0 - _channels(mean, shape)) / _channels(deviation, shape)
        return as_tensor(images)
    return as_tensor(ops.flip(images, axis) - _channels([103.939, 116.779, 123.68], shape))


def _channels(numbers: list[float], shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.array(numbers, np.float32).reshape(shape)
