"""Compiled networks compute what a float64 run of their graphs computes, whatever the batch and the threads."""

from __future__ import annotations

import numpy as np
import pytest

from tests.networks.subjects import BATCHES, LIMIT, NETWORKS, SIZES, Subject, subject


@pytest.mark.parametrize("name", NETWORKS)
def test_one_artifact_is_exact_for_every_batch(name: str) -> None:
    check_every_batch(subject(name))


@pytest.mark.parametrize("name", ["ResNet50", "MobileNetV2", "VGG16", "EfficientNetB0"])
def test_features_of_channels_first_images_are_exact(name: str) -> None:
    check_every_batch(subject(name, "channels_first", include_top=False))


def check_every_batch(network: Subject) -> None:
    for batch in BATCHES:
        scores = network.compiled(network.images[:batch])
        assert scores.shape == (batch, *network.exact.shape[1:])
        assert network.error(scores) <= LIMIT, f"batch {batch}"


@pytest.mark.parametrize("name", SIZES)
def test_threads_give_the_same_bits(name: str) -> None:
    network = subject(name)
    artifact = network.compiled.compiled.artifact
    for batch in (1, 5):
        one = artifact.model(1)(network.images[:batch])
        for threads in (1, 2, 3, 7):
            scores = artifact.model(threads)(network.images[:batch])
            np.testing.assert_array_equal(scores, one, f"{threads} threads, batch {batch}")


@pytest.mark.parametrize("name", SIZES)
def test_images_differ(name: str) -> None:
    """Were all scores alike, the other tests would say little."""
    exact = subject(name).exact
    assert np.abs(exact - exact[:1])[1:].max() > 1e-2 * np.abs(exact).max()
    assert np.isfinite(exact).all()
