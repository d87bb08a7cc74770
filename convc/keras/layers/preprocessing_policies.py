"""Layers made of other image layers: one after the other, some at random, or chains of them mixed."""

from __future__ import annotations

import inspect
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from convc.errors import ModelError
from convc.keras import ops, random
from convc.keras.engine.arguments import choice, number, positive, title
from convc.keras.engine.layer import Layer
from convc.keras.engine.revival import revived_layer
from convc.keras.engine.tensor import KerasTensor
from convc.keras.layers.preprocessing import ImageLayer, known
from convc.keras.layers.preprocessing_colours import (
    AutoContrast,
    ColourLayer,
    RandomColorDegeneration,
    RandomPosterization,
    RandomSharpness,
    Solarization,
    bounds,
)
from convc.keras.layers.preprocessing_histograms import Equalization
from convc.keras.layers.preprocessing_random import (
    RandomBrightness,
    RandomContrast,
    RandomRotation,
    RandomShear,
    RandomTranslation,
)

Array = NDArray[Any]
Sample = dict[str, Any]


class Pipeline(Layer):
    """Layers called one after the other, on tensors of a model, arrays or samples."""

    def __init__(self, layers: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(layers, (list, tuple)) or not all(isinstance(v, Layer) for v in layers):
            raise ModelError(f"{title(self)}: layers must be a list of layers; received {layers!r}")
        self.layers = list(layers)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        given = args[0] if args else kwargs.get("inputs")
        if not known(given):
            return super().__call__(*args, **kwargs)
        for layer in self.layers:
            takes = "training" in inspect.signature(layer.call).parameters
            said = {"training": kwargs["training"]} if takes and "training" in kwargs else {}
            given = layer(given, **said)
        return given

    def call(self, inputs: Any, training: Any = None) -> Any:
        for layer in self.layers:
            inputs = layer(inputs)
        return inputs

    def get_config(self) -> dict[str, Any]:
        found = super().get_config()
        return {"name": found["name"], "layers": found["layers"]}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(**{**config, "layers": [revived_layer(layer) for layer in config["layers"]]})


class PolicyLayer(ColourLayer):
    """Base of layers that choose among others, `parts`, in each call: all parts of a sample get the same."""

    in_arrays = True

    def __init__(
        self,
        value_range: Any,
        factor: Any,
        interpolation: str,
        seed: int | None,
        data_format: str | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(value_range, seed, data_format, **kwargs)
        self.factor = bounds(self, "factor", factor, 1.0)
        self.interpolation = choice(self, "interpolation", interpolation, ("nearest", "bilinear"))

    def parts_of(self, kinds: tuple[type[ImageLayer], ...]) -> list[ImageLayer]:
        """Such layers with this one's strength."""
        common: dict[str, Any] = {"data_format": self.data_format, "dtype": self.dtype_policy}
        drawing = {**common, "seed": self.seed}
        moving = {
            **drawing,
            "interpolation": self.interpolation,
            "bounding_box_format": self.bounding_box_format,
        }
        colours = {**drawing, "value_range": self.value_range}
        both = (self.factor, self.factor)
        bits = max(1, int(8 * self.factor[1]))
        made: dict[type[ImageLayer], Any] = {
            RandomShear: lambda: RandomShear(*both, **moving),
            RandomTranslation: lambda: RandomTranslation(*both, **moving),
            RandomRotation: lambda: RandomRotation(self.factor, **moving),
            RandomBrightness: lambda: RandomBrightness(self.factor, **colours),
            RandomColorDegeneration: lambda: RandomColorDegeneration(self.factor, **colours),
            RandomContrast: lambda: RandomContrast(self.factor, **colours),
            RandomSharpness: lambda: RandomSharpness(self.factor, **colours),
            RandomPosterization: lambda: RandomPosterization(bits, **colours),
            Solarization: lambda: Solarization(*both, **colours),
            AutoContrast: lambda: AutoContrast(self.value_range, **common),
            Equalization: lambda: Equalization(self.value_range, **common),
        }
        return [made[kind]() for kind in kinds]

    def call(self, inputs: Any, training: Any = None) -> Any:
        x = self.images(inputs)
        return self.mixture(x) if training else x

    def mixture(self, x: KerasTensor) -> Any:
        """Tensors of a model as training has them."""
        raise NotImplementedError(f"{type(self).__name__} has no mixture()")

    def generator_now(self) -> np.random.Generator:
        """What chooses in one call."""
        return np.random.default_rng(self.generator.next())


MOVES = (RandomShear, RandomTranslation, RandomRotation)
COLOURS = (RandomBrightness, RandomColorDegeneration, RandomContrast, RandomSharpness)
LEVELS = (RandomPosterization, Solarization, AutoContrast, Equalization)


class RandAugment(PolicyLayer):
    """Images changed by `num_ops` of eleven layers, one after the other, chosen anew for each batch.

    The method is that of Cubuk et al. (2020).

    `factor` is their strength.
    """

    def __init__(
        self,
        value_range: Any = (0, 255),
        num_ops: int = 2,
        factor: Any = 0.5,
        interpolation: str = "bilinear",
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(value_range, factor, interpolation, seed, data_format, **kwargs)
        self.num_ops = positive(self, "num_ops", num_ops)
        self.parts = self.parts_of((*MOVES, *COLOURS, *LEVELS))

    def changed_sample(self, parts: Sample) -> Sample:
        for k in self.generator_now().integers(len(self.parts), size=self.num_ops):
            parts = self.parts[k].changed_sample(parts)
        return parts

    def mixture(self, x: KerasTensor) -> Any:
        chosen = random.randint((self.num_ops,), 0, len(self.parts), seed=self.generator)
        for step in range(self.num_ops):
            found = x
            for k, part in enumerate(self.parts):
                here = ops.equal(chosen[step], k)
                found = ops.where(here, part(x, training=True), found)
            x = found
        return x


class AugMix(PolicyLayer):
    """Images mixed with a mixture of chains of up to `chain_depth` layers (Hendrycks et al., 2020).

    The chains' shares are of the Dirichlet distribution, the mixture's of the Beta one, both with `alpha`; masks are
    mixed too. Layers are chosen anew for each batch; in a model, `alpha` is 1.
    """

    def __init__(
        self,
        value_range: Any = (0, 255),
        num_chains: int = 3,
        chain_depth: int = 3,
        factor: Any = 0.3,
        alpha: float = 1.0,
        all_ops: bool = True,
        interpolation: str = "bilinear",
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(value_range, factor, interpolation, seed, data_format, **kwargs)
        self.num_chains = positive(self, "num_chains", num_chains)
        self.chain_depth = positive(self, "chain_depth", chain_depth)
        self.alpha = number(self, "alpha", alpha, "a positive number")
        self.all_ops = bool(all_ops)
        self.parts = self.parts_of((*MOVES, *LEVELS, *(COLOURS if all_ops else ())))

    def changed_sample(self, parts: Sample) -> Sample:
        choose = self.generator_now()
        shares = choose.dirichlet([self.alpha] * self.num_chains)
        weight = choose.beta(self.alpha, self.alpha)
        names = [n for n in ("images", "segmentation_masks") if n in parts]
        kind = self.dtype.numpy
        given = {n: np.asarray(parts[n], kind) for n in names}
        mixture = {n: np.zeros_like(given[n]) for n in names}
        for share in shares:
            chain = {**given}
            for k in choose.integers(len(self.parts) + 1, size=self.chain_depth):
                if k < len(self.parts):
                    chain = self.parts[k].changed_sample(chain)
            for n in names:
                mixture[n] += float(share) * chain[n]
        mixed = {n: float(weight) * given[n] + float(1 - weight) * mixture[n] for n in names}
        mixed["images"] = np.clip(mixed["images"], *self.value_range)
        return dict(parts) | mixed

    def mixture(self, x: KerasTensor) -> Any:
        if self.alpha != 1:
            raise ModelError(
                f"{title(self)}: expected alpha=1 in a model; received {self.alpha}; call it in dataset.map()"
            )
        rates = -ops.log(random.uniform((self.num_chains,), 1e-7, 1.0, seed=self.generator))
        shares = rates / ops.sum(rates)
        found: Any = 0.0
        for k in range(self.num_chains):
            found = found + shares[k] * self._chain(x)
        weight = random.uniform((), seed=self.generator)
        return self.within(weight * x + (1.0 - weight) * found)

    def _chain(self, x: KerasTensor) -> Any:
        chosen = random.randint((self.chain_depth,), 0, len(self.parts) + 1, seed=self.generator)
        for step in range(self.chain_depth):
            found = x
            for k, part in enumerate(self.parts):
                found = ops.where(ops.equal(chosen[step], k), part(x, training=True), found)
            x = found
        return x


__all__ = ["AugMix", "Pipeline", "RandAugment"]
