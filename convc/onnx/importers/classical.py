"""Import rules of classical machine learning (ai.onnx.ml): what models of scikit-learn and its like become."""

from __future__ import annotations

import numpy as np

from convc.onnx.importers.call import Call, Rejected, Rule
from convc.onnx.importers.scores import Labels, chosen_label, labels_of, picked, transformed
from convc.ops.broadcasting import Add, Div, Equal, Greater, Maximum, Mul, Pow, Sub, Where
from convc.ops.elementwise import Abs, Cast, Exp, Neg, Not, Sqrt, Square, Tanh
from convc.ops.integer import IsNan
from convc.ops.matmul import MatMul
from convc.ops.reduce import ReduceMax, ReduceSum
from convc.ops.shape import Concat, Gather, Pad
from convc.types import DType


def rows(c: Call, k: int = 0) -> str:
    """An input as float32[n, features]; a vector is one row."""
    x = c.cast(c[k], DType.float32)
    if c.rank(x) == 1:
        return c.reshape(x, (1, *c.shape(x)))
    if c.rank(x) != 2:
        raise Rejected(f"expected rows of features, got {c.type(x)}")
    return x


def floats(c: Call, name: str) -> np.ndarray:
    return np.array(c.attr(name) or [], np.float32)


# ---------------------------------------------------------------- features


def binarizer(c: Call) -> str:
    limit = c.constant(np.array(c.attr("threshold", 0.0)), c.dtype(0))
    return c.cast(c.add(Greater(), c[0], limit), c.dtype(0))


def array_feature_extractor(c: Call) -> str:
    """Columns of the last axis; of a vector, as one row."""
    chosen = c.reshape(c.cast(c[1], DType.int64), (int(np.prod(c.numbers(1))),))
    x = c.reshape(c[0], (1, *c.shape(0))) if c.rank(0) == 1 else c[0]
    return c.add(Gather(c.rank(x) - 1), x, chosen)


def scaler(c: Call) -> str:
    """(x - offset) * scale."""
    x = c.cast(c[0], DType.float32)
    offset, scale = (c.constant(floats(c, n)) for n in ("offset", "scale"))
    return c.add(Mul(), c.add(Sub(), x, offset), scale)


def normalizer(c: Call) -> str:
    """Each row over its norm."""
    x = rows(c)
    match c.attr("norm", "MAX"):
        case "MAX":
            norm = c.add(ReduceMax((1,), True), c.add(Abs(), x))
        case "L1":
            norm = c.add(ReduceSum((1,), True), c.add(Abs(), x))
        case "L2":
            norm = c.add(Sqrt(), c.add(ReduceSum((1,), True), c.add(Square(), x)))
        case other:
            raise Rejected(f"norm {other!r} is not supported: expected MAX, L1 or L2")
    nothing = c.add(Equal(), norm, c.scalar(0.0, norm))
    return c.add(Div(), x, c.add(Where(), nothing, c.scalar(1.0, norm), norm))


def imputer(c: Call) -> str:
    """A value per column in the place of a value that stands for missing ones."""
    integers = c.attr("imputed_value_int64s")
    values = np.array(integers if integers else c.attr("imputed_value_floats"))
    replaced = (
        c.attr("replaced_value_int64", 0) if integers else c.attr("replaced_value_float", 0.0)
    )
    if c.dtype(0).is_float and np.isnan(replaced):
        missing = c.add(IsNan(), c[0])
    else:
        missing = c.add(Equal(), c[0], c.constant(np.array(replaced), c.dtype(0)))
    return c.add(Where(), missing, c.constant(values, c.dtype(0)), c[0])


def one_hot_encoder(c: Call) -> str:
    """For each element a row of the categories, 1 at its own."""
    if c.attr("cats_strings"):
        raise Rejected("categories that are strings are not supported: expected cats_int64s")
    wide = c.reshape(c.cast(c[0], DType.int64), (*c.shape(0), 1))
    found = c.add(Equal(), wide, c.constant(np.array(c.attr("cats_int64s")), DType.int64))
    return c.cast(found, DType.float32)


def label_encoder(c: Call) -> str:
    """The value of each key, or the default."""
    keys, values, default = (encoder_list(c, kind) for kind in ("keys", "values", "default"))
    x = c.reshape(c[0], (*c.shape(0), 1))
    key = c.constant(keys, c.dtype(0))
    hit = c.add(Equal(), x, key)
    if c.dtype(0).is_float and np.isnan(keys.astype(np.float64)).any():
        lost = c.add(IsNan(), x)
        hit = c.add(Where(), c.add(IsNan(), key), lost, hit)
    numbers = c.constant(np.arange(1, len(keys) + 1), DType.int64)
    place = c.add(Where(), hit, numbers, c.scalar(0, numbers))
    which = c.add(ReduceMax((c.rank(0),), False), place)
    table = np.concatenate([np.reshape(default, 1).astype(values.dtype), values])
    return c.add(Gather(0), c.constant(table), which)


