"""Epochs of a compiled training on arrays: what `convc train` does besides reading and writing."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from convc_runtime import Context, TensorInfo
from numpy.typing import NDArray

from convc.errors import DataError

Array = NDArray[Any]
Arrays = Mapping[str, Array]
TARGET = "target/"


class Course:
    """Training and evaluation of a context in batches of rows; with a seed, each epoch has an order of its own."""

    def __init__(self, context: Context, batch: int, seed: int | None) -> None:
        self.context, self.batch, self.seed = context, batch, seed
        self._infos = {
            info.name.removeprefix(TARGET): info
            for info in context.entries["train_step"].info.inputs
        }

    def checked(self, option: str, arrays: Arrays) -> int:
        """The number of rows. DataError: unknown names, different lengths, no rows, labels that are no classes."""
        if unknown := [name for name in arrays if name not in self._infos]:
            known = "; ".join(str(renamed(info, name)) for name, info in self._infos.items())
            raise DataError(f"{option}: no input or target {unknown[0]!r}: expected {known}")
        lengths = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
        if len(set(lengths.values())) > 1:
            shown = ", ".join(f"{n} has {k}" for n, k in lengths.items())
            raise DataError(f"{option}: expected as many rows of each array: {shown}")
        (rows,) = set(lengths.values())
        if not rows:
            raise DataError(f"{option}: expected rows, got empty arrays")
        for name, array in arrays.items():
            self._check_shape(option, name, array)
            self._check_labels(option, name, array)
        return rows

    def _check_shape(self, option: str, name: str, array: Array) -> None:
        """Refuses rows of another shape than the model's."""
        wanted = self._infos[name].shape[1:]
        fits = len(wanted) == array.ndim - 1 and all(
            w == e for w, e in zip(wanted, array.shape[1:], strict=True) if isinstance(w, int)
        )
        if not fits:
            raise DataError(
                f"{option}: expected {renamed(self._infos[name], name)}, got shape {array.shape}"
            )

    def _check_labels(self, option: str, name: str, array: Array) -> None:
        """Refuses labels outside of the classes of the output that they are for."""
        outputs = {o.name: o for o in self.context.entries["predict"].info.outputs}
        info, output = self._infos[name], outputs.get(name)
        if (
            output is None
            or len(info.shape) != len(output.shape) - 1
            or array.dtype.kind not in "iu"
        ):
            return
        classes = output.shape[-1]
        if (
            isinstance(classes, int)
            and array.size
            and not 0 <= array.min() <= array.max() < classes
        ):
            raise DataError(
                f"{option}: {name}: expected labels from 0 to {classes - 1}, got {array.min()} to {array.max()}"
            )

    def epoch(self, arrays: Arrays, tested: Arrays | None) -> dict[str, float]:
        """One pass over the rows and an evaluation: loss and metrics, and the seconds that it took."""
        start = time.perf_counter()
        rows = len(next(iter(arrays.values())))
        logs = self._over("train_step", arrays, self._order(rows))
        if tested is not None:
            count = len(next(iter(tested.values())))
            found = self._over("test_step", tested, np.arange(count))
            logs |= {f"val_{name}": value for name, value in found.items()}
        return {**logs, "seconds": time.perf_counter() - start}

    def _order(self, rows: int) -> Array:
        """The rows of the next epoch, by the seed and the steps that were made before."""
        if self.seed is None:
            return np.arange(rows)
        steps = int(self.context.get("iterations"))
        return np.random.default_rng([self.seed, steps]).permutation(rows)

    def _over(self, entry: str, arrays: Arrays, order: Array) -> dict[str, float]:
        """Runs an entry on all rows in that order, and what the metrics say of them."""
        self.context.reset_metrics()
        run = self.context.entries[entry]
        for batch in self._batches(arrays, order):
            run(*batch)
        metrics = self.context.entries["metrics"]
        values = metrics()
        values = values if isinstance(values, list) else [values]
        self.context.reset_metrics()
        return {o.name: float(v) for o, v in zip(metrics.info.outputs, values, strict=True)}

    def _batches(self, arrays: Arrays, order: Array) -> Iterator[list[Array]]:
        for low in range(0, len(order), self.batch):
            chosen = order[low : low + self.batch]
            yield [arrays[name][chosen] for name in self._infos]


def renamed(info: TensorInfo, name: str) -> TensorInfo:
    """The description of an input under another name."""
    return replace(info, name=name)
