"""What callbacks that watch one result share: which direction is better."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

from convc.keras.callbacks.callback import Callback, Logs
from convc.keras.engine.arguments import real

MODES = ("auto", "min", "max")
GROWING = (
    "acc",
    "auc",
    "precision",
    "recall",
    "f1",
    "fbeta",
    "iou",
    "fmeasure",
    "r2",
    "cosine",
    "hits",
)
"""Parts of the names of metrics of which more is better."""


class MonitorCallback(Callback):
    """Base of callbacks that look at one entry of the logs.

    Mode "auto" takes the direction of the metric of that name, or what its name says; the less the better otherwise.
    """

    kept: ClassVar[tuple[str, ...]] = ("best",)
    """The attributes that go into a training's state (`BackupAndRestore`)."""

    def __init__(
        self,
        monitor: str = "val_loss",
        mode: str = "auto",
        baseline: float | None = None,
        min_delta: float = 0.0,
    ) -> None:
        super().__init__()
        real(type(self).__name__, "min_delta", min_delta)
        if mode not in MODES:
            warnings.warn(
                f"{type(self).__name__} mode '{mode}' is unknown, fallback to auto mode.",
                stacklevel=3,
            )
            mode = "auto"
        self.monitor, self.mode, self.best = monitor, mode, baseline
        self.min_delta = abs(float(min_delta))

    def grows(self) -> bool:
        """Whether a larger value is a better one."""
        if self.mode != "auto":
            return self.mode == "max"
        name = self.monitor.removeprefix("val_")
        if name == "loss" or name.endswith("_loss"):
            return False
        for metric in getattr(self.model, "metrics", None) or []:
            direction = getattr(metric, "direction", None)
            if metric.name == name and direction in ("up", "down"):
                return bool(direction == "up")
        return any(part in name for part in GROWING)

    def improved(self, value: float, reference: float | None) -> bool:
        """Whether a value is better than another by more than `min_delta`."""
        if reference is None:
            return True
        if self.grows():
            return value - self.min_delta > reference
        return value + self.min_delta < reference

    def watched(self, logs: Logs | None, consequence: str) -> Any:
        """The value in the logs; a warning and None without it."""
        value = (logs or {}).get(self.monitor)
        if value is None:
            known = ",".join(logs or {})
            warnings.warn(
                f"{consequence} `{self.monitor}` which is not available. Available metrics are: {known}",
                stacklevel=3,
            )
        return value
