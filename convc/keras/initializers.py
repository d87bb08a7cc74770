"""Initial values of weights, with Keras' names, arguments and fan rules.

Every initializer is called as `initializer(shape, dtype="float32")` and returns an array. Without a seed the values
follow from `convc.keras.utils.set_random_seed` (or are different in every process).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convc.errors import ModelError
from convc.keras import backend
from convc.keras.engine.arguments import real, refuse
from convc.keras.engine.naming import nearest, snake_case
from convc.keras.engine.registry import custom
from convc.types import DType

Array = NDArray[np.generic]
_stream = np.random.SeedSequence()


def set_stream_seed(seed: int) -> None:
    """Makes the seeds of all initializers made from now on follow from one number."""
    global _stream
    _stream = np.random.SeedSequence(seed)


def _next_seed() -> np.random.SeedSequence:
    return _stream.spawn(1)[0]


class Initializer:
    """Base of all initializers; subclasses define `__call__(shape, dtype)`."""

    settled = False
    """Whether `seeded` gives a function whose values are the same, whenever it is called."""

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        raise ModelError(f"initializer {type(self).__name__} lacks __call__(shape, dtype)")

    def get_config(self) -> dict[str, Any]:
        names = list(inspect.signature(type(self).__init__).parameters)[1:]
        return {name: getattr(self, name) for name in names if hasattr(self, name)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Initializer:
        return cls(**config)

    def seeded(self) -> Callable[..., Array]:
        """The function that makes the values of one weight, its random numbers already settled."""
        return self


class RandomInitializer(Initializer):
    """An initializer that draws from a seeded generator."""

    settled = True

    def __init__(self, seed: int | None = None) -> None:
        if seed is not None and not isinstance(seed, (int, np.integer)):
            raise ModelError(
                f"{type(self).__name__}: seed must be an integer or None; received {seed!r}"
            )
        self.seed = seed

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Array:
        return self.seeded()(shape, dtype)

    def seeded(self) -> Callable[..., Array]:
        seed = self.seed if self.seed is not None else _next_seed()

        def make(shape: Sequence[int], dtype: Any = None) -> Array:
            random = np.random.Generator(np.random.PCG64(seed))
            return self.draw(random, tuple(shape)).astype(
                DType.of(dtype or backend.floatx()).numpy, copy=False
            )

        return make

    def draw(self, random: np.random.Generator, shape: tuple[int, ...]) -> Array:
        raise ModelError(f"initializer {type(self).__name__} lacks draw(random, shape)")


def _truncated(random: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Standard normal values, those beyond two deviations drawn again."""
    values = random.standard_normal(shape, dtype=np.float32)
    while (outside := np.abs(values) > 2.0).any():
        values[outside] = random.standard_normal(int(outside.sum()), dtype=np.float32)
    return values


def _moved(values: Any, scale: Any, offset: Any = None) -> Array:
    """`values * scale + offset` in float32, in the memory of the values (for the shape (), in a new number)."""
    values *= np.float32(scale)
    if offset is not None:
        values += np.float32(offset)
    return np.asarray(values)


class RandomNormal(RandomInitializer):
    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None) -> None:
        super().__init__(seed)
        self.mean = real(type(self).__name__, "mean", mean)
        self.stddev = real(type(self).__name__, "stddev", stddev)

    def draw(self, random: np.random.Generator, shape: tuple[int, ...]) -> Array:
        return _moved(random.standard_normal(shape, dtype=np.float32), self.stddev, self.mean)


class TruncatedNormal(RandomNormal):
    def draw(self, random: np.random.Generator, shape: tuple[int, ...]) -> Array:
        return _moved(_truncated(random, shape), self.stddev, self.mean)


