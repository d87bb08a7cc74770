"""What `compile` was given, resolved for a model's outputs by Keras' rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from convc.errors import UsageError
from convc.keras import losses, metrics
from convc.keras.engine.naming import nearest
from convc.keras.losses import Loss, sparse_categorical_crossentropy
from convc.keras.losses.loss import LossFunctionWrapper
from convc.keras.metrics import Metric
from convc.keras.training.data import Ports, target_name, weight_name
from convc.keras.training.model import Trained
from convc.keras.training.scoring import Scoring
from convc.types import TensorType

CROSSENTROPY = ("crossentropy", "ce")
ACCURACY = ("accuracy", "acc", *CROSSENTROPY)


@dataclass
class Resolved:
    """One output's loss and metrics, once the shape of its targets is known."""

    loss: Loss | None
    weight: float
    metrics: list[tuple[str, Metric]] = field(default_factory=list)
    weighted_metrics: list[tuple[str, Metric]] = field(default_factory=list)


@dataclass
class Settings:
    """The arguments of `compile`. Losses and metrics are made at the first batch, which says what "accuracy" means."""

    optimizer: Any
    loss: Any = None
    loss_weights: Any = None
    metrics: Any = None
    weighted_metrics: Any = None
    trained: Trained | None = None
    """What was trainable when `compile` was called, if the model had its weights by then."""
    resolved: dict[str, Resolved] = field(default_factory=dict)

    def scorings(self, ports: Ports, types: Mapping[str, TensorType]) -> list[Scoring]:
        """How each output is scored, for the types of the arrays that a step is fed."""
        self.resolve(ports, types)
        several = sum(r.loss is not None for r in self.resolved.values()) > 1
        found = []
        for port in ports.outputs:
            output = self.resolved.get(port.name)
            target = types.get(target_name(port.name))
            if output is None or target is None:
                found.append(Scoring(port.name, None, None, None, 1.0, (), ()))
                continue
            weights = types.get(weight_name(port.name))
            tracked = f"{port.name}_loss" if several and output.loss is not None else ""
            parts = (output.loss, output.weight, output.metrics, output.weighted_metrics)
            found.append(Scoring(port.name, target, weights, *parts, tracked))
        return found

    def resolve(self, ports: Ports, types: Mapping[str, TensorType]) -> None:
        names = [p.name for p in ports.outputs]
        wanted = per_output("loss", names, self.loss, spread=True)
        weights = per_output("loss_weights", names, self.loss_weights)
        plain = per_output_lists("metrics", names, self.metrics)
        weighted = per_output_lists("weighted_metrics", names, self.weighted_metrics)
        for port in ports.outputs:
            target = types.get(target_name(port.name))
            if port.name in self.resolved or target is None:
                if target is None and wanted[port.name] is not None:
                    raise UsageError(
                        f"output {port.name!r} has a loss, but no targets y were given: "
                        "expected x and y, and (x, y) as validation_data"
                    )
                continue
            several = len(names) > 1
            output = Resolved(
                scored_by(wanted[port.name], target, port.type), loss_weight(weights[port.name])
            )
            for kind, asked in (("metrics", plain), ("weighted_metrics", weighted)):
                for item in asked[port.name]:
                    metric = metrics.metric_of(item, target.shape, port.type.shape)
                    base = f"{port.name}_{metric.name}" if several else metric.name
                    if kind == "weighted_metrics" and base in self.taken(output):
                        base = f"weighted_{base}"
                    getattr(output, kind).append((self.free_key(base, output), metric))
            self.resolved[port.name] = output

    def classes(self, ports: Ports) -> dict[str, tuple[int, int | None]]:
        """For each target of integer labels: the number of classes, and the label that doesn't count."""
        found = {}
        for port in ports.outputs:
            loss = self.resolved[port.name].loss if port.name in self.resolved else None
            if isinstance(loss, LossFunctionWrapper) and loss.fn is sparse_categorical_crossentropy:
                count = port.type.shape[loss.fn_kwargs.get("axis", -1)]
                if isinstance(count, int):
                    found[target_name(port.name)] = (count, loss.fn_kwargs.get("ignore_class"))
        return found

    def free_key(self, base: str, output: Resolved) -> str:
        """A key of the logs that no other metric has."""
        key, count = base, 0
        while key in self.taken(output):
            count += 1
            key = f"{base}_{count}"
        return key

    def taken(self, output: Resolved) -> set[str]:
        """The keys that the logs have, with those of an output in the making."""
        keyed = (*self.keyed(), *output.metrics, *output.weighted_metrics)
        return {"loss", *(key for key, _ in keyed)}

    def keyed(self) -> list[tuple[str, Metric]]:
        """All metrics with their keys in the logs, in the order of the outputs."""
        return [pair for r in self.resolved.values() for pair in (*r.metrics, *r.weighted_metrics)]

    @property
    def names(self) -> list[str]:
        """The keys of the logs as `evaluate` lists them: the metrics of several outputs in alphabetical order."""
        keys = [key for key, _ in self.keyed()]
        return ["loss", *self.tracked, *(sorted(keys) if len(self.resolved) > 1 else keys)]

    @property
    def tracked(self) -> list[str]:
        """The keys of the losses that are shown besides their sum."""
        names = [n for n, r in self.resolved.items() if r.loss is not None]
        return [f"{name}_loss" for name in names] if len(names) > 1 else []


