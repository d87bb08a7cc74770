"""Layers and small models against plain numpy."""

from typing import Any

import numpy as np
import pytest

from convc import keras
from convc.keras import activations, layers
from tests.keras.running import randomized, run, run_layer

RANDOM = np.random.default_rng(3)


def images(*shape: int) -> Any:
    return RANDOM.standard_normal(shape).astype(np.float32)


def window(x: Any, k: Any, stride: Any, padding: str, dilation: Any) -> list[tuple[int, int, Any]]:
    """(row tap, column tap, pixels seen) of an NHWC image, padded by TensorFlow's rule with NaN."""
    pads = []
    for size, kernel, s, d in zip(x.shape[1:3], k, stride, dilation, strict=True):
        out = -(-size // s)
        total = max((out - 1) * s + (kernel - 1) * d + 1 - size, 0) if padding == "same" else 0
        pads.append((total // 2, total - total // 2))
    x = np.pad(x, ((0, 0), *pads, (0, 0)), constant_values=np.nan)
    rows = (x.shape[1] - (k[0] - 1) * dilation[0] - 1) // stride[0] + 1
    columns = (x.shape[2] - (k[1] - 1) * dilation[1] - 1) // stride[1] + 1
    found = []
    for r in range(k[0]):
        for c in range(k[1]):
            i, j = r * dilation[0], c * dilation[1]
            taken = x[
                :, i : i + rows * stride[0] : stride[0], j : j + columns * stride[1] : stride[1]
            ]
            found.append((r, c, taken[:, :rows, :columns]))
    return found


def conv(
    x: Any,
    w: Any,
    stride: Any = (1, 1),
    padding: str = "valid",
    dilation: Any = (1, 1),
    groups: int = 1,
) -> Any:
    """Reference convolution: w (rows, columns, channels / groups, filters)."""
    y: Any = 0
    for r, c, seen in window(x, w.shape[:2], stride, padding, dilation):
        parts = zip(
            np.split(np.nan_to_num(seen), groups, -1), np.split(w[r, c], groups, -1), strict=True
        )
        y = y + np.concatenate([a @ b for a, b in parts], -1)
    return y


CONVS = [
    ((7, 5), (3, 3), {}),
    ((7, 6), (3, 2), {"strides": 2, "padding": "same"}),
    ((8, 9), (5, 4), {"strides": (3, 2), "padding": "same"}),
    ((9, 8), (3, 3), {"dilation_rate": 2, "padding": "same"}),
    ((6, 7), (1, 1), {"strides": 2}),
    ((6, 7), (3, 3), {"groups": 2, "padding": "same"}),
]


@pytest.mark.parametrize(("size", "kernel", "options"), CONVS)
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_conv2d_computes_the_correlation(
    size: Any, kernel: Any, options: Any, data_format: str
) -> None:
    x = images(2, *size, 4)
    layer = layers.Conv2D(
        6, kernel, data_format=data_format, activation="relu", bias_initializer="normal", **options
    )
    given = x.transpose(0, 3, 1, 2) if data_format == "channels_first" else x
    y = run_layer(layer, np.ascontiguousarray(given))
    stride, dilation = layer.strides, layer.dilation_rate
    w, b = layer.get_weights()
    expected = np.maximum(conv(x, w, stride, layer.padding, dilation, layer.groups) + b, 0)
    found = y.transpose(0, 2, 3, 1) if data_format == "channels_first" else y
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("multiplier", [1, 2])
def test_depthwise_and_separable_convolutions_keep_channels_apart(multiplier: int) -> None:
    x = images(2, 7, 6, 3)
    layer = layers.DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=multiplier)
    y = run_layer(layer, x)
    w, _ = layer.get_weights()
    parts = [conv(x[..., c : c + 1], w[:, :, c : c + 1], (2, 2), "same") for c in range(3)]
    np.testing.assert_allclose(y, np.concatenate(parts, -1), rtol=1e-5, atol=1e-5)

    both = layers.SeparableConv2D(5, 3, strides=2, padding="same", depth_multiplier=multiplier)
    y = run_layer(both, x)
    w, p, _ = both.get_weights()
    parts = [conv(x[..., c : c + 1], w[:, :, c : c + 1], (2, 2), "same") for c in range(3)]
    np.testing.assert_allclose(y, np.concatenate(parts, -1) @ p[0, 0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (2, 3), (4, 2), (5, 3), (1, 2)])
def test_transposed_convolution_is_the_gradient_of_the_convolution(
    padding: str, kernel: int, stride: int
) -> None:
    """<conv(z), x> = <z, transposed(x)> for every z of the transposed convolution's output shape."""
    x = images(1, 5, 4, 3)
    layer = layers.Conv2DTranspose(2, kernel, strides=stride, padding=padding, use_bias=False)
    y = run_layer(layer, x)
    (w,) = layer.get_weights()
    z = images(*y.shape)
    forward = conv(z, w, (stride, stride), padding)[:, : x.shape[1], : x.shape[2]]
    assert forward.shape == x.shape
    np.testing.assert_allclose((forward * x).sum(), (z * y).sum(), rtol=1e-4)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("pool", "stride"), [((2, 2), (2, 2)), ((3, 2), (2, 1)), ((3, 3), (1, 3))])
def test_pooling_sees_only_pixels_inside(padding: str, pool: Any, stride: Any) -> None:
    x = images(2, 7, 6, 3)
    seen = np.stack([p for _, _, p in window(x, pool, stride, padding, (1, 1))])
    y = run_layer(layers.MaxPooling2D(pool, stride, padding), x)
    np.testing.assert_array_equal(y, np.nanmax(seen, 0))
    y = run_layer(layers.AveragePooling2D(pool, stride, padding), x)
    np.testing.assert_allclose(y, np.nanmean(seen, 0), rtol=1e-5, atol=1e-6)


def test_batch_normalization_uses_moving_statistics_of_its_axis() -> None:
    x = images(2, 4, 5, 3)
    for axis in (1, 2, 3):
        layer = layers.BatchNormalization(axis, epsilon=0.01)
        run_layer(layer, x)
        gamma, beta, mean, variance = randomized(layer).get_weights()
        shape = [-1 if a == axis else 1 for a in range(4)]
        gamma, beta, mean, variance = (v.reshape(shape) for v in (gamma, beta, mean, variance))
        expected = gamma * (x - mean) / np.sqrt(variance + 0.01) + beta
        np.testing.assert_allclose(run_layer(layer, x), expected, rtol=1e-5, atol=1e-5)


def test_layer_normalization_uses_each_samples_statistics() -> None:
    x = images(2, 4, 5, 3)
    layer = layers.LayerNormalization(axis=(1, 3))
    run_layer(layer, x)
    gamma, beta = randomized(layer).get_weights()
    assert gamma.shape == (4, 3)
    mean, variance = x.mean((1, 3), keepdims=True), x.var((1, 3), keepdims=True)
    expected = (x - mean) / np.sqrt(variance + 1e-3) * gamma[:, None] + beta[:, None]
    np.testing.assert_allclose(run_layer(layer, x), expected, rtol=1e-4, atol=1e-5)


def test_normalization_adapts_and_inverts() -> None:
    x = images(50, 3) * 4 + 2
    layer = layers.Normalization()
    layer.adapt(x)
    expected = (x - x.mean(0)) / x.std(0)
    np.testing.assert_allclose(run_layer(layer, x), expected, rtol=1e-4, atol=1e-5)
    back = layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[4.0, 4.0, 9.0], invert=True)
    np.testing.assert_allclose(run_layer(back, x), x * [2, 2, 3] + [1, 2, 3], rtol=1e-5, atol=1e-5)