def encoder_list(c: Call, kind: str) -> np.ndarray:
    """The keys, the values or the default of a LabelEncoder."""
    suffix = {"keys": "s", "values": "s", "default": ""}[kind]
    tensor = c.attr(f"{kind}_tensor")
    if tensor is not None:
        return c.importer.array(tensor).reshape(-1)
    for name, dtype in (("int64", np.int64), ("float", np.float32)):
        given = c.attr(f"{kind}_{name}{suffix}")
        if given is not None:
            return np.array(given, dtype).reshape(-1)
    if kind == "default" and not c.attr("values_strings"):
        return np.array([-1 if c.attr("values_int64s") else 0])
    raise Rejected(f"{kind} that are strings are not supported: expected numbers")


def feature_vectorizer(c: Call) -> str:
    """The inputs' columns side by side, cut or filled up with zeros."""
    parts = []
    for k, wanted in enumerate(c.attr("inputdimensions") or [c.shape(v)[-1] for v in c.rest()]):
        x = c.cast(c[k], DType.float32)
        x = c.reshape(x, (*c.shape(x), 1)) if c.rank(x) == 1 else x
        have = c.shape(x)[1]
        if have != wanted:
            x = c.add(Pad(((0, 0), (0, wanted - have))), x)
        parts.append(x)
    return c.add(Concat(1), *parts) if len(parts) > 1 else parts[0]


# ---------------------------------------------------------------- linear models


def product(c: Call, x: str, coefficients: np.ndarray, intercepts: np.ndarray) -> str:
    """x[n, f] times coefficients[targets, f], and the intercepts."""
    if coefficients.shape[1] != c.shape(x)[1]:
        raise Rejected(f"has coefficients of {coefficients.shape[1]} features, got {c.type(x)}")
    scores = c.add(MatMul(), x, c.constant(coefficients.T))
    return c.add(Add(), scores, c.constant(intercepts)) if intercepts.size else scores


def linear_regressor(c: Call) -> str:
    count = int(c.attr("targets", 1))
    coefficients = floats(c, "coefficients").reshape((count, -1))
    scores = product(c, rows(c), coefficients, floats(c, "intercepts"))
    return transformed(c, scores, c.attr("post_transform", "NONE"))


def linear_classifier(c: Call) -> tuple[str, str]:
    labels = labels_of(c, "classlabels_ints", "classlabels_strings")
    intercepts = floats(c, "intercepts")
    count = len(intercepts) or len(labels)
    scores = product(c, rows(c), floats(c, "coefficients").reshape((count, -1)), intercepts)
    post = c.attr("post_transform", "NONE")
    if count > 1:
        return chosen_label(c, scores, labels), transformed(c, scores, post)
    if len(labels) != 2:
        raise Rejected(f"has one score for {len(labels)} labels")
    label = picked(c, c.add(Greater(), scores, c.scalar(0.0, scores)), labels)
    if post in ("NONE", "LOGISTIC"):
        score = transformed(c, scores, post)
        return label, c.add(Concat(1), c.add(Sub(), c.scalar(1.0, score), score), score)
    return label, transformed(c, c.add(Concat(1), c.add(Neg(), scores), scores), post)


# ---------------------------------------------------------------- support vector machines


def kernel(c: Call, x: str, vectors: np.ndarray) -> str:
    """The kernel [n, vectors] of x[n, f] with support vectors."""
    gamma, offset, degree = (*(c.attr("kernel_params") or []), 0.0, 0.0, 0.0)[:3]
    dot = product(c, x, vectors, np.zeros(0, np.float32))
    match c.attr("kernel_type", "LINEAR"):
        case "LINEAR":
            return dot
        case "RBF":
            own = c.add(ReduceSum((1,), True), c.add(Square(), x))
            theirs = c.constant((vectors.astype(np.float64) ** 2).sum(1).astype(np.float32))
            both = c.add(Add(), own, theirs)
            apart = c.add(Sub(), both, c.add(Mul(), dot, c.scalar(2.0, dot)))
            apart = c.add(Maximum(), apart, c.scalar(0.0, apart))
            return c.add(Exp(), c.add(Mul(), apart, c.scalar(-gamma, apart)))
        case other:
            scaled = c.add(Add(), c.add(Mul(), dot, c.scalar(gamma, dot)), c.scalar(offset, dot))
            if other == "SIGMOID":
                return c.add(Tanh(), scaled)
            if other == "POLY":
                return c.add(Pow(), scaled, c.scalar(int(degree), scaled))
            raise Rejected(f"kernel {other!r} is not supported")


