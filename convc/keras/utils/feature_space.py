"""`keras.utils.FeatureSpace`: structured data, a column for each feature, as what models compute with.

Each feature has a layer that prepares it (`preprocessors`), then perhaps one that makes rows of zeros and ones of its
numbers (`one_hot_encoders`); crosses hash what several features were made into (`crossers`). Words are looked up in
Python, before a model's compiled part begins; the rest is part of it where a model is made of `get_inputs()` and
`get_encoded_features()`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from convc.errors import DataError, ModelError, UsageError
from convc.keras.engine import saving
from convc.keras.engine.input import Input
from convc.keras.engine.layer import Layer
from convc.keras.engine.naming import nearest, unique_name
from convc.keras.engine.registry import LAYERS
from convc.keras.engine.serialization import revived, serialize_keras_object
from convc.keras.engine.tensor import FUNCTIONS, Array, KerasTensor, as_tensor

PLACE = "keras.src.layers.preprocessing.feature_space"
"""Where Keras' files say that features and crosses are from."""
KINDS = (
    "float", "float_normalized", "float_rescaled", "float_discretized", "integer_categorical", "string_categorical",
    "integer_hashed", "string_hashed",
)  # fmt: skip
CROSS_MODES = ("int", "one_hot")
ROWS = 32
"""The rows of a batch that features are learned from."""
FEATURE_MODES = ("int", "one_hot", "float")


class Specification:
    """Base of what a FeatureSpace is told of a feature or a cross."""

    output_mode: str

    def get_config(self) -> dict[str, Any]:
        raise NotImplementedError

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        return cls(**config)

    @property
    def saved_as(self) -> dict[str, Any]:
        """How files name the class."""
        name = type(self).__name__
        return {"module": PLACE, "class_name": name, "registered_name": name}


def _mode(owner: str, given: str, known: Sequence[str]) -> str:
    if given not in known:
        raise UsageError(
            f"{owner}: output_mode: expected one of {', '.join(known)}; received {given!r}"
        )
    return given


class Cross(Specification):
    """Features whose values are hashed together into `crossing_dim` bins."""

    def __init__(
        self, feature_names: Iterable[str], crossing_dim: int, output_mode: str = "one_hot"
    ) -> None:
        self.feature_names = tuple(feature_names)
        self.crossing_dim = crossing_dim
        self.output_mode = _mode(f"cross {self.name!r}", output_mode, CROSS_MODES)

    @property
    def name(self) -> str:
        return "_X_".join(self.feature_names)

    def get_config(self) -> dict[str, Any]:
        return {
            "feature_names": self.feature_names,
            "crossing_dim": self.crossing_dim,
            "output_mode": self.output_mode,
        }


class Feature(Specification):
    """A feature's dtype, the layer that prepares it, and how its values are given on."""

    def __init__(self, dtype: str, preprocessor: Any, output_mode: str) -> None:
        self.dtype = dtype
        self.preprocessor = (
            revived(preprocessor) if isinstance(preprocessor, dict) else preprocessor
        )
        self.output_mode = _mode("feature", output_mode, FEATURE_MODES)

    def get_config(self) -> dict[str, Any]:
        return {
            "dtype": self.dtype,
            "preprocessor": serialize_keras_object(self.preprocessor),
            "output_mode": self.output_mode,
        }


