"""Whether what is being traced is a step of training or of something else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_training: ContextVar[bool | None] = ContextVar("convc_keras_training", default=None)
_stepping: ContextVar[bool] = ContextVar("convc_keras_stepping", default=False)


def training_now() -> bool:
    """Whether layers compute as in training: within calls with `training=True`, in a traced step."""
    return bool(_training.get())


def said_phase() -> bool | None:
    """What the innermost call that says `training` says; None if none does: then it is as the model is run."""
    return _training.get()


def stepping() -> bool:
    """Whether a step of the user's own is being traced: what layers assign there is part of it."""
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
def training_phase(value: bool | None) -> Iterator[None]:
    """Traces what follows as in training, or not, or (None) as the model is run."""
    token = _training.set(value)
    try:
        yield
    finally:
        _training.reset(token)
