"""Where training's random numbers begin: keys for shuffling and for dropouts."""

from __future__ import annotations

import numpy as np

_stream = np.random.SeedSequence()


def set_key_stream(seed: int) -> None:
    """Makes all keys from now on follow from one number."""
    global _stream
    _stream = np.random.SeedSequence([seed, 0x6669745F])


def next_key() -> int:
    """A number below 2**32, another one at each call."""
    (child,) = _stream.spawn(1)
    return int(child.generate_state(1)[0])
