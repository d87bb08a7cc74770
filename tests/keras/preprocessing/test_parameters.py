"""Affine maps against products of matrices, and draws that depend on seed, epoch and index only."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convc.keras.preprocessing.image.parameters import Ranges, drawn, matrices, uniforms

KEYS = ("theta", "tx", "ty", "shear", "zx", "zy")


def keras_matrix(p: dict[str, float], height: int, width: int) -> np.ndarray:
    """What Keras' apply_affine_transform multiplies: rotation, shift, shear, zoom, centred, axes exchanged."""
    theta, shear = np.deg2rad(p["theta"]), np.deg2rad(p["shear"])
    rotation = np.array(
        [[np.cos(theta), -np.sin(theta), 0], [np.sin(theta), np.cos(theta), 0], [0, 0, 1]]
    )
    shift = np.array([[1, 0, p["tx"]], [0, 1, p["ty"]], [0, 0, 1]])
    sheared = np.array([[1, -np.sin(shear), 0], [0, np.cos(shear), 0], [0, 0, 1]])
    zoom = np.diag([p["zx"], p["zy"], 1])
    x, y = height / 2 - 0.5, width / 2 - 0.5
    to, back = (np.array([[1, 0, s * x], [0, 1, s * y], [0, 0, 1]]) for s in (1, -1))
    found = to @ rotation @ shift @ sheared @ zoom @ back
    return found[[1, 0, 2]][:, [1, 0, 2]][:2]


@pytest.mark.parametrize(("height", "width"), [(32, 32), (9, 14)])
def test_maps_are_keras_products(height: int, width: int) -> None:
    random = np.random.default_rng(3)
    batch = {k: random.uniform(-40, 40, 20) for k in KEYS[:4]} | {
        k: random.uniform(0.5, 2, 20) for k in KEYS[4:]
    }
    found = matrices(batch, height, width)
    for k in range(20):
        expected = keras_matrix({key: batch[key][k] for key in KEYS}, height, width)
        np.testing.assert_allclose(found[k], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("key", "axis", "extent"), [("flip_vertical", 0, 9), ("flip_horizontal", 1, 14)]
)
def test_a_flip_maps_the_mirrored_output(key: str, axis: int, extent: int) -> None:
    batch = {k: np.array([v, v]) for k, v in zip(KEYS, (20, 1, 2, 5, 1.2, 0.8), strict=True)}
    batch[key] = np.array([False, True])
    plain, flipped = matrices(batch, 9, 14)
    for i, j in ((0, 0), (3, 7), (8, 13)):
        at = [i, j]
        at[axis] = extent - 1 - at[axis]
        np.testing.assert_allclose(flipped @ [i, j, 1], plain @ [*at, 1], atol=1e-12)


def test_draws_depend_on_seed_epoch_and_index_only() -> None:
    whole = uniforms(5, 2, np.arange(100))
    np.testing.assert_array_equal(uniforms(5, 2, np.array([70, 3])), whole[[70, 3]])
    for other in (uniforms(6, 2, np.arange(100)), uniforms(5, 3, np.arange(100))):
        assert not np.any(other == whole)
    assert whole.min() > 0
    assert whole.max() < 1


def test_draws_are_uniform() -> None:
    u = uniforms(1, 0, np.arange(20_000))
    np.testing.assert_allclose(u.mean(0), 0.5, atol=0.01)
    np.testing.assert_allclose(u.var(0), 1 / 12, atol=0.002)
    assert np.abs(np.corrcoef(u.T) - np.eye(u.shape[1])).max() < 0.04


@pytest.mark.parametrize(
    ("shift", "expected"),
    [
        (0.25, (-8, 8)),
        (3.0, (-3, 3)),
        (4, {-3, -2, -1, 0, 1, 2, 3}),
        ([1, 5, 9], {-9, -5, -1, 1, 5, 9}),
        ([0.25, 0.5], {-16, -8, 8, 16}),
        (0, {0}),
    ],
    ids=str,
)
def test_shifts_are_ranges_or_choices(shift: Any, expected: Any) -> None:
    tx = drawn(Ranges(height_shift=shift), uniforms(1, 0, np.arange(3000)), 32, 99)["tx"]
    if isinstance(expected, set):
        assert set(tx.tolist()) == expected
        return
    low, high = expected
    assert low <= tx.min() < low + 0.05 * (high - low)
    assert high - 0.05 * (high - low) < tx.max() <= high


def test_parameters_stay_in_their_ranges() -> None:
    ranges = Ranges(30, 0, 0, 12, (0.5, 1.5), 20, (0.2, 0.9), True, False)
    found = drawn(ranges, uniforms(9, 4, np.arange(4000)), 8, 8)
    limits = {
        "theta": (-30, 30), "shear": (-12, 12), "zx": (0.5, 1.5), "zy": (0.5, 1.5),
        "channel_shift_intensity": (-20, 20), "brightness": (0.2, 0.9),
    }  # fmt: skip
    for key, (low, high) in limits.items():
        assert low <= found[key].min() < low + 0.01 * (high - low), key
        assert high - 0.01 * (high - low) < found[key].max() <= high, key
    assert 0.45 < found["flip_horizontal"].mean() < 0.55
    assert not found["flip_vertical"].any()
