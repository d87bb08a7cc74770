"""What an artifact says about its model: entries, inputs, outputs, sizes. Reads and writes as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from convc_runtime.errors import ArtifactError

# A number, or a sum of products of symbols such as "49*N + 3".
Extent = int | str


@dataclass(frozen=True)
class TensorInfo:
    """An input or output: its name, dtype name and logical shape."""

    name: str
    dtype: str
    shape: tuple[Extent, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.dtype}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class EntryInfo:
    """A function of the model. `function` is its symbol in the code, `workspace` its bytes of scratch memory."""

    name: str
    function: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    workspace: Extent = 0


@dataclass(frozen=True)
class StateInfo:
    """A tensor that a context keeps from call to call, such as a parameter that training changes.

    It stands `offset` bytes behind the start of the context's state, with a stride in bytes per dimension: whatever
    order its kernels like. All of them lie inside `Description.state_size` bytes, aligned to 64.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    strides: tuple[int, ...]
    kind: str = ""
    """What it is to the model: parameter, statistic, optimizer, metric or control."""

    def __str__(self) -> str:
        return f"{self.name} {self.dtype}[{', '.join(map(str, self.shape))}]"

    @property
    def end(self) -> int:
        """The offset behind its last byte: dense in some order, so from the largest stride."""
        spans = [e * s for e, s in zip(self.shape, self.strides, strict=True)]
        return self.offset + (0 if 0 in self.shape else max(spans, default=8))


@dataclass(frozen=True)
class Description:
    """A model as its users see it.

    `identifier` begins the names of its native functions, `symbols` orders the values that entries
    take for symbolic dimensions, `cpu_features` are in LLVM's spelling and in the order of the
    native CPU check's bits. A context's state begins with `initial_size` bytes that stand `initial_offset` bytes behind
    the start of the weights, and with zeros behind them. `extra` is whatever else the compiler wants to tell, as JSON.
    """

    name: str
    identifier: str
    machine: str
    cpu_features: tuple[str, ...]
    symbols: tuple[str, ...]
    entries: tuple[EntryInfo, ...]
    compiler: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)
    states: tuple[StateInfo, ...] = ()
    initial_offset: int = 0
    initial_size: int = 0

    @property
    def state_size(self) -> int:
        """Bytes of a context's state."""
        return max((s.end for s in self.states), default=0)

    def entry(self, name: str) -> EntryInfo:
        """The entry of that name: KeyError, with the names there are, if there is none."""
        for entry in self.entries:
            if entry.name == name:
                return entry
        names = ", ".join(e.name for e in self.entries)
        raise KeyError(f"model {self.name} has no entry {name!r}: expected one of {names}")


def evaluate(extent: Extent, values: Mapping[str, int]) -> int:
    """The number that an extent is for given values of its symbols."""
    return sum(c * math.prod(values[s] for s in symbols) for c, symbols in terms(extent))


def terms(extent: Extent) -> list[tuple[int, tuple[str, ...]]]:
    """An extent as a sum of (coefficient, symbols). ArtifactError for text that isn't one."""
    if isinstance(extent, int):
        return [(extent, ())]
    result = []
    for term in extent.split("+"):
        factors = [f.strip() for f in term.split("*")]
        numbers = [int(f) for f in factors if f.lstrip("-").isdigit()]
        symbols = tuple(f for f in factors if not f.lstrip("-").isdigit())
        if not all(s.isidentifier() for s in symbols):
            raise ArtifactError(f"extent {extent!r}: expected a sum of products such as '49*N + 3'")
        result.append((math.prod(numbers), symbols))
    return result


def to_json(description: Description) -> dict[str, Any]:
    """Plain dicts, lists, strings and numbers."""
    return {
        "name": description.name,
        "identifier": description.identifier,
        "machine": description.machine,
        "cpu_features": list(description.cpu_features),
        "symbols": list(description.symbols),
        "entries": [_entry_to_json(e) for e in description.entries],
        "compiler": description.compiler,
        "extra": dict(description.extra),
        "states": [_state_to_json(s) for s in description.states],
        "initial_offset": description.initial_offset,
        "initial_size": description.initial_size,
    }


def from_json(data: Mapping[str, Any]) -> Description:
    """The inverse of `to_json`. ArtifactError for anything else."""
    try:
        return Description(
            name=str(data["name"]),
            identifier=str(data["identifier"]),
            machine=str(data["machine"]),
            cpu_features=tuple(data["cpu_features"]),
            symbols=tuple(data["symbols"]),
            entries=tuple(_entry_from_json(e) for e in data["entries"]),
            compiler=str(data["compiler"]),
            extra=dict(data["extra"]),
            states=tuple(_state_from_json(s) for s in data.get("states", ())),
            initial_offset=int(data.get("initial_offset", 0)),
            initial_size=int(data.get("initial_size", 0)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"the artifact's description is not one: {error!r}") from None


def _entry_to_json(entry: EntryInfo) -> dict[str, Any]:
    return {
        "name": entry.name,
        "function": entry.function,
        "inputs": [_tensor_to_json(t) for t in entry.inputs],
        "outputs": [_tensor_to_json(t) for t in entry.outputs],
        "workspace": entry.workspace,
    }


def _state_to_json(state: StateInfo) -> dict[str, Any]:
    return {
        "name": state.name,
        "dtype": state.dtype,
        "shape": list(state.shape),
        "offset": state.offset,
        "strides": list(state.strides),
        "kind": state.kind,
    }


def _state_from_json(data: Mapping[str, Any]) -> StateInfo:
    return StateInfo(
        name=str(data["name"]),
        dtype=str(data["dtype"]),
        shape=tuple(data["shape"]),
        offset=int(data["offset"]),
        strides=tuple(data["strides"]),
        kind=str(data.get("kind", "")),
    )


def _tensor_to_json(tensor: TensorInfo) -> dict[str, Any]:
    return {"name": tensor.name, "dtype": tensor.dtype, "shape": list(tensor.shape)}


def _entry_from_json(data: Mapping[str, Any]) -> EntryInfo:
    return EntryInfo(
        name=str(data["name"]),
        function=str(data["function"]),
        inputs=tuple(_tensor_from_json(t) for t in data["inputs"]),
        outputs=tuple(_tensor_from_json(t) for t in data["outputs"]),
        workspace=data["workspace"],
    )


def _tensor_from_json(data: Mapping[str, Any]) -> TensorInfo:
    return TensorInfo(str(data["name"]), str(data["dtype"]), tuple(data["shape"]))