def test_rescaling_takes_integers() -> None:
    x = np.arange(12, dtype=np.uint8).reshape(2, 6)
    np.testing.assert_allclose(run_layer(layers.Rescaling(0.5, offset=-1), x), x * 0.5 - 1)


def test_flatten_of_channels_first_is_in_channels_last_order() -> None:
    x = images(2, 3, 4, 5)
    y = run_layer(layers.Flatten(data_format="channels_first"), x)
    np.testing.assert_array_equal(y, x.transpose(0, 2, 3, 1).reshape(2, 60))


def test_shape_layers_move_elements() -> None:
    x = images(2, 4, 5, 3)
    np.testing.assert_array_equal(run_layer(layers.Permute((2, 3, 1)), x), x.transpose(0, 2, 3, 1))
    padded = np.pad(x, ((0, 0), (1, 2), (0, 3), (0, 0)))
    np.testing.assert_array_equal(run_layer(layers.ZeroPadding2D(((1, 2), (0, 3))), x), padded)
    np.testing.assert_array_equal(run_layer(layers.Cropping2D(((1, 0), (0, 2))), x), x[:, 1:, :3])
    doubled = x.repeat(2, 1).repeat(3, 2)
    np.testing.assert_array_equal(run_layer(layers.UpSampling2D((2, 3)), x), doubled)


