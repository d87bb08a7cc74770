"""Keras 2's recurrent layers for GPUs: the same computations, with the activations that they are fixed to."""

from __future__ import annotations

from typing import Any

from convc.keras.layers.recurrent import GRU, LSTM


class CuDNNLSTM(LSTM):
    """An LSTM. Its bias is one vector (4 units), the sum of the two that Keras keeps here."""

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(units, **kwargs)


class CuDNNGRU(GRU):
    """A GRU whose reset gate acts after the product."""

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(units, reset_after=True, **kwargs)
