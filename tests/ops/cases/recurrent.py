"""Loops of recurrent layers and their gradients."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from convc.ops.recurrent import GruLoop, LstmLoop, Recurrence, RnnLoop, TransposedCopy
from convc.ops.recurrent_gradients import (
    GruLoopGradient,
    LstmLoopGradient,
    RecurrenceGradient,
    RnnLoopGradient,
)
from convc.ops.recurrent_reset import GruResetLoop, GruResetLoopGradient
from convc.types import Extent
from tests.ops.cases.case import Case, N, boolean, f32, f64


def loop(
    name: str, op: Recurrence, steps: int, batch: Extent, units: int, of: Any = f32,
    masked: bool = False, dropping: bool = False,
) -> Case:  # fmt: skip
    """A row of a loop over steps, the weights small enough that states stay moderate."""
    op = replace(op, dropping=dropping)
    mask = (boolean(steps, batch),) if masked else ()
    width = op.gates * units
    bias = (of(width),) if op.biased else ()
    states = (of(batch, units),) * op.states
    kept = (of(batch, units),) * dropping
    types = (of(steps, batch, width), of(units, width), *bias, *states, *kept, *mask)
    drawn = (len(types) - masked - 1,) * dropping
    return Case(name, op, types, ((-1, 1),) * len(types), drawn=drawn)


def loop_gradient(
    name: str, op: RecurrenceGradient, steps: int, batch: Extent, units: int, of: Any = f32,
    masked: bool = False, dropping: bool = False,
) -> Case:  # fmt: skip
    op = replace(op, dropping=dropping)
    mask = (boolean(steps, batch),) if masked else ()
    width, states = op.gates * units, of(op.states, steps + 1, batch, units)
    kept = (of(batch, units),) * dropping
    inputs = (of(steps, batch, width),) * op.given
    types = (*inputs, of(width, units), states, states, *kept, *mask)
    return Case(name, op, types, ((-0.5, 0.5),) * len(types))


RECURRENT = [
    loop("rnn_loop", RnnLoop(), 5, N, 7),
    loop("rnn_loop-reverse", RnnLoop(("sigmoid",), True), 4, 9, 20),
    loop("rnn_loop-float64", RnnLoop(("linear",)), 3, 8, 5, f64),
    loop("lstm_loop", LstmLoop(), 5, N, 7),
    loop("lstm_loop-reverse", LstmLoop(("sigmoid", "tanh", "sigmoid"), True), 4, 11, 20),
    loop("lstm_loop-one", LstmLoop(), 1, 1, 1),
    loop("gru_loop", GruLoop(), 5, N, 7),
    loop("gru_loop-reverse", GruLoop(("sigmoid", "relu"), True), 4, 16, 16),
    loop_gradient("rnn_loop_gradient", RnnLoopGradient(), 5, N, 7),
    loop_gradient("rnn_loop_gradient-reverse", RnnLoopGradient(("relu",), True), 4, 9, 20),
    loop_gradient("rnn_loop_gradient-float64", RnnLoopGradient(), 3, 8, 5, f64),
    loop_gradient("lstm_loop_gradient", LstmLoopGradient(), 5, N, 7),
    loop_gradient("lstm_loop_gradient-reverse", LstmLoopGradient(reverse=True), 4, 11, 20),
    loop_gradient("gru_loop_gradient", GruLoopGradient(), 5, N, 7),
    loop_gradient("gru_loop_gradient-reverse", GruLoopGradient(reverse=True), 4, 8, 16),
    loop("rnn_loop-masked", RnnLoop(), 4, 9, 7, masked=True),
    loop("lstm_loop-masked", LstmLoop(), 5, N, 7, masked=True),
    loop("lstm_loop-masked-reverse", LstmLoop(reverse=True), 4, 8, 20, masked=True),
    loop("gru_loop-masked", GruLoop(), 5, N, 7, masked=True),
    loop("gru_loop-masked-float64", GruLoop(reverse=True), 4, 9, 5, f64, masked=True),
    loop_gradient("rnn_loop_gradient-masked", RnnLoopGradient(), 4, 9, 7, masked=True),
    loop_gradient("lstm_loop_gradient-masked", LstmLoopGradient(), 5, N, 7, masked=True),
    loop_gradient("gru_loop_gradient-masked", GruLoopGradient(reverse=True), 4, 8, 20, masked=True),
    loop("rnn_loop-hard_sigmoid", RnnLoop(("hard_sigmoid",)), 4, 9, 7),
    loop("rnn_loop-dropping", RnnLoop(), 4, 9, 7, dropping=True),
    loop("lstm_loop-dropping", LstmLoop(), 5, N, 7, dropping=True),
    loop("lstm_loop-dropping-masked", LstmLoop(reverse=True), 4, 8, 20, masked=True, dropping=True),
    loop("gru_loop-dropping", GruLoop(), 5, N, 7, dropping=True),
    loop("gru_reset_loop", GruResetLoop(), 5, N, 7),
    loop("gru_reset_loop-reverse", GruResetLoop(("hard_sigmoid", "relu"), True), 4, 16, 16),
    loop("gru_reset_loop-masked", GruResetLoop(), 4, 9, 5, f64, masked=True),
    loop("gru_reset_loop-dropping", GruResetLoop(), 4, 9, 20, masked=True, dropping=True),
    loop_gradient("rnn_loop_gradient-dropping", RnnLoopGradient(), 4, 9, 7, dropping=True),
    loop_gradient(
        "lstm_loop_gradient-dropping",
        LstmLoopGradient(reverse=True),
        4,
        8,
        20,
        masked=True,
        dropping=True,
    ),
    loop_gradient("gru_loop_gradient-dropping", GruLoopGradient(), 5, N, 7, dropping=True),
    loop_gradient("gru_reset_loop_gradient", GruResetLoopGradient(), 5, N, 7),
    loop_gradient(
        "gru_reset_loop_gradient-masked", GruResetLoopGradient(reverse=True), 4, 8, 20, masked=True
    ),
    loop_gradient(
        "gru_reset_loop_gradient-dropping",
        GruResetLoopGradient(),
        4,
        9,
        7,
        f64,
        masked=True,
        dropping=True,
    ),
    Case("transposed_copy", TransposedCopy(), (f32(7, N),)),
]
