"""A search for hyperparameters on the digits: a grid, random trials, or TPE by optuna.

    python examples/search/run.py --method grid                     # all 18 points
    python examples/search/run.py --method random --trials 20
    python examples/search/run.py --method tpe --trials 20          # pip install 'convc[search]'

Every trial goes to --log (.csv, or .jsonl with a JSON object per line) as soon as it is done: its number, seed,
hyperparameters and results. Start the same command again after an interruption, or with more --trials, and it goes on
where the log ends: a trial depends on the seed, its number and (TPE) the trials before it, so the log becomes the same
as without the interruption. The best trial, by its validation loss, is trained once more and meets pictures
that no trial has seen. README.md has the output.
"""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convc import keras
from convc.keras import layers

DATA = Path(__file__).parents[1] / "digits" / "digits-test.npz"
PARTS = {"train": slice(0, 600), "validation": slice(600, 800), "test": slice(800, 1000)}
RATES = (1e-4, 1e-1)
GRID: dict[str, tuple[Any, ...]] = {
    "rate": (1e-3, 3e-3, 1e-2),
    "filters": (8, 16, 32),
    "dropout": (0.0, 0.5),
}
"""The points of the grid. Random trials and TPE take any rate within RATES, and any dropout up to the largest."""

Row = dict[str, Any]
Parameters = Mapping[str, Any]
Proposal = Callable[[int, Sequence[Row]], Parameters]


def load() -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    """Images [n, 8, 8, 1] of 0 … 1 and labels by part."""
    with np.load(DATA) as data:
        images, labels = (data["images"] / 16).astype(np.float32)[..., None], data["labels"]
    return {name: (images[part], labels[part]) for name, part in PARTS.items()}


