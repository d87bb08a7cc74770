"""The affine warp against scipy.ndimage.affine_transform, which Keras calls, where scipy is installed."""

from __future__ import annotations

import numpy as np
import pytest

from convc.keras.preprocessing.warping import warped
from convc.ops.warp import FILL_MODES, AffineWarp

ndimage = pytest.importorskip("scipy.ndimage", reason="scipy is not installed")


@pytest.mark.parametrize("size", [(8, 11), (1, 5), (2, 2), (32, 32)], ids=str)
@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("mode", FILL_MODES)
def test_every_fill_mode_is_scipys(mode: str, order: int, size: tuple[int, int]) -> None:
    random = np.random.default_rng(4)
    images = random.uniform(0, 255, (30, *size, 2)).astype(np.float32)
    maps = random.uniform(-2, 2, (30, 2, 3))
    maps[:, :, 2] *= 2 * size[0]
    maps[:5] = np.round(maps[:5])  # points on pixels and on edges
    op = AffineWarp((1, 2), ("nearest", "bilinear")[order], mode, 7.0)
    found = warped(images, maps, op)
    for k in range(30):
        for c in range(2):
            expected = ndimage.affine_transform(
                images[k, :, :, c], maps[k, :, :2], maps[k, :, 2], order=order, mode=mode, cval=7
            )
            np.testing.assert_allclose(found[k, :, :, c], expected, rtol=1e-6, atol=1e-4)
