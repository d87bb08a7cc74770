"""Layers around others: at every step of a sequence, forwards and backwards."""

from __future__ import annotations

from typing import Any

from convc.errors import ModelError
from convc.keras.engine.arguments import choice, refuse
from convc.keras.engine.layer import Layer
from convc.keras.engine.revival import revived_layer
from convc.keras.engine.tensor import (
    KerasTensor,
    apply,
    as_tensor,
    promoted,
    reshape,
)
from convc.keras.layers.cells import (
    States,
    add,
    flipped,
    mul,
)
from convc.keras.layers.rnn import RNN, state_count
from convc.ops import broadcasting
from convc.ops import shape as shapes


class Wrapper(Layer):
    """A layer around another."""

    def __init__(self, layer: Any, **kwargs: Any) -> None:
        if not isinstance(layer, Layer):
            refuse(type(self).__name__, "layer", "a layer", layer)
        super().__init__(**kwargs)
        self.layer = layer

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """The layers inside are made from their own configs."""
        inside = ("layer", "backward_layer")
        made = {k: revived_layer(v) if k in inside and v else v for k, v in config.items()}
        return cls(**made)


class TimeDistributed(Wrapper):
    """A layer applied to every step of a sequence."""

    supports_masking = True

    def call(self, inputs: Any, mask: Any = None) -> Any:
        x = as_tensor(inputs)
        batch, steps, *rest = x.type.shape
        if not isinstance(steps, int):
            raise ModelError(f"layer {self.name!r} (TimeDistributed): steps must be known")
        y = as_tensor(self.layer(reshape(x, (batch * steps, *rest))))
        return reshape(y, (batch, steps, *y.type.shape[1:]))


class Bidirectional(Wrapper):
    """A recurrent layer forwards, and one like it backwards."""

    def __init__(
        self,
        layer: Any,
        merge_mode: str | None = "concat",
        weights: Any = None,
        backward_layer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(layer, **kwargs)
        if not isinstance(layer, RNN):
            refuse(self, "layer", "RNN, SimpleRNN, LSTM or GRU", layer)
        if weights is not None:
            refuse(self, "weights", "None", weights)
        self.merge_mode = merge_mode
        if merge_mode is not None:
            self.merge_mode = choice(
                self, "merge_mode", merge_mode, ("concat", "sum", "ave", "mul")
            )
        config = layer.get_config()
        self.forward_layer = type(layer).from_config({**config, "name": f"forward_{layer.name}"})
        if backward_layer is None:
            backwards = {
                "name": f"backward_{layer.name}",
                "go_backwards": not layer.go_backwards,
            }
            backward_layer = type(layer).from_config({**config, **backwards})
        if backward_layer.go_backwards == layer.go_backwards:
            refuse(self, "backward_layer", "a layer of the other direction", backward_layer)
        self.backward_layer = backward_layer
        for each in (self.forward_layer, self.backward_layer):
            each.zero_output_for_mask = each.return_sequences

    def get_config(self) -> dict[str, Any]:
        return {k: v for k, v in super().get_config().items() if k != "weights"}

    def call(self, inputs: Any, initial_state: Any = None, mask: Any = None) -> Any:
        if isinstance(inputs, (list, tuple)):
            inputs, initial_state = inputs[0], list(inputs[1:]) or initial_state
        one, two = None, None
        if initial_state is not None:
            half = len(initial_state) // 2
            one, two = list(initial_state[:half]), list(initial_state[half:])
        y = self.forward_layer(inputs, initial_state=one, mask=mask)
        z = self.backward_layer(inputs, initial_state=two, mask=mask)
        states: States = []
        if self.forward_layer.return_state:
            (y, *ahead), (z, *back) = y, z
            states = [*ahead, *back]
        if self.forward_layer.return_sequences:
            z = flipped(z)
        merged = self._merged(y, z)
        return [*merged, *states] if len(merged) > 1 or states else merged[0]

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """That of the inputs for the steps' outputs; none for states."""
        mask = previous_mask[0] if isinstance(previous_mask, (list, tuple)) else previous_mask
        passed = mask if self.forward_layer.return_sequences else None
        count = 2 if self.merge_mode is None else 1
        states = (
            2 * sum(map(state_count, self.forward_layer.cells))
            if self.forward_layer.return_state
            else 0
        )
        return [*[passed] * count, *[None] * states]

    def _merged(self, y: KerasTensor, z: KerasTensor) -> States:
        match self.merge_mode:
            case None:
                return [y, z]
            case "concat":
                return [apply(shapes.Concat(y.type.rank - 1), y, z)]
            case "mul":
                return [mul(y, z)]
            case "sum":
                return [add(y, z)]
            case _:
                return [apply(broadcasting.Mul(), *promoted(add(y, z), 0.5))]
