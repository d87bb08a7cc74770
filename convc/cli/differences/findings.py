"""What a comparison says: a row per value, and a verdict per fault."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from convc.cli.differences.rounding import Array, Difference


@dataclass(frozen=True)
class Row:
    """One value that somebody computed. `low` and `high` are the range of what it was computed from."""

    stage: str
    layer: str
    operators: str
    low: float
    high: float
    difference: Difference

    def cells(self) -> tuple[str, ...]:
        d = self.difference
        return (
            self.stage,
            self.layer or "-",
            self.operators,
            f"{self.low:.3g} … {self.high:.3g}",
            f"{d.largest:.4g}",
            f"{d.error:.2e}",
            f"{d.explained:.2e}",
            f"{d.ratio:.2f}",
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"ratio": self.difference.ratio}


@dataclass(frozen=True)
class Fault:
    """Something that rounding does not explain: who, in which layer, and which step of the compiler brought it."""

    who: str
    """"convc" or the peer's name."""
    layer: str
    operators: str
    step: str
    row: Row | None = None

    def text(self) -> str:
        where = f"layer {self.layer!r}" if self.layer else "no named layer"
        what = f" ({self.operators})" if self.operators else ""
        line = f"{self.who} is off, first in {where}{what}: {self.step}"
        if self.row is None:
            return line
        d = self.row.difference
        return (
            f"{line}; error {d.error:.2e} where rounding explains {d.explained:.2e}, "
            f"on inputs of {self.row.low:.3g} to {self.row.high:.3g}"
        )

    def to_json(self) -> dict[str, Any]:
        row = self.row.to_json() if self.row else None
        return {
            "who": self.who,
            "layer": self.layer,
            "operators": self.operators,
            "step": self.step,
            "row": row,
        }


def range_of(arrays: Sequence[Array]) -> tuple[float, float]:
    """The least and the largest finite number among arrays; zeros where there is none."""
    lows, highs = [], []
    for array in arrays:
        numbers = array.astype(np.float64).reshape(-1)
        numbers = numbers[np.isfinite(numbers)]
        if numbers.size:
            lows.append(float(numbers.min()))
            highs.append(float(numbers.max()))
    return (min(lows), max(highs)) if lows else (0.0, 0.0)
