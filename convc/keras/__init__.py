"""Models written with Keras' names, arguments, defaults and output shapes, traced into convc's graphs."""

from convc.collector import uncollected

with uncollected():
    from convc.keras import (
        activations,
        applications,
        backend,
        callbacks,
        config,
        constraints,
        datasets,
        dtype_policies,
        initializers,
        layers,
        losses,
        metrics,
        mixed_precision,
        models,
        ops,
        optimizers,
        preprocessing,
        random,
        regularizers,
        saving,
        tree,
        utils,
        visualization,
        wrappers,
    )
    from convc.keras import backend_functions as _backend_functions  # noqa: F401 - fills K in
    from convc.keras import backend_graphs as _backend_graphs  # noqa: F401 - fills K in
    from convc.keras import backend_layers as _backend_layers  # noqa: F401 - fills K in
    from convc.keras import old_paths as _old_paths  # noqa: F401 - Keras 2's modules at other paths
    from convc.keras.dtype_policies import DTypePolicy, FloatDTypePolicy
    from convc.keras.engine.input import Input
    from convc.keras.engine.input_spec import InputSpec
    from convc.keras.engine.layer import Layer
    from convc.keras.engine.model import Model, Sequential
    from convc.keras.engine.tensor import KerasTensor, Variable
    from convc.keras.initializers import Initializer
    from convc.keras.losses import Loss
    from convc.keras.metrics import Metric
    from convc.keras.optimizers import Optimizer
    from convc.keras.regularizers import Regularizer
    from convc.keras.training.eager import GradientTape

__version__ = "3.0.0"
"""The version of Keras whose names and defaults these are."""


def version() -> str:
    """The version of Keras whose names and defaults these are."""
    return __version__


__all__ = [
    "DTypePolicy", "FloatDTypePolicy", "GradientTape", "Initializer", "Input", "InputSpec", "KerasTensor", "Layer",
    "Loss", "Metric", "Model", "Optimizer", "Regularizer", "Sequential", "Variable", "activations", "applications",
    "backend", "callbacks", "config", "constraints", "datasets", "dtype_policies", "initializers", "layers",
    "losses", "metrics", "mixed_precision", "models", "ops", "optimizers", "preprocessing", "random",
    "regularizers", "saving", "tree", "utils", "version", "visualization", "wrappers",
]  # fmt: skip
