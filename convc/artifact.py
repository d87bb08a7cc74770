"""A compiled model: its code, weights and description, on the way to a file or to a call.

The `.cvc` format is the runtime's; what is put into it is decided here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import convc_runtime
import numpy as np
from convc_runtime import Description, EntryInfo, Model, StateInfo, TensorInfo

from convc.codegen.library import write_library, write_object
from convc.codegen.link import Image, link
from convc.codegen.support import instruction_set, required_features, support_object
from convc.errors import IRError, OutputError, UsageError
from convc.program.deferred import deferred, evaluate_into
from convc.program.ir import Region
from convc.program.weights import page_aligned
from convc.target import Target
from convc.types import Extent, TensorType

_MACHINES = {"x86_64": "x86-64", "aarch64": "aarch64"}


@dataclass(frozen=True)
class FirstState:
    """What a state is to a model's users: its kind (parameter, statistic, optimizer, metric, control) and first value.

    `seen` turns the state as the graphs have it into what users get and set: a view of the same memory, such as a
    kernel's transpose.
    """

    kind: str
    value: np.ndarray
    seen: Callable[[np.ndarray], np.ndarray] = lambda array: array


@dataclass(frozen=True)
class Artifact:
    """Everything that a compiled model is. `weights` is a page-aligned uint8 array."""

    description: Description
    target: Target
    image: Image
    weights: np.ndarray

    def model(self, threads: int | None = None) -> Model:
        """The model, ready to call in this process. CpuError if this machine can't run it."""
        return Model.from_memory(
            self.description, self.image.code, self.image.symbols, self.weights, threads
        )

    def with_threads(self, threads: int) -> Artifact:
        """The same artifact, which runs on so many threads where its host doesn't say."""
        extra = {**self.description.extra, "threads": threads}
        return replace(self, description=replace(self.description, extra=extra))

    def with_state(self, first: Mapping[str, FirstState]) -> Artifact:
        """The same artifact, whose contexts begin with these values and whose states are as users see them.

        IRError for a state that `first` doesn't have.
        """
        missing = [s.name for s in self.description.states if s.name not in first]
        if missing:
            raise IRError(f"model {self.description.name}: no first value for {', '.join(missing)}")
        block = np.zeros(self.description.state_size, np.uint8)
        states = [placed_state(s, block, first[s.name]) for s in self.description.states]
        used = int(np.flatnonzero(block)[-1]) + 1 if block.any() else 0
        offset = -(-self.weights.size // 64) * 64
        weights = blob([(0, self.weights), (offset, block[:used])] if used else self.weights)
        description = replace(
            self.description,
            states=tuple(states),
            initial_offset=offset if used else 0,
            initial_size=used,
        )
        return replace(self, description=description, weights=weights)

    def save(self, path: str | os.PathLike[str]) -> list[Path]:
        """Write a `.cvc` file, or a `.so` or `.o` with its C headers beside it, as the suffix says.

        C knows the model by the file's name: `digits.o` defines `digits_model`, which `digits.h` declares.
        Returns the files written. UsageError for another suffix, OutputError if a file can't be written.
        """
        path = Path(path)
        identifier = c_identifier(path.stem)
        try:
            match path.suffix:
                case ".cvc":
                    convc_runtime.write_artifact(
                        path, self.description, self.image.code, self.image.symbols, self.weights
                    )
                    return [path]
                case ".so":
                    return write_library(
                        path, self.description, self.image, self.weights, identifier
                    )
                case ".o":
                    return write_object(
                        path, self.description, self.image, self.weights, identifier
                    )
                case suffix:
                    raise UsageError(
                        f"can't save as {suffix or path.name!r}: expected .cvc, .so or .o"
                    )
        except convc_runtime.WriteError as error:
            raise OutputError(str(error)) from None


def assemble(
    name: str,
    target: Target,
    objects: Sequence[bytes],
    entries: Sequence[EntryInfo],
    weights: np.ndarray | Sequence[tuple[int, np.ndarray]],
    symbols: Sequence[str] = ("N",),
    compiler: str = "",
    extra: Mapping[str, Any] | None = None,
    support: bytes | None = None,
    states: Sequence[Region] = (),
) -> Artifact:
    """Link kernels and entries with the support code into an artifact.

    `objects` are ELF objects for `target` that define every entry's `function`; `symbols` is the order in which
    entries take the values of symbolic dimensions; `weights` is one uint8 array, or (byte offset, array) parts.
    `states` are the planned regions that live from call to call. `support` is the object of
    codegen/support.py for the model's identifier, if the caller has it already.
    """
    identifier = c_identifier(name)
    description = Description(
        name=name,
        identifier=identifier,
        machine=_MACHINES[instruction_set(target)],
        cpu_features=required_features(target),
        symbols=tuple(symbols),
        entries=tuple(entries),
        compiler=compiler,
        extra=extra or {},
        states=tuple(map(state_info, states)),
    )
    image = link([*objects, support or support_object(target, identifier)])
    missing = [e.function for e in entries if e.function not in image.symbols]
    if missing:
        raise IRError(f"model {name}: no code was generated for the entries {', '.join(missing)}")
    return Artifact(description, target, image, blob(weights))


def state_info(region: Region) -> StateInfo:
    """A state as the runtime describes it: a strided array at an offset of the block that holds them all."""
    assert region.held is not None, f"{region.name} is no state"
    assert isinstance(region.offset, int), f"{region.name} has no place yet"
    type, layout = region.held.type, region.held.layout
    strides = [0] * type.rank
    for axis, stride in zip(layout.axes, layout.strides(type.shape), strict=True):
        strides[axis.dim] = int(stride) * type.dtype.itemsize  # type: ignore[arg-type]
    shape = tuple(int(e) for e in type.shape)  # type: ignore[arg-type]
    return StateInfo(region.name, type.dtype.value, shape, region.offset, tuple(strides))


def placed_state(info: StateInfo, block: np.ndarray, first: FirstState) -> StateInfo:
    """Writes a state's first value into the block of all; the state as its users see it.

    A view that is no strided array of the same memory is left out: users see the graphs' shape then.
    """
    value = first.value
    array = np.ndarray(info.shape, value.dtype, block.data, info.offset, info.strides)
    array[...] = value
    seen = first.seen(array)
    if not np.shares_memory(seen, array):
        seen = array
    strides = tuple(
        s if e != 1 else value.dtype.itemsize for e, s in zip(seen.shape, seen.strides, strict=True)
    )
    return replace(info, kind=first.kind, shape=seen.shape, strides=strides)


def entry_info(
    name: str,
    function: str,
    inputs: Sequence[tuple[str, TensorType]],
    outputs: Sequence[tuple[str, TensorType]],
    workspace: Extent = 0,
) -> EntryInfo:
    """An entry as the runtime describes it; `workspace` is in bytes."""
    return EntryInfo(name, function, _infos(inputs), _infos(outputs), _extent(workspace))


def c_identifier(name: str) -> str:
    """The name as the beginning of C function names."""
    identifier = re.sub(r"[^0-9A-Za-z_]", "_", name) or "model"
    if identifier[0].isdigit() or identifier.startswith(("_", "convc")):
        identifier = f"model_{identifier.lstrip('_')}"
    return identifier


def blob(weights: np.ndarray | Sequence[tuple[int, np.ndarray]]) -> np.ndarray:
    """The weights as one page-aligned uint8 array, zeros where no part lies; deferred ones are computed there."""
    parts = [(0, weights)] if isinstance(weights, np.ndarray) else weights
    block = page_aligned(max((offset + array.nbytes for offset, array in parts), default=0))
    evaluate_into(block, [(offset, deferred(array)) for offset, array in parts])
    return block


def _infos(tensors: Sequence[tuple[str, TensorType]]) -> tuple[TensorInfo, ...]:
    return tuple(
        TensorInfo(name, t.dtype.value, tuple(_extent(e) for e in t.shape)) for name, t in tensors
    )


def _extent(extent: Extent) -> int | str:
    return extent if isinstance(extent, int) else str(extent)
