"""Python's collector of cycles, kept out of work that makes many objects that stay."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Python looks for cycles after the block only: a seventh of the time to compile or to import convc.keras.

    A compilation makes a million objects that stay, and few cycles: 4 MB of them. Imports leave none.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
