"""The calls between a functional model's inputs and its outputs, in Keras' order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from convc.errors import ModelError
from convc.keras.engine.call import Call, collected_losses, flatten, map_tensors, sole
from convc.keras.engine.input import InputLayer
from convc.keras.engine.masks import masked
from convc.keras.engine.tensor import KerasTensor, cast, reshape


@dataclass(eq=False)
class Network:
    """What a functional model is made of."""

    inputs: Any
    """A tensor, or a list, tuple or dict of tensors."""
    outputs: Any
    calls: list[Call]
    """In an order in which they can be run again, inputs included."""
    operations: list[Any]
    """Layers and functions in the order in which Keras lists them: by distance from the outputs, then by discovery."""
    added_losses: list[KerasTensor] = field(default_factory=list)
    """What the model's own `add_loss` was given."""
    added_metrics: list[tuple[Any, KerasTensor]] = field(default_factory=list)
    """What the model's own `add_metric` was given: means and what they are of."""
    further: list[Call] = field(default_factory=list)
    """The calls that these need besides those that lead to the outputs."""

    @property
    def losses(self) -> list[KerasTensor]:
        """What layers add to the loss when the model is trained."""
        return [*(loss for call in self.calls for loss in call.losses), *self.added_losses]

    def run(self, inputs: Any) -> Any:
        """The outputs for other inputs of the same structure: every layer is called again."""
        given = list(self._arranged(inputs))
        wanted = list(flatten(self.inputs))
        if len(given) != len(wanted):
            names = ", ".join(t.name for t in wanted)
            raise ModelError(f"model expects {len(wanted)} inputs ({names}); received {len(given)}")
        given = [_fitted(mine, tensor) for mine, tensor in zip(wanted, given, strict=True)]
        values = dict(zip(map(_key, wanted), given, strict=True))
        for call in (*self.calls, *self.further):
            if all(_key(t) in values for t in call.outputs):
                continue
            args, kwargs = map_tensors(lambda t: values.get(_key(t), t), (call.args, call.kwargs))
            found = flatten(call.operation(*args, **kwargs))
            values.update(zip(map(_key, call.outputs), found, strict=True))
        losses = collected_losses()
        if losses is not None:
            losses.extend(values.get(_key(t), t) for t in self.added_losses)
        for metric, tensor in self.added_metrics:
            metric.update_state(values.get(_key(tensor), tensor))
        return sole(map_tensors(lambda t: values[_key(t)], self.outputs))

    def follow(self, owner: str, tensor: KerasTensor) -> None:
        """Takes in the calls that lead to a tensor; ModelError if it doesn't follow from the inputs."""
        if tensor.history is None and not tensor.step.symbolic:
            return
        order, _ = _walk(owner, [tensor], {_key(t) for t in flatten(self.inputs)})
        known = {id(call) for call in (*self.calls, *self.further)}
        self.further.extend(call for call in order if id(call) not in known)

    def _arranged(self, inputs: Any) -> Iterator[KerasTensor]:
        """The given tensors in the order of the model's own inputs; a dict goes by input names."""
        if isinstance(inputs, dict) and not isinstance(self.inputs, dict):
            names = [t.name for t in flatten(self.inputs)]
            if set(names) != set(inputs):
                raise ModelError(
                    f"model expects inputs {', '.join(names)}; received {', '.join(inputs)}"
                )
            return flatten([inputs[n] for n in names])
        if isinstance(inputs, dict):
            if set(inputs) != set(self.inputs):
                raise ModelError(
                    f"model expects inputs {', '.join(self.inputs)}; received {', '.join(inputs)}"
                )
            return flatten([inputs[n] for n in self.inputs])
        return flatten(inputs)


def _fitted(mine: KerasTensor, given: KerasTensor) -> KerasTensor:
    """The tensor as the input has it: with its axis of size 1 at the end or without, in its element type."""
    if given.ndim == mine.ndim - 1 and mine.shape[-1] == 1:
        given = masked(reshape(given, (*given.type.shape, 1)), given.mask)
    elif given.ndim == mine.ndim + 1 and given.shape[-1] == 1:
        given = masked(reshape(given, given.type.shape[:-1]), given.mask)
    _check_fits(mine, given)
    same = given.type.dtype is mine.type.dtype
    return given if same else masked(cast(given, mine.type.dtype), given.mask)


def _check_fits(mine: KerasTensor, given: KerasTensor) -> None:
    pairs = zip(mine.shape, given.shape, strict=False)
    if len(mine.shape) != len(given.shape) or any(None not in p and p[0] != p[1] for p in pairs):
        raise ModelError(
            f"model input {mine.name!r} has shape {mine.shape}; received {given.shape}"
        )


