"""Functions on tensors, with Keras' names: what layers and models may compute with besides other layers."""

from typing import NoReturn as _NoReturn

from convc.keras.engine.naming import missing as _missing
from convc.keras.engine.tensor import FUNCTIONS
from convc.keras.ops import (
    blocks,
    control,
    crossentropies,
    elementwise,
    further,
    image,
    linalg,
    nn,
    numeric,
    ordering,
    reductions,
    shaping,
)
from convc.keras.ops.blocks import *  # noqa: F403
from convc.keras.ops.control import *  # noqa: F403
from convc.keras.ops.control import map_ as map  # noqa: A004
from convc.keras.ops.crossentropies import *  # noqa: F403
from convc.keras.ops.elementwise import *  # noqa: F403
from convc.keras.ops.elementwise import cast_ as cast
from convc.keras.ops.further import *  # noqa: F403
from convc.keras.ops.image import resize
from convc.keras.ops.linalg import *  # noqa: F403
from convc.keras.ops.nn import *  # noqa: F403
from convc.keras.ops.numeric import *  # noqa: F403
from convc.keras.ops.ordering import *  # noqa: F403
from convc.keras.ops.ordering import slice_ as slice  # noqa: A004
from convc.keras.ops.reductions import *  # noqa: F403
from convc.keras.ops.reductions import matmul_ as matmul
from convc.keras.ops.shaping import *  # noqa: F403

amax, amin = reductions.max, reductions.min

_MODULES = (
    elementwise, reductions, shaping, nn, blocks, further, ordering, numeric, control, linalg, crossentropies,
)  # fmt: skip
for _module in (*_MODULES, image):
    FUNCTIONS.update({_name.rstrip("_"): getattr(_module, _name) for _name in _module.__all__})

__all__ = [
    *(_name for _module in _MODULES for _name in _module.__all__ if _name[-1] != "_"),
    "image", "linalg", "map", "slice",
    "amax", "amin", "cast", "matmul", "resize",
]  # fmt: skip


def __getattr__(name: str) -> _NoReturn:
    raise _missing("convc.keras.ops", name, __all__)
