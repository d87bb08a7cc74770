"""Functions that make, reorder, cut, join and repeat tensors."""

from __future__ import annotations

import builtins
import itertools
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from convc.errors import ModelError
from convc.graph.op import OpError
from convc.keras import backend
from convc.keras.engine.arguments import axis_of, is_integer
from convc.keras.engine.call import operation
from convc.keras.engine.naming import scope, user_line
from convc.keras.engine.tensor import (
    BATCH,
    KerasTensor,
    Operators,
    Variable,
    apply,
    as_tensor,
    promoted,
)
from convc.keras.engine.tensor import reshape as reshaped
from convc.keras.engine.tensor import transpose as transposed
from convc.ops import shape as kernels
from convc.ops.elementwise import StopGradient
from convc.types import DType, Extent, Shape, size_of


def _refuse(message: str) -> NoReturn:
    raise ModelError(f"{user_line()}: {message}")


def _number(size: Any) -> Any:
    """A size of a shape; a tensor whose value is known is that number."""
    known = isinstance(size, KerasTensor) and not size.step.symbolic
    return int(size) if known else size


@operation
def reshape(x: Any, newshape: Any) -> KerasTensor:
    """x in another shape; -1 stands for what remains, None for the batch."""
    x = as_tensor(x)
    wanted = (newshape,) if is_integer(newshape) else tuple(map(_number, newshape))
    extents = tuple(BATCH if d is None else d if not is_integer(d) else int(d) for d in wanted)
    try:
        full_shape = kernels.Reshape(extents).resolved(x.type.shape)
    except OpError:
        _refuse(f"reshape: {wanted} doesn't fit a tensor of shape {x.shape}")
    return reshaped(x, full_shape)


@operation
def ravel(x: Any) -> KerasTensor:
    x = as_tensor(x)
    return reshaped(x, (size_of(x.type.shape),))


@operation
def transpose(x: Any, axes: Any = None) -> KerasTensor:
    x = as_tensor(x)
    order = range(x.type.rank - 1, -1, -1) if axes is None else axes
    return transposed(x, tuple(axis_of("transpose", a, x.type.rank) for a in order))


@operation
def swapaxes(x: Any, axis1: int, axis2: int) -> KerasTensor:
    x = as_tensor(x)
    a, b = (axis_of("swapaxes", axis, x.type.rank) for axis in (axis1, axis2))
    return transposed(x, tuple(b if d == a else a if d == b else d for d in range(x.type.rank)))


@operation
def moveaxis(x: Any, source: Any, destination: Any) -> KerasTensor:
    x = as_tensor(x)
    sources = [source] if is_integer(source) else list(source)
    targets = [destination] if is_integer(destination) else list(destination)
    sources = [axis_of("moveaxis", a, x.type.rank) for a in sources]
    order = [d for d in range(x.type.rank) if d not in sources]
    for target, axis in sorted(
        zip((axis_of("moveaxis", a, x.type.rank) for a in targets), sources, strict=True)
    ):
        order.insert(target, axis)
    return transposed(x, tuple(order))


@operation
def expand_dims(x: Any, axis: Any) -> KerasTensor:
    """x with new axes of size 1."""
    x = as_tensor(x)
    axes = [axis] if is_integer(axis) else list(axis)
    rank = x.type.rank + len(axes)
    new = {axis_of("expand_dims", a, rank) for a in axes}
    old = iter(x.type.shape)
    return reshaped(x, tuple(1 if d in new else next(old) for d in range(rank)))


@operation
def squeeze(x: Any, axis: Any = None) -> KerasTensor:
    """x without axes of size 1 (all of them unless told which)."""
    x = as_tensor(x)
    axes = [d for d, e in enumerate(x.type.shape) if e == 1] if axis is None else axis
    axes = [axes] if is_integer(axes) else axes
    gone = {axis_of("squeeze", a, x.type.rank) for a in axes}
    if builtins.any(x.type.shape[d] != 1 for d in gone):
        _refuse(f"squeeze: expected size 1 along axis {axis}; received shape {x.shape}")
    return reshaped(x, tuple(e for d, e in enumerate(x.type.shape) if d not in gone))


@operation
def concatenate(xs: Any, axis: int = 0) -> KerasTensor:
    tensors = promoted(*map(as_tensor, xs))
    return apply(kernels.Concat(axis_of("concatenate", axis, tensors[0].type.rank)), *tensors)


