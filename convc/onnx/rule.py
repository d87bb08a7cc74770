"""What a rule of export is: it emits ONNX operators for a node's inputs through an `Emitter`, and returns the value.

It returns None where ONNX says this case only through the operator's decomposition, and raises UnsupportedError for
what ONNX can't say at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from convc.errors import UnsupportedError
from convc.graph.op import Op
from convc.ops.base import Pair
from convc.types import Dim, DType, Extent, TensorType

LAST = (1 << 63) - 1
"""ONNX' open end of a slice."""


class Emitter(Protocol):
    """What a rule may ask of the exporter."""

    opset: int
    types: dict[str, TensorType]

    def __call__(self, kind: str, *inputs: str, **attributes: Any) -> str: ...
    def constant(self, array: Any, base: str = ...) -> str: ...
    def integers(self, values: Iterable[Any], base: str) -> str: ...
    def extents(self, values: Iterable[Extent]) -> str: ...
    def second(self, kind: str, dtype: DType, *inputs: str, **attributes: Any) -> str: ...
    def is_read_by(self, *kinds: type[Op]) -> bool: ...
    def is_made_by(self, kind: type[Op], value: str) -> bool: ...
    def scalar(self, value: float, like: str) -> str: ...
    def cast(self, value: str, dtype: DType) -> str: ...
    def code(self, dtype: DType) -> int: ...
    def known(self, value: str) -> Any: ...


Rule = Callable[..., "str | None"]
"""`rule(emitter, op, *inputs)`."""


def plain(kind: str, *fields: str, **renamed: str) -> Rule:
    """The ONNX operator of the same meaning. `fields` are attributes of one name; `renamed` is theirs=ours."""
    names = {f: f for f in fields} | renamed

    def rule(e: Emitter, op: Op, *inputs: str) -> str:
        given = {theirs: getattr(op, ours) for theirs, ours in names.items()}
        return e(
            kind, *inputs, **{k: int(v) if v is True or v is False else v for k, v in given.items()}
        )

    return rule


def pads_of(padding: Sequence[Pair]) -> list[int]:
    """ONNX' order: all starts, then all ends."""
    pads = [pair[k] for k in range(2) for pair in padding]
    if min(pads) < 0:
        raise UnsupportedError(f"ONNX takes no negative padding, got {padding}")
    return pads


def window(op: Any) -> dict[str, Any]:
    """The attributes that convolutions and pools share."""
    return {"strides": op.stride, "pads": pads_of(op.padding)}


def cut(e: Emitter, x: str, ranges: Iterable[tuple[Extent | None, Extent | None, int]]) -> str:
    """x[start:end:step, …], naming only the dimensions that aren't taken whole."""
    rows = [(d, a, b, s) for d, (a, b, s) in enumerate(ranges) if (a or 0, b, s) != (0, None, 1)]
    if not rows:
        return x
    starts = [(0 if s > 0 else LAST) if a is None else a for _, a, _, s in rows]
    ends = [(LAST if s > 0 else -LAST) if b is None else b for _, _, b, s in rows]
    axes, steps = [r[0] for r in rows], [r[3] for r in rows]
    parts = (("starts", starts), ("ends", ends), ("axes", axes), ("steps", steps))
    return e("Slice", x, *(positions(e, values, name) for name, values in parts))


def positions(e: Emitter, values: Sequence[Extent], name: str) -> str:
    """A vector of positions, which may be symbolic."""
    return (
        e.extents(values) if any(isinstance(v, Dim) for v in values) else e.integers(values, name)
    )
