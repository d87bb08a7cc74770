"""Words and numbers as bins of a hash: the bins that Keras has on TensorFlow."""

from __future__ import annotations

from typing import Any

import numpy as np

from convc.keras.engine.arguments import choice, is_integer, positive, refuse
from convc.keras.engine.call import record
from convc.keras.engine.hosted import hosted, made_before
from convc.keras.engine.tensor import Array, KerasTensor
from convc.keras.layers.fingerprints import fingerprint, joined, keyed
from convc.keras.layers.lookup import HostLayer, encoded
from convc.types import DType, TensorType

MODES = ("int", "one_hot", "multi_hot", "count")
CROSSING = 0xDECAFCAFFE
"""What TensorFlow begins crossed hashes with."""


def as_bytes(value: Any) -> bytes:
    """A string, or a whole number as one."""
    if isinstance(value, bytes):
        return value
    return str(int(value) if isinstance(value, (int, np.integer)) else value).encode("utf-8")


class Hashing(HostLayer):
    """Strings or whole numbers as one of `num_bins` bins; `mask_value` has the bin 0 for itself.

    Without a salt by FarmHash's Fingerprint64, with one by SipHash.
    """

    def __init__(
        self,
        num_bins: int,
        mask_value: Any = None,
        salt: Any = None,
        output_mode: str = "int",
        sparse: bool = False,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        if output_mode == "int" and kwargs.get("dtype") is None:
            kwargs["dtype"] = "int64"
        super().__init__(name=name, **kwargs)
        if sparse:
            refuse(self, "sparse", "False", sparse)
        self.num_bins = positive(self, "num_bins", num_bins)
        self.mask_value = mask_value
        self.salt = [salt, salt] if is_integer(salt) else None if salt is None else list(salt)
        if self.salt is not None and len(self.salt) != 2:
            refuse(self, "salt", "a number or two of them", salt)
        self.output_mode = choice(self, "output_mode", output_mode, MODES)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return {**config, "dtype": "int64"} if self.output_mode == "int" else config

    def bin(self, value: Any) -> int:
        if self.mask_value is not None and as_bytes(value) == as_bytes(self.mask_value):
            return 0
        first = 0 if self.mask_value is None else 1
        text = as_bytes(value)
        found = (
            fingerprint(text) if self.salt is None else keyed(text, (self.salt[0], self.salt[1]))
        )
        return first + found % (self.num_bins - first)

    def compute(self, x: Array) -> Array:
        bins = {value: self.bin(value) for value in set(x.reshape(-1).tolist())}
        ids = np.array([bins[v] for v in x.reshape(-1).tolist()], np.int64).reshape(x.shape)
        return ids if self.output_mode == "int" else encoded(ids, self.output_mode, self.num_bins)


class HashedCrossing(HostLayer):
    """The bin of a pair, or more, of values (batch) or (batch, 1)."""

    def __init__(
        self,
        num_bins: int,
        output_mode: str = "int",
        sparse: bool = False,
        name: str | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        if output_mode == "int" and dtype is None:
            dtype = "int64"
        super().__init__(name=name, dtype=dtype, **kwargs)
        if sparse:
            refuse(self, "sparse", "False", sparse)
        self.num_bins = positive(self, "num_bins", num_bins)
        self.output_mode = choice(self, "output_mode", output_mode, ("int", "one_hot"))

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if any(isinstance(v, KerasTensor) and v.step.symbolic for v in inputs):
            return self._together(list(inputs))
        columns = [v.numpy() if isinstance(v, KerasTensor) else v for v in inputs]
        return self.compute(*map(np.asarray, columns))

    def _together(self, inputs: list[KerasTensor]) -> Any:
        """What a model's graph takes in place of its inputs."""
        shape = inputs[0].type.shape
        depth = () if self.output_mode == "int" else (self.num_bins,)
        inside = shape[:-1] if depth and len(shape) > 1 else shape
        kind = TensorType(DType.int64, (*inside, *depth))
        self.built = True
        return record(self, (inputs,), {}, hosted(self, kind, *map(made_before, inputs)))

    def compute(self, *columns: Array) -> Array:
        """The bins of as many values as there are columns of a shape."""
        rows = [np.asarray(c).astype(object).reshape(-1) for c in columns]
        ids = np.array([self._crossed(row) for row in zip(*rows, strict=True)], np.int64)
        ids = ids.reshape(np.shape(columns[0]))
        return ids if self.output_mode == "int" else encoded(ids, "one_hot", self.num_bins)

    def get_config(self) -> dict[str, Any]:
        """Keras' takes no `trainable`."""
        return {k: v for k, v in super().get_config().items() if k != "trainable"}

    def _crossed(self, values: Any) -> int:
        found = CROSSING
        for value in values:
            whole = isinstance(value, (int, np.integer))
            found = joined(found, int(value) % (1 << 64) if whole else fingerprint(as_bytes(value)))
        return found % self.num_bins
