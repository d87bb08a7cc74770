"""Feature maps and filters against arithmetic of their own; sheets pixel by pixel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from convc_runtime import InputError
from numpy.lib.stride_tricks import sliding_window_view

from convc import keras
from convc.errors import DataError, ModelError, UnsupportedError, UsageError
from convc.keras import layers
from convc.keras.visualization import feature_maps, filters
from convc.keras.visualization.sheets import GAP, LABEL, grey, sheet


@pytest.fixture(scope="module")
def x() -> Any:
    return np.random.default_rng(0).normal(size=(3, 6, 5, 2)).astype(np.float32)


def network() -> keras.Model:
    inputs = keras.Input((6, 5, 2), name="pixels")
    y = layers.Conv2D(4, 3, name="convolved")(inputs)
    y = layers.ReLU(name="positive")(y)
    y = layers.Dropout(0.5, name="dropped")(y)
    flat = layers.Flatten(name="flat")(y)
    return keras.Model(inputs, layers.Dense(3, name="scores")(flat), name="small")


def test_the_maps_are_the_layers_outputs(x: Any) -> None:
    model = network()
    kernel, bias = model.get_layer("convolved").get_weights()
    windows = sliding_window_view(x.astype(np.float64), (3, 3), axis=(1, 2))
    expected = np.einsum("nijcrs,rsco->nijo", windows, kernel) + bias
    found = feature_maps(model, x)
    assert list(found) == ["convolved", "positive"]
    np.testing.assert_allclose(found["convolved"], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["positive"], expected.clip(0), rtol=1e-4, atol=1e-5)
    scores = feature_maps(model, x, "scores")["scores"]
    np.testing.assert_allclose(scores, model.predict(x, verbose=0), rtol=1e-4, atol=1e-5)


def test_statistics_count_dead_maps_and_what_is_not_finite(x: Any) -> None:
    model = network()
    kernel, bias = model.get_layer("convolved").get_weights()
    bias[1] = -1000
    model.get_layer("convolved").set_weights([kernel, bias])
    convolved, positive = feature_maps(model, x).statistics()
    assert (convolved["dead"], positive["dead"]) == ([], [1])
    assert positive["shape"] == [3, 4, 3, 4]
    assert positive["min"] == 0 < positive["mean"] < positive["max"]
    odd = x.copy()
    odd[0, 0, 0, 0] = np.nan
    (row,) = feature_maps(model, odd, "convolved").statistics()
    assert row["nonfinite"] == 4
    assert np.isfinite(row["mean"])


def test_channels_in_front_and_nested_models(x: Any) -> None:
    base = keras.Sequential(
        [keras.Input((2, 6, 5)), layers.Conv2D(4, 3, data_format="channels_first", name="inner")],
        name="base",
    )
    model = keras.Sequential([base, layers.Flatten(), layers.Dense(2)])
    found = feature_maps(model, x.transpose(0, 3, 1, 2), "base/inner")
    assert found["base/inner"].shape == (3, 4, 4, 3)
    assert found.maps("base/inner").shape == (3, 4, 4, 3)
    assert found.channels == {"base/inner": "first"}


def test_a_shared_layer_has_the_outputs_of_each_call(x: Any) -> None:
    inputs = keras.Input((6, 5, 2))
    shared = layers.Conv2D(2, 3, padding="same", name="shared")
    model = keras.Model(inputs, shared(layers.ReLU(name="between")(shared(inputs))))
    found = feature_maps(model, x)
    assert list(found) == ["shared", "between", "shared:2"]
    np.testing.assert_allclose(found["between"], found["shared"].clip(0))
    np.testing.assert_allclose(found["shared:2"], model.predict(x, verbose=0), rtol=1e-5, atol=1e-6)


def test_a_wrong_layer_is_told_with_those_near_it(x: Any) -> None:
    model = network()
    with pytest.raises(ModelError, match=r"no layer 'convolve'; near it: convolved"):
        feature_maps(model, x, "convolve")
    with pytest.raises(ModelError, match=r"there are: convolved, positive, dropped, flat, scores$"):
        feature_maps(model, x, "zzz")
    with pytest.raises(ModelError, match="'pixels' of model 'predict' computes nothing"):
        feature_maps(model, x, "pixels")
    with pytest.raises(UsageError, match="expected a model or a path"):
        feature_maps(3, x)
    with pytest.raises(InputError, match="expected"):
        feature_maps(model, x[..., :1])


def test_what_has_no_picture_is_told() -> None:
    volume = keras.Sequential([keras.Input((3, 3, 3, 1)), layers.Conv3D(1, 2, name="deep")])
    found = feature_maps(volume, np.zeros((1, 3, 3, 3, 1), np.float32), "deep")
    with pytest.raises(UnsupportedError, match="rank 5"):
        found.maps("deep")
    with pytest.raises(ModelError, match="no 2-D convolution"):
        filters(volume)
    with pytest.raises(ModelError, match="no layer with two spatial axes"):
        feature_maps(volume, np.zeros((1, 3, 3, 3, 1), np.float32))


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_files_give_the_same_maps(suffix: str, x: Any, tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    model, path = network(), tmp_path / f"m{suffix}"
    model.save(path)
    found = feature_maps(path, x, ["positive"])
    np.testing.assert_array_equal(found["positive"], feature_maps(model, x)["positive"])
    np.testing.assert_array_equal(filters(path).array, filters(model, "convolved").array)


def test_filters_are_the_kernels() -> None:
    model = network()
    kernel = model.get_layer("convolved").get_weights()[0]
    found = filters(model)
    assert found.layer == "convolved"
    np.testing.assert_array_equal(found.array, kernel.transpose(3, 2, 0, 1))
    assert found.maps.shape == (8, 3, 3)
    colored = keras.Sequential([keras.Input((4, 4, 3)), layers.Conv2D(5, 2)])
    assert filters(colored).maps.shape == (5, 2, 2, 3)


def test_greys_run_from_the_least_to_the_largest() -> None:
    np.testing.assert_array_equal(grey(np.array([[-1.0, 0, 1]])), [[0, 128, 255]])
    np.testing.assert_array_equal(grey(np.full((1, 2), 7.0)), [[0, 0]])
    np.testing.assert_array_equal(grey(np.array([[np.nan, 2, 4, np.inf]])), [[0, 0, 255, 0]])


def test_a_sheet_has_each_map_in_its_place() -> None:
    pytest.importorskip("PIL")
    maps = np.arange(3 * 40 * 40).reshape(3, 40, 40).astype(np.float32)
    maps[1] = maps[1][::-1]
    page = np.asarray(sheet(maps, "title – 标题", columns=2))
    left, top = GAP, LABEL + GAP + LABEL
    np.testing.assert_array_equal(page[top : top + 40, left : left + 40, 0], grey(maps[0]))
    left += 40 + GAP
    np.testing.assert_array_equal(page[top : top + 40, left : left + 40, 2], grey(maps[1]))
    assert page.shape == (2 * (40 + LABEL + GAP) + LABEL + GAP, 2 * (40 + GAP) + GAP, 3)
    with pytest.raises(DataError, match="expected maps of shape"):
        sheet(np.zeros((2, 2)))
    small = np.asarray(sheet(np.eye(2)[None]))
    assert (small[top : top + 20, GAP : GAP + 20] == 255).all()