def build(parameters: Parameters) -> keras.Model:
    """A convolution, a pool, a convolution, dropout and ten classes, ready to train."""
    filters = parameters["filters"]
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(filters, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(2 * filters, 3, activation="relu"),
            layers.Flatten(),
            layers.Dropout(parameters["dropout"]),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(
        keras.optimizers.Adam(parameters["rate"]),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def trained(parameters: Parameters, seed: int, epochs: int, data: Any) -> keras.Model:
    """A model trained from one seed: the same weights whenever it is done."""
    keras.utils.set_random_seed(seed)
    model = build(parameters)
    x, y = data["train"]
    model.fit(x, y, batch_size=50, epochs=epochs, verbose=0)
    return model


# ---------------------------------------------------------------- what to try


def grid(seed: int) -> Proposal:
    points = [dict(zip(GRID, values, strict=True)) for values in itertools.product(*GRID.values())]
    return lambda number, rows: points[number]


def random(seed: int) -> Proposal:
    def propose(number: int, rows: Sequence[Row]) -> Parameters:
        rng = np.random.default_rng([seed, number])
        low, high = map(math.log, RATES)
        return {
            "rate": math.exp(rng.uniform(low, high)),
            "filters": int(rng.choice(GRID["filters"])),
            "dropout": float(rng.uniform(0, max(GRID["dropout"]))),
        }

    return propose


def tpe(seed: int) -> Proposal:
    """Tree-structured Parzen estimators (Bergstra et al., 2011) after 5 random trials."""
    try:
        import optuna
    except ImportError:
        raise SystemExit("--method tpe needs optuna: pip install 'convc[search]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    ranges = {
        "rate": optuna.distributions.FloatDistribution(*RATES, log=True),
        "filters": optuna.distributions.CategoricalDistribution(GRID["filters"]),
        "dropout": optuna.distributions.FloatDistribution(0, max(GRID["dropout"])),
    }

    def propose(number: int, rows: Sequence[Row]) -> Parameters:
        sampler = optuna.samplers.TPESampler(n_startup_trials=5, seed=seed * 100_003 + number)
        study = optuna.create_study(sampler=sampler)
        for row in rows:
            value = row["val_loss"] if math.isfinite(row["val_loss"]) else 1e9
            parameters = {name: row[name] for name in ranges}
            done = optuna.trial.create_trial(params=parameters, distributions=ranges, value=value)
            study.add_trial(done)
        return dict(study.ask(ranges).params)

    return propose


METHODS = {"grid": grid, "random": random, "tpe": tpe}


# ---------------------------------------------------------------- the log


def read_log(path: Path) -> list[Row]:
    """The trials of a log, numbers as numbers; none if there is no log yet."""
    if not path.exists():
        return []
    text = path.read_text()
    if path.suffix == ".csv":
        return [{k: number(v) for k, v in row.items()} for row in csv.DictReader(io.StringIO(text))]
    return [json.loads(line) for line in text.splitlines()]


def number(text: str) -> Any:
    """A cell as an int or a float where it is one."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def write_log(path: Path, rows: Sequence[Row]) -> None:
    """Replaces the log at once, so that an interruption leaves the old one or the new one."""
    stream = io.StringIO()
    if path.suffix == ".csv":
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    else:
        stream.writelines(json.dumps(row) + "\n" for row in rows)
    part = path.with_name(f"{path.name}.part")
    part.write_text(stream.getvalue())
    os.replace(part, path)


def earlier_trials(path: Path, settings: Parameters) -> list[Row]:
    """The trials of a log, which must be of this search."""
    rows = read_log(path)
    for row in rows:
        for name, value in settings.items():
            if row.get(name) != value:
                raise SystemExit(
                    f"{path}: trial {row.get('trial')} has {name} {row.get(name)}, not {value}: give another --log"
                )
    return rows


# ---------------------------------------------------------------- the search


def search(method: str, trials: int, epochs: int, seed: int, path: Path) -> Iterator[Row]:
    """Yields every trial, those of the log first; each is in the log when it is yielded."""
    settings = {"method": method, "search_seed": seed, "epochs": epochs}
    rows = earlier_trials(path, settings)
    yield from rows
    propose, data = METHODS[method](seed), load()
    for trial in range(len(rows), trials):
        parameters, start = propose(trial, rows), time.perf_counter()
        trial_seed = seed * 1000 + trial
        model = trained(parameters, trial_seed, epochs, data)
        loss, accuracy = model.evaluate(*data["validation"], verbose=0)
        results = {"val_loss": float(loss), "val_accuracy": float(accuracy)}
        seconds = round(time.perf_counter() - start, 3)
        row = {"trial": trial, **settings, "seed": trial_seed, **parameters, **results}
        rows.append(row | {"seconds": seconds})
        write_log(path, rows)
        yield rows[-1]


def main(arguments: Sequence[str] | None = None) -> Row:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--method", choices=METHODS, default="random")
    parser.add_argument("--trials", type=int, help="default: the whole grid, or 20")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path, help="default: METHOD.csv")
    options = parser.parse_args(arguments)

    points = math.prod(map(len, GRID.values()))
    trials = options.trials or (points if options.method == "grid" else 20)
    trials = min(trials, points) if options.method == "grid" else trials
    path = options.log or Path(f"{options.method}.csv")
    if path.suffix not in (".csv", ".jsonl"):
        parser.error(f"--log: expected a name that ends in .csv or .jsonl, got {path}")
    rows = []
    for row in search(options.method, trials, options.epochs, options.seed, path):
        shown = "  ".join(f"{name} {row[name]:<8.4g}" for name in (*GRID, "val_loss"))
        print(
            f"trial {row['trial']:>3}  {shown} val_accuracy {row['val_accuracy']:.3f}", flush=True
        )
        rows.append(row)
    best = min(rows, key=lambda r: r["val_loss"] if math.isfinite(r["val_loss"]) else math.inf)
    data = load()
    model = trained(best, best["seed"], options.epochs, data)
    accuracy = float(model.evaluate(*data["test"], verbose=0)[1])
    print(f"best: trial {best['trial']} of {path}; on pictures that no trial saw: {accuracy:.1%}")
    return best | {"test_accuracy": accuracy}


if __name__ == "__main__":
    main()
