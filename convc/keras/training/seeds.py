"""Where training's random numbers begin: keys for shuffling and for dropouts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_stream = np.random.SeedSequence()


def set_key_stream(seed: int) -> None:
    """Makes all keys from now on follow from one number."""
    global _stream
    _stream = np.random.SeedSequence([seed, 0x6669745F])


def next_key() -> int:
    """A number below 2**32, another one at each call."""
    (child,) = _stream.spawn(1)
    return int(child.generate_state(1)[0])


class Draws:
    """Seeds uint32[2] for what draws outside of training steps, another one each time."""

    def __init__(self, key: int | None = None) -> None:
        self._seed = np.array([next_key() if key is None else key & 0xFFFFFFFF, 0], np.uint32)

    def next(self) -> NDArray[np.uint32]:
        """The seed for another run of a graph."""
        self._seed = self._seed + np.array([0, 1], np.uint32)
        return self._seed
