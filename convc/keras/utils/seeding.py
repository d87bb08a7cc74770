"""One seed for everything that draws."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from convc.errors import UsageError
from convc.keras.initializers import set_stream_seed
from convc.keras.training.seeds import set_key_stream


def set_random_seed(seed: Any) -> None:
    """Seeds Python's, numpy's and the initializers' random numbers, and the shuffles and dropouts of training."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**32:
        raise UsageError(
            f"set_random_seed: expected an integer from 0 to 2**32 - 1; received {seed!r}"
        )
    random.seed(int(seed))
    np.random.seed(int(seed))
    set_stream_seed(int(seed))
    set_key_stream(int(seed))
