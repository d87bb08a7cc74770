"""Random tensors, as `keras.random` has them.

Outside of models they are computed at once, from numpy's generators. Within a layer or a training step they are part
of the compiled program: drawn anew in each step of training (from the key of the training and the step's number), the
same ones in each prediction. An integer `seed` draws the same numbers every time, a `SeedGenerator` others each time.
"""

from __future__ import annotations

import math
import zlib
from typing import Any, NoReturn

import numpy as np

from convc.errors import ModelError, UnsupportedError
from convc.keras import backend, ops
from convc.keras.engine.arguments import fraction, is_integer
from convc.keras.engine.call import collected_losses
from convc.keras.engine.naming import scope, scope_name, user_line
from convc.keras.engine.tensor import (
    KerasTensor,
    Variable,
    apply,
    as_tensor,
    cast,
    extents,
    recording_now,
)
from convc.keras.training.seeds import next_key
from convc.ops.noise import FreshSeed
from convc.ops.random import RandomBits
from convc.types import DType, Shape

__all__ = [
    "SeedGenerator", "beta", "binomial", "categorical", "dropout", "gamma", "normal", "randint", "shuffle",
    "truncated_normal", "uniform",
]  # fmt: skip


class SeedGenerator:
    """Seeds for a series of draws, all of which follow from one number."""

    def __init__(self, seed: int | None = None, name: str | None = None, **kwargs: Any) -> None:
        if seed is not None and not is_integer(seed):
            raise ModelError(f"SeedGenerator: seed must be an integer or None; received {seed!r}")
        self._initial_seed = int(seed) if seed is not None else next_key()
        self.name = name or "seed_generator"
        first = np.array([self._initial_seed & 0xFFFFFFFF, 0], np.uint32)
        self.state = Variable(first, dtype="uint32", trainable=False, name="seed_generator_state")
        self._drawn = 0

    def next(self, ordered: bool = True) -> Any:
        """uint32[2]: the next seed."""
        found = np.array([self._initial_seed & 0xFFFFFFFF, self._drawn], np.uint32)
        self._drawn += 1
        return found

    def get_config(self) -> dict[str, Any]:
        return {"seed": self._initial_seed}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> SeedGenerator:
        return cls(**config)


def _extents(name: str, shape: Any) -> Any:
    sizes = (shape,) if is_integer(shape) or shape is None else tuple(shape)
    sizes = tuple(int(s) if isinstance(s, np.integer) else s for s in sizes)
    return extents(sizes, f"{name}: shape")


def _traced(shape: Shape = ()) -> bool:
    """Whether the draw is part of a program."""
    return bool(scope()) or not all(isinstance(e, int) for e in shape)


def _generator(seed: Any) -> np.random.Generator:
    """numpy's generator for a draw that is computed at once."""
    if isinstance(seed, SeedGenerator):
        return np.random.default_rng(seed.next())
    if seed is not None and not is_integer(seed):
        raise ModelError(
            f"{user_line()}: seed must be an integer or a SeedGenerator; received {seed!r}"
        )
    return np.random.default_rng(next_key() if seed is None else int(seed))


_counted: list[Any] = [None, 0]
"""The call that is being traced, by its list of losses, and how often it has drawn."""


def _number_within() -> int:
    """Which draw it is of the recording, or of the outermost call that is being traced: others get other numbers."""
    recording = recording_now()
    if recording is not None:
        return recording.next_number()
    current = collected_losses()
    _counted[:] = [current, _counted[1] + 1 if _counted[0] is current else 0]
    return int(_counted[1])


def _bits(shape: Shape, seed: Any) -> KerasTensor:
    """Uniform uint32 numbers within a program."""
    key = seed._initial_seed if isinstance(seed, SeedGenerator) else seed or 0
    number = _number_within()
    place = zlib.crc32(f"{scope_name()}/{number}".encode())
    constant = as_tensor(np.array([key & 0xFFFFFFFF, place], np.uint32))
    if seed is None or isinstance(seed, SeedGenerator):
        own = zlib.crc32(f"{key}/{number}".encode()) if isinstance(seed, SeedGenerator) else None
        constant = apply(FreshSeed(own), constant)
    else:
        constant = as_tensor(np.array([key & 0xFFFFFFFF, 0], np.uint32))
    return apply(RandomBits(shape), constant)


def _shares(shape: Shape, seed: Any, kind: DType) -> KerasTensor:
    """Numbers k / 2**24, 0 <= k < 2**24: exact in float32."""
    whole = ops.floor_divide(_bits(shape, seed), np.uint32(256))
    return as_tensor(cast(whole, kind) * 2.0**-24)


def _kind(dtype: Any) -> DType:
    return DType.of(dtype or backend.floatx())


def _computed(values: Any, kind: DType) -> KerasTensor:
    return as_tensor(np.asarray(values).astype(kind.numpy))


def uniform(
    shape: Any, minval: float = 0.0, maxval: float = 1.0, dtype: Any = None, seed: Any = None
) -> KerasTensor:
    """Numbers from `minval` to below `maxval`; integers for an integer dtype."""
    kind, sizes = _kind(dtype), _extents("uniform", shape)
    if kind.is_integer:
        return randint(shape, int(minval), int(maxval), kind.value, seed)
    if not _traced(sizes):
        return _computed(_generator(seed).uniform(minval, maxval, sizes), kind)
    return as_tensor(_shares(sizes, seed, kind) * (maxval - minval) + minval)


