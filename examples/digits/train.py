"""Trains the digits network once, in plain numpy, and writes `weights.safetensors` and `digits-test.npz`.

    pip install '.[train-digits]' && python examples/digits/train.py

The data are the 1,797 images of the UCI handwritten digits (8×8, values 0-16) that scikit-learn bundles.
A fixed shuffle holds 1,000 of them back: they go to `digits-test.npz`, are never trained on, and played no part in
choosing the settings below (those were chosen by cross-validation inside the other 797). Training images
are distorted at random in every epoch: rotation, shear, scale, shift. It takes 20 s on one core.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from safetensors.numpy import save_file
from sklearn.datasets import load_digits

HERE = Path(__file__).parent
HELD_OUT = 1000
SEED = 2024
EPOCHS = 150
BATCH = 32
RATE = 3e-3
SMOOTHING = 0.05
DECAY = 0.03

Array = NDArray[np.float32]


class Parameters:
    """Named arrays, their gradients and Adam's two moments."""

    def __init__(self) -> None:
        self.values: dict[str, Array] = {}
        self.grads: dict[str, Array] = {}
        self.moments: dict[str, tuple[Array, Array]] = {}

    def add(self, name: str, value: NDArray[np.float64] | Array) -> None:
        self.values[name] = value.astype(np.float32)
        self.moments[name] = (np.zeros_like(self.values[name]), np.zeros_like(self.values[name]))

    def adam(self, step: int, rate: float) -> None:
        """One step of AdamW (Loshchilov and Hutter, 2019); kernels decay, nothing else does."""
        for name, grad in self.grads.items():
            first, second = self.moments[name]
            first += 0.1 * (grad - first)
            second += 0.001 * (grad * grad - second)
            update = first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
            if name.endswith("/kernel"):
                update += DECAY * self.values[name]
            self.values[name] -= np.float32(rate) * update


class Conv:
    """3×3 convolution, NHWC with HWIO kernels, same padding, no bias."""

    def __init__(
        self, name: str, inputs: int, outputs: int, p: Parameters, rng: np.random.Generator
    ):
        self.name, self.p = f"{name}/kernel", p
        scale = np.sqrt(2 / (9 * inputs))
        p.add(self.name, rng.normal(0, scale, (3, 3, inputs, outputs)))

    def forward(self, x: Array) -> Array:
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        windows = sliding_window_view(padded, (3, 3), axis=(1, 2)).transpose(0, 1, 2, 4, 5, 3)
        kernel = self.p.values[self.name]
        self.rows = np.ascontiguousarray(windows).reshape(-1, kernel[..., 0].size)
        y: Array = self.rows @ kernel.reshape(-1, kernel.shape[-1])
        return y.reshape(*x.shape[:3], -1)

    def backward(self, dy: Array) -> Array:
        kernel = self.p.values[self.name]
        n, h, w, outputs = dy.shape
        flat = dy.reshape(-1, outputs)
        self.p.grads[self.name] = (self.rows.T @ flat).reshape(kernel.shape)
        drows = (flat @ kernel.reshape(-1, outputs).T).reshape(n, h, w, 3, 3, -1)
        dx = np.zeros((n, h + 2, w + 2, kernel.shape[2]), np.float32)
        for r in range(3):
            for s in range(3):
                dx[:, r : r + h, s : s + w] += drows[:, :, :, r, s]
        return dx[:, 1:-1, 1:-1]


class BatchNormRelu:
    """Batch normalization over the last axis, followed by ReLU."""

    def __init__(self, name: str, size: int, p: Parameters):
        self.name, self.p = name, p
        p.add(f"{name}/gamma", np.ones(size))
        p.add(f"{name}/beta", np.zeros(size))
        self.mean, self.variance = np.zeros(size, np.float32), np.ones(size, np.float32)

    def forward(self, x: Array) -> Array:
        mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
        self.mean += 0.05 * (mean - self.mean)
        self.variance += 0.05 * (variance - self.variance)
        self.deviation = np.sqrt(variance + 1e-3)
        self.normal = (x - mean) / self.deviation
        y = self.normal * self.p.values[f"{self.name}/gamma"] + self.p.values[f"{self.name}/beta"]
        self.positive = y > 0
        return np.asarray(y * self.positive, np.float32)

    def backward(self, dy: Array) -> Array:
        dy = dy * self.positive
        self.p.grads[f"{self.name}/gamma"] = (dy * self.normal).sum((0, 1, 2))
        self.p.grads[f"{self.name}/beta"] = dy.sum((0, 1, 2))
        mean_dy = dy.mean((0, 1, 2))
        mean_product = (dy * self.normal).mean((0, 1, 2))
        scale = self.p.values[f"{self.name}/gamma"] / self.deviation
        return np.asarray(scale * (dy - mean_dy - self.normal * mean_product), np.float32)


