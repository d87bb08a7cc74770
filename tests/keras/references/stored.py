"""The stored numbers, and comparisons with them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from convc.keras import backend
from tests.keras.references.make import FILE

STORED: dict[str, Any] = json.loads(FILE.read_text())


@contextmanager
def in_float64() -> Iterator[None]:
    """Within it the front end's float type is float64."""
    before = backend.floatx()
    backend.set_floatx("float64")
    try:
        yield
    finally:
        backend.set_floatx(before)


def assert_same(found: Any, wanted: Any, rtol: float, what: str = "") -> None:
    """Nested lists of numbers of the same shape, equal within rtol of each one (and of 1e-9)."""
    if isinstance(wanted, list) and any(isinstance(v, list) for v in wanted):
        assert len(found) == len(wanted), what
        for k, (a, b) in enumerate(zip(found, wanted, strict=True)):
            assert_same(a, b, rtol, f"{what}[{k}]")
    else:
        np.testing.assert_allclose(np.asarray(found), np.asarray(wanted), rtol, 1e-9, err_msg=what)