@operation
def stack(x: Any, axis: int = 0) -> KerasTensor:
    """Tensors of one shape along a new axis."""
    tensors = promoted(*map(as_tensor, x))
    at = axis_of("stack", axis, tensors[0].type.rank + 1)
    widened = [reshaped(t, (*t.type.shape[:at], 1, *t.type.shape[at:])) for t in tensors]
    return apply(kernels.Concat(at), *widened)


@operation
def hstack(xs: Any) -> KerasTensor:
    tensors = promoted(*map(as_tensor, xs))
    return apply(kernels.Concat(0 if tensors[0].type.rank == 1 else 1), *tensors)


@operation
def vstack(xs: Any) -> KerasTensor:
    tensors = promoted(*map(as_tensor, xs))
    return apply(
        kernels.Concat(0),
        *(t if t.type.rank > 1 else reshaped(t, (1, *t.type.shape)) for t in tensors),
    )


@operation
def split(x: Any, indices_or_sections: Any, axis: int = 0) -> list[KerasTensor]:
    """Parts of x along an axis: so many equal ones, or cut at the given indices."""
    x = as_tensor(x)
    at = axis_of("split", axis, x.type.rank)
    size = x.type.shape[at]
    if not isinstance(size, int):
        _refuse(f"split: axis {axis} of {x.shape} must be known")
    if is_integer(indices_or_sections):
        if indices_or_sections < 1 or size % indices_or_sections:
            _refuse(f"split: {size} elements don't split into {indices_or_sections} equal parts")
        step = size // indices_or_sections
        cuts = list(range(step, size, step))
    else:
        cuts = [int(c) for c in indices_or_sections]
    return [_slice(x, at, a, b) for a, b in itertools.pairwise([0, *cuts, size])]


def _slice(
    x: KerasTensor, axis: int, start: int | None, end: int | None, step: int = 1
) -> KerasTensor:
    whole: list[Any] = [None] * x.type.rank
    starts, ends, steps = whole.copy(), whole.copy(), [1] * x.type.rank
    starts[axis], ends[axis], steps[axis] = start, end, step
    return apply(kernels.Slice(tuple(starts), tuple(ends), tuple(steps)), x)


@operation
def flip(x: Any, axis: Any = None) -> KerasTensor:
    """x backwards along axes (all of them unless told which)."""
    x = as_tensor(x)
    axes = range(x.type.rank) if axis is None else [axis] if is_integer(axis) else axis
    back = {axis_of("flip", a, x.type.rank) for a in axes}
    open_ends = (None,) * x.type.rank
    return apply(
        kernels.Slice(
            open_ends, open_ends, tuple(-1 if d in back else 1 for d in range(x.type.rank))
        ),
        x,
    )


@operation
def roll(x: Any, shift: int, axis: int) -> KerasTensor:
    """x moved along an axis, what leaves at the end coming back at the start."""
    x = as_tensor(x)
    at = axis_of("roll", axis, x.type.rank)
    size = x.type.shape[at]
    if not isinstance(size, int):
        _refuse(f"roll: axis {axis} of {x.shape} must be known")
    cut = -int(shift) % size if size else 0
    return apply(kernels.Concat(at), _slice(x, at, cut, None), _slice(x, at, 0, cut))


@operation
def pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: Any = None) -> KerasTensor:
    """x with (before, after) elements added per axis."""
    x = as_tensor(x)
    pairs = np.broadcast_to(np.asarray(pad_width, np.int64), (x.type.rank, 2)).tolist()
    if mode not in ("constant", "reflect", "edge"):
        _refuse(f"pad: mode must be 'constant', 'reflect' or 'edge'; received {mode!r}")
    value = 0.0 if constant_values is None else float(constant_values)
    return apply(kernels.Pad(tuple((a, b) for a, b in pairs), mode, value), x)


@operation
def broadcast_to(x: Any, shape: Any) -> KerasTensor:
    return apply(kernels.Broadcast(tuple(BATCH if d is None else d for d in shape)), x)


@operation
def repeat(x: Any, repeats: int, axis: int | None = None) -> KerasTensor:
    """Each element (of an axis) several times in a row."""
    x = as_tensor(x)
    if axis is None:
        x, axis = reshaped(x, (size_of(x.type.shape),)), 0
    at, shape = axis_of("repeat", axis, x.type.rank), x.type.shape
    inner = reshaped(x, (*shape[: at + 1], 1, *shape[at + 1 :]))
    wide = apply(kernels.Broadcast((*shape[: at + 1], repeats, *shape[at + 1 :])), inner)
    return reshaped(wide, (*shape[:at], shape[at] * repeats, *shape[at + 1 :]))