class MaxPool:
    """2×2 maximum pooling."""

    def forward(self, x: Array) -> Array:
        n, h, w, c = x.shape
        blocks = x.reshape(n, h // 2, 2, w // 2, 2, c)
        y: Array = blocks.max((2, 4), keepdims=True)
        self.chosen = blocks == y
        self.chosen = self.chosen / self.chosen.sum((2, 4), keepdims=True)
        return y.reshape(n, h // 2, w // 2, c)

    def backward(self, dy: Array) -> Array:
        n, h, w, c = dy.shape
        dx = self.chosen * dy.reshape(n, h, 1, w, 1, c)
        return np.asarray(dx.reshape(n, 2 * h, 2 * w, c), np.float32)


class Dense:
    """x @ kernel + bias, with ReLU where asked."""

    def __init__(
        self,
        name: str,
        inputs: int,
        outputs: int,
        relu: bool,
        p: Parameters,
        rng: np.random.Generator,
    ):
        self.name, self.relu, self.p = name, relu, p
        p.add(f"{name}/kernel", rng.normal(0, np.sqrt(2 / inputs), (inputs, outputs)))
        p.add(f"{name}/bias", np.zeros(outputs))

    def forward(self, x: Array) -> Array:
        self.shape, self.x = x.shape, x.reshape(len(x), -1)
        y = self.x @ self.p.values[f"{self.name}/kernel"] + self.p.values[f"{self.name}/bias"]
        self.positive = y > 0 if self.relu else np.ones_like(y, bool)
        return np.asarray(y * self.positive, np.float32)

    def backward(self, dy: Array) -> Array:
        dy = dy * self.positive
        self.p.grads[f"{self.name}/kernel"] = self.x.T @ dy
        self.p.grads[f"{self.name}/bias"] = dy.sum(0)
        return np.asarray(dy @ self.p.values[f"{self.name}/kernel"].T, np.float32).reshape(
            self.shape
        )


Layer = Conv | BatchNormRelu | MaxPool | Dense


def network(p: Parameters, rng: np.random.Generator) -> list[Layer]:
    """The network of `model.py`, under the same layer names."""
    return [
        Conv("conv1", 1, 32, p, rng),
        BatchNormRelu("norm1", 32, p),
        Conv("conv2", 32, 32, p, rng),
        BatchNormRelu("norm2", 32, p),
        MaxPool(),
        Conv("conv3", 32, 64, p, rng),
        BatchNormRelu("norm3", 64, p),
        MaxPool(),
        Dense("hidden", 256, 64, True, p, rng),
        Dense("digit", 64, 10, False, p, rng),
    ]


def distorted(images: Array, rng: np.random.Generator) -> Array:
    """The images [n, 8, 8], each under its own small affine map, sampled bilinearly, zero outside."""
    n, size = len(images), images.shape[1]
    angle, shear = rng.uniform(-0.25, 0.25, n), rng.uniform(-0.15, 0.15, n)
    scale_y, scale_x = rng.uniform(0.88, 1.12, n), rng.uniform(0.88, 1.12, n)
    shift = rng.uniform(-0.8, 0.8, (2, n, 1, 1))
    grid = np.arange(size) - (size - 1) / 2
    y, x = np.meshgrid(grid, grid, indexing="ij")

    def column(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return values[:, None, None]

    sin, cos = column(np.sin(angle)), column(np.cos(angle))
    source_y = (cos * y - sin * x) * column(scale_y) + shift[0] + (size - 1) / 2
    source_x = (sin * y + (cos + column(shear)) * x) * column(scale_x) + shift[1] + (size - 1) / 2
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2)))
    source_y = np.clip(source_y + 2, 0, size + 2.999)
    source_x = np.clip(source_x + 2, 0, size + 2.999)
    top, left = source_y.astype(int), source_x.astype(int)
    down, right = source_y - top, source_x - left
    image = np.arange(n)[:, None, None]
    upper = padded[image, top, left] * (1 - right) + padded[image, top, left + 1] * right
    lower = padded[image, top + 1, left] * (1 - right) + padded[image, top + 1, left + 1] * right
    return np.asarray(upper * (1 - down) + lower * down, np.float32)


def batches(
    images: Array, labels: NDArray[np.int64], rng: np.random.Generator
) -> Iterator[tuple[Array, NDArray[np.int64]]]:
    """One epoch of distorted images [BATCH, 8, 8, 1] with their labels."""
    order = rng.permutation(len(images))
    for start in range(0, len(order) - BATCH + 1, BATCH):
        chosen = order[start : start + BATCH]
        yield distorted(images[chosen], rng)[..., None], labels[chosen]


def train(images: Array, labels: NDArray[np.int64]) -> dict[str, Array]:
    """The trained parameters and moving statistics by name."""
    rng = np.random.default_rng(SEED)
    parameters = Parameters()
    layers = network(parameters, rng)
    steps = EPOCHS * (len(images) // BATCH)
    step = 0
    for epoch in range(EPOCHS):
        losses = []
        for x, label in batches(images, labels, rng):
            step += 1
            for layer in layers:
                x = layer.forward(x)
            probability = np.exp(x - x.max(1, keepdims=True))
            probability /= probability.sum(1, keepdims=True)
            wanted = (1 - SMOOTHING) * np.eye(10, dtype=np.float32)[label] + SMOOTHING / 10
            losses.append(-(wanted * np.log(probability)).sum(1).mean())
            gradient = np.asarray((probability - wanted) / len(label), np.float32)
            for layer in reversed(layers):
                gradient = layer.backward(gradient)
            parameters.adam(step, RATE * 0.5 * (1 + np.cos(np.pi * step / (steps + 1))))
        if epoch % 10 == 9:
            print(f"epoch {epoch + 1:3}: loss {np.mean(losses):.4f}", flush=True)
    statistics: dict[str, Array] = {}
    for layer in layers:
        if isinstance(layer, BatchNormRelu):
            statistics[f"{layer.name}/moving_mean"] = layer.mean
            statistics[f"{layer.name}/moving_variance"] = layer.variance
    return parameters.values | statistics


def main() -> None:
    digits = load_digits()
    order = np.random.default_rng(SEED).permutation(len(digits.target))
    held_out, training = order[:HELD_OUT], order[HELD_OUT:]
    np.savez_compressed(
        HERE / "digits-test.npz",
        images=digits.images[held_out].astype(np.uint8),
        labels=digits.target[held_out].astype(np.uint8),
    )
    images = (digits.images[training] / 16).astype(np.float32)
    weights = train(images, digits.target[training])
    save_file(weights, HERE / "weights.safetensors")


if __name__ == "__main__":
    main()
