"""Data sets of tables and of sequences, read from files of one's own, in the order in which Keras gives them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convc.errors import InputFileError
from convc.keras import datasets


def lists(count: int) -> Any:
    found = np.empty(count, object)
    found[:] = [[k + 1, 2 * k + 1, 40] for k in range(count)]
    return found


def order(count: int, random: Any) -> Any:
    found = np.arange(count)
    random.shuffle(found)
    return found


def test_tables_are_shuffled_and_divided(tmp_path: Path) -> None:
    x, y = np.arange(40.0).reshape(20, 2), np.arange(20.0)
    np.savez(tmp_path / "t.npz", x=x, y=y)
    places = order(20, np.random.RandomState(113))
    for module in (datasets.boston_housing, datasets.california_housing):
        (a, b), (c, d) = module.load_data(path=str(tmp_path / "t.npz"), test_split=0.25)
        np.testing.assert_array_equal(np.concatenate([a, c]), x[places])
        np.testing.assert_array_equal(np.concatenate([b, d]), y[places])
        assert len(a) == 15


def test_reviews_have_marks_and_limits(tmp_path: Path) -> None:
    path, y = tmp_path / "i.npz", np.arange(6)
    np.savez(path, x_train=lists(6), y_train=y, x_test=lists(4), y_test=y[:4])
    (a, b), (c, _) = datasets.imdb.load_data(path=str(path), num_words=12, skip_top=5)
    random = np.random.RandomState(113)
    places = order(6, random)
    np.testing.assert_array_equal(b, places)
    wanted = [[1, *(w + 3 for w in lists(6)[k])] for k in places]
    assert list(a) == [[w if 5 <= w < 12 else 2 for w in row] for row in wanted]
    assert len(c) == 4
    (tmp_path / "index.json").write_text(json.dumps({"the": 1}))
    assert datasets.imdb.get_word_index(str(tmp_path / "index.json")) == {"the": 1}


def test_news_are_divided(tmp_path: Path) -> None:
    np.savez(tmp_path / "r.npz", x=lists(10), y=np.arange(10))
    (a, b), (c, d) = datasets.reuters.load_data(
        path=str(tmp_path / "r.npz"), start_char=None, index_from=0, oov_char=None, num_words=30
    )
    assert (len(a), len(c)) == (8, 2)
    for row, k in zip([*a, *c], [*b, *d], strict=True):
        assert row == [k + 1, 2 * k + 1]
    assert len(datasets.reuters.get_label_names()) == 46


class Evil:
    def __reduce__(self) -> Any:
        return print, ("run",)


def test_nothing_else_is_unpickled(tmp_path: Path, capsys: Any) -> None:
    array = np.empty(1, object)
    array[0] = Evil()
    np.savez(tmp_path / "e.npz", x=array, y=np.zeros(1))
    with pytest.raises(InputFileError, match="print"):
        datasets.reuters.load_data(path=str(tmp_path / "e.npz"))
    assert capsys.readouterr().out == ""
