"""Models on several devices, as programs of Keras 2 ask for them."""

from __future__ import annotations

from typing import Any


def multi_gpu_model(
    model: Any, gpus: Any = None, cpu_merge: bool = True, cpu_relocation: bool = False
) -> Any:
    """The model itself: there is one device, and it has all the batches."""
    return model