class RandomUniform(RandomInitializer):
    def __init__(
        self, minval: float = -0.05, maxval: float = 0.05, seed: int | None = None
    ) -> None:
        super().__init__(seed)
        self.minval = real("RandomUniform", "minval", minval)
        self.maxval = real("RandomUniform", "maxval", maxval)

    def draw(self, random: np.random.Generator, shape: tuple[int, ...]) -> Array:
        width = np.float32(self.maxval - self.minval)
        return _moved(random.random(shape, dtype=np.float32), width, self.minval)


class Zeros(Initializer):
    settled = True

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Array:
        return np.zeros(tuple(shape), DType.of(dtype or backend.floatx()).numpy)


class Ones(Initializer):
    settled = True

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Array:
        return np.ones(tuple(shape), DType.of(dtype or backend.floatx()).numpy)


class Constant(Initializer):
    settled = True

    def __init__(self, value: Any = 0.0) -> None:
        if np.asarray(value).dtype.kind not in "biuf":
            refuse("Constant", "value", "a number or an array of numbers", value)
        self.value = value

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Array:
        return np.full(tuple(shape), self.value, DType.of(dtype or backend.floatx()).numpy)


class Identity(Initializer):
    settled = True

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = real("Identity", "gain", gain)

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Array:
        if len(shape) != 2:
            raise ModelError(f"Identity: expected a shape of rank 2; received {tuple(shape)}")
        return np.asarray(self.gain * np.eye(shape[0], shape[1])).astype(
            DType.of(dtype or backend.floatx()).numpy
        )


class Orthogonal(RandomInitializer):
    """Rows or columns of an orthogonal matrix (Saxe et al., 2013), all but the last axis flattened."""

    def __init__(self, gain: float = 1.0, seed: int | None = None) -> None:
        super().__init__(seed)
        self.gain = gain

    def draw(self, random: np.random.Generator, shape: tuple[int, ...]) -> Array:
        if len(shape) < 2:
            raise ModelError(f"Orthogonal: expected a shape of rank 2 or more; received {shape}")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        flat = random.standard_normal((max(rows, columns), min(rows, columns)))
        q, r = np.linalg.qr(flat)
        q = q * np.sign(np.diag(r))
        return np.asarray(self.gain * (q if rows >= columns else q.T).reshape(shape))


def fans(shape: Sequence[int]) -> tuple[float, float]:
    """(fan in, fan out) of a kernel whose last two axes are input and output channels."""
    match len(shape):
        case 0:
            return 1, 1
        case 1:
            return shape[0], shape[0]
        case _:
            field = math.prod(shape[:-2])
            return shape[-2] * field, shape[-1] * field


class VarianceScaling(RandomInitializer):
    """Random values whose variance is `scale / fan` (He et al., 2015, generalised)."""

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: int | None = None,
    ) -> None:
        super().__init__(seed)
        if scale <= 0:
            raise ModelError(f"{type(self).__name__}: scale must be positive; received {scale!r}")
        _one_of(self, "mode", mode, ("fan_in", "fan_out", "fan_avg"))
        known = ("uniform", "truncated_normal", "untruncated_normal", "normal")
        _one_of(self, "distribution", distribution, known)
        self.scale, self.mode = scale, mode
        self.distribution = "truncated_normal" if distribution == "normal" else distribution

    def draw(self, random: np.random.Generator, shape: tuple[int, ...]) -> Array:
        fan_in, fan_out = fans(shape)
        fan = {"fan_in": fan_in, "fan_out": fan_out}.get(self.mode, (fan_in + fan_out) / 2)
        variance = self.scale / max(1.0, fan)
        if self.distribution == "uniform":
            limit = np.float32(math.sqrt(3.0 * variance))
            return _moved(random.random(shape, dtype=np.float32), 2 * limit, -limit)
        if self.distribution == "untruncated_normal":
            normal = random.standard_normal(shape, dtype=np.float32)
            return _moved(normal, math.sqrt(variance))
        # The deviation of a normal cut off at two deviations, so that the variance comes out right.
        return _moved(_truncated(random, shape), math.sqrt(variance) / 0.87962566103423978)


