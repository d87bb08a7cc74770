"""Small networks that Keras 2, Keras 3 and convc.keras all build, to be saved by one and loaded by another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Networks = dict[str, Callable[[], Any]]


def networks(keras: Any) -> Networks:
    """The networks by name, for `keras`, `tf_keras` or `convc.keras`."""
    L = keras.layers

    def sequential() -> Any:
        return keras.Sequential(
            [
                keras.Input((5,)), L.Dense(4, activation="relu"), L.BatchNormalization(), L.Dropout(0.3),
                L.Dense(3, activation="softmax"),
            ]
        )  # fmt: skip

    def late_input() -> Any:
        model = keras.Sequential([L.Dense(4, activation="tanh"), L.Dense(2)])
        model.build((None, 6))
        return model

    def images() -> Any:
        i = keras.Input((9, 9, 3))
        l2 = keras.regularizers.L2(1e-3)
        x = L.Conv2D(4, 3, padding="same", strides=2, activation="relu", kernel_regularizer=l2)(i)
        x = L.ZeroPadding2D(((1, 0), (0, 1)))(x)
        x = L.MaxPooling2D()(x)
        x = L.SeparableConv2D(4, 2, activation="elu")(x)
        x = L.DepthwiseConv2D(1, depth_multiplier=2, use_bias=False)(x)
        x = L.Conv2DTranspose(3, 3, strides=2, padding="same")(x)
        x = L.UpSampling2D(2, interpolation="bilinear")(x)
        x = L.Cropping2D(1)(x)
        x = L.AveragePooling2D(2, padding="same")(x)
        x = L.Permute((2, 1, 3))(x)
        x = L.Flatten()(x)
        return keras.Model(i, L.Dense(2, kernel_constraint=keras.constraints.MaxNorm(2.0))(x))

    def activations() -> Any:
        i = keras.Input((4, 4, 2))
        x = L.ReLU(max_value=3.0, negative_slope=0.1)(i)
        x = L.PReLU(shared_axes=[1, 2])(L.LeakyReLU(0.2)(x))
        x = L.Softmax()(L.ELU(0.5)(x))
        x = L.Activation("hard_sigmoid")(L.Activation("swish")(x))
        return keras.Model(i, L.Dense(2, activation="gelu")(x))

    def merges() -> Any:
        a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
        shared = L.Dense(3, name="shared")
        p, q = shared(a), shared(b)
        merged = [
            L.Add()([p, q]), L.Multiply()([p, q]), L.Subtract()([p, q]), L.Average()([p, q]), L.Maximum()([p, q]),
            L.Minimum()([p, q]), L.Dot(1, normalize=True)([p, q]),
        ]  # fmt: skip
        return keras.Model([a, b], [L.Concatenate(name="all")(merged), p])

    def norms() -> Any:
        i = keras.Input((3, 3, 4))
        x = L.BatchNormalization(scale=False, epsilon=1e-5)(i)
        x = L.GroupNormalization(2)(L.LayerNormalization()(x))
        x = L.Rescaling(2.0, 0.5)(L.UnitNormalization()(x))
        x = L.Normalization(mean=[0.1] * 4, variance=[2.0] * 4)(x)
        x = L.GaussianNoise(0.1)(L.SpatialDropout2D(0.2)(x))
        x = L.AlphaDropout(0.1)(L.GaussianDropout(0.1)(x))
        return keras.Model(i, L.GlobalAveragePooling2D()(x))

    def nested() -> Any:
        inner = keras.Sequential([keras.Input((4,)), L.Dense(3, activation="relu"), L.Dense(4)])
        start = keras.Input((4,))
        double = keras.Model(start, [L.Dense(4)(start), L.Dense(3)(start)], name="double")
        x = keras.Input((4,))
        u, v = double(inner(inner(x)))
        w, z = double(u)
        return keras.Model(x, [v, w, z])

    def sequences() -> Any:
        i = keras.Input((12, 3))
        x = L.Conv1D(4, 3, padding="causal", dilation_rate=2, activation="relu")(
            L.ZeroPadding1D(1)(i)
        )
        x = L.AveragePooling1D(2, padding="same")(L.MaxPooling1D(2)(x))
        x = L.Cropping1D((1, 1))(L.UpSampling1D(3)(x))
        x = L.DepthwiseConv1D(2)(L.SeparableConv1D(4, 3)(x))
        x = L.Conv1DTranspose(3, 3, strides=2)(x)
        return keras.Model(i, [L.GlobalAveragePooling1D()(x), L.GlobalMaxPooling1D()(x)])

    def volumes() -> Any:
        i = keras.Input((5, 5, 5, 2))
        x = L.Conv3D(3, 2, padding="same", activation="relu")(
            L.Cropping3D(1)(L.ZeroPadding3D(1)(i))
        )
        x = L.AveragePooling3D(2, padding="same")(L.MaxPooling3D(2)(x))
        return keras.Model(i, L.GlobalMaxPooling3D()(L.UpSampling3D(2)(x)))

    def recurrent() -> Any:
        i = keras.Input((4,), dtype="int32")
        x = L.Embedding(8, 3)(i)
        x = L.Bidirectional(L.LSTM(2, return_sequences=True))(x)
        x = L.TimeDistributed(L.Dense(3, activation="relu"))(x)
        x = L.GRU(3, return_sequences=True)(x)
        y, h, c = L.LSTM(2, return_state=True)(x)
        z = L.SimpleRNN(2, go_backwards=True)(x)
        return keras.Model(i, [y, h, c, z, L.GRU(2, reset_after=False)(x)])

    return {f.__name__: f for f in (
        sequential, late_input, images, activations, merges, norms, nested, sequences, volumes, recurrent,
    )}  # fmt: skip


def with_functions(keras: Any) -> Any:
    """Functions and operators between layers (Keras 3)."""
    ops = keras.ops
    i = keras.Input((5, 5, 3))
    x = keras.layers.Conv2D(4, 3)(i)
    x = 1 / (x * x + 0.5)
    x = ops.concatenate([ops.relu(x), -x], axis=-1)
    x = ops.mean(x, axis=[1, 2], keepdims=True)[:, :, 0, 1:5]
    x = ops.softmax(ops.clip(ops.reshape(x, (-1, 4)), -0.5, 1.5))
    return keras.Model(i, [ops.where(x > 0.2, x, 0.0), ops.max(x, axis=-1)])


def arrays(model: Any) -> list[Any]:
    """Inputs for a model, the same ones every time."""
    random = np.random.default_rng(7)
    found = []
    for tensor in model.inputs:
        shape = (2, *(int(d) for d in tensor.shape[1:]))
        whole = "int" in str(tensor.dtype)
        found.append(
            random.integers(0, 8, shape).astype(np.int32)
            if whole
            else random.normal(size=shape).astype(np.float32)
        )
    return found


def with_random_weights(model: Any) -> Any:
    """The model with weights that make all layers matter."""
    random = np.random.default_rng(11)
    new = [
        (
            random.uniform(0.3, 0.9, w.shape)
            * random.choice([-1, 1] if w.ndim > 1 else [1], w.shape)
        ).astype(w.dtype)
        for w in model.get_weights()
    ]
    model.set_weights(new)
    return model
