"""Callbacks with Keras' names, arguments and messages."""

from __future__ import annotations

from typing import NoReturn as _NoReturn

from convc.keras.callbacks.backup import BackupAndRestore
from convc.keras.callbacks.callback import Callback, CallbackList
from convc.keras.callbacks.checkpoint import ModelCheckpoint
from convc.keras.callbacks.csv_logger import CSVLogger
from convc.keras.callbacks.early_stopping import EarlyStopping
from convc.keras.callbacks.functions import LambdaCallback, TerminateOnNaN
from convc.keras.callbacks.history import History
from convc.keras.callbacks.learning_rate import LearningRateScheduler, ReduceLROnPlateau
from convc.keras.callbacks.monitor import MonitorCallback
from convc.keras.callbacks.progbar import ProgbarLogger
from convc.keras.callbacks.tensorboard import TensorBoard
from convc.keras.engine.naming import missing as _missing

__all__ = [
    "BackupAndRestore", "CSVLogger", "Callback", "CallbackList", "EarlyStopping", "History", "LambdaCallback",
    "LearningRateScheduler", "ModelCheckpoint", "MonitorCallback", "ProgbarLogger", "ReduceLROnPlateau", "TensorBoard",
    "TerminateOnNaN",
]  # fmt: skip


def __getattr__(name: str) -> _NoReturn:
    raise _missing("convc.keras.callbacks", name, __all__)
