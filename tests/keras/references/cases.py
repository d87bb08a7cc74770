"""Losses, metrics, optimizers, schedules and models written for either Keras: each is a function of the package.

`make.py` runs them with Keras and keeps what comes out; tests run them with convc and compare.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Make = Callable[[Any], Any]


def wave(*shape: int, speed: float = 1.7, start: float = 0.3) -> Any:
    """Numbers between -1 and 1 that are the same everywhere."""
    count = int(np.prod(shape))
    return np.sin(start + speed * np.arange(count) ** 1.5).reshape(shape)


def shares(*shape: int, start: float = 0.3) -> Any:
    """Positive numbers that sum to 1 along the last axis."""
    x = np.exp(2 * wave(*shape, start=start))
    return x / x.sum(-1, keepdims=True)


def labels(*shape: int, classes: int, start: float = 0.0) -> Any:
    found = np.floor((wave(*shape, speed=2.3, start=start) + 1) / 2 * classes).astype(np.int64)
    return np.clip(found, 0, classes - 1)


def data(kind: str) -> tuple[Any, Any]:
    """Targets and predictions of six samples."""
    match kind:
        case "numbers":
            return wave(6, 4, start=0.9) * 2, wave(6, 4) * 2
        case "column":
            return wave(6, start=0.9), wave(6, 1)
        case "signs":
            return np.sign(wave(6, 4, start=0.9)), wave(6, 4) * 2
        case "bits":
            return (wave(6, 4, start=0.9) > 0).astype(float), wave(6, 4) * 2
        case "likely bits":
            return (wave(6, 4, start=0.9) > 0).astype(float), 1 / (1 + np.exp(-2 * wave(6, 4)))
        case "classes":
            return np.eye(4)[labels(6, classes=4)], shares(6, 4)
        case "logits":
            return np.eye(4)[labels(6, classes=4)], wave(6, 4) * 3
        case "shares":
            return shares(6, 4, start=0.9), shares(6, 4)
        case "labels":
            return labels(6, classes=4), shares(6, 4)
        case "label logits":
            return labels(6, classes=4), wave(6, 4) * 3
        case "label images":
            return labels(6, 3, 2, classes=4), shares(6, 3, 2, 4)
        case "images":
            return wave(6, 3, 2, 4, start=0.9), wave(6, 3, 2, 4)
        case "mask images":
            return (wave(6, 3, 2, 1, start=0.9) > 0).astype(float), 0.5 + 0.5 * wave(6, 3, 2, 1)
        case "one-hot images":
            return np.eye(4)[labels(6, 3, 2, classes=4)], shares(6, 3, 2, 4)
        case "label maps":
            return labels(6, 3, 2, classes=4), labels(6, 3, 2, classes=4, start=0.4)
        case "positive":
            return np.abs(wave(6, 4, start=0.9)) + 0.1, np.abs(wave(6, 4)) + 0.1
        case _:
            raise KeyError(kind)


WEIGHTS = np.array([0.5, 1.0, 2.0, 0.0, 1.5, 3.0])


def weights(kind: str) -> Any:
    """Weights of the six samples, which Keras' losses and thresholds ask for at each pixel of images."""
    pixels = "images" in kind
    return np.broadcast_to(WEIGHTS[:, None, None], (6, 3, 2)).copy() if pixels else WEIGHTS


