"""`tf.distribute` for programs that import tensorflow where it isn't: strategies of the one device that there is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from convc.errors import ModelError, UnsupportedError
from convc.keras import ops


class OneDeviceStrategy:
    """A strategy of one replica: `scope` changes nothing, `run` calls, `reduce` gives the value itself."""

    num_replicas_in_sync = 1

    def __init__(self, *devices: Any, **options: Any) -> None:
        several = devices[0] if devices else options.get("devices")
        if isinstance(several, (list, tuple)) and len(several) > 1:
            raise UnsupportedError(
                f"tf.distribute.{type(self).__name__}: expected one device; received {len(several)}: convc trains on "
                f"one machine's processor, whose cores share each step (keras.config.set_threads says how many)"
            )

    @contextmanager
    def scope(self) -> Iterator[OneDeviceStrategy]:
        yield self

    def run(
        self, fn: Callable[..., Any], args: Any = (), kwargs: Any = None, options: Any = None
    ) -> Any:
        """What the function gives."""
        return fn(*args, **(kwargs or {}))

    def reduce(self, reduce_op: Any, value: Any, axis: int | None = None) -> Any:
        """The value; its sum or mean over an axis, if one is given."""
        if axis is None:
            return value
        words = str(reduce_op).lower()
        if words not in ("sum", "mean"):
            raise ModelError(
                f"Strategy.reduce: reduce_op must be 'SUM' or 'MEAN'; received {reduce_op!r}"
            )
        return (ops.sum if words == "sum" else ops.mean)(value, axis=axis)

    def experimental_distribute_dataset(self, dataset: Any, options: Any = None) -> Any:
        """The data set itself."""
        return dataset

    def experimental_local_results(self, value: Any) -> tuple[Any, ...]:
        return (value,)

    def distribute_datasets_from_function(self, dataset_fn: Any, options: Any = None) -> NoReturn:
        raise UnsupportedError(
            "Strategy.distribute_datasets_from_function: there is one device: call the function for its data set"
        )


class MirroredStrategy(OneDeviceStrategy):
    """One replica, as TensorFlow has it where there is one device."""


def get_strategy() -> OneDeviceStrategy:
    return OneDeviceStrategy()


def _refused(name: str) -> Callable[..., NoReturn]:
    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        raise UnsupportedError(
            f"tf.distribute.{name}: convc trains on one machine: leave the strategy out, or take MirroredStrategy, "
            f"which is one device here"
        )

    return refuse


_OTHERS = (
    "MultiWorkerMirroredStrategy", "ParameterServerStrategy", "TPUStrategy", "experimental.CentralStorageStrategy",
    "experimental.MultiWorkerMirroredStrategy", "experimental.ParameterServerStrategy", "experimental.TPUStrategy",
    "cluster_resolver.TPUClusterResolver", "cluster_resolver.TFConfigClusterResolver",
)  # fmt: skip

NAMES: dict[str, Any] = {
    "distribute.MirroredStrategy": MirroredStrategy,
    "distribute.OneDeviceStrategy": OneDeviceStrategy,
    "distribute.Strategy": OneDeviceStrategy,
    "distribute.get_strategy": get_strategy,
    "distribute.ReduceOp.SUM": "SUM",
    "distribute.ReduceOp.MEAN": "MEAN",
    **{f"distribute.{name}": _refused(name) for name in _OTHERS},
}