def _key(tensor: KerasTensor) -> Any:
    """The same for all handles of one output: layers wrap tensors anew, calls keep their positions."""
    if tensor.history is None:
        return id(tensor.step)
    call, position = tensor.history
    return id(call), position


def network(owner: str, inputs: Any, outputs: Any) -> Network:
    """The network between given tensors; ModelError if the outputs don't follow from the inputs."""
    given = _checked(owner, "inputs", inputs)
    wanted = _checked(owner, "outputs", outputs)
    stops = {_key(t) for t in given}
    order, discovered = _walk(owner, wanted, stops)
    calls = [t.history[0] for t in given if t.history is not None and _is_input(t)]
    calls = list(dict.fromkeys([*calls, *order]))
    operations = _by_depth(calls, discovered)
    names = [o.name for o in operations]
    for name in names:
        if names.count(name) > 1:
            raise ModelError(f"Model {owner!r}: two layers are named {name!r}; names must differ")
    return Network(inputs, outputs, calls, operations)


def _is_input(tensor: KerasTensor) -> bool:
    return tensor.history is not None and isinstance(tensor.history[0].operation, InputLayer)


def _by_key(structure: Any) -> Any:
    """The same with dicts in the order of their keys, in which Keras finds the layers behind them."""
    match structure:
        case list() | tuple():
            return [_by_key(item) for item in structure]
        case dict():
            return [_by_key(structure[key]) for key in sorted(structure, key=str)]
        case _:
            return structure


def _checked(owner: str, what: str, tensors: Any) -> list[KerasTensor]:
    found = list(flatten(_by_key(tensors) if what == "outputs" else tensors))
    if not found or isinstance(tensors, (str, bytes)):
        raise ModelError(
            f"Model {owner!r}: {what} must be tensors from Input or layers; received {tensors!r}"
        )
    for tensor in found:
        if tensor.history is None and not tensor.step.symbolic:
            raise ModelError(
                f"Model {owner!r}: {what} must depend on an Input; received the constant {tensor}"
            )
    names = [t.name for t in found]
    if what == "inputs" and len(set(map(_key, found))) < len(found):
        raise ModelError(f"Model {owner!r}: an input is given twice: {', '.join(names)}")
    return found


def _walk(
    owner: str, outputs: list[KerasTensor], stops: set[Any]
) -> tuple[list[Call], dict[int, int]]:
    """Calls after those that they need, and the position at which each operation was first met."""
    order: list[Call] = []
    done: set[int] = set()
    discovered: dict[int, int] = {}
    for output in outputs:
        stack: list[tuple[KerasTensor, bool]] = [(output, False)]
        while stack:
            tensor, ready = stack.pop()
            if tensor.history is None:
                raise ModelError(
                    f"Model {owner!r}: tensor {tensor} isn't the output of a layer; make it by calling layers "
                    f"or convc.keras.ops functions on Input tensors"
                )
            call = tensor.history[0]
            if ready:
                order.append(call)
                continue
            if id(call) in done:
                continue
            done.add(id(call))
            discovered.setdefault(id(call.operation), len(discovered))
            stop = _key(tensor) in stops
            if stop and not isinstance(call.operation, InputLayer):
                continue
            if isinstance(call.operation, InputLayer) and not stop:
                raise ModelError(
                    f"Model {owner!r}: the outputs need input {call.operation.name!r}, which is not among the inputs"
                )
            stack.append((tensor, True))
            stack.extend((t, False) for t in reversed(call.inputs))
    return order, discovered


def _by_depth(calls: list[Call], discovered: dict[int, int]) -> list[Any]:
    """Operations sorted as Keras does: the farthest from the outputs first, ties in order of discovery."""
    call_depths: dict[int, int] = {}
    depths: dict[int, int] = {}
    by_id = {id(c): c for c in calls}
    for call in reversed(calls):
        key = id(call.operation)
        depth = max(call_depths.get(id(call), 0), depths.get(key, 0))
        depths[key] = call_depths[id(call)] = depth
        for tensor in call.inputs:
            if tensor.history is not None and id(tensor.history[0]) in by_id:
                parent = id(tensor.history[0])
                call_depths[parent] = max(depth + 1, call_depths.get(parent, 0))
    operations = list({id(c.operation): c.operation for c in calls}.values())
    return sorted(operations, key=lambda o: (-depths[id(o)], discovered.get(id(o), -1)))
