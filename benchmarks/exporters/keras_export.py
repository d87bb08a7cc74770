"""Networks of keras.applications (and two recurrent ones) through Keras' own export and through tf2onnx."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from benchmarks.exporters.make import SEED, keep

VOCABULARY = 2000


def application(name: str) -> Callable[[], Any]:
    return lambda: getattr(keras.applications, name)(
        weights=None, input_shape=(224, 224, 3), classifier_activation=None
    )


def sequence(kind: str) -> Callable[[], Any]:
    """Embedded tokens through a bidirectional recurrent layer and another."""

    def build() -> Any:
        layer = getattr(keras.layers, kind)
        return keras.Sequential(
            [
                keras.Input((32,), dtype="int32"),
                keras.layers.Embedding(VOCABULARY, 64),
                keras.layers.Bidirectional(layer(64, return_sequences=True)),
                layer(64),
                keras.layers.Dense(10, activation="softmax"),
            ]
        )

    return build


def segmenter() -> Any:
    """A small U-Net with transposed convolutions, resizing, and a 1-D and attention-free head."""
    image = x = keras.Input((128, 128, 3))
    skipped = []
    for channels in (16, 32, 64):
        x = keras.layers.Conv2D(channels, 3, padding="same", use_bias=False)(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
        skipped.append(x)
        x = keras.layers.MaxPooling2D()(x)
    for k, channels in enumerate((64, 32, 16)):
        if k == 1:
            x = keras.layers.UpSampling2D(interpolation="bilinear")(x)
        else:
            x = keras.layers.Conv2DTranspose(channels, 3, 2, padding="same")(x)
        x = keras.layers.Concatenate()([skipped.pop(), x])
        x = keras.layers.SeparableConv2D(channels, 3, padding="same", activation="relu")(x)
    return keras.Model(image, keras.layers.Conv2D(2, 1, activation="softmax")(x))


def attention() -> Any:
    """Tokens through Keras' MultiHeadAttention and LayerNormalization."""
    tokens = keras.Input((32,), dtype="int32")
    x = keras.layers.Embedding(VOCABULARY, 64)(tokens)
    for _ in range(2):
        y = keras.layers.LayerNormalization(epsilon=1e-6)(x)
        x = x + keras.layers.MultiHeadAttention(4, 16)(y, y)
        y = keras.layers.Dense(256)(keras.layers.LayerNormalization()(x))
        x = x + keras.layers.Dense(64)(keras.ops.gelu(y, approximate=True))
    x = keras.layers.GlobalAveragePooling1D()(x)
    return keras.Model(tokens, keras.layers.Dense(10)(x))


NETWORKS: dict[str, Callable[[], Any]] = {
    "k_resnet50": application("ResNet50"),
    "k_mobilenet_v2": application("MobileNetV2"),
    "k_mobilenet_v3": application("MobileNetV3Small"),
    "k_efficientnet_v2": application("EfficientNetV2B0"),
    "k_nasnet": application("NASNetMobile"),
    "k_convnext": application("ConvNeXtTiny"),
    "k_segmenter": segmenter,
    "k_lstm": sequence("LSTM"),
    "k_gru": sequence("GRU"),
    "k_attention": attention,
}
BY_KERAS = [n for n in NETWORKS if n not in ("k_nasnet", "k_convnext", "k_attention")]
"""Those that Keras 3.15 can export on its PyTorch backend: not NASNet, nor layer norms."""
BY_TF2ONNX = [n for n in NETWORKS if n not in ("k_convnext", "k_efficientnet_v2")]
"""Those that tf2onnx takes: it has no form for Erfc of exact GELUs, and makes inputs of Normalization's constants."""


def built(name: str) -> tuple[Any, Any]:
    """A network with random weights (statistics of batch norms too), and a batch of one."""
    keras.utils.set_random_seed(SEED)
    rng = np.random.default_rng(SEED)
    model = NETWORKS[name]()
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            layer.set_weights(
                [
                    rng.uniform(0.7, 1.3, gamma.shape),
                    0.2 + 0.2 * rng.standard_normal(beta.shape),
                    0.1 * rng.standard_normal(mean.shape),
                    rng.uniform(0.5, 1.5, variance.shape),
                ]
            )
    shape = model.input_shape[1:]
    if model.inputs[0].dtype.startswith("int"):
        return model, rng.integers(0, VOCABULARY, (1, *shape)).astype(np.int32)
    return model, rng.uniform(0, 255 if "k_segmenter" not in name else 1, (1, *shape)).astype(
        np.float32
    )


def by_keras(path: Path, name: str) -> None:
    """Keras' `model.export(format="onnx")`, whichever backend it runs on."""
    model, x = built(name)
    y = keras.ops.convert_to_numpy(keras.ops.stop_gradient(model(x, training=False)))
    model.export(str(path), format="onnx", verbose=False)
    keep(path, [x], [y])


def by_tf2onnx(path: Path, name: str) -> None:
    """tf2onnx of the TensorFlow function."""
    import tensorflow as tf
    import tf2onnx

    model, x = built(name)
    signature = [tf.TensorSpec((None, *x.shape[1:]), x.dtype, name="x")]
    function = tf.function(lambda x: model(x, training=False), input_signature=signature)
    tf2onnx.convert.from_function(
        function, input_signature=signature, opset=18, output_path=str(path)
    )
    keep(path, [x], [model(x, training=False).numpy()])
