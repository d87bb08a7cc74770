"""One row per way of using an operator. Every generic operator test runs over this table.

A file per family of operators; `case` has what a row is.
"""

from __future__ import annotations

from tests.ops.cases.case import Case
from tests.ops.cases.convolution import CONV, CONV_GRADIENTS, VOLUME, VOLUME_GRADIENTS, WINOGRAD
from tests.ops.cases.elementwise import BROADCASTING, CASTS, ELEMENTWISE, INTEGER
from tests.ops.cases.images import DRAWN, RANDOM, WARP
from tests.ops.cases.placing import DETECTION, FORESTS, INDEXING, ORDERING, SHAPE, SORTING
from tests.ops.cases.recurrent import RECURRENT
from tests.ops.cases.sums import LOSS, MATMUL, NORM, REDUCE
from tests.ops.cases.windows import POOL, POOL_GRADIENTS, RESIZE_GRADIENTS

FAMILIES: dict[str, list[Case]] = {
    "recurrent": RECURRENT,
    "random": RANDOM,
    "drawn": DRAWN,
    "warp": WARP,
    "elementwise": ELEMENTWISE,
    "casts": CASTS,
    "broadcasting": BROADCASTING,
    "integer": INTEGER,
    "conv": CONV,
    "conv_gradients": CONV_GRADIENTS,
    "volume": VOLUME,
    "volume_gradients": VOLUME_GRADIENTS,
    "winograd": WINOGRAD,
    "pool": POOL,
    "pool_gradients": POOL_GRADIENTS,
    "resize_gradients": RESIZE_GRADIENTS,
    "matmul": MATMUL,
    "reduce": REDUCE,
    "norm": NORM,
    "loss": LOSS,
    "shape": SHAPE,
    "indexing": INDEXING,
    "ordering": ORDERING,
    "sorting": SORTING,
    "detection": DETECTION,
    "forests": FORESTS,
}

CASES = [case for rows in FAMILIES.values() for case in rows]
