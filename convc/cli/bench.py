"""`convc bench`: latency, arithmetic per second, and the share of what this machine can do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from convc.cli.heavy import bounds, building, measure, peak, stepping
from convc.cli.opening import is_artifact, open_model
from convc.cli.options import Debug, Json, Shape, Target, Threads, parse_shapes
from convc.cli.run import prediction
from convc.cli.tables import show, show_facts, show_json
from convc.cli.waiting import waiting
from convc.errors import UsageError

if TYPE_CHECKING:
    from convc_runtime import Model

    from convc.cli.building import Built


def bench(
    source: Annotated[str, typer.Argument(metavar="MODEL", help="A .cvc file, or a model script.")],
    batch: Annotated[
        int | None,
        typer.Option(
            "--batch",
            metavar="N",
            min=1,
            help="Images per run.",
            show_default="1, or what the model was compiled for",
        ),
    ] = None,
    threads: Threads = None,
    seconds: Annotated[
        float, typer.Option("--seconds", metavar="S", min=0.01, help="How long to measure.")
    ] = 2.0,
    profile: Annotated[
        bool, typer.Option("--profile", help="Time each kernel as well (of a model script).")
    ] = False,
    target: Target = "host",
    shape: Shape = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure a model: latency percentiles, GFLOP/s, share of this machine's FMA peak."""
    with waiting(f"opening {source}", as_json):
        model, built = open_model(source, target, threads, parse_shapes(shape))
    if profile and built is None:
        raise UsageError(f"{source}: --profile needs the model script that it was compiled from")
    require_sizes(source, model)
    images = images_of(source, model, batch)
    inputs = measure.random_inputs(model, images)
    predict = prediction(model)
    with waiting(f"measuring for {seconds:g} s", as_json, still=True):
        before = peak.measured_peak(model.threads)
        latency = measure.latency_of(lambda: predict(inputs), seconds)
        facts = figures(model, images, latency, max(before, peak.measured_peak(model.threads)))
    kernels: list[dict[str, Any]] = []
    if profile and built is not None:
        with waiting(f"measuring each kernel for {seconds:g} s", as_json, still=True):
            kernels = profiled(built, inputs, images, seconds)
    if as_json:
        show_json(facts | ({"kernels": kernels} if profile else {}))
        return
    show_facts(f"{model.name}, batch {images}, threads {model.threads}", readable(facts))
    if profile:
        columns = (">ms", ">share", ">GFLOP/s", ">of peak", "bound", "algorithm", "tile", "layers")
        cells = ([r[c.removeprefix(">")] for c in columns] for r in map(readable_kernel, kernels))
        show("each kernel, on one thread", columns, cells)


def require_sizes(source: str, model: Model) -> None:
    """UsageError for a size besides the batch that is free: nobody's image is as wide as a batch is large."""
    batch = {str(info.shape[0]) for info in model.inputs if info.shape}
    free = [s for s in model.description.symbols if s not in batch | {"N"}]
    if free:
        given = "; ".join(map(str, model.inputs))
        raise UsageError(
            f"{source}: sizes that are free besides the batch ({', '.join(free)}) in {given}: give numbers by --shape"
            + (" to the model that it was compiled from" if is_artifact(source) else "")
        )


def images_of(source: str, model: Model, wanted: int | None) -> int:
    """The images of a run: `wanted`, else 1. A model of a fixed batch has its own; UsageError where they differ."""
    if model.description.symbols:
        return wanted or 1
    fixed = measure.fixed_batch(model)
    if wanted not in (None, fixed):
        raise UsageError(f"{source}: --batch: compiled for {fixed}, got {wanted}")
    return fixed


def figures(model: Model, batch: int, latency: Any, peak_flops: float) -> dict[str, Any]:
    """What was measured, with names and units for JSON. The peak is in FLOP/s."""
    flops = measure.flops_of(model, batch)
    best = peak_flops / 1e9
    facts = {
        "model": model.name,
        "batch": batch,
        "threads": model.threads,
        "runs": latency.runs,
        "min_ms": latency.least,
        **{f"p{p}_ms": value for p, value in latency.percentiles.items()},
        "max_ms": latency.most,
        "images_per_second": batch / latency.median * 1e3,
        "peak_gflops": best,
    }
    if flops is not None:
        gflops = flops / latency.median / 1e6
        facts |= {"gflop": flops / 1e9, "gflops": gflops, "share_of_peak": gflops / best}
    return facts


def profiled(
    built: Built, inputs: dict[str, Any], batch: int, seconds: float
) -> list[dict[str, Any]]:
    """The time of each kernel call of the first entry, on one thread, and what bounds it below 70 % of the peak."""
    program = built.program
    entry = program.entries[0]
    stepper = stepping.Stepper(program, entry, built.artifact, inputs)
    before = peak.measured_peak(1)
    times = stepping.profile(stepper, seconds)
    best = max(before, peak.measured_peak(1))
    speeds = bounds.bandwidths()
    found = []
    for row, step, spent in zip(built.rows[entry.name], entry.steps, times, strict=True):
        flops = building.at_batch(row.flops, batch)
        bound = bounds.bound_of(
            program, step, built.compiled.lowered.kernels[step.kernel], stepper.symbols, spent,
            flops / spent / best, speeds, built.target,
        )  # fmt: skip
        found.append(
            {
                "layers": list(row.layers) or [row.operators],
                "algorithm": row.algorithm,
                "tile": row.tile,
                "ms": spent * 1e3,
                "share": spent / sum(times),
                "gflops": flops / spent / 1e9,
                "share_of_peak": flops / spent / best,
                "bound": bound,
            }
        )
    return found


def readable(facts: dict[str, Any]) -> dict[str, str]:
    """The figures as people read them."""
    spread = ", ".join(
        f"{name.removesuffix('_ms')} {facts[name]:.3f}"
        for name in ("min_ms", "p50_ms", "p90_ms", "p99_ms", "max_ms")
    )
    text = {
        "latency": f"{spread} ms ({facts['runs']} runs)",
        "throughput": f"{facts['images_per_second']:,.1f} images/s",
    }
    if "gflops" in facts:
        share = f"{share_text(facts['share_of_peak'])} of this machine's {facts['peak_gflops']:.0f}"
        text["arithmetic"] = f"{facts['gflops']:.1f} GFLOP/s, {share} ({facts['gflop']:.4g} GFLOP)"
    return text


def share_text(share: float) -> str:
    """A share of the peak. Nothing is faster than the peak: it was measured while others ran."""
    return f"{share:.0%}" if share <= 1 else "≥ 100 % (peak measured on a busy machine)"


def readable_kernel(row: dict[str, Any]) -> dict[str, str]:
    counts = row["gflops"] > 0
    return {
        "ms": f"{row['ms']:.4f}",
        "share": f"{row['share']:.0%}",
        "GFLOP/s": f"{row['gflops']:.1f}" if counts else "",
        "of peak": share_text(row["share_of_peak"]) if counts else "",
        "bound": row["bound"],
        "algorithm": row["algorithm"],
        "tile": row["tile"],
        "layers": " + ".join(row["layers"]),
    }
