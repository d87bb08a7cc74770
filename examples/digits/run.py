"""The main job on real input: compile the digits network, embed it, classify handwritten digits it has never seen."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import convc_runtime
import numpy as np
from numpy.typing import NDArray

import convc

HERE = Path(__file__).parent
SHADES = " .:-=+*#%@"
ENOUGH = 0.98
BATCH = 20


def main() -> int:
    start = time.perf_counter()
    compiled = convc.compile(HERE / "model.py")
    compiled.save(HERE / "digits.cvc")
    size = (HERE / "digits.cvc").stat().st_size
    print(f"compiled digits.cvc, {size / 1e3:.0f} kB, in {time.perf_counter() - start:.2f} s")

    # From here on it is what an application does: numpy and convc_runtime, no compiler.
    start = time.perf_counter()
    model = convc_runtime.load(HERE / "digits.cvc")
    print(f"loaded in {(time.perf_counter() - start) * 1e3:.1f} ms: {model}")

    data = np.load(HERE / "digits-test.npz")
    images = (data["images"] / 16).astype(np.float32)[..., None]
    classes = model(images).argmax(1)
    right = classes == data["labels"]
    print()
    show(data["images"][:4], classes[:4])
    print(f"\n{right.sum()} of {len(right)} held-out digits right ({right.mean():.1%})")
    for wrong in np.flatnonzero(~right)[:1]:
        print(f"one of the others: {data['labels'][wrong]}, taken for {classes[wrong]}:")
        show(data["images"][wrong : wrong + 1], classes[wrong : wrong + 1])
    print_latency(model, images)
    return 0 if right.mean() >= ENOUGH else 1


def show(images: NDArray[Any], classes: NDArray[Any]) -> None:
    """Prints images [n, 8, 8] of 0-16 side by side, each above its class."""
    for y in range(images.shape[1]):
        rows = ("".join(SHADES[v * 9 // 16] * 2 for v in image[y]) for image in images)
        print("  ".join(rows).rstrip())
    print("  ".join(f"{f'-> {c}':^16}" for c in classes))


def print_latency(model: convc_runtime.Model, images: NDArray[Any]) -> None:
    """Classifies each image on its own and prints how long that takes."""
    milliseconds = []
    for i in range(len(images)):
        start = time.perf_counter()
        model(images[i : i + 1])
        milliseconds.append((time.perf_counter() - start) * 1e3)
    p50, p90, p99 = np.percentile(milliseconds[len(images) // 10 :], [50, 90, 99])
    print(f"\none digit at a time: p50 {p50:.3f} ms, p90 {p90:.3f} ms, p99 {p99:.3f} ms")
    start = time.perf_counter()
    for i in range(0, len(images), BATCH):
        model(images[i : i + BATCH])
    rate = len(images) / (time.perf_counter() - start)
    print(f"{BATCH} at a time: {rate:,.0f} digits/s on {model.threads} threads")


if __name__ == "__main__":
    raise SystemExit(main())
