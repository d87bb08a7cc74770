"""`tf.image`, with TensorFlow's arguments, for programs that import tensorflow where it isn't.

Images are (rows, columns, channels) or batches of them.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from convc.keras import ops, random
from convc.keras.engine.tensor import as_tensor
from convc.keras.utils.images import img_to_array, load_img


def resize(
    images: Any,
    size: Any,
    method: str = "bilinear",
    preserve_aspect_ratio: bool = False,
    antialias: bool = False,
    name: Any = None,
) -> Any:
    """Images at another size: floats, but for "nearest". The aspect ratio may be kept within the size."""
    del name
    x = as_tensor(images)
    size = tuple(int(s) for s in size)
    if preserve_aspect_ratio:
        rows, columns = _sides(x)
        scale = min(size[0] / rows, size[1] / columns)
        size = (round(rows * scale), round(columns * scale))
    if method != "nearest":
        x = ops.cast(x, "float64" if x.dtype == "float64" else "float32")
    return ops.image.resize(x, size, method, antialias=antialias and method != "nearest")


def _sides(x: Any) -> tuple[int, int]:
    rows, columns = x.shape[-3:-1]
    return int(rows), int(columns)


def resize_with_crop_or_pad(image: Any, target_height: int, target_width: int) -> Any:
    """The middle of images, or images in the middle of zeros, per direction."""
    x = as_tensor(image)
    for axis, target in ((-3, int(target_height)), (-2, int(target_width))):
        size = int(x.shape[axis])  # type: ignore[arg-type]
        before = abs(target - size) // 2
        at = x.ndim + axis
        if target < size:
            keys = [slice(None)] * x.ndim
            keys[at] = slice(before, before + target)
            x = x[tuple(keys)]
        elif target > size:
            widths = [(0, 0)] * x.ndim
            widths[at] = (before, target - size - before)
            x = ops.pad(x, widths)
    return x


def crop_to_bounding_box(
    image: Any, offset_height: int, offset_width: int, target_height: int, target_width: int
) -> Any:
    return ops.image.crop_images(
        image, offset_height, offset_width, target_height=target_height, target_width=target_width
    )


def pad_to_bounding_box(
    image: Any, offset_height: int, offset_width: int, target_height: int, target_width: int
) -> Any:
    return ops.image.pad_images(
        image, offset_height, offset_width, target_height=target_height, target_width=target_width
    )


def central_crop(image: Any, central_fraction: float) -> Any:
    """The middle share of the rows and columns."""
    x = as_tensor(image)
    rows, columns = _sides(x)
    top, left = (int((s - s * central_fraction) / 2) for s in (rows, columns))
    return crop_to_bounding_box(x, top, left, rows - 2 * top, columns - 2 * left)


def flip_left_right(image: Any) -> Any:
    return ops.flip(image, -2)


def flip_up_down(image: Any) -> Any:
    return ops.flip(image, -3)


def transpose(image: Any, name: Any = None) -> Any:
    """Rows as columns."""
    del name
    return ops.swapaxes(image, -3, -2)


def rot90(image: Any, k: int = 1, name: Any = None) -> Any:
    """Images turned anticlockwise by k quarters."""
    del name
    for _ in range(k % 4):
        image = flip_up_down(transpose(image))
    return image


def _drawn(seed: Any, low: float = 0.0, high: float = 1.0) -> Any:
    return random.uniform((), low, high, seed=seed)


def random_flip_left_right(image: Any, seed: Any = None) -> Any:
    """Images flipped with probability 1/2, each of a batch by itself."""
    return _flipped(image, flip_left_right, seed)


def random_flip_up_down(image: Any, seed: Any = None) -> Any:
    return _flipped(image, flip_up_down, seed)


def _flipped(image: Any, flip: Any, seed: Any) -> Any:
    x = as_tensor(image)
    shape = (ops.shape(x)[0], 1, 1, 1) if x.ndim == 4 else ()
    return ops.where(random.uniform(shape, seed=seed) < 0.5, flip(x), x)


def adjust_brightness(image: Any, delta: Any) -> Any:
    return as_tensor(image) + delta


def random_brightness(image: Any, max_delta: float, seed: Any = None) -> Any:
    return adjust_brightness(image, _drawn(seed, -max_delta, max_delta))


def adjust_contrast(images: Any, contrast_factor: Any) -> Any:
    """Images whose distance from each channel's mean is multiplied."""
    x = as_tensor(images)
    mean = ops.mean(x, axis=(-3, -2), keepdims=True)
    return (x - mean) * contrast_factor + mean


