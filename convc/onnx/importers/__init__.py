"""How each ONNX operator reads in convc: one module per family, each with a table RULES."""

from convc.onnx.importers import (
    classical,
    control,
    deform,
    detection,
    drawing,
    elementwise,
    indexing,
    ngrams,
    norm,
    products,
    quantize,
    recurrent,
    reduce,
    resize,
    sampling,
    sequences,
    shape,
    spectral,
    training,
    trees,
    unique,
    windows,
)
from convc.onnx.importers.call import Rule

FAMILIES = (
    control, deform, detection, drawing, elementwise, indexing, ngrams, norm, products, quantize, recurrent, reduce,
    resize, sampling, sequences, shape, spectral, unique, windows,
)  # fmt: skip

RULES: dict[str, dict[str, Rule]] = {
    "": {name: rule for family in FAMILIES for name, rule in family.RULES.items()},
    "ai.onnx.ml": classical.RULES | trees.RULES,
    "ai.onnx.preview": {},
    "ai.onnx.preview.training": training.RULES,
}
"""Every rule by domain and operator. An operator without one may have a function body in its definition."""

__all__ = ["RULES"]
