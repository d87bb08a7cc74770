"""More of TensorFlow's functions, as lent to programs that import tensorflow, against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convc import keras
from convc.errors import UnsupportedError
from convc.keras.tensorflow_names import NAMES as TF

RANDOM = np.random.default_rng(8)
X = RANDOM.standard_normal((4, 3)).astype(np.float32)
IMAGE = RANDOM.standard_normal((2, 4, 5, 6)).astype(np.float32)
ONES = np.ones(6, np.float32)
NORM = np.sqrt((X**2).sum())


def squares(radius: int) -> Any:
    return sum(
        np.pad(IMAGE**2, ((0, 0),) * 3 + ((radius, radius),))[..., k : k + 6]
        for k in range(2 * radius + 1)
    )


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (lambda: TF["add_n"]([X, X, 1.0]), 2 * X + 1),
        (lambda: TF["clip_by_norm"](X, 0.5), X * 0.5 / NORM),
        (lambda: TF["clip_by_global_norm"]([X, None, X], 1.0)[0][2], X / np.sqrt(2 * NORM**2)),
        (lambda: TF["clip_by_global_norm"]([X], 100.0)[0][0], X),
        (lambda: TF["sort"](X, direction="DESCENDING"), -np.sort(-X, -1)),
        (lambda: TF["argsort"](X, axis=0, direction="DESCENDING"), np.argsort(-X, 0)),
        (lambda: TF["math.squared_difference"](X, 1.0), (X - 1) ** 2),
        (lambda: TF["math.confusion_matrix"]([0, 1, 1], [0, 1, 2]), [[1, 0, 0], [0, 1, 1], [0, 0, 0]]),
        (lambda: TF["math.unsorted_segment_sum"](X, [1, 0, 1, 1], 2), np.stack([X[1], X[[0, 2, 3]].sum(0)])),
        (lambda: TF["boolean_mask"](X, X[:, 0] > 0), X[X[:, 0] > 0]),
        (lambda: TF["boolean_mask"](X, [True, False, True], axis=1), X[:, [0, 2]]),
        (lambda: TF["unique"]([3, 1, 3, 2])[0], [3, 1, 2]),
        (lambda: TF["unique"]([3, 1, 3, 2])[1], [0, 1, 0, 2]),
        (lambda: TF["gather_nd"](IMAGE, [[0, 1, 2], [1, 3, 4]]), IMAGE[[0, 1], [1, 3], [2, 4]]),
        (lambda: TF["scatter_nd"]([[1], [3]], [5.0, 6.0], [4]), [0, 5, 0, 6]),
        (lambda: TF["tensor_scatter_nd_add"](np.ones(3, np.float32), [[1], [1]], [2.0, 3.0]), [1, 6, 1]),
        (lambda: TF["sequence_mask"]([1, 3]), [[1, 0, 0], [1, 1, 1]]),
        (lambda: TF["sequence_mask"]([0, 2], 4, "float32"), [[0, 0, 0, 0], [1, 1, 0, 0]]),
        (lambda: TF["linalg.band_part"](X @ X.T, -1, 0), np.tril(X @ X.T)),
        (lambda: TF["linalg.band_part"](X @ X.T, 1, 1), np.tril(np.triu(X @ X.T, -1), 1)),
        (lambda: TF["scan"](lambda a, b: a + b, X), np.cumsum(X, 0)),
        (lambda: TF["scan"](lambda a, b: a * 0.5 + b, X, np.zeros(3, np.float32))[1], X[0] * 0.5 + X[1]),
        (lambda: TF["map_fn"](lambda row: row * 2.0, X), X * 2),
        (lambda: TF["cond"](True, lambda: X, lambda: -X), X),
        (lambda: TF["while_loop"](lambda i: i < 5, lambda i: i + 2, [0])[0], 6),
        (lambda: TF["numpy_function"](lambda x: x.sum(0), [X], "float32"), X.sum(0)),
        (lambda: TF["nn.lrn"](IMAGE, 2, 1.0, 0.1, 0.75), IMAGE / (1 + 0.1 * squares(2)) ** 0.75),
        (lambda: TF["nn.crelu"](X), np.concatenate([np.maximum(X, 0), np.maximum(-X, 0)], -1)),
        (lambda: TF["nn.compute_average_loss"](X[:, 0], global_batch_size=8), X[:, 0].sum() / 8),
        (lambda: TF["nn.depthwise_conv2d"](IMAGE, ONES[None, None, :, None], [1, 2, 2, 1], "SAME"), IMAGE[:, ::2, ::2]),
        (lambda: TF["nn.conv1d"](X[None], ONES.reshape(2, 3, 1), 1, "VALID"), (X[:-1] + X[1:]).sum(-1)[None, :, None]),
        (lambda: TF["TensorShape"]([None, 3])[1:], (3,)),
        (lambda: TF["nest.map_structure"](lambda x: x + 1, {"a": 1})["a"], 2),
    ],
)  # fmt: skip
def test_functions(found: Any, wanted: Any) -> None:
    np.testing.assert_allclose(np.asarray(found()), wanted, rtol=2e-5, atol=1e-6)


def test_inert_names_change_nothing() -> None:
    TF["config.experimental.set_memory_growth"](None, True)
    TF["get_logger"]().setLevel(TF["compat.v1.logging.ERROR"])
    with TF["device"]("/gpu:0"), TF["name_scope"]("a"):
        assert TF["config.experimental.list_physical_devices"]("GPU") == []


@pytest.mark.parametrize("name", ["boolean_mask", "unique", "py_function"])
def test_what_a_compiled_model_cant_do_says_so(name: str) -> None:
    x = keras.Input((3,))
    call = {
        "boolean_mask": lambda: TF["boolean_mask"](x, x > 0),
        "unique": lambda: TF["unique"](x),
        "py_function": lambda: TF["py_function"](lambda v: v, [x], "float32"),
    }
    with pytest.raises(UnsupportedError, match=rf"tf\.{name}: "):
        call[name]()


def test_refusals_name_what_to_do() -> None:
    with pytest.raises(
        UnsupportedError, match=r"tf\.data\.TFRecordDataset isn't supported: .*give arrays"
    ):
        TF["data.TFRecordDataset"](["a.tfrecord"])
    with pytest.raises(
        UnsupportedError, match=r"tf\.saved_model\.save isn't supported: use model\.save"
    ):
        TF["saved_model.save"](None, "folder")