def test_bilinear_upsampling_has_half_pixel_centres() -> None:
    x = np.array([0.0, 4.0], np.float32).reshape(1, 1, 2, 1)
    y = run_layer(layers.UpSampling2D((1, 2), interpolation="bilinear"), x)
    np.testing.assert_allclose(y.ravel(), [0, 1, 3, 4])


def test_merging_layers_compute() -> None:
    a, b, c = images(2, 3), images(2, 3), images(2, 3)
    np.testing.assert_allclose(run_layer(layers.Add(), a, b, c), a + b + c, rtol=1e-6)
    np.testing.assert_allclose(run_layer(layers.Average(), a, b, c), (a + b + c) / 3, rtol=1e-5)
    np.testing.assert_allclose(run_layer(layers.Subtract(), a, b), a - b)
    np.testing.assert_allclose(run_layer(layers.Multiply(), a, b, c), a * b * c, rtol=1e-5)
    np.testing.assert_array_equal(
        run_layer(layers.Maximum(), a, b, c), np.maximum(np.maximum(a, b), c)
    )
    np.testing.assert_array_equal(run_layer(layers.Minimum(), a, b), np.minimum(a, b))
    np.testing.assert_allclose(run_layer(layers.Dot(1), a, b)[:, 0], (a * b).sum(1), rtol=1e-5)
    cosine = run_layer(layers.Dot(1, normalize=True), a, a)
    np.testing.assert_allclose(cosine, np.ones((2, 1)), rtol=1e-5)
    p, q = images(2, 4, 3), images(2, 5, 3)
    np.testing.assert_allclose(
        run_layer(layers.Dot(2), p, q), np.einsum("nik,njk->nij", p, q), rtol=1e-4
    )


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def softplus(x: Any) -> Any:
    return np.log1p(np.exp(x))


ACTIVATIONS: dict[str, Any] = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "leaky_relu": lambda x: np.where(x < 0, 0.2 * x, x),
    "elu": lambda x: np.where(x < 0, np.expm1(x), x),
    "selu": lambda x: 1.0507009873554805 * np.where(x < 0, 1.6732632423543772 * np.expm1(x), x),
    "celu": lambda x: np.where(x < 0, np.expm1(x), x),
    "silu": lambda x: x * sigmoid(x),
    "swish": lambda x: x * sigmoid(x),
    "mish": lambda x: x * np.tanh(softplus(x)),
    "softplus": softplus,
    "softsign": lambda x: x / (1 + np.abs(x)),
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "log_sigmoid": lambda x: -softplus(-x),
    "exponential": np.exp,
    "hard_sigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,
    "hard_silu": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "hard_swish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "hard_tanh": lambda x: np.clip(x, -1, 1),
    "tanh_shrink": lambda x: x - np.tanh(x),
    "hard_shrink": lambda x: np.where(np.abs(x) > 0.5, x, 0),
    "soft_shrink": lambda x: np.sign(x) * np.maximum(np.abs(x) - 0.5, 0),
    "squareplus": lambda x: (x + np.sqrt(x * x + 4)) / 2,
    "sparse_plus": lambda x: np.where(x <= -1, 0, np.where(x < 1, (x + 1) ** 2 / 4, x)),
    "sparse_sigmoid": lambda x: np.clip((x + 1) / 2, 0, 1),
    "softmax": lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True),
    "log_softmax": lambda x: x - np.log(np.exp(x).sum(-1, keepdims=True)),
    "gelu": lambda x: x * sigmoid(1.702 * x),
}


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_activation_has_keras_formula(name: str) -> None:
    x = np.linspace(-7, 7, 84, dtype=np.float32).reshape(7, 12)
    expected = ACTIVATIONS[name](x.astype(np.float64))
    tolerance = 0.03 if name == "gelu" else 2e-6  # a well-known approximation, for gelu only
    np.testing.assert_allclose(
        run_layer(layers.Activation(name), x), expected, rtol=1e-4, atol=tolerance
    )


def test_gelu_is_exact_unless_asked() -> None:
    x = np.array([[1.0]], np.float32)
    assert run_layer(layers.Activation("gelu"), x).item() == pytest.approx(0.8413447, abs=1e-6)
    approximate = run_layer(
        layers.Lambda(lambda t: activations.gelu(t, approximate=True)), x
    ).item()
    assert approximate == pytest.approx(0.8411920, abs=1e-6)


