"""Import rules of detection models."""

from __future__ import annotations

import numpy as np

from convc.onnx.importers.call import Call, Rejected, Rule
from convc.ops.suppression import NonMaxSuppression
from convc.types import DType


def non_max_suppression(c: Call) -> str:
    """Of the boxes, only the number of selected ones is read at import, if nobody says how many rows there are."""
    if c.rank(0) != 3 or c.rank(1) != 3 or c.shape(0)[:2] != (c.shape(1)[0], c.shape(1)[2]):
        raise Rejected(f"scores of {c.type(1)} do not fit boxes of {c.type(0)}")
    given = [
        c.reshape(c.cast(c[k], dtype), ()) if c.has(k) else c.constant(default, dtype)
        for k, (dtype, default) in enumerate(
            ((DType.int64, 0), (DType.float32, 0.0), (DType.float32, 0.0)), start=2
        )
    ]
    centered, filtered = bool(c.attr("center_point_box", 0)), c.has(4)

    def found() -> int:
        arrays = [c.importer.evaluate(v) for v in (c[0], c[1], *given)]
        op = NonMaxSuppression(0, centered, filtered)
        limit = int(np.asarray(arrays[2]))
        return len(op.selected(arrays[0], arrays[1], limit, arrays[3], arrays[4]))

    count = c.rows(found)
    if c.given_rows() is None:
        return c.add(NonMaxSuppression(count, centered, filtered), c[0], c[1], *given)
    more = c.add(NonMaxSuppression(count + 1, centered, filtered), c[0], c[1], *given)
    c.require_rows(c.slice(more, 0, count, count + 1), count)
    return c.slice(more, 0, 0, count)


RULES: dict[str, Rule] = {"NonMaxSuppression": non_max_suppression}