LOSSES: dict[str, tuple[str, Make]] = {
    "mse": ("numbers", lambda k: k.losses.MeanSquaredError()),
    "mse images": ("images", lambda k: k.losses.MeanSquaredError()),
    "mse column": ("column", lambda k: k.losses.MeanSquaredError()),
    "mae": ("numbers", lambda k: k.losses.MeanAbsoluteError()),
    "mape": ("positive", lambda k: k.losses.MeanAbsolutePercentageError()),
    "msle": ("positive", lambda k: k.losses.MeanSquaredLogarithmicError()),
    "huber": ("numbers", lambda k: k.losses.Huber()),
    "huber 0.4": ("numbers", lambda k: k.losses.Huber(delta=0.4)),
    "log cosh": ("numbers", lambda k: k.losses.LogCosh()),
    "kl": ("shares", lambda k: k.losses.KLDivergence()),
    "poisson": ("positive", lambda k: k.losses.Poisson()),
    "hinge bits": ("bits", lambda k: k.losses.Hinge()),
    "hinge signs": ("signs", lambda k: k.losses.Hinge()),
    "squared hinge": ("signs", lambda k: k.losses.SquaredHinge()),
    "categorical hinge": ("classes", lambda k: k.losses.CategoricalHinge()),
    "cosine": ("numbers", lambda k: k.losses.CosineSimilarity()),
    "cosine axis 1": ("images", lambda k: k.losses.CosineSimilarity(axis=1)),
    "dice": ("likely bits", lambda k: k.losses.Dice()),
    "dice axes": ("mask images", lambda k: k.losses.Dice(axis=(1, 2, 3))),
    "tversky": ("likely bits", lambda k: k.losses.Tversky(alpha=0.3, beta=0.7)),
    "categorical": ("classes", lambda k: k.losses.CategoricalCrossentropy()),
    "categorical shares": ("shares", lambda k: k.losses.CategoricalCrossentropy()),
    "categorical smooth": ("classes", lambda k: k.losses.CategoricalCrossentropy(label_smoothing=0.1)),
    "categorical logits": ("logits", lambda k: k.losses.CategoricalCrossentropy(from_logits=True)),
    "categorical images": ("one-hot images", lambda k: k.losses.CategoricalCrossentropy()),
    "categorical focal": ("classes", lambda k: k.losses.CategoricalFocalCrossentropy()),
    "categorical focal logits": (
        "logits",
        lambda k: k.losses.CategoricalFocalCrossentropy(0.5, 1.5, True, label_smoothing=0.05),
    ),
    "sparse": ("labels", lambda k: k.losses.SparseCategoricalCrossentropy()),
    "sparse logits": (
        "label logits",
        lambda k: k.losses.SparseCategoricalCrossentropy(from_logits=True),
    ),
    "sparse images": ("label images", lambda k: k.losses.SparseCategoricalCrossentropy()),
    "sparse without 2": (
        "label images",
        lambda k: k.losses.SparseCategoricalCrossentropy(ignore_class=2),
    ),
    "binary": ("likely bits", lambda k: k.losses.BinaryCrossentropy()),
    "binary smooth": ("likely bits", lambda k: k.losses.BinaryCrossentropy(label_smoothing=0.2)),
    "binary logits": ("bits", lambda k: k.losses.BinaryCrossentropy(from_logits=True)),
    "binary images": ("mask images", lambda k: k.losses.BinaryCrossentropy()),
    "binary focal": ("likely bits", lambda k: k.losses.BinaryFocalCrossentropy()),
    "binary focal balanced": (
        "bits",
        lambda k: k.losses.BinaryFocalCrossentropy(True, 0.3, 1.5, True, 0.1),
    ),
}  # fmt: skip

WITHOUT_WEIGHTS = ("dice", "tversky", "cosine axis 1")
"""Losses whose values aren't one per sample."""

