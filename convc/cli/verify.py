"""`convc verify`: the compiled model against a float64 run of the same graph, layer by layer."""

from __future__ import annotations

from typing import Annotated

import typer

from convc.cli.heavy import accuracy, building, sizes
from convc.cli.options import Debug, Exact, Json, Shape, Target, parse_shapes
from convc.cli.tables import show, show_json
from convc.cli.waiting import waiting

TOO_FAR = 1


def verify(
    source: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="model.py (model.py:name where it has several), model.onnx, .keras or .h5.",
        ),
    ],
    tolerance: Annotated[
        float, typer.Option("--tolerance", metavar="T", min=0, help="Largest error that passes.")
    ] = 1e-5,
    batch: Annotated[int, typer.Option("--batch", metavar="N", min=1, help="Images to try.")] = 2,
    seed: Annotated[int, typer.Option("--seed", help="Of the random inputs.")] = 0,
    target: Target = "host",
    exact: Exact = False,
    shape: Shape = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Compare each layer of the compiled model with a float64 run; exit code 1 past the tolerance.

    The error of a layer is max |y - y64| / max |y64| on random inputs. Outputs that aren't finite don't pass.
    """
    options = building.options_of(exact)
    request = building.Request(source, target, options=options, shapes=parse_shapes(shape))
    with waiting(f"compiling {source}", as_json):
        built = building.build(request)
    with waiting(f"comparing {built.name} with float64", as_json):
        found = accuracy.compare(built, batch, seed)
    worst = max((c.error for c in found.outputs), default=0.0)
    passed = worst <= tolerance
    if as_json:
        rows = [c.to_json() for c in found.rows]
        facts = {"model": built.name, "sizes": found.sizes, "tolerance": tolerance}
        show_json(facts | {"passed": passed, "layers": rows})
    else:
        columns = ("layers", "computed as", ">max |y64|", ">max |y - y64|", ">error")
        title = f"{built.name}: error against float64{sizes.sizes_text(found.sizes)}"
        show(title, columns, (c.cells() for c in found.rows))
        verdict = "within" if passed else "past"
        if all(c.is_finite for c in found.outputs):
            typer.echo(f"outputs: {worst:.2e}, {verdict} the tolerance of {tolerance:.0e}")
        else:
            typer.echo(
                "outputs: not finite in float64 either (NaN or infinity): nothing to compare"
            )
    if not passed:
        raise typer.Exit(TOO_FAR)
