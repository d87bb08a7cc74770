"""Image files and Pillow's images, which need the extra `convc[image]`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from convc.errors import DataError, InputFileError, OutputError, UsageError
from convc.keras.backend import floatx, standardize_data_format
from convc.keras.engine.arguments import choice

Array = NDArray[Any]
MODES = {"grayscale": "L", "rgb": "RGB", "rgba": "RGBA"}
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "hamming", "box", "lanczos")


def pillow() -> Any:
    """The module PIL.Image; UsageError says how to get it."""
    try:
        import PIL.Image
    except ImportError:
        raise UsageError("image files need Pillow: pip install 'convc[image]'") from None
    return PIL.Image


def draw_on(image: Any) -> Any:
    """What draws lines and text on an image of Pillow."""
    pillow()
    import PIL.ImageDraw

    return PIL.ImageDraw.Draw(image)


def load_img(
    path: str | os.PathLike[str] | bytes | IO[bytes],
    color_mode: str = "rgb",
    target_size: tuple[int, int] | None = None,
    interpolation: str = "nearest",
    keep_aspect_ratio: bool = False,
) -> Any:
    """A file (or a binary stream) as an image of Pillow, in "grayscale", "rgb" or "rgba".

    `target_size` is (height, width); with `keep_aspect_ratio` the middle of that shape is cut out first. Greys of 16
    and 32 bits stay as they are.
    """
    image_module = pillow()
    mode = MODES[choice("load_img", "color_mode", color_mode, MODES)]
    source: Any = os.fsdecode(path) if isinstance(path, bytes) else path
    try:
        with image_module.open(source) as file:
            file.load()
            image = file.copy()
    except FileNotFoundError:
        raise InputFileError(f"no file {source}") from None
    except (OSError, ValueError, SyntaxError, image_module.DecompressionBombError) as error:
        raise InputFileError(f"{source}: can't be read as an image: {error}") from None
    if image.mode != mode and not (mode == "L" and image.mode in ("I;16", "I")):
        image = image.convert(mode)
    if target_size is None or image.size == (target_size[1], target_size[0]):
        return image
    name = choice("load_img", "interpolation", interpolation, INTERPOLATIONS)
    box = _middle(image.size, target_size) if keep_aspect_ratio else None
    method = getattr(image_module.Resampling, name.upper())
    return image.resize((target_size[1], target_size[0]), method, box=box)


def _middle(size: tuple[int, int], target_size: tuple[int, int]) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of the largest part in the middle that has the target's shape."""
    (width, height), (target_height, target_width) = size, target_size
    crop_height = min(height, width * target_height // target_width)
    crop_width = min(width, height * target_width // target_height)
    top, left = (height - crop_height) // 2, (width - crop_width) // 2
    return left, top, left + crop_width, top + crop_height


def img_to_array(img: Any, data_format: str | None = None, dtype: Any = None) -> Array:
    """An image of Pillow as floats [height, width, channels] (or channels first)."""
    data_format = standardize_data_format(data_format, "img_to_array")
    array = np.asarray(img, dtype=np.dtype(dtype or floatx()))
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3:
        raise DataError(f"img_to_array: expected an image, got shape {array.shape}")
    return array.transpose(2, 0, 1) if data_format == "channels_first" else array


def array_to_img(
    x: Any, data_format: str | None = None, scale: bool = True, dtype: Any = None
) -> Any:
    """An array of an image as one of Pillow; `scale` maps its least value to 0 and its largest to 255."""
    image_module = pillow()
    data_format = standardize_data_format(data_format, "array_to_img")
    array = np.asarray(x, dtype=np.dtype(dtype or floatx()))
    if array.ndim != 3:
        raise DataError(f"array_to_img: expected rank 3 (one image), got shape {array.shape}")
    if data_format == "channels_first":
        array = array.transpose(1, 2, 0)
    if scale:
        array = array - array.min()
        largest = array.max()
        array = (array / largest if largest else array) * 255
    match array.shape[2]:
        case 1 if array.max(initial=0) > 255:
            return image_module.fromarray(array[:, :, 0].astype(np.int32))
        case 1:
            return image_module.fromarray(array[:, :, 0].astype(np.uint8))
        case 3 | 4:
            return image_module.fromarray(np.ascontiguousarray(array).astype(np.uint8))
        case channels:
            raise DataError(f"array_to_img: expected 1, 3 or 4 channels, got {channels}")


def save_img(
    path: Any,
    x: Any,
    data_format: str | None = None,
    file_format: str | None = None,
    scale: bool = True,
    **kwargs: Any,
) -> None:
    """Writes an array as an image file; the format is that of the name's ending, unless given."""
    image = array_to_img(x, data_format, scale)
    if file_format is None and isinstance(path, (str, os.PathLike)):
        file_format = Path(path).suffix[1:].lower()
    file_format = "jpeg" if file_format and file_format.lower() == "jpg" else file_format
    if image.mode == "RGBA" and file_format == "jpeg":
        image = image.convert("RGB")
    try:
        image.save(path, format=file_format, **kwargs)
    except KeyError:
        raise UsageError(f"save_img: unknown file format {file_format!r}") from None
    except OSError as error:
        raise OutputError(f"can't write {path}: {error.strerror or error}") from None