@operation
def tile(x: Any, repeats: Any) -> KerasTensor:
    """x several times along each axis."""
    x = as_tensor(x)
    counts = [repeats] if is_integer(repeats) else list(repeats)
    counts = [1] * (x.type.rank - len(counts)) + counts
    shape: Shape = (1,) * (len(counts) - x.type.rank) + x.type.shape
    inner: list[Extent] = []
    wide: list[Extent] = []
    for count, extent in zip(counts, shape, strict=True):
        inner += [1, extent]
        wide += [count, extent]
    y = apply(kernels.Broadcast(tuple(wide)), reshaped(x, tuple(inner)))
    return reshaped(y, tuple(e * c for e, c in zip(shape, counts, strict=True)))


@operation
def take(x: Any, indices: Any, axis: int | None = None) -> KerasTensor:
    """The slices of x at integer positions."""
    x = as_tensor(x)
    if axis is None:
        x, axis = reshaped(x, (size_of(x.type.shape),)), 0
    chosen = as_tensor(indices)
    if not chosen.type.dtype.is_integer:
        _refuse(f"take: indices must be integers; received {chosen.dtype}")
    return apply(kernels.Gather(axis_of("take", axis, x.type.rank)), x, chosen)


@operation
def get_item(x: Any, key: Any) -> KerasTensor:
    """x[key] with integers, slices, None, … and one tensor or list of integers."""
    x = as_tensor(x)
    keys = list(key) if isinstance(key, tuple) else [key]
    fixed = builtins.sum(k is not None and k is not Ellipsis for k in keys)
    if fixed > x.type.rank:
        _refuse(f"too many indices for a tensor of shape {x.shape}: {fixed}")
    if Ellipsis not in [k for k in keys if isinstance(k, type(Ellipsis))]:
        keys.append(Ellipsis)
    at = next(n for n, k in enumerate(keys) if k is Ellipsis)
    keys[at : at + 1] = [slice(None)] * (x.type.rank - fixed)
    return _indexed(x, keys)


def _indexed(x: KerasTensor, keys: Sequence[Any]) -> KerasTensor:
    """Slices first, in one operator; then integers and None by reshaping; then a gather."""
    real = [k for k in keys if k is not None]
    starts, ends, steps = [], [], []
    gathers: list[tuple[int, Any]] = []
    for axis, key in enumerate(real):
        match key:
            case slice():
                parts = (key.start, key.stop, key.step)
            case _ if is_integer(key):
                if key >= 0 and not isinstance(x.type.shape[axis], int):
                    gathers.append((axis, np.asarray(int(key), np.int32)))
                    parts = (None, None, None)
                else:
                    parts = _position(x, axis, int(key))
            case KerasTensor() | Variable() | list() | np.ndarray():
                gathers.append((axis, key))
                parts = (None, None, None)
            case _:
                _refuse(
                    f"a tensor can be indexed by integers, slices and integer tensors; received {key!r}"
                )
        starts.append(None if parts[0] is None else int(parts[0]))
        ends.append(None if parts[1] is None else int(parts[1]))
        steps.append(1 if parts[2] is None else int(parts[2]))
    if len(gathers) > 1:
        _refuse("only one axis of a tensor can be indexed by integer tensors at a time")
    if builtins.any(
        s is not None or e is not None or t != 1
        for s, e, t in zip(starts, ends, steps, strict=True)
    ):
        x = apply(kernels.Slice(tuple(starts), tuple(ends), tuple(steps)), x)
    for axis, indices in gathers:
        x = apply(kernels.Gather(axis), x, as_tensor(indices))
    return _relabelled(x, keys, {axis: as_tensor(k).type.rank for axis, k in gathers})


def _relabelled(x: KerasTensor, keys: Sequence[Any], gathered: dict[int, int]) -> KerasTensor:
    shape: list[Extent] = []
    source, axis = iter(x.type.shape), 0
    for key in keys:
        if key is None:
            shape.append(1)
            continue
        taken = [next(source) for _ in range(gathered.get(axis, 1))]
        if not is_integer(key):
            shape.extend(taken)
        axis += 1
    return reshaped(x, tuple(shape))


def _position(x: KerasTensor, axis: int, position: int) -> tuple[int, int | None, int]:
    size = x.type.shape[axis]
    if not isinstance(size, int):
        _refuse(
            f"the batch axis of {x.shape} can't be indexed by {position}: its size is known only at run time; "
            f"expected an index from the start"
        )
    if not -size <= position < size:
        _refuse(f"index {position} is out of range for axis {axis} of shape {x.shape}")
    position %= size
    return position, position + 1, 1


