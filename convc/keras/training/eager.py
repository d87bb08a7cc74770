"""Computing on known values, outside of compiled steps: calls of layers, `GradientTape`, optimizers' updates."""

from convc.keras.engine.steps import RECORDERS
from convc.keras.training.hand_updates import apply_gradients
from convc.keras.training.ledger import recorded_call
from convc.keras.training.tape import GradientTape

__all__ = ["GradientTape", "apply_gradients", "recorded_call"]

RECORDERS.append(recorded_call)