def random_contrast(image: Any, lower: float, upper: float, seed: Any = None) -> Any:
    return adjust_contrast(image, _drawn(seed, lower, upper))


def adjust_saturation(image: Any, saturation_factor: Any, name: Any = None) -> Any:
    """Images from 0 to 1 whose saturation is multiplied."""
    del name
    hue, saturation, value = ops.split(ops.image.rgb_to_hsv(image), 3, axis=-1)
    more = ops.clip(saturation * saturation_factor, 0.0, 1.0)
    return ops.image.hsv_to_rgb(ops.concatenate([hue, more, value], -1))


def random_saturation(image: Any, lower: float, upper: float, seed: Any = None) -> Any:
    return adjust_saturation(image, _drawn(seed, lower, upper))


def adjust_hue(image: Any, delta: Any, name: Any = None) -> Any:
    """Images from 0 to 1 whose hue is turned by a share of the circle."""
    del name
    hue, saturation, value = ops.split(ops.image.rgb_to_hsv(image), 3, axis=-1)
    return ops.image.hsv_to_rgb(ops.concatenate([ops.mod(hue + delta, 1.0), saturation, value], -1))


def random_hue(image: Any, max_delta: float, seed: Any = None) -> Any:
    return adjust_hue(image, _drawn(seed, -max_delta, max_delta))


def adjust_gamma(image: Any, gamma: float = 1, gain: float = 1) -> Any:
    return gain * ops.power(ops.cast(image, "float32"), gamma)


def random_crop(value: Any, size: Any, seed: Any = None, name: Any = None) -> Any:
    """A part of a tensor of this size, at a random place."""
    del name
    x = as_tensor(value)
    keys = []
    for full, wanted in zip(x.shape, (int(s) for s in size), strict=True):
        most = int(full) - wanted + 1  # type: ignore[arg-type]
        start = int(random.randint((), 0, most, seed=seed)) if most > 1 else 0
        keys.append(slice(start, start + wanted))
    return x[tuple(keys)]


_YUV = np.array(
    [
        [0.299, -0.14714119, 0.61497538],
        [0.587, -0.28886916, -0.51496512],
        [0.114, 0.43601035, -0.10001026],
    ],
    np.float32,
)
"""Red, green and blue as brightness and two differences: ITU-R BT.601 for analogue television."""


def rgb_to_yuv(images: Any) -> Any:
    return ops.dot(as_tensor(images), _YUV)


def yuv_to_rgb(images: Any) -> Any:
    return ops.dot(as_tensor(images), np.linalg.inv(_YUV.astype(np.float64)).astype(np.float32))


def rgb_to_grayscale(images: Any, name: Any = None) -> Any:
    del name
    return ops.image.rgb_to_grayscale(images)


def grayscale_to_rgb(images: Any, name: Any = None) -> Any:
    """The only channel three times."""
    del name
    return ops.repeat(images, 3, axis=-1)


def convert_image_dtype(image: Any, dtype: Any, saturate: bool = False, name: Any = None) -> Any:
    """Integers of the whole range as floats from 0 to 1, and back."""
    del saturate, name
    x = as_tensor(image)
    kind = np.dtype(str(dtype))
    integers = x.type.dtype.is_integer, kind.kind in "iu"
    if integers == (True, False):
        return ops.cast(x, str(dtype)) * (1.0 / np.iinfo(x.type.dtype.numpy).max)
    if integers == (False, True):
        most = np.iinfo(kind).max
        return ops.cast(ops.clip(x * (most + 0.5), 0, most), str(dtype))
    return ops.cast(x, str(dtype))


def per_image_standardization(image: Any) -> Any:
    """Images of mean 0 and variance 1, but for those of one colour."""
    x = ops.cast(image, "float32")
    axes = (-3, -2, -1)
    count = float(np.prod(x.shape[-3:]))  # type: ignore[arg-type]
    deviation = ops.maximum(ops.std(x, axis=axes, keepdims=True), count**-0.5)
    return (x - ops.mean(x, axis=axes, keepdims=True)) / deviation


