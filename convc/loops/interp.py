"""Runs kernels exactly and slowly: the oracle of every rewrite and generator.

A kernel becomes Python source with numbers for its symbols, over flat physical memory: indices go
through the buffer's layout, so that a wrong layout shows. An index that leaves the buffer's border,
or a special instruction that not all its threads reach, is an IRError that quotes the statement.
Accesses whose range is evident from the loops' extents aren't checked again at run time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convc.errors import IRError
from convc.loops.interp_source import translate
from convc.loops.ir import Buffer, Kernel, Role
from convc.loops.memory import pack, physical_size, poison, unpack
from convc.loops.scalars import to_list

Array = NDArray[Any]


def run_kernel(
    kernel: Kernel, arrays: Mapping[str, Array], symbols: Mapping[str, int], seed: int | None = None
) -> None:
    """Runs a kernel on logical arrays, one per parameter; writes `out` and `inout` arrays in place.

    Borders and padding of inputs are zero; outputs begin as NaN (an odd pattern if not floats).
    With a seed, threads between barriers run in shuffled order.
    """
    run = prepare(kernel, symbols, seed)
    memory: dict[str, Array] = {}
    for buffer in kernel.params:
        if buffer.name not in arrays:
            raise IRError(f"kernel {kernel.name}: no array for parameter {buffer.name}")
        memory[buffer.name] = pack(arrays[buffer.name], buffer, symbols)
        if buffer.role is Role.out:
            memory[buffer.name] = poison(buffer.dtype, physical_size(buffer, symbols))
    run(memory)
    for buffer in written(kernel):
        arrays[buffer.name][...] = unpack(memory[buffer.name], buffer, symbols)


def run_physical(
    kernel: Kernel, memory: Mapping[str, Array], symbols: Mapping[str, int], seed: int | None = None
) -> None:
    """Runs a kernel on its parameters' flat memory (`Buffer.size` elements each), in place."""
    prepare(kernel, symbols, seed)(memory)


def written(kernel: Kernel) -> tuple[Buffer, ...]:
    """The parameters that a kernel may write."""
    return tuple(b for b in kernel.params if b.role in (Role.out, Role.inout))


def prepare(
    kernel: Kernel, symbols: Mapping[str, int], seed: int | None = None
) -> Callable[[Mapping[str, Array]], None]:
    """The kernel for given symbols as a function of flat memory: for running it many times."""
    missing = [s for s in kernel.symbols if s not in symbols]
    if missing:
        raise IRError(f"kernel {kernel.name}: no value for {', '.join(missing)}")
    body = translate(kernel, symbols, seed)

    def run(memory: Mapping[str, Array]) -> None:
        lists = []
        for buffer in kernel.params:
            array, size = memory[buffer.name], physical_size(buffer, symbols)
            if array.shape != (size,) or array.dtype != buffer.dtype.numpy:
                raise IRError(
                    f"memory of {buffer.name}: expected {buffer.dtype.value}[{size}], "
                    f"got {array.dtype.name}{list(array.shape)}"
                )
            lists.append(to_list(array, buffer.dtype))
        try:
            with np.errstate(all="ignore"):
                body(*lists)
        except (
            ZeroDivisionError,
            ValueError,
        ) as error:  # Python's words for what has no meaning here
            raise IRError(f"kernel {kernel.name}: {error}") from error
        for buffer, values in zip(kernel.params, lists, strict=True):
            if buffer.role in (Role.out, Role.inout):
                memory[buffer.name][:] = np.array(values, buffer.dtype.numpy)

    return run
