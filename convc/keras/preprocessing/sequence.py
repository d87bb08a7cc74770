"""Keras 2's module of sequences."""

from convc.keras.preprocessing.skipgrams import make_sampling_table, skipgrams
from convc.keras.preprocessing.timeseries import TimeseriesGenerator
from convc.keras.utils.padding import pad_sequences

__all__ = ["TimeseriesGenerator", "make_sampling_table", "pad_sequences", "skipgrams"]