class FeatureSpace(Layer):
    """Features by name, each with a kind such as "float_normalized" or `FeatureSpace.string_categorical(…)`.

    `adapt(data)` learns vocabularies, bins and statistics. Then it is called on a dict of columns or of single values,
    or a model is made between `get_inputs()` and `get_encoded_features()`. With output_mode "concat" it gives
    one array (batch, width), features before crosses and both by name; with "dict" an array for each.
    """

    stands_alone = True
    """A file may hold one, as it may hold a model: its build_config is for `build_from_config`."""

    def __init__(
        self,
        features: Mapping[str, Any],
        output_mode: Literal["concat", "dict"] = "concat",
        crosses: Iterable[Any] | None = None,
        crossing_dim: int = 32,
        hashing_dim: int = 32,
        num_discretization_bins: int = 32,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        if not features:
            raise UsageError("FeatureSpace: features: expected a dict of features; received none")
        self.output_mode = _mode("FeatureSpace", output_mode, ("concat", "dict"))
        self.crossing_dim, self.hashing_dim = crossing_dim, hashing_dim
        self.num_discretization_bins = num_discretization_bins
        self.features = {n: self._feature(n, given) for n, given in features.items()}
        self.crosses = [self._cross(given) for given in crosses or ()]
        self.preprocessors = {n: f.preprocessor for n, f in self.features.items()}
        self.crossers = {
            c.name: LAYERS["HashedCrossing"](c.crossing_dim, name=c.name) for c in self.crosses
        }
        self.one_hot_encoders: dict[str, Any] = {}
        self.inputs = {n: Input((1,), dtype=f.dtype, name=n) for n, f in self.features.items()}
        self._encoded: Any = None
        self._is_adapted = False

    # ------------------------------------------------------------ kinds of features

    @classmethod
    def cross(
        cls, feature_names: Iterable[str], crossing_dim: int, output_mode: str = "one_hot"
    ) -> Cross:
        """Features that are hashed together."""
        return Cross(feature_names, crossing_dim, output_mode)

    @classmethod
    def feature(cls, dtype: str, preprocessor: Any, output_mode: str) -> Feature:
        """A feature that a layer of the user's prepares."""
        return Feature(dtype, preprocessor, output_mode)

    @classmethod
    def float(cls, name: str | None = None) -> Feature:
        """Numbers as they are."""
        return Feature("float32", _made("Identity", "float", name), "float")

    @classmethod
    def float_rescaled(
        cls, scale: Any = 1.0, offset: Any = 0.0, name: str | None = None
    ) -> Feature:
        """Numbers times `scale` plus `offset`."""
        made = _made("Rescaling", "float_rescaled", name, scale=scale, offset=offset)
        return Feature("float32", made, "float")

    @classmethod
    def float_normalized(cls, name: str | None = None) -> Feature:
        """Numbers less their mean, over their deviation."""
        return Feature(
            "float32", _made("Normalization", "float_normalized", name, axis=-1), "float"
        )

    @classmethod
    def float_discretized(
        cls,
        num_bins: int | None = None,
        bin_boundaries: Any = None,
        output_mode: str = "one_hot",
        name: str | None = None,
    ) -> Feature:
        """The bin that a number is in."""
        given = None if bin_boundaries is not None else num_bins
        limits = {"num_bins": given, "bin_boundaries": bin_boundaries}
        made = _made("Discretization", "float_discretized", name, **limits)
        return Feature("float32", made, output_mode)

    @classmethod
    def integer_categorical(
        cls,
        max_tokens: int | None = None,
        num_oov_indices: int = 1,
        output_mode: str = "one_hot",
        name: str | None = None,
    ) -> Feature:
        """The place of a whole number among those that `adapt` has seen."""
        limits = {"max_tokens": max_tokens, "num_oov_indices": num_oov_indices}
        made = _made("IntegerLookup", "integer_categorical", name, **limits)
        return Feature("int32", made, output_mode)

    @classmethod
    def string_categorical(
        cls,
        max_tokens: int | None = None,
        num_oov_indices: int = 1,
        output_mode: str = "one_hot",
        name: str | None = None,
    ) -> Feature:
        """The place of a word among those that `adapt` has seen."""
        limits = {"max_tokens": max_tokens, "num_oov_indices": num_oov_indices}
        made = _made("StringLookup", "string_categorical", name, **limits)
        return Feature("string", made, output_mode)

    @classmethod
    def string_hashed(
        cls, num_bins: int, output_mode: str = "one_hot", name: str | None = None
    ) -> Feature:
        """The bin of a word's hash."""
        made = _made("Hashing", "string_hashed", name, num_bins=num_bins)
        return Feature("string", made, output_mode)

    @classmethod
    def integer_hashed(
        cls, num_bins: int, output_mode: str = "one_hot", name: str | None = None
    ) -> Feature:
        """The bin of a whole number's hash."""
        made = _made("Hashing", "integer_hashed", name, num_bins=num_bins)
        return Feature("int32", made, output_mode)

    def _feature(self, name: str, given: Any) -> Feature:
        if isinstance(given, Feature):
            return given
        if isinstance(given, dict):
            found: Feature = Feature.from_config(dict(given.get("config") or {}))
            return found
        if given not in KINDS:
            raise UsageError(
                f"FeatureSpace: feature {name!r}: expected one of {', '.join(KINDS)}{nearest(given, KINDS)}; "
                f"received {given!r}"
            )
        sizes = {"float_discretized": self.num_discretization_bins}
        sizes |= dict.fromkeys(("integer_hashed", "string_hashed"), self.hashing_dim)
        arguments = (sizes[given],) if given in sizes else ()
        made: Feature = getattr(self, given)(*arguments, name=name)
        return made

    def _cross(self, given: Any) -> Cross:
        if isinstance(given, dict):
            given = Cross.from_config(dict(given.get("config") or {}))
        cross = given if isinstance(given, Cross) else Cross(given, self.crossing_dim)
        for name in cross.feature_names:
            if name not in self.features:
                raise UsageError(
                    f"FeatureSpace: crosses: {cross.name!r} names {name!r}{nearest(name, self.features)}, which is "
                    f"none of the features {', '.join(self.features)}"
                )
        return cross

    # ------------------------------------------------------------ learning

    def _learning(self) -> list[str]:
        """The features whose layers learn from data."""

        def learns(layer: Any) -> bool:
            given = ("input_mean", "bin_boundaries", "learned")
            known = any(
                np.size(v) for v in (getattr(layer, g, None) for g in given) if v is not None
            )
            return hasattr(layer, "adapt") and not known

        return [n for n, layer in self.preprocessors.items() if learns(layer)]

    def adapt(self, dataset: Any) -> None:
        """Learns from a data set of dicts, whole batches or single rows, or from a dict of columns."""
        names = [n for n, layer in self.preprocessors.items() if hasattr(layer, "adapt")]
        names = [n for n in names if getattr(self.preprocessors[n], "input_mean", None) is None]
        columns = _columns(dataset, names)
        for name in names:
            layer = self.preprocessors[name]
            if getattr(layer, "num_bins", 0) is not None:  # bins that were given are kept
                layer.adapt(iter(columns[name]))
        self._is_adapted, self._encoded = True, None
        self.get_encoded_features()

    def _require_adapted(self) -> None:
        if not self._is_adapted and self._learning():
            raise ModelError(
                f"FeatureSpace {self.name!r}: call adapt(data) first: {', '.join(self._learning())} learn from data"
            )
        self._is_adapted = True

    # ------------------------------------------------------------ within models

    def get_inputs(self) -> dict[str, KerasTensor]:
        """An Input (batch, 1) for each feature."""
        self._require_adapted()
        return self.inputs

    def get_encoded_features(self) -> Any:
        """What the features of `get_inputs` become: a tensor, or a dict of them."""
        self._require_adapted()
        if self._encoded is None:
            prepared = {n: self.preprocessors[n](x) for n, x in self.inputs.items()}
            crossed = {
                c.name: self.crossers[c.name]([prepared[n] for n in c.feature_names])
                for c in self.crosses
            }
            self._encoded = self._merged(prepared, crossed)
            self.built = True
        return self._encoded

    def _merged(self, prepared: Mapping[str, Any], crossed: Mapping[str, Any]) -> Any:
        """Features and crosses, encoded, in one tensor or by name."""
        specifications = {**self.features, **{c.name: c for c in self.crosses}}
        found = {}
        for name, value in [*sorted(prepared.items()), *sorted(crossed.items())]:
            one_hot = specifications[name].output_mode == "one_hot"
            found[name] = self._one_hot(name, value) if one_hot else value
        if self.output_mode == "dict":
            return found
        for name, value in found.items():
            if not value.type.dtype.is_float:
                raise ModelError(
                    f"FeatureSpace {self.name!r}: feature {name!r} is {value.dtype}: it can't be put beside floats; "
                    f"say output_mode='one_hot' for it, or output_mode='dict' for all"
                )
        return FUNCTIONS["concatenate"](list(found.values()), axis=-1)

    def _one_hot(self, name: str, value: Any) -> Any:
        """A feature's numbers as rows with a one in their place."""
        layer = self.preprocessors.get(name) or self.crossers[name]
        if not value.type.dtype.is_integer:
            raise ModelError(
                f"FeatureSpace {self.name!r}: feature {name!r} has output_mode='one_hot': expected whole numbers from "
                f"{type(layer).__name__}; received {value.dtype}"
            )
        if name not in self.one_hot_encoders:
            self.one_hot_encoders[name] = LAYERS["CategoryEncoding"](
                self._depth(name, layer), "multi_hot"
            )
        return self.one_hot_encoders[name](value)

    def _depth(self, name: str, layer: Any) -> int:
        """How many values a feature can have."""
        if hasattr(layer, "vocabulary_size"):
            return int(layer.vocabulary_size())
        if getattr(layer, "bin_boundaries", None) is not None:
            return len(layer.bin_boundaries) + 1
        depth = getattr(layer, "num_bins", getattr(layer, "num_tokens", None))
        if depth is None:
            raise ModelError(
                f"FeatureSpace {self.name!r}: feature {name!r} has output_mode='one_hot', but how many values "
                f"{type(layer).__name__} gives isn't known: say output_mode='int'"
            )
        return int(depth)

    # ------------------------------------------------------------ on data

    def __call__(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        """The encoded features of a dict of columns (batch) or (batch, 1), or of one row's values."""
        if not isinstance(data, Mapping):
            raise DataError(
                f"FeatureSpace {self.name!r}: expected a dict of features; received {data!r}"
            )
        missing = [n for n in self.features if n not in data]
        if missing:
            raise DataError(
                f"FeatureSpace {self.name!r}: expected features {', '.join(self.features)}; {missing[0]!r} is missing"
            )
        self.get_encoded_features()
        columns = {n: _array(data[n]) for n in self.features}
        single = any(c.ndim == 0 for c in columns.values())
        columns = {n: c.reshape(-1, 1) if c.ndim < 2 else c for n, c in columns.items()}
        prepared = {n: _array(self.preprocessors[n](c)) for n, c in columns.items()}
        crossed = {
            c.name: _array(self.crossers[c.name]([prepared[n] for n in c.feature_names]))
            for c in self.crosses
        }
        found = {
            n: self._encoded_array(n, a)
            for n, a in [*sorted(prepared.items()), *sorted(crossed.items())]
        }
        if single:
            found = {n: a[0] for n, a in found.items()}
        if self.output_mode == "dict":
            return {n: as_tensor(a) for n, a in found.items()}
        return as_tensor(np.concatenate(list(found.values()), axis=-1))

    def _encoded_array(self, name: str, ids: Array) -> Array:
        encoder = self.one_hot_encoders.get(name)
        if encoder is None:
            return ids
        hit: Any = ids[..., None] == np.arange(encoder.num_tokens)
        return np.asarray(np.any(hit, axis=-2), np.float32)

    # ------------------------------------------------------------ files

    def get_config(self) -> dict[str, Any]:
        return {
            "features": serialize_keras_object(self.features),
            "output_mode": self.output_mode,
            "crosses": serialize_keras_object(self.crosses),
            "crossing_dim": self.crossing_dim,
            "hashing_dim": self.hashing_dim,
            "num_discretization_bins": self.num_discretization_bins,
        }

    def get_build_config(self) -> dict[str, Any]:
        return {n: f.preprocessor.get_build_config() or {} for n, f in self.features.items()}

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Makes the layers' weights, which the file has values for."""
        for name in config:
            layer = self.features[name].preprocessor
            if not layer.built:
                layer.build_from_config(config[name])
        self._is_adapted = True

    def save(self, filepath: str | Path, overwrite: bool = True) -> None:
        """Writes it to a `.keras` file, for `keras.models.load_model`."""
        self._require_adapted()
        saving.save_model(self, filepath, overwrite)


def _made(layer: str, kind: str, name: str | None, **arguments: Any) -> Any:
    made: Any = LAYERS[layer]
    return made(**arguments, name=f"{name or unique_name(kind)}_preprocessor")


def _array(value: Any) -> Array:
    array: Array = np.asarray(value.numpy() if hasattr(value, "numpy") else value)
    return array


def _columns(data: Any, names: Sequence[str]) -> dict[str, list[Array]]:
    """Batches (rows, 1) of features, from a dict of columns or the elements of a data set."""
    rows = isinstance(data, Mapping)
    elements = [data] if rows else data
    if isinstance(elements, (str, bytes, np.ndarray)) or not hasattr(elements, "__iter__"):
        raise UsageError(
            f"FeatureSpace.adapt: expected a data set or a dict of columns; received {data!r}"
        )
    parts: dict[str, list[Array]] = {n: [] for n in names}
    for element in elements:
        if not isinstance(element, Mapping):
            raise UsageError(
                f"FeatureSpace.adapt: expected elements that are dicts of features; received a "
                f"{type(element).__name__}: take labels off by dataset.map(lambda x, y: x)"
            )
        for name in names:
            if name not in element:
                raise UsageError(
                    f"FeatureSpace.adapt: feature {name!r} isn't in the data, which have {', '.join(element)}"
                )
            parts[name].append(_array(element[name]))
    return {name: _batches(name, found, rows) for name, found in parts.items()}


def _batches(name: str, found: list[Array], rows: bool) -> list[Array]:
    """A feature's values as batches (rows, …), in which Keras would take them: single ones by 32."""
    if not found or not any(a.size for a in found):
        raise UsageError(f"FeatureSpace.adapt: expected rows of {name!r}; the data had none")
    if rows or found[0].ndim == 0:
        whole = found[0] if rows else np.stack(found)
        found = [whole[k : k + ROWS] for k in range(0, len(whole), ROWS)]
    return [a.reshape(-1, 1) if a.ndim < 2 else a for a in found]


LAYERS["FeatureSpace"] = FeatureSpace