def svm_regressor(c: Call) -> str:
    x, coefficients, rho = rows(c), floats(c, "coefficients"), floats(c, "rho")[:1]
    count = int(c.attr("n_supports", 0))
    if count:
        x = kernel(c, x, floats(c, "support_vectors").reshape((count, -1)))
    score = product(c, x, coefficients.reshape((1, -1)), rho)
    if c.attr("one_class", 0):
        above = c.add(Greater(), score, c.scalar(0.0, score))
        return c.add(Where(), above, c.scalar(1.0, score), c.scalar(-1.0, score))
    return transformed(c, score, c.attr("post_transform", "NONE"))


def svm_classifier(c: Call) -> tuple[str, str]:
    """One score per pair of classes and a vote of all pairs; or a linear score per class."""
    labels = labels_of(c, "classlabels_ints", "classlabels_strings")
    if c.attr("prob_a"):
        raise Rejected("probabilities (prob_a, prob_b) are not supported: expected scores")
    post, x = c.attr("post_transform", "NONE"), rows(c)
    coefficients, rho = floats(c, "coefficients"), floats(c, "rho")
    counts = list(c.attr("vectors_per_class") or [])
    if not counts:
        scores = product(c, x, coefficients.reshape((len(labels), -1)), rho[:1])
        return chosen_label(c, scores, labels), transformed(c, scores, post)
    if len(labels) < 3 or len(counts) != len(labels):
        return two_class_svm(c, x, labels, coefficients, rho, counts)
    total = sum(counts)
    kernels = kernel(c, x, floats(c, "support_vectors").reshape((total, -1)))
    shares = pair_coefficients(coefficients.reshape((-1, total)), counts)
    scores = product(c, kernels, shares, rho)
    votes = c.add(Concat(1), *pair_votes(c, scores, len(labels)))
    return chosen_label(c, votes, labels), transformed(c, scores, post)


def two_class_svm(
    c: Call, x: str, labels: Labels, coefficients: np.ndarray, rho: np.ndarray, counts: list[int]
) -> tuple[str, str]:
    """The score of the first of two classes and its negative."""
    if len(labels) != 2 or c.attr("post_transform", "NONE") != "NONE":
        raise Rejected("expected two classes without a post_transform, or more with a vote")
    total = sum(counts)
    kernels = kernel(c, x, floats(c, "support_vectors").reshape((total, -1)))
    score = product(c, kernels, coefficients.reshape((1, total)), rho[:1])
    label = picked(c, c.add(Greater(), score, c.scalar(0.0, score)), labels[::-1])
    return label, c.add(Concat(1), c.add(Neg(), score), score)


def pair_coefficients(coefficients: np.ndarray, counts: list[int]) -> np.ndarray:
    """[pairs, vectors]: of classes i < j, row j - 1 for the vectors of i and row i for those of j."""
    starts = np.cumsum([0, *counts])
    found = []
    for i in range(len(counts)):
        for j in range(i + 1, len(counts)):
            row = np.zeros(coefficients.shape[1], np.float32)
            for own, other in ((i, j - 1), (j, i)):
                part = slice(starts[own], starts[own + 1])
                row[part] = coefficients[other, part]
            found.append(row)
    return np.array(found)


def pair_votes(c: Call, scores: str, classes: int) -> list[str]:
    """How many pairs each class wins, a column each."""
    wins: list[list[str]] = [[] for _ in range(classes)]
    pairs = [(i, j) for i in range(classes) for j in range(i + 1, classes)]
    for k, (i, j) in enumerate(pairs):
        above = c.add(Greater(), c.slice(scores, 1, k, k + 1), c.scalar(0.0, scores))
        wins[i].append(c.add(Cast(DType.float32), above))
        wins[j].append(c.add(Cast(DType.float32), c.add(Not(), above)))
    return [c.fold(Add, won) for won in wins]


def zip_map(c: Call) -> str:
    raise Rejected("maps are not supported: convert the model with zipmap=False")


RULES: dict[str, Rule] = {
    "ArrayFeatureExtractor": array_feature_extractor,
    "Binarizer": binarizer,
    "FeatureVectorizer": feature_vectorizer,
    "Imputer": imputer,
    "LabelEncoder": label_encoder,
    "LinearClassifier": linear_classifier,
    "LinearRegressor": linear_regressor,
    "Normalizer": normalizer,
    "OneHotEncoder": one_hot_encoder,
    "SVMClassifier": svm_classifier,
    "SVMRegressor": svm_regressor,
    "Scaler": scaler,
    "ZipMap": zip_map,
}