METRICS: dict[str, tuple[str, Make]] = {
    "accuracy": ("label maps", lambda k: k.metrics.Accuracy()),
    "binary": ("likely bits", lambda k: k.metrics.BinaryAccuracy()),
    "binary 0.3": ("likely bits", lambda k: k.metrics.BinaryAccuracy(threshold=0.3)),
    "categorical": ("classes", lambda k: k.metrics.CategoricalAccuracy()),
    "categorical images": ("one-hot images", lambda k: k.metrics.CategoricalAccuracy()),
    "sparse": ("labels", lambda k: k.metrics.SparseCategoricalAccuracy()),
    "sparse images": ("label images", lambda k: k.metrics.SparseCategoricalAccuracy()),
    "top 2": ("classes", lambda k: k.metrics.TopKCategoricalAccuracy(k=2)),
    "sparse top 3": ("labels", lambda k: k.metrics.SparseTopKCategoricalAccuracy(k=3)),
    "precision": ("likely bits", lambda k: k.metrics.Precision()),
    "precision thresholds": ("likely bits", lambda k: k.metrics.Precision([0.2, 0.5, 0.8])),
    "precision even": ("likely bits", lambda k: k.metrics.Precision([0.0, 0.5, 1.0])),
    "precision top 2": ("classes", lambda k: k.metrics.Precision(top_k=2)),
    "precision class": ("classes", lambda k: k.metrics.Precision(class_id=1, thresholds=0.2)),
    "recall": ("likely bits", lambda k: k.metrics.Recall()),
    "recall top 1": ("classes", lambda k: k.metrics.Recall(top_k=1)),
    "true positives": ("likely bits", lambda k: k.metrics.TruePositives()),
    "true negatives": ("likely bits", lambda k: k.metrics.TrueNegatives([0.3, 0.6])),
    "false positives": ("likely bits", lambda k: k.metrics.FalsePositives()),
    "false negatives": ("likely bits", lambda k: k.metrics.FalseNegatives()),
    "auc": ("likely bits", lambda k: k.metrics.AUC()),
    "auc column": ("mask images", lambda k: k.metrics.AUC(num_thresholds=20)),
    "auc pr": ("likely bits", lambda k: k.metrics.AUC(curve="PR")),
    "auc pr major": (
        "likely bits",
        lambda k: k.metrics.AUC(30, "PR", summation_method="majoring"),
    ),
    "auc minor": ("likely bits", lambda k: k.metrics.AUC(30, summation_method="minoring")),
    "auc gains": ("likely bits", lambda k: k.metrics.AUC(30, "PRGAIN")),
    "auc thresholds": ("likely bits", lambda k: k.metrics.AUC(thresholds=[0.1, 0.4, 0.9])),
    "auc labels": ("likely bits", lambda k: k.metrics.AUC(multi_label=True, num_labels=4)),
    "auc label weights": (
        "likely bits",
        lambda k: k.metrics.AUC(multi_label=True, num_labels=4, label_weights=[0.1, 0.2, 0.3, 0.4]),
    ),
    "auc logits": ("bits", lambda k: k.metrics.AUC(from_logits=True)),
    "sensitivity": ("likely bits", lambda k: k.metrics.SensitivityAtSpecificity(0.5)),
    "specificity": ("likely bits", lambda k: k.metrics.SpecificityAtSensitivity(0.4)),
    "precision at": ("likely bits", lambda k: k.metrics.PrecisionAtRecall(0.3)),
    "recall at": ("likely bits", lambda k: k.metrics.RecallAtPrecision(0.4)),
    "f1": ("classes", lambda k: k.metrics.F1Score()),
    "f1 micro": ("classes", lambda k: k.metrics.F1Score("micro")),
    "f2 weighted": ("likely bits", lambda k: k.metrics.FBetaScore("weighted", 2.0, 0.4)),
    "f1 macro": ("likely bits", lambda k: k.metrics.F1Score("macro", 0.5)),
    "iou": ("label maps", lambda k: k.metrics.IoU(4, [0, 2])),
    "iou without 1": ("label maps", lambda k: k.metrics.MeanIoU(4, ignore_class=1)),
    "mean iou": ("label maps", lambda k: k.metrics.MeanIoU(4)),
    "binary iou": ("mask images", lambda k: k.metrics.BinaryIoU([0, 1], 0.4)),
    "one-hot iou": ("one-hot images", lambda k: k.metrics.OneHotIoU(4, [1, 3])),
    "one-hot mean iou": ("one-hot images", lambda k: k.metrics.OneHotMeanIoU(4)),
    "mse": ("numbers", lambda k: k.metrics.MeanSquaredError()),
    "mae images": ("images", lambda k: k.metrics.MeanAbsoluteError()),
    "mape": ("positive", lambda k: k.metrics.MeanAbsolutePercentageError()),
    "msle": ("positive", lambda k: k.metrics.MeanSquaredLogarithmicError()),
    "rmse": ("numbers", lambda k: k.metrics.RootMeanSquaredError()),
    "log cosh": ("numbers", lambda k: k.metrics.LogCoshError()),
    "cosine": ("numbers", lambda k: k.metrics.CosineSimilarity()),
    "pearson": ("numbers", lambda k: k.metrics.PearsonCorrelation()),
    "concordance": ("numbers", lambda k: k.metrics.ConcordanceCorrelation()),
    "r2": ("numbers", lambda k: k.metrics.R2Score()),
    "r2 weighted": ("numbers", lambda k: k.metrics.R2Score("variance_weighted_average", 2)),
    "kl": ("shares", lambda k: k.metrics.KLDivergence()),
    "poisson": ("positive", lambda k: k.metrics.Poisson()),
    "hinge": ("signs", lambda k: k.metrics.Hinge()),
    "squared hinge": ("bits", lambda k: k.metrics.SquaredHinge()),
    "categorical hinge": ("classes", lambda k: k.metrics.CategoricalHinge()),
    "binary crossentropy": ("bits", lambda k: k.metrics.BinaryCrossentropy(from_logits=True)),
    "categorical crossentropy": (
        "classes",
        lambda k: k.metrics.CategoricalCrossentropy(label_smoothing=0.1),
    ),
    "sparse crossentropy": ("labels", lambda k: k.metrics.SparseCategoricalCrossentropy()),
    "wrapped": ("numbers", lambda k: k.metrics.MeanMetricWrapper(k.losses.huber, delta=0.5)),
}