def _one_of(owner: object, name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ModelError(
            f"{type(owner).__name__}: {name} must be one of {', '.join(map(repr, known))}; received {value!r}"
            + nearest(value, known)
        )


class GlorotUniform(VarianceScaling):
    def __init__(self, seed: int | None = None) -> None:
        super().__init__(1.0, "fan_avg", "uniform", seed)


class GlorotNormal(VarianceScaling):
    def __init__(self, seed: int | None = None) -> None:
        super().__init__(1.0, "fan_avg", "truncated_normal", seed)


class LecunNormal(VarianceScaling):
    def __init__(self, seed: int | None = None) -> None:
        super().__init__(1.0, "fan_in", "truncated_normal", seed)


class LecunUniform(VarianceScaling):
    def __init__(self, seed: int | None = None) -> None:
        super().__init__(1.0, "fan_in", "uniform", seed)


class HeNormal(VarianceScaling):
    def __init__(self, seed: int | None = None) -> None:
        super().__init__(2.0, "fan_in", "truncated_normal", seed)


class HeUniform(VarianceScaling):
    def __init__(self, seed: int | None = None) -> None:
        super().__init__(2.0, "fan_in", "uniform", seed)


_CLASSES: tuple[type[Initializer], ...] = (
    RandomNormal, TruncatedNormal, RandomUniform, Zeros, Ones, Constant, Identity, Orthogonal, VarianceScaling,
    GlorotUniform, GlorotNormal, LecunNormal, LecunUniform, HeNormal, HeUniform,
)  # fmt: skip
_BY_NAME: dict[str, type[Initializer]] = {
    **{c.__name__: c for c in _CLASSES},
    **{snake_case(c.__name__): c for c in _CLASSES},
    "zero": Zeros,
    "one": Ones,
    "normal": RandomNormal,
    "uniform": RandomUniform,
    "orthogonal": Orthogonal,
    "identity": Identity,
    "IdentityInitializer": Identity,
    "OrthogonalInitializer": Orthogonal,
}


def get(identifier: Any) -> Any:
    """The initializer of a name, a class, a config or a function `(shape, dtype)`; None stays None."""
    match identifier:
        case None | Initializer():
            return identifier
        case str() | {"class_name": str()} if (found := custom(identifier)) is not None:
            return found
        case str():
            if identifier not in _BY_NAME:
                names = sorted(n for n in _BY_NAME if n.islower())
                raise ModelError(
                    f"unknown initializer {identifier!r}{nearest(identifier, names)}; known are {', '.join(names)}"
                )
            return _BY_NAME[identifier]()
        case {"class_name": str() as name}:
            return type(get(name))(**dict(identifier.get("config", {})))
        case type() if issubclass(identifier, Initializer):
            return identifier()
        case _ if callable(identifier):
            return identifier
        case _:
            raise ModelError(f"expected an initializer or its name; received {identifier!r}")


def serialize(initializer: Any) -> Any:
    """A config that `get` turns back into the initializer."""
    if not isinstance(initializer, Initializer):
        return initializer
    return {"class_name": type(initializer).__name__, "config": initializer.get_config()}


def deserialize(config: Any) -> Any:
    return get(config)


IdentityInitializer = Identity
OrthogonalInitializer = Orthogonal
glorot_uniform, glorot_normal = GlorotUniform, GlorotNormal
he_uniform, he_normal = HeUniform, HeNormal
lecun_uniform, lecun_normal = LecunUniform, LecunNormal
random_normal, random_uniform, truncated_normal = RandomNormal, RandomUniform, TruncatedNormal
zeros, ones, constant = Zeros, Ones, Constant
identity, orthogonal, variance_scaling = Identity, Orthogonal, VarianceScaling

# Keras 1's names.
normal, uniform, zero, one = RandomNormal, RandomUniform, Zeros, Ones
