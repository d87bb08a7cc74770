"""The modules that Keras 2 had at other paths, `keras.layers.embeddings` and the like, for programs that import them.

Each is a view of the parts of convc.keras that took its place, made when convc.keras is imported.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from convc.keras import backend, callbacks, engine, layers, losses, models, utils
from convc.keras.engine import input as inputs
from convc.keras.engine import input_spec, layer, model
from convc.keras.engine.naming import missing
from convc.keras.layers import advanced_activations as _advanced_activations  # noqa: F401 - now attributes
from convc.keras.layers import convolutional as _convolutional  # noqa: F401
from convc.keras.layers import core as _core  # noqa: F401
from convc.keras.layers import merge as _merge  # noqa: F401
from convc.keras.layers import normalization as _normalization  # noqa: F401
from convc.keras.layers import pooling as _pooling  # noqa: F401
from convc.keras.utils import np_utils as _np_utils  # noqa: F401

ROOT = "convc.keras"


class OldModule(ModuleType):
    """A module whose names are looked up in others, the first that has them."""

    def __init__(self, name: str, parts: tuple[Any, ...]) -> None:
        super().__init__(
            name, f"What stood here in Keras 2: {', '.join(p.__name__ for p in parts)}."
        )
        self.__path__: list[str] = []
        self.__file__ = __file__
        self._parts = parts
        self.__all__ = [
            n
            for part in parts
            for n in getattr(part, "__all__", dir(part))
            if not n.startswith("_")
        ]

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_"):
            for part in self._parts:
                if hasattr(part, name):
                    return getattr(part, name)
        raise missing(self.__name__, name, self.__all__)


_PATHS: dict[str, tuple[Any, ...]] = {
    "backend.tensorflow_backend": (backend,),
    "callbacks.callbacks": (callbacks,),
    "engine.base_layer": (layer, input_spec, inputs),
    "engine.input_layer": (inputs,),
    "engine.topology": (layer, input_spec, inputs, model, utils),
    "engine.training": (model,),
    "layers.dense_attention": (layers,),
    "layers.embeddings": (layers,),
    "layers.experimental": (layers,),
    "layers.experimental.preprocessing": (layers,),
    "layers.local": (layers,),
    "layers.noise": (layers,),
    "losses.losses": (losses,),
    "objectives": (losses,),
    "saving.save": (models,),
    "utils.all_utils": (utils,),
    "utils.conv_utils": (utils,),
    "utils.data_utils": (utils,),
    "utils.generic_utils": (utils,),
    "utils.image_utils": (utils,),
    "utils.io_utils": (utils,),
    "utils.layer_utils": (utils,),
    "utils.multi_gpu_utils": (utils,),
    "utils.training_utils": (utils,),
    "utils.vis_utils": (utils,),
}


_OF_THE_ENGINE = (
    (layer, "Layer"), (input_spec, "InputSpec"), (inputs, "Input"), (inputs, "InputLayer"), (model, "Model"),
    (utils, "get_source_inputs"),
)  # fmt: skip
"""What `keras.engine` itself had."""


def _register() -> None:
    for path, parts in _PATHS.items():
        name = f"{ROOT}.{path}"
        module = OldModule(name, parts)
        sys.modules[name] = module
        parent, _, last = name.rpartition(".")
        # Found as an attribute too, as submodules are, where nothing else has the name.
        if last not in vars(sys.modules[parent]):
            setattr(sys.modules[parent], last, module)
    for part, name in _OF_THE_ENGINE:
        setattr(engine, name, getattr(part, name))


_register()
