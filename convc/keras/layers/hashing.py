"""Words and numbers as bins of a hash: the bins that Keras has on TensorFlow."""

from __future__ import annotations

from typing import Any

import numpy as np

from convc.errors import UnsupportedError
from convc.keras.engine.arguments import choice, is_integer, positive, refuse, title
from convc.keras.engine.tensor import Array, KerasTensor
from convc.keras.layers.fingerprints import fingerprint, joined, keyed
from convc.keras.layers.lookup import HostLayer, encoded

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
        super().__init__(name=name, **kwargs)
        if sparse:
            refuse(self, "sparse", "False", sparse)
        self.num_bins = positive(self, "num_bins", num_bins)
        self.mask_value = mask_value
        self.salt = [salt, salt] if is_integer(salt) else None if salt is None else list(salt)
        if self.salt is not None and len(self.salt) != 2:
            refuse(self, "salt", "a number or two of them", salt)
        self.output_mode = choice(self, "output_mode", output_mode, MODES)

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
        super().__init__(name=name, dtype=dtype, **kwargs)
        if sparse:
            refuse(self, "sparse", "False", sparse)
        self.num_bins = positive(self, "num_bins", num_bins)
        self.output_mode = choice(self, "output_mode", output_mode, ("int", "one_hot"))

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        columns = [
            v.numpy() if isinstance(v, KerasTensor) and not v.step.symbolic else v for v in inputs
        ]
        if any(isinstance(v, KerasTensor) for v in columns):
            raise UnsupportedError(
                f"{title(self)}: isn't supported within a model: cross the columns of the data first"
            )
        return self.compute(np.stack([np.asarray(v).astype(object) for v in columns]))

    def compute(self, x: Array) -> Array:
        rows = x.reshape(len(x), -1)
        ids = np.array([self._crossed(row) for row in rows.T], np.int64).reshape(x.shape[1:])
        return ids if self.output_mode == "int" else encoded(ids, "one_hot", self.num_bins)

    def _crossed(self, values: Any) -> int:
        found = CROSSING
        for value in values:
            whole = isinstance(value, (int, np.integer))
            found = joined(found, int(value) % (1 << 64) if whole else fingerprint(as_bytes(value)))
        return found % self.num_bins