def normal(
    shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = None, seed: Any = None
) -> KerasTensor:
    """Normally distributed numbers (Box and Muller, 1958)."""
    kind, sizes = _kind(dtype), _extents("normal", shape)
    if not _traced(sizes):
        return _computed(_generator(seed).normal(mean, stddev, sizes), kind)
    both = _shares((2, *sizes), seed, kind)
    radius = ops.sqrt(ops.log(both[0] + 2.0**-25) * -2.0)
    return as_tensor(radius * ops.cos(both[1] * math.tau) * stddev + mean)


def truncated_normal(
    shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, seed: Any = None
) -> KerasTensor:
    """Normally distributed numbers within two deviations of the mean."""
    kind, sizes = _kind(dtype), _extents("truncated_normal", shape)
    if _traced(sizes):
        _refuse("truncated_normal")
    random = _generator(seed)
    values = random.standard_normal(sizes)
    while (outside := np.abs(values) > 2).any():
        values[outside] = random.standard_normal(int(outside.sum()))
    return _computed(values * stddev + mean, kind)


def randint(
    shape: Any, minval: int, maxval: int, dtype: Any = "int32", seed: Any = None
) -> KerasTensor:
    """Integers from `minval` to below `maxval`."""
    kind, sizes = DType.of(dtype), _extents("randint", shape)
    if not _traced(sizes):
        return _computed(_generator(seed).integers(minval, maxval, sizes), kind)
    found = ops.floor_divide(_bits(sizes, seed), np.uint32(256))
    span = cast(found, DType.float64) * ((maxval - minval) * 2.0**-24)
    return as_tensor(cast(ops.floor(span), kind) + as_tensor(minval, kind))


def categorical(
    logits: Any, num_samples: int, dtype: Any = "int32", seed: Any = None
) -> KerasTensor:
    """`num_samples` classes for each row of logits (batch, classes), by Gumbel's trick."""
    x = as_tensor(logits)
    if not _traced() and not x.step.symbolic:
        array = np.asarray(x.numpy(), np.float64)
        noise = _generator(seed).gumbel(size=(len(array), num_samples, array.shape[1]))
        return _computed(np.argmax(array[:, None] + noise, -1), DType.of(dtype))
    rows, classes = x.type.shape
    shares = _shares((rows, num_samples, classes), seed, DType.float32) + 2.0**-25
    noise = -ops.log(-ops.log(shares))
    return cast(ops.argmax(ops.expand_dims(x, 1) + noise, axis=-1), DType.of(dtype))


def dropout(inputs: Any, rate: float, noise_shape: Any = None, seed: Any = None) -> KerasTensor:
    """The inputs with a share `rate` of them 0, the others larger by 1 / (1 - rate); not in training only."""
    x, rate = as_tensor(inputs), fraction("dropout", "rate", rate)
    if rate == 1.0:
        return ops.zeros_like(x)
    sizes: Any = x.type.shape if noise_shape is None else _extents("dropout", noise_shape)
    if _traced(sizes) or x.step.symbolic:
        kept = _shares(sizes, seed, DType.float32) >= rate
    else:
        kept = as_tensor(_generator(seed).random(sizes) >= rate)
    return ops.where(kept, x * (1.0 / (1.0 - rate)), 0.0)


def shuffle(x: Any, axis: int = 0, seed: Any = None) -> KerasTensor:
    """x with its parts along an axis in another order."""
    tensor = as_tensor(x)
    if _traced() or tensor.step.symbolic:
        _refuse("shuffle")
    return as_tensor(_generator(seed).permutation(tensor.numpy(), axis=axis))


def gamma(shape: Any, alpha: Any, dtype: Any = None, seed: Any = None) -> KerasTensor:
    """Numbers of the gamma distribution of shape `alpha` and scale 1."""
    if _traced(_extents("gamma", shape)):
        _refuse("gamma")
    return _computed(_generator(seed).gamma(np.asarray(alpha), size=shape), _kind(dtype))


def beta(shape: Any, alpha: Any, beta: Any, dtype: Any = None, seed: Any = None) -> KerasTensor:
    """Numbers of the beta distribution."""
    if _traced(_extents("beta", shape)):
        _refuse("beta")
    drawn = _generator(seed).beta(np.asarray(alpha), np.asarray(beta), size=shape)
    return _computed(drawn, _kind(dtype))


def binomial(
    shape: Any, counts: Any, probabilities: Any, dtype: Any = None, seed: Any = None
) -> KerasTensor:
    """How many of `counts` trials succeed."""
    if _traced(_extents("binomial", shape)):
        _refuse("binomial")
    drawn = _generator(seed).binomial(np.asarray(counts), np.asarray(probabilities), size=shape)
    return _computed(drawn, _kind(dtype))


def _refuse(name: str) -> NoReturn:
    raise UnsupportedError(
        f"{user_line()}: keras.random.{name} isn't supported within models; normal, uniform, randint, categorical and "
        f"dropout are"
    )
