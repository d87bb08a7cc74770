"""Windows of a series in batches, as Keras 2's `TimeseriesGenerator` gives them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from convc.errors import DataError
from convc.keras.utils.sequence import PyDataset


class TimeseriesGenerator(PyDataset):
    """Batches (windows, targets): `length` rows of the data, every `sampling_rate`-th, and the target of the row after.

    Rows before `start_index` and behind `end_index` are left out; windows begin `stride` rows apart, or anywhere with
    `shuffle`; `reverse` turns them round.
    """

    def __init__(
        self,
        data: Any,
        targets: Any,
        length: int,
        sampling_rate: int = 1,
        stride: int = 1,
        start_index: int = 0,
        end_index: int | None = None,
        shuffle: bool = False,
        reverse: bool = False,
        batch_size: int = 128,
    ) -> None:
        super().__init__()
        if len(data) != len(targets):
            raise DataError(
                f"TimeseriesGenerator: expected as many targets as rows of data; received {len(data)} rows and "
                f"{len(targets)} targets"
            )
        self.data, self.targets = data, targets
        self.length, self.sampling_rate, self.stride = length, sampling_rate, stride
        self.start_index = start_index + length
        self.end_index = len(data) - 1 if end_index is None else end_index
        self.shuffle, self.reverse, self.batch_size = shuffle, reverse, batch_size
        if self.start_index > self.end_index:
            raise DataError(
                f"TimeseriesGenerator: start_index+length={self.start_index} > end_index={self.end_index}: no part of "
                f"the data is as long as a window"
            )

    def __len__(self) -> int:
        step = self.batch_size * self.stride
        return (self.end_index - self.start_index + step) // step

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        if self.shuffle:
            rows = np.random.randint(self.start_index, self.end_index + 1, size=self.batch_size)
        else:
            first = self.start_index + self.batch_size * self.stride * index
            end = min(first + self.batch_size * self.stride, self.end_index + 1)
            rows = np.arange(first, end, self.stride)
        windows = [self.data[row - self.length : row : self.sampling_rate] for row in rows]
        samples, targets = np.array(windows), np.array([self.targets[row] for row in rows])
        return (samples[:, ::-1] if self.reverse else samples), targets

    def get_config(self) -> dict[str, Any]:
        """The arguments, data and targets as JSON."""
        kept = {k: v for k, v in vars(self).items() if k in _ARGUMENTS}
        as_lists = {k: json.dumps(np.asarray(kept[k]).tolist()) for k in ("data", "targets")}
        return {**kept, **as_lists}

    def to_json(self, **kwargs: Any) -> str:
        config = {"class_name": type(self).__name__, "config": self.get_config()}
        return json.dumps(config, **kwargs)


_ARGUMENTS = (
    "data", "targets", "length", "sampling_rate", "stride", "start_index", "end_index", "shuffle", "reverse",
    "batch_size",
)  # fmt: skip