SCHEDULES: dict[str, Make] = {
    "exponential": lambda k: k.optimizers.schedules.ExponentialDecay(0.1, 30, 0.7),
    "staircase": lambda k: k.optimizers.schedules.ExponentialDecay(0.1, 30, 0.7, staircase=True),
    "inverse": lambda k: k.optimizers.schedules.InverseTimeDecay(0.1, 20, 0.5),
    "inverse stairs": lambda k: k.optimizers.schedules.InverseTimeDecay(0.1, 20, 0.5, True),
    "piecewise": lambda k: k.optimizers.schedules.PiecewiseConstantDecay([10, 50], [1.0, 0.5, 0.1]),
    "polynomial": lambda k: k.optimizers.schedules.PolynomialDecay(0.1, 60, 0.01, power=0.5),
    "polynomial cycle": lambda k: k.optimizers.schedules.PolynomialDecay(0.1, 30, cycle=True),
    "cosine": lambda k: k.optimizers.schedules.CosineDecay(0.1, 80, alpha=0.1),
    "cosine warm-up": lambda k: k.optimizers.schedules.CosineDecay(
        0.0, 80, warmup_target=0.2, warmup_steps=20
    ),
    "restarts": lambda k: k.optimizers.schedules.CosineDecayRestarts(0.1, 20, 2.0, 0.8, 0.05),
    "restarts equal": lambda k: k.optimizers.schedules.CosineDecayRestarts(0.1, 20, t_mul=1.0),
}
STEPS = (0, 1, 9, 10, 11, 19, 20, 21, 40, 50, 51, 60, 79, 80, 99, 100, 200)

BETAS = {"beta_1": 1 - 2.0**-3, "beta_2": 1 - 2.0**-10}
"""Numbers of float32, to which Keras on TensorFlow rounds these even where it trains in float64."""

OPTIMIZERS: dict[str, Make] = {
    "sgd": lambda k: k.optimizers.SGD(0.05),
    "sgd momentum": lambda k: k.optimizers.SGD(0.05, momentum=0.9),
    "sgd nesterov": lambda k: k.optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    "rmsprop": lambda k: k.optimizers.RMSprop(0.01),
    "rmsprop centered": lambda k: k.optimizers.RMSprop(0.01, momentum=0.5, centered=True),
    "adam": lambda k: k.optimizers.Adam(0.01, **BETAS),
    "adam defaults": lambda k: k.optimizers.Adam(),
    "amsgrad": lambda k: k.optimizers.Adam(0.01, amsgrad=True, epsilon=1e-4, **BETAS),
    "adamw": lambda k: k.optimizers.AdamW(0.01, weight_decay=0.125, **BETAS),
    "adagrad": lambda k: k.optimizers.Adagrad(0.05),
    "adadelta": lambda k: k.optimizers.Adadelta(1.0),
    "adamax": lambda k: k.optimizers.Adamax(0.01, **BETAS),
    "nadam": lambda k: k.optimizers.Nadam(0.01, **BETAS),
    "lion": lambda k: k.optimizers.Lion(0.003, **BETAS),
    "lamb": lambda k: k.optimizers.Lamb(0.01, **BETAS),
    "ftrl": lambda k: k.optimizers.Ftrl(0.05),
    "ftrl regularized": lambda k: k.optimizers.Ftrl(
        0.05,
        l1_regularization_strength=0.01,
        l2_regularization_strength=0.02,
        l2_shrinkage_regularization_strength=0.01,
        beta=0.1,
    ),
    "clipnorm": lambda k: k.optimizers.SGD(0.05, momentum=0.5, clipnorm=0.3),
    "global clipnorm": lambda k: k.optimizers.SGD(0.05, momentum=0.5, global_clipnorm=0.3),
    "clipvalue": lambda k: k.optimizers.SGD(0.05, momentum=0.5, clipvalue=0.05),
    "weight decay": lambda k: k.optimizers.SGD(0.05, momentum=0.5, weight_decay=0.2),
    "average": lambda k: k.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.9, **BETAS),
    "average taken": lambda k: k.optimizers.SGD(
        0.05, use_ema=True, ema_momentum=0.8, ema_overwrite_frequency=4
    ),
    "accumulated": lambda k: k.optimizers.Adam(0.02, gradient_accumulation_steps=3, **BETAS),
    "scheduled": lambda k: k.optimizers.Adam(
        k.optimizers.schedules.CosineDecay(0.02, 40, warmup_target=0.05, warmup_steps=10), **BETAS
    ),
}


