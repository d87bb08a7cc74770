"""Whether what is being traced is a step of training or of something else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_training: ContextVar[bool] = ContextVar("convc_keras_training", default=False)
_stepping: ContextVar[bool] = ContextVar("convc_keras_stepping", default=False)


def training_now() -> bool:
    """Whether layers compute as in training: within calls with `training=True`, in a traced step."""
    return _training.get()


def stepping() -> bool:
    """Whether a step of the user's own is being traced: calls may say `training=True` there."""
    return _stepping.get()


@contextmanager
def step_phase() -> Iterator[None]:
    """Traces what follows as a step of the user's own."""
    token = _stepping.set(True)
    try:
        yield
    finally:
        _stepping.reset(token)


@contextmanager
def training_phase(value: bool) -> Iterator[None]:
    """Traces what follows as in training, or not."""
    token = _training.set(value)
    try:
        yield
    finally:
        _training.reset(token)