def check_known(loss: Any, *asked: Any) -> None:
    """ModelError for what is no loss or metric: a name that is none, a number."""
    for item in leaves(loss):
        if not (isinstance(item, str) and item.lower() in CROSSENTROPY):
            losses.loss_of(item)
    for item in leaves(asked):
        if not (isinstance(item, str) and item.lower() in ACCURACY):
            metrics.metric_of(item, (None, 2), (None, 2))


def leaves(structure: Any) -> Iterator[Any]:
    """The losses or metrics in lists, tuples and dicts; configs are whole."""
    match structure:
        case None:
            return
        case {"class_name": _}:
            yield structure
        case Mapping():
            for item in structure.values():
                yield from leaves(item)
        case list() | tuple():
            for item in structure:
                yield from leaves(item)
        case _:
            yield structure


def loss_weight(value: Any) -> float:
    """How much an output's loss counts. UsageError for what is no number."""
    if value is None:
        return 1.0
    try:
        return float(value)
    except (TypeError, ValueError):
        hint = " (metrics come after loss_weights)" if isinstance(value, str) else ""
        raise UsageError(f"loss_weights: expected numbers, got {value!r}{hint}") from None


def per_output(
    argument: str, names: Sequence[str], value: Any, spread: bool = False
) -> dict[str, Any]:
    """One entry per output: of a dict by names, of a list in order, or, with `spread`, the same one for all."""
    match value:
        case None:
            return dict.fromkeys(names)
        case Mapping():
            require_names(argument, names, value)
            return {n: value.get(n) for n in names}
        case list() | tuple():
            if len(value) != len(names):
                raise UsageError(
                    f"compile: {argument} has {len(value)} entries; expected {len(names)}, one for each of the "
                    f"outputs {', '.join(names)}"
                )
            return dict(zip(names, value, strict=True))
        case _ if spread or len(names) == 1:
            return dict.fromkeys(names, value)
        case _:
            raise UsageError(
                f"compile: {argument} expects a list or a dict with an entry per output; received {value!r}"
            )


def per_output_lists(argument: str, names: Sequence[str], value: Any) -> dict[str, list[Any]]:
    """A list of metrics for each output."""
    if value is None:
        return {n: [] for n in names}
    if isinstance(value, Mapping):
        require_names(argument, names, value)
        return {n: items(value.get(n)) for n in names}
    if not isinstance(value, (list, tuple)):
        raise UsageError(f"compile: {argument} expects a list or a dict; received {value!r}")
    if len(names) == 1:
        return {names[0]: [i for item in value for i in items(item)]}
    if not value:
        return {n: [] for n in names}
    if len(value) != len(names):
        raise UsageError(
            f"compile: {argument} has {len(value)} entries; expected one for each of the outputs "
            f"{', '.join(names)}, or a dict by their names"
        )
    return {n: items(item) for n, item in zip(names, value, strict=True)}


def items(value: Any) -> list[Any]:
    match value:
        case None:
            return []
        case list() | tuple():
            return list(value)
        case _:
            return [value]


def require_names(argument: str, names: Sequence[str], given: Mapping[str, Any]) -> None:
    for name in given:
        if name not in names:
            raise UsageError(
                f"compile: {argument} has an entry {name!r}{nearest(name, names)}; the outputs are {', '.join(names)}"
            )


def meaning(target: TensorType, output: TensorType) -> str:
    """Which of Keras' kinds of classification the shapes are of: binary, categorical or sparse_categorical."""
    if output.rank and output.shape[-1] == 1:
        return "binary"
    ends = target.rank > 0 and target.shape[-1] == 1
    return "sparse_categorical" if target.rank < output.rank or ends else "categorical"


def scored_by(item: Any, target: TensorType, output: TensorType) -> Loss | None:
    """The loss for a name, a function or a Loss; "crossentropy" is the one that the shapes are of."""
    if item is None:
        return None
    if isinstance(item, str) and item.lower() in CROSSENTROPY:
        item = f"{meaning(target, output)}_crossentropy"
    return losses.loss_of(item)
