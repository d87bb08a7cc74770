"""Models as scikit-learn's estimators, as Keras 2 had them: they need scikit-learn only where it uses them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from convc.errors import ModelError, UsageError
from convc.keras.engine.model import Sequential
from convc.keras.utils.arrays import to_categorical

Array = NDArray[Any]


class BaseWrapper:
    """An estimator that makes its model, by `build_fn(**arguments)`, each time that it is fitted.

    `sk_params` are arguments of build_fn and of the model's fit, predict and evaluate; each goes to those that have
    it. Without a build_fn, a subclass's `__call__` makes the model.
    """

    kind: ClassVar[str]
    """What scikit-learn calls the estimator's task."""

    def __init__(self, build_fn: Any = None, **sk_params: Any) -> None:
        self.build_fn = build_fn
        self.sk_params = sk_params
        self.check_params(sk_params)

    def _builder(self) -> Callable[..., Any]:
        build: Any = self if self.build_fn is None else self.build_fn
        if not callable(build):
            raise ModelError(
                f"{type(self).__name__}: expected build_fn, a function that makes the model; received {build!r}"
            )
        found: Callable[..., Any] = build if inspect.isroutine(build) else build.__call__
        return found

    def check_params(self, params: dict[str, Any]) -> None:
        """ModelError for a parameter that neither the model's methods nor build_fn take."""
        known = set().union(*(_names(f) for f in (*_METHODS, self._builder())))
        takes_any = any(
            p.kind is p.VAR_KEYWORD for p in inspect.signature(self._builder()).parameters.values()
        )
        for name in params:
            if name not in known and name != "nb_epoch" and not takes_any:
                raise ModelError(
                    f"{type(self).__name__}: {name} is not a legal parameter: expected one of fit, predict, evaluate "
                    f"or build_fn"
                )

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        return {**self.sk_params, "build_fn": self.build_fn}

    def set_params(self, **params: Any) -> Self:
        self.build_fn = params.pop("build_fn", self.build_fn)
        self.check_params(params)
        self.sk_params.update(params)
        return self

    def filter_sk_params(
        self, fn: Callable[..., Any], override: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Those of the parameters that a function takes, and what stands in their place."""
        taken = _names(fn)
        return {k: v for k, v in self.sk_params.items() if k in taken} | (override or {})

    def fit(self, x: Any, y: Any, **kwargs: Any) -> Any:
        """Makes the model and trains it; returns its History."""
        build = self._builder()
        self.model: Any = build(**self.filter_sk_params(build))
        if _loss_name(self.model.loss) == "categorical_crossentropy" and np.ndim(y) != 2:
            y = to_categorical(y)
        return self.model.fit(x, y, **self.filter_sk_params(Sequential.fit, kwargs))

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model")

    def __sklearn_tags__(self) -> Any:
        # Asked for by scikit-learn from 1.6 on, which is there then.
        from sklearn import utils

        return utils.Tags(
            estimator_type=self.kind,
            target_tags=utils.TargetTags(required=True),
            classifier_tags=utils.ClassifierTags() if self.kind == "classifier" else None,
            regressor_tags=utils.RegressorTags() if self.kind == "regressor" else None,
            transformer_tags=None,
        )


class KerasClassifier(BaseWrapper):
    """A model whose outputs are the probabilities of classes, or that of the second one of two."""

    kind = "classifier"
    _estimator_type = kind

    def fit(self, x: Any, y: Any, **kwargs: Any) -> Any:
        """Trains on class names (samples,) or on rows for classes 0, 1, …"""
        y = np.array(y)
        if y.ndim == 2 and y.shape[1] > 1:
            self.classes_: Array = np.arange(y.shape[1])
        elif y.ndim == 1 or (y.ndim == 2 and y.shape[1] == 1):
            self.classes_ = np.unique(y)
            y = np.searchsorted(self.classes_, y)
        else:
            raise UsageError(f"KerasClassifier.fit: invalid shape for y: {y.shape}")
        self.n_classes_ = len(self.classes_)
        return super().fit(x, y, **kwargs)

    def predict(self, x: Any, **kwargs: Any) -> Array:
        """The most probable class of each sample, by its name in training."""
        found = self._predicted(x, kwargs)
        numbers = found.argmax(-1) if found.shape[-1] > 1 else (found > 0.5).astype(np.int32)
        named: Array = self.classes_[numbers]
        return named

    def predict_proba(self, x: Any, **kwargs: Any) -> Array:
        """(samples, classes), both classes for a model of one output."""
        found = self._predicted(x, kwargs)
        both: Array = np.concatenate([1 - found, found], axis=1) if found.shape[1] == 1 else found
        return both

    def _predicted(self, x: Any, kwargs: dict[str, Any]) -> Array:
        return np.asarray(
            self.model.predict(x, **self.filter_sk_params(Sequential.predict, kwargs))
        )

    def score(self, x: Any, y: Any, **kwargs: Any) -> float:
        """The accuracy, which the model's metrics must have."""
        y = np.searchsorted(self.classes_, y)
        if _loss_name(self.model.loss) == "categorical_crossentropy" and np.ndim(y) != 2:
            y = to_categorical(y, self.n_classes_)
        kwargs = self.filter_sk_params(Sequential.evaluate, kwargs)
        logs = self.model.evaluate(x, y, return_dict=True, **kwargs)
        for name, value in logs.items():
            if name in ("accuracy", "acc") or name.endswith("_accuracy"):
                return float(value)
        raise UsageError(
            "KerasClassifier.score: the model has no accuracy: give metrics=['accuracy'] to model.compile()"
        )


class KerasRegressor(BaseWrapper):
    """A model whose outputs are numbers."""

    kind = "regressor"
    _estimator_type = kind

    def predict(self, x: Any, **kwargs: Any) -> Array:
        """The outputs; (samples,) for a model of one output."""
        found = np.asarray(
            self.model.predict(x, **self.filter_sk_params(Sequential.predict, kwargs))
        )
        return np.squeeze(found, -1) if found.shape[-1] == 1 else found

    def score(self, x: Any, y: Any, **kwargs: Any) -> float:
        """The loss with the sign changed: the more, the better."""
        logs = self.model.evaluate(
            x, y, return_dict=True, **self.filter_sk_params(Sequential.evaluate, kwargs)
        )
        return -float(logs["loss"])


_METHODS = (Sequential.fit, Sequential.predict, Sequential.evaluate)


def _names(function: Callable[..., Any]) -> set[str]:
    return {n for n in inspect.signature(function).parameters if n != "self"}


def _loss_name(loss: Any) -> str:
    return str(getattr(loss, "__name__", getattr(loss, "name", loss)))