REGULARIZERS: dict[str, Make] = {
    "l1": lambda k: k.regularizers.L1(0.1),
    "l2": lambda k: k.regularizers.L2(0.1),
    "l1 l2": lambda k: k.regularizers.L1L2(0.1, 0.2),
    "rows": lambda k: k.regularizers.OrthogonalRegularizer(0.1),
    "columns": lambda k: k.regularizers.OrthogonalRegularizer(0.1, "columns"),
}

CONSTRAINTS: dict[str, Make] = {
    "max norm": lambda k: k.constraints.MaxNorm(1.0),
    "max norm rows": lambda k: k.constraints.MaxNorm(1.0, axis=1),
    "non-negative": lambda k: k.constraints.NonNeg(),
    "unit norm": lambda k: k.constraints.UnitNorm(axis=(0, 1)),
    "min max norm": lambda k: k.constraints.MinMaxNorm(1.2, 1.5, rate=0.6),
}


def network(keras: Any) -> Any:
    """A small classifier with a convolution and batch norm, its weights the same everywhere, in float64."""
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(3, 3, padding="same", activation="relu"),
            layers.BatchNormalization(momentum=0.9),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(8, activation="tanh"),
            layers.Dense(3, activation="softmax"),
        ]
    )
    seeded(model)
    return model


def seeded(model: Any) -> None:
    """Gives a model's weights values that follow from their positions."""
    arrays = []
    for k, weight in enumerate(model.get_weights()):
        fan = max(1, int(np.prod(weight.shape[:-1])))
        found = wave(*weight.shape, start=0.5 + k) / np.sqrt(fan)
        # Moving variances, scales and shifts of norms stay near what they begin with.
        arrays.append(weight + 0.1 * found if weight.ndim == 1 else found)
    model.set_weights(arrays)


def batch() -> tuple[Any, Any]:
    """Images (numbers of float32, to which Keras rounds inputs on torch) and labels for `network`."""
    images = wave(20, 6, 6, 2, start=0.1).astype(np.float32).astype(np.float64)
    return images, labels(20, classes=3)


def penalized(keras: Any) -> Any:
    """A network whose weights have regularizers and constraints, and whose layers add to the loss."""
    layers, regularizers, constraints = keras.layers, keras.regularizers, keras.constraints
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(
                4,
                3,
                kernel_regularizer=regularizers.L2(0.01),
                bias_regularizer=regularizers.L1(0.02),
                kernel_constraint=constraints.MaxNorm(0.8, axis=(0, 1, 2)),
                activation="relu",
                activity_regularizer=regularizers.L2(1e-3),
            ),
            layers.Flatten(),
            layers.Dense(
                6,
                activation="tanh",
                kernel_regularizer=regularizers.L1L2(0.001, 0.002),
                kernel_constraint=constraints.UnitNorm(),
                bias_constraint=constraints.NonNeg(),
            ),
            layers.ActivityRegularization(l1=0.001),
            layers.Dense(
                5,
                kernel_regularizer=lambda w: 0.1 * keras.ops.sum(keras.ops.exp(w)),
                kernel_constraint=constraints.MinMaxNorm(0.5, 0.9, rate=0.7, axis=1),
            ),
            layers.Dense(3, activation="softmax", kernel_regularizer="l2"),
        ]
    )
    seeded(model)
    return model