def test_relu_layer_has_limit_slope_and_threshold() -> None:
    x = np.array([[-2.0, 0.5, 1.5, 5.0]], np.float32)
    y = run_layer(layers.ReLU(max_value=4, negative_slope=0.1, threshold=1.0), x)
    np.testing.assert_allclose(y, [[-0.3, -0.05, 1.5, 4.0]], rtol=1e-6)
    y = run_layer(layers.ReLU(negative_slope=0.1), x)
    np.testing.assert_allclose(y, [[-0.2, 0.5, 1.5, 5.0]], rtol=1e-6)


def test_prelu_shares_slopes_along_axes() -> None:
    x = images(2, 3, 4, 5)
    layer = layers.PReLU("normal", shared_axes=[1, 2])
    y = run_layer(layer, x)
    (alpha,) = layer.get_weights()
    assert alpha.shape == (1, 1, 5)
    np.testing.assert_allclose(y, np.where(x < 0, x * alpha, x), rtol=1e-6)


def test_sparsemax_is_the_nearest_point_of_the_simplex() -> None:
    x = np.array([[0.1, 1.1, 0.2], [3.0, 0.0, 0.0], [0.5, 0.5, 0.5]], np.float32)
    y = run_layer(layers.Activation("sparsemax"), x)
    np.testing.assert_allclose(y, [[0.0, 0.95, 0.05], [1.0, 0.0, 0.0], [1 / 3] * 3], atol=1e-6)


def test_glu_gates_one_half_by_the_other() -> None:
    x = images(2, 6)
    y = run_layer(layers.Activation("glu"), x)
    np.testing.assert_allclose(y, x[:, :3] * sigmoid(x[:, 3:]), rtol=1e-5)


def test_softmax_activation_of_a_convolution_is_over_channels() -> None:
    y = run_layer(layers.Conv2D(5, 3, activation="softmax"), images(2, 6, 6, 3))
    np.testing.assert_allclose(y.sum(-1), np.ones((2, 4, 4)), rtol=1e-5)


def test_small_network_agrees_with_numpy() -> None:
    model = keras.Sequential(
        [
            keras.Input((12, 12, 1)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(3, activation="softmax"),
        ]
    )
    x = images(3, 12, 12, 1)
    w, b, gamma, beta, mean, variance, kernel, bias = randomized(model).get_weights()
    y = np.maximum(conv(x, w) + b, 0)
    y = y.reshape(3, 5, 2, 5, 2, 4).max((2, 4))
    y = gamma * (y - mean) / np.sqrt(variance + 1e-3) + beta
    y = y.reshape(3, -1) @ kernel + bias
    y = np.exp(y - y.max(1, keepdims=True))
    np.testing.assert_allclose(run(model, x), y / y.sum(1, keepdims=True), rtol=1e-4, atol=1e-6)


def test_both_data_formats_compute_the_same() -> None:
    def network(shape: Any, axis: int) -> Any:
        i = keras.Input(shape)
        x = layers.Conv2D(6, 3, strides=2, padding="same", name="a")(i)
        x = layers.BatchNormalization(axis, name="b")(x)
        y = layers.DepthwiseConv2D(3, padding="same", name="c")(layers.ReLU()(x))
        x = layers.Concatenate(axis)([x, y])
        x = layers.UpSampling2D(interpolation="bilinear")(
            layers.AveragePooling2D(2, padding="same")(x)
        )
        return keras.Model(i, layers.Dense(2, name="d")(layers.Flatten()(x)))

    last = randomized(network((9, 7, 3), 3))
    keras.backend.set_image_data_format("channels_first")
    first = network((3, 9, 7), 1)
    first.set_weights(last.get_weights())
    x = images(2, 9, 7, 3)
    expected = run(last, x)
    np.testing.assert_allclose(
        run(first, np.ascontiguousarray(x.transpose(0, 3, 1, 2))), expected, rtol=1e-4, atol=1e-5
    )


def test_known_values_are_shown() -> None:
    found = keras.ops.add(1.0, np.ones(2, np.float32))
    assert repr(found) == str(found) == "<KerasTensor shape=(2,), dtype=float32, value=[2. 2.]>"
    mean = keras.ops.mean(np.array([1.0, 2.5], np.float32))
    assert f"{mean:.3f}" == "1.750"
    assert (float(mean), int(mean), bool(mean)) == (1.75, 1, True)
    unknown = keras.Input((3,), name="x")
    assert f"{unknown!r:}" == f"{unknown}" == "<KerasTensor shape=(None, 3), dtype=float32, name=x>"
    with pytest.raises(TypeError):
        f"{found:.3f}"
