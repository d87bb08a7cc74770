"""How steps are shared among threads: which loop is cut, what a step is worth, and that all of it is done once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from convc_runtime import Model
from convc_runtime.pool import Pool

from convc import driver, keras
from convc.codegen.sharing import LEAST_NANOSECONDS, Sharing, sharings, worth_sharing
from convc.driver import Compiled
from convc.types import evaluate

layers = keras.layers


def compiled(*stack: Any, shape: tuple[int, ...]) -> Compiled:
    image = layers.Input(shape)
    x = image
    for layer in stack:
        x = layer(x)
    return driver.compile(keras.Model(image, x, name="net")).compiled


def shared(net: Compiled, operator: str) -> list[Sharing]:
    """The sharing of each step that computes an operator."""
    (entry,) = net.program.entries
    rows = net.rows[entry.name]
    found = zip(rows, sharings(net.program, entry), strict=True)
    return [s for row, s in found if row.operators.startswith(operator)]


def at(sharing: Sharing, batch: int) -> tuple[int, int]:
    cut = sharing.single if batch == 1 else sharing.many
    return evaluate(cut.rows, {"N": batch}), evaluate(cut.length, {"N": batch})


def test_a_convolution_of_a_large_image_is_cut_along_its_rows_for_every_block_of_channels() -> None:
    net = compiled(layers.Conv2D(32, 1), layers.Conv2D(512, 1), shape=(40, 40, 32))
    _, wide = shared(net, "conv2d")
    rows, length = at(wide, 1)
    assert rows > 1  # blocks of channels
    assert length > 100  # tiles of pixels


def test_a_convolution_with_more_weights_than_image_is_cut_along_its_channels() -> None:
    net = compiled(layers.Conv2D(64, 1), layers.Conv2D(2048, 1), shape=(4, 4, 512))
    _, wide = shared(net, "conv2d")
    rows, length = at(wide, 1)
    assert rows == 1
    assert length >= 16


def test_winograd_is_cut_along_the_image_from_its_first_transform_to_its_last() -> None:
    net = compiled(
        layers.Conv2D(32, 3, padding="same"),
        layers.Conv2D(32, 3, padding="same"),
        shape=(96, 96, 32),
    )
    products = shared(net, "mat_mul")
    transforms = shared(net, "winograd")
    assert products
    for product in products:
        assert at(product, 1)[0] == 36  # a thread's stretch of tiles at each of 6 x 6 positions
    for transform in transforms:
        rows, length = at(transform, 1)
        assert rows == 1
        assert (
            length > 64
        )  # halves end in the middle of a row of tiles where those of the product do


def test_a_batch_is_cut_by_images() -> None:
    net = compiled(layers.Conv2D(32, 1), layers.Conv2D(512, 1), shape=(40, 40, 32))
    for sharing in shared(net, "conv2d"):
        rows, length = at(sharing, 16)
        assert rows == 1
        assert length % 16 == 0


def test_a_network_of_small_steps_is_worth_no_second_thread() -> None:
    small = compiled(layers.Conv2D(8, 3), layers.MaxPooling2D(), shape=(12, 12, 1))
    large = compiled(layers.Conv2D(64, 3), layers.Conv2D(64, 3), shape=(64, 64, 32))
    assert worth_sharing(sharings(small.program, small.program.entries[0])) == 0
    total = worth_sharing(sharings(large.program, large.program.entries[0]))
    # 0.28 GFLOP: 1 to 3 ms without a second thread.
    assert 20 * LEAST_NANOSECONDS < total < 30_000_000


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_any_number_of_threads_gives_the_same_bits(
    eager: bool, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pool, "eager", eager)
    net = compiled(
        layers.Conv2D(32, 3, padding="same", activation="relu"),
        layers.Conv2D(48, 3, padding="same", activation="relu"),
        layers.MaxPooling2D(),
        layers.DepthwiseConv2D(3, padding="same"),
        layers.Conv2D(160, 1),
        layers.Conv2DTranspose(16, 2, strides=2),
        layers.Flatten(),
        layers.Dense(40),
        shape=(30, 30, 8),
    )
    x = np.random.default_rng(3).standard_normal((batch, 30, 30, 8)).astype(np.float32)
    models: list[Model] = [net.artifact.model(threads) for threads in (1, 2, 3, 7, 16)]
    first, *others = [[model(x).tobytes() for _ in range(3)] for model in models]
    assert len(set(first)) == 1
    assert all(other == first for other in others)
