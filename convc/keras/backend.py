"""Global settings of the front end: image data format, default float type, automatic names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from convc.errors import ModelError
from convc.keras.engine.naming import clear_names, missing, nearest
from convc.types import DType

_FORMATS = ("channels_last", "channels_first")
_settings: dict[str, Any] = {
    "image_data_format": "channels_last",
    "floatx": "float32",
    "epsilon": 1e-7,
    "progress_style": "keras3",
    "threads": None,
    "policy": None,
}
_STYLES = ("keras3", "classic")


def image_data_format() -> str:
    """'channels_last' or 'channels_first': what layers use whose data_format is None."""
    return str(_settings["image_data_format"])


def set_image_data_format(data_format: str) -> None:
    _settings["image_data_format"] = standardize_data_format(data_format, "set_image_data_format")


def standardize_data_format(data_format: Any, owner: str) -> str:
    """The format itself, or the default for None; ModelError names the owner otherwise."""
    if data_format is None:
        return image_data_format()
    text = str(data_format).lower()
    if text not in _FORMATS:
        raise ModelError(
            f"{owner}: data_format must be 'channels_last', 'channels_first' or None; "
            f"received {data_format!r}{nearest(text, _FORMATS)}"
        )
    return text


def floatx() -> str:
    return str(_settings["floatx"])


def set_floatx(value: str) -> None:
    try:
        dtype = DType.of(value)
    except ValueError:
        dtype = DType.bool
    if not dtype.is_float:
        raise ModelError(
            f"set_floatx: expected float16, bfloat16, float32 or float64; received {value!r}"
        )
    _settings["floatx"] = dtype.value


def standardize_policy(name: Any) -> str:
    """The name of a dtype or of a mixed policy; ModelError for others."""
    text = str(name)
    if text in ("mixed_float16", "mixed_bfloat16"):
        return text
    try:
        return DType.of(text).value
    except (TypeError, ValueError):
        raise ModelError(
            f"dtype policy: expected a dtype, 'mixed_float16' or 'mixed_bfloat16'; received {name!r}"
        ) from None


def policy() -> str:
    """The policy of layers which say nothing: the default float, unless another was set."""
    return str(_settings["policy"] or floatx())


def set_policy(name: str | None) -> None:
    _settings["policy"] = name


def epsilon() -> float:
    return float(_settings["epsilon"])


def set_epsilon(value: float) -> None:
    _settings["epsilon"] = float(value)


def progress_style() -> str:
    """'keras3' or 'classic': how `fit` draws its progress, as Keras 3 or as Keras 2."""
    return str(_settings["progress_style"])


def set_progress_style(style: str) -> None:
    if style not in _STYLES:
        raise ModelError(
            f"set_progress_style: expected {' or '.join(map(repr, _STYLES))}; received {style!r}"
        )
    _settings["progress_style"] = style


def threads() -> int | None:
    """How many threads a step of training or prediction takes; None for one per CPU."""
    found: int | None = _settings["threads"]
    return found


def set_threads(count: Any) -> None:
    """Holds for models whose first step comes after it."""
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
        raise ModelError(f"set_threads: expected a number from 1 or None; received {count!r}")
    _settings["threads"] = count


def image_dim_ordering() -> str:
    """Keras 1's name of the image data format: 'tf' or 'th'."""
    return "tf" if image_data_format() == "channels_last" else "th"


def set_image_dim_ordering(dim_ordering: str) -> None:
    """Keras 1's `set_image_data_format`: 'tf' or 'th'."""
    if dim_ordering not in ("tf", "th"):
        raise ModelError(
            f"set_image_dim_ordering: expected 'tf' or 'th'; received {dim_ordering!r}"
        )
    set_image_data_format("channels_last" if dim_ordering == "tf" else "channels_first")


def get_value(x: Any) -> Any:
    """A copy of the numbers of a variable or of a tensor that depends on no input (Keras 2's `K.get_value`)."""
    return np.array(x.numpy() if hasattr(x, "numpy") else x)[()]


def set_value(x: Any, value: Any) -> None:
    """Assigns to a variable, such as an optimizer's `lr` (Keras 2's `K.set_value`)."""
    x.assign(value)


def clear_session() -> None:
    """Makes automatic layer names start again at `conv2d`, `dense`, …"""
    clear_names()


FUNCTIONS: dict[str, Callable[..., Any]] = {}
"""Keras 2's functions on tensors by name; convc.keras.backend_functions fills it in."""


def __getattr__(name: str) -> Any:
    if name in FUNCTIONS:
        return FUNCTIONS[name]
    raise missing("convc.keras.backend", name, (*FUNCTIONS, *globals()))


def backend() -> str:
    """The name of the backend: convc."""
    return "convc"
