"""Keras 2's recurrent layers for GPUs: the same computations, with the activations that they are fixed to."""

from __future__ import annotations

from convc.keras.layers.recurrent import GRU, LSTM


class CuDNNLSTM(LSTM):
    """An LSTM. Its bias is one vector (4 units), the sum of the two that Keras keeps here."""


class CuDNNGRU(GRU):
    """A GRU whose reset gate acts after the product."""
