"""Labels as rows, norms, seeds and data sets by batch number."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from convc.errors import DataError, UsageError
from convc.keras import initializers, utils


@pytest.mark.parametrize("shape", [(), (5,), (5, 1), (2, 3), (2, 3, 1), (0,)])
def test_to_categorical_has_a_one_at_each_label(shape: tuple[int, ...]) -> None:
    labels = np.random.default_rng(1).integers(0, 4, shape)
    rows = utils.to_categorical(labels, 4)
    inner = shape[:-1] if len(shape) > 1 and shape[-1] == 1 else shape
    assert rows.shape == (*inner, 4)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows.argmax(-1), labels.reshape(inner))
    np.testing.assert_array_equal(rows.sum(-1), np.ones(inner))


def test_to_categorical_takes_the_number_of_classes_from_the_labels() -> None:
    assert utils.to_categorical([0, 2]).tolist() == [[1, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize("labels", [[4], [-1]])
def test_to_categorical_refuses_other_labels(labels: Any) -> None:
    with pytest.raises(DataError, match="labels from 0 to 2"):
        utils.to_categorical(labels, 3)


def test_normalize_divides_by_the_norm() -> None:
    x = np.array([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(utils.normalize(x), np.array([[0.6, 0.8], [0, 0]]))
    np.testing.assert_allclose(utils.normalize(x, axis=0, order=1), np.array([[1, 1], [0, 0]]))


def test_a_seed_repeats_everything_that_draws() -> None:
    def draws() -> list[float]:
        utils.set_random_seed(7)
        made = initializers.GlorotUniform()((2, 2))
        return [random.random(), float(np.random.rand()), *np.ravel(made)]

    assert draws() == draws()
    with pytest.raises(UsageError, match="2\\*\\*32"):
        utils.set_random_seed(-1)


class Squares(utils.Sequence):
    def __init__(self) -> None:  # as many do: without the base's
        self.epochs = 0

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        return index**2

    def on_epoch_end(self) -> None:
        self.epochs += 1


def test_a_sequence_gives_its_batches() -> None:
    data = Squares()
    assert utils.PyDataset is utils.Sequence
    assert data.num_batches == 4
    assert list(data) == [0, 1, 4, 9]
    assert (data.workers, data.use_multiprocessing, data.max_queue_size) == (1, False, 10)
    assert utils.Sequence(workers=3).workers == 3


def test_a_data_set_without_len_has_no_end() -> None:
    class Endless(utils.PyDataset):
        num_batches = None

        def __getitem__(self, index: int) -> int:
            return index

    stream = iter(Endless())
    assert [next(stream) for _ in range(12)] == list(range(12))
