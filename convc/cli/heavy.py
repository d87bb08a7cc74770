"""What `--help` must not load: modules that are imported when they are first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import convc_runtime
    import numpy
    from convc_runtime import description, writing
    from convc_runtime import format as formats

    from convc import driver, onnx_files, report, scripts
    from convc.cli import (
        accuracy,
        bounds,
        building,
        epochs,
        files,
        measure,
        peak,
        sizes,
        stepping,
        training,
        training_graph,
    )
    from convc.cli import app as commands
    from convc.cli import pictures as pictures_in
    from convc.cli.differences import comparing
    from convc.keras import saving as keras_saving
    from convc.keras.visualization import curves as curve_plots
    from convc.keras.visualization import features as feature_pictures
    from convc.onnx import diagnosis as onnx_diagnosis
else:

    class OnFirstUse:
        """Stands for a module until one of its attributes is wanted."""

        def __init__(self, name: str) -> None:
            self._name = name

        def __getattr__(self, attribute: str) -> object:
            return getattr(importlib.import_module(self._name), attribute)

    accuracy = OnFirstUse("convc.cli.accuracy")
    bounds = OnFirstUse("convc.cli.bounds")
    building = OnFirstUse("convc.cli.building")
    commands = OnFirstUse("convc.cli.app")
    comparing = OnFirstUse("convc.cli.differences.comparing")
    convc_runtime = OnFirstUse("convc_runtime")
    curve_plots = OnFirstUse("convc.keras.visualization.curves")
    description = OnFirstUse("convc_runtime.description")
    driver = OnFirstUse("convc.driver")
    epochs = OnFirstUse("convc.cli.epochs")
    feature_pictures = OnFirstUse("convc.keras.visualization.features")
    files = OnFirstUse("convc.cli.files")
    formats = OnFirstUse("convc_runtime.format")
    keras_saving = OnFirstUse("convc.keras.saving")
    measure = OnFirstUse("convc.cli.measure")
    onnx_diagnosis = OnFirstUse("convc.onnx.diagnosis")
    onnx_files = OnFirstUse("convc.onnx_files")
    numpy = OnFirstUse("numpy")
    peak = OnFirstUse("convc.cli.peak")
    pictures_in = OnFirstUse("convc.cli.pictures")
    report = OnFirstUse("convc.report")
    scripts = OnFirstUse("convc.scripts")
    sizes = OnFirstUse("convc.cli.sizes")
    stepping = OnFirstUse("convc.cli.stepping")
    training = OnFirstUse("convc.cli.training")
    training_graph = OnFirstUse("convc.cli.training_graph")
    writing = OnFirstUse("convc_runtime.writing")

__all__ = [
    "accuracy",
    "bounds",
    "building",
    "commands",
    "comparing",
    "convc_runtime",
    "curve_plots",
    "description",
    "driver",
    "epochs",
    "feature_pictures",
    "files",
    "formats",
    "keras_saving",
    "measure",
    "numpy",
    "onnx_diagnosis",
    "onnx_files",
    "peak",
    "pictures_in",
    "report",
    "scripts",
    "sizes",
    "stepping",
    "training",
    "training_graph",
    "writing",
]