def _filled(shape: Any, value: Any, dtype: Any) -> KerasTensor:
    extents = (shape,) if is_integer(shape) else tuple(shape)
    kind = DType.of(dtype or backend.floatx())
    if builtins.all(is_integer(d) for d in extents):
        return as_tensor(np.full(extents, value, kind.numpy))
    return apply(
        kernels.Broadcast(tuple(BATCH if d is None else d for d in extents)), as_tensor(value, kind)
    )


def zeros(shape: Any, dtype: Any = None) -> KerasTensor:
    return _filled(shape, 0, dtype)


def ones(shape: Any, dtype: Any = None) -> KerasTensor:
    return _filled(shape, 1, dtype)


def full(shape: Any, fill_value: Any, dtype: Any = None) -> KerasTensor:
    return _filled(shape, fill_value, dtype)


@operation
def zeros_like(x: Any, dtype: Any = None) -> KerasTensor:
    x = as_tensor(x)
    return apply(kernels.Broadcast(x.type.shape), as_tensor(0, dtype or x.dtype))


@operation
def ones_like(x: Any, dtype: Any = None) -> KerasTensor:
    x = as_tensor(x)
    return apply(kernels.Broadcast(x.type.shape), as_tensor(1, dtype or x.dtype))


@operation
def full_like(x: Any, fill_value: Any, dtype: Any = None) -> KerasTensor:
    x = as_tensor(x)
    return apply(kernels.Broadcast(x.type.shape), as_tensor(fill_value, dtype or x.dtype))


def arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = None) -> KerasTensor:
    values = np.arange(start) if stop is None else np.arange(start, stop, step)
    return as_tensor(values, dtype or ("int32" if values.dtype.kind == "i" else backend.floatx()))


def linspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: Any = None,
    axis: int = 0,
) -> Any:
    """`num` numbers from start to stop along a new axis, and with `retstep` the steps between them."""
    if not any(isinstance(v, Operators) for v in (start, stop)):
        found, step = np.linspace(start, stop, num, endpoint, retstep=True, axis=axis)
        numbers = as_tensor(found, dtype or backend.floatx())
        return (numbers, as_tensor(step, dtype or backend.floatx())) if retstep else numbers
    first, last = (
        as_tensor(start, dtype or backend.floatx()),
        as_tensor(stop, dtype or backend.floatx()),
    )
    width = last - first
    shape = [1] * (width.ndim + 1)
    at = axis_of("linspace", axis, width.ndim + 1)
    shape[at] = num
    parts = np.linspace(0, 1, num, endpoint).reshape(shape).astype(width.type.dtype.numpy)
    spread = expand_dims(first, at) + parts * expand_dims(width, at)
    gaps = max(num - 1 if endpoint else num, 1)
    return (spread, width / gaps) if retstep else spread


def eye(N: int, M: int | None = None, k: int = 0, dtype: Any = None) -> KerasTensor:
    return as_tensor(np.eye(N, M, k), dtype or backend.floatx())


def shape(x: Any) -> tuple[Any, ...]:
    """The shape. The batch is a symbol within layers, where it may be computed with, and None between them."""
    tensor = as_tensor(x)
    return tensor.type.shape if scope() else tensor.shape


def ndim(x: Any) -> int:
    return as_tensor(x).ndim


def convert_to_tensor(x: Any, dtype: Any = None, sparse: Any = None) -> KerasTensor:
    return as_tensor(x, dtype)


def convert_to_numpy(x: Any) -> Any:
    """The values of a tensor that doesn't depend on a model input."""
    return as_tensor(x).numpy()


def is_tensor(x: Any) -> bool:
    return isinstance(x, (KerasTensor, Variable))


@operation
def stop_gradient(variable: Any) -> KerasTensor:
    """The tensor, through which no gradient goes back."""
    return apply(StopGradient(), variable)


__all__ = [
    "arange", "broadcast_to", "concatenate", "convert_to_numpy", "convert_to_tensor", "expand_dims", "eye", "flip",
    "full", "full_like", "get_item", "hstack", "is_tensor", "linspace", "moveaxis", "ndim", "ones", "ones_like", "pad",
    "ravel", "repeat", "reshape", "roll", "shape", "split", "squeeze", "stack", "stop_gradient", "swapaxes", "take",
    "tile", "transpose", "vstack", "zeros", "zeros_like",
]  # fmt: skip