def psnr(a: Any, b: Any, max_val: float, name: Any = None) -> Any:
    """The peak signal-to-noise ratio of each image in decibels."""
    del name
    x, y = ops.cast(a, "float32"), ops.cast(b, "float32")
    error = ops.mean(ops.square(x - y), axis=(-3, -2, -1))
    return 20.0 * float(np.log10(max_val)) - 10.0 * ops.log10(error)


def ssim(
    img1: Any,
    img2: Any,
    max_val: float,
    filter_size: int = 11,
    filter_sigma: float = 1.5,
    k1: float = 0.01,
    k2: float = 0.03,
) -> Any:
    """The structural similarity of each image (Wang et al., IEEE Trans. Image Processing 13, 2004)."""
    x: Any = ops.cast(img1, "float32")
    y: Any = ops.cast(img2, "float32")
    single = x.ndim == 3
    x, y = (ops.expand_dims(t, 0) if single else t for t in (x, y))
    at = np.arange(filter_size) - (filter_size - 1) / 2
    line = np.exp(-0.5 * (at / filter_sigma) ** 2)
    plane = np.outer(line, line) / line.sum() ** 2
    kernel = np.repeat(plane[:, :, None, None], int(x.shape[-1]), axis=2).astype(np.float32)

    def mean(t: Any) -> Any:
        return ops.depthwise_conv(t, kernel, data_format="channels_last")

    c1, c2 = (k1 * max_val) ** 2, (k2 * max_val) ** 2
    mx, my = mean(x), mean(y)
    luminance = (2.0 * mx * my + c1) / (mx * mx + my * my + c1)
    covariance = 2.0 * (mean(x * y) - mx * my)
    variances = mean(x * x + y * y) - (mx * mx + my * my)
    found = ops.mean(luminance * (covariance + c2) / (variances + c2), axis=(1, 2, 3))
    return found[0] if single else found


def total_variation(images: Any, name: Any = None) -> Any:
    """The sum of the absolute differences of neighbours, of each image."""
    del name
    x = as_tensor(images)
    down, across = x[..., 1:, :, :] - x[..., :-1, :, :], x[..., :, 1:, :] - x[..., :, :-1, :]
    axes = (-3, -2, -1)
    return ops.sum(ops.abs(down), axes) + ops.sum(ops.abs(across), axes)


def extract_patches(
    images: Any, sizes: Any, strides: Any, rates: Any, padding: str, name: Any = None
) -> Any:
    del name
    return ops.image.extract_patches(images, sizes[1:3], strides[1:3], rates[1:3], padding.lower())


def read_file(filename: Any, name: Any = None) -> Any:
    """A file's bytes."""
    del name
    path = filename.numpy() if hasattr(filename, "numpy") else filename
    path = path.decode() if isinstance(path, bytes) else str(path)
    with open(path, "rb") as stream:
        return stream.read()


def decode_image(contents: Any, channels: int = 0, dtype: Any = "uint8", **others: Any) -> Any:
    """The image (rows, columns, channels) in a file's bytes: PNG, JPEG, BMP or the first of a GIF."""
    del others
    mode = {0: "rgb", 1: "grayscale", 3: "rgb", 4: "rgba"}[channels]
    data = contents.numpy() if hasattr(contents, "numpy") else contents
    pixels = img_to_array(load_img(io.BytesIO(data), mode), "channels_last", np.uint8)
    return convert_image_dtype(pixels, dtype)


KINDS = ("bmp", "image", "jpeg", "png")
NAMES: dict[str, Any] = {
    f"image.{function.__name__}": function
    for function in (
        adjust_brightness, adjust_contrast, adjust_gamma, adjust_hue, adjust_saturation, central_crop,
        convert_image_dtype, crop_to_bounding_box, extract_patches, flip_left_right, flip_up_down, grayscale_to_rgb,
        pad_to_bounding_box, per_image_standardization, psnr, random_brightness, random_contrast, random_crop,
        random_flip_left_right, random_flip_up_down, random_hue, random_saturation, resize, resize_with_crop_or_pad,
        rgb_to_grayscale, rgb_to_yuv, rot90, ssim, total_variation, transpose, yuv_to_rgb,
    )
} | {
    **{f"{module}.decode_{kind}": decode_image for module in ("io", "image") for kind in KINDS},
    "image.hsv_to_rgb": ops.image.hsv_to_rgb,
    "image.random_crop": random_crop,
    "image.rgb_to_hsv": ops.image.rgb_to_hsv,
    "io.read_file": read_file,
}  # fmt: skip
"""By their dotted names below `tensorflow`."""
