"""`convc features`: what the layers of a model make of an input, and its first filters, as pictures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convc.cli.heavy import feature_pictures, files, pictures_in, scripts, writing
from convc.cli.options import Debug, Json, Shape, parse_shapes
from convc.cli.tables import show, show_json
from convc.cli.waiting import waiting
from convc.errors import OutputError, UsageError

if TYPE_CHECKING:
    from convc.keras.visualization.features import FeatureMaps

SCALES = ("unit", "raw", "tf", "torch", "caffe")
SIDES = ("first", "last")
OTHER_PICTURES = (".gif", ".jpg", ".jpeg", ".pdf", ".svg", ".ppm", ".npy", ".npz")
PICTURES = (".png", ".webp", ".bmp", ".tif", ".tiff")
SHOWN_DEAD = 6


Source = Annotated[
    str, typer.Argument(metavar="MODEL", help="model.py[:name], a .keras, .h5 or .onnx file.")
]
Pictures = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        "-i",
        metavar="[NAME=]FILE",
        help="A picture, a .npy file (one image or a batch), or a .npz with an array per input.",
    ),
]
Layers = Annotated[
    list[str] | None,
    typer.Option(
        "--layer",
        metavar="NAME",
        help="A layer to show; may be repeated. Without it, all that have two spatial axes.",
    ),
]
Sheets = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="PATH",
        help="A folder for a sheet per layer, or the name of a single sheet (.png).",
    ),
]
Filters = Annotated[
    bool,
    typer.Option(
        "--filters",
        help="The filters of the first convolution (or --layer's) instead: no input is needed.",
    ),
]
Image = Annotated[
    int, typer.Option("--image", metavar="N", min=0, help="Which of a batch is drawn.")
]
Scale = Annotated[
    str,
    typer.Option(
        "--scale",
        metavar="HOW",
        help="What a picture's bytes become: unit (0 … 1), raw (0 … 255), or as "
        "preprocess_input's tf, torch, caffe. Arrays stay as they are.",
    ),
]
Channels = Annotated[
    str | None,
    typer.Option(
        "--channels",
        metavar="first|last",
        help="Where the maps stand, if not where a Keras layer says it, or first for ONNX.",
    ),
]


def features(
    source: Source,
    inputs: Pictures = None,
    layers: Layers = None,
    output: Sheets = None,
    filters: Filters = False,
    image: Image = 0,
    scale: Scale = "unit",
    channels: Channels = None,
    shape: Shape = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Draw the feature maps of layers as labelled sheets, each map from its least (black) to its largest value (white).

    Without --output only the numbers are printed; --json has them for other programs, dead maps by number.
    """
    check(scale, channels, inputs, filters, output)
    with waiting(f"opening {source}", as_json):
        model = scripts.load_model(source, parse_shapes(shape))
    if filters:
        draw_filters(source, model, layers, output, as_json)
        return
    model, graph = feature_pictures.opened(model)
    first = (channels or graph_side(model)) == "first"
    x = pictures_in.gather(graph, inputs or (), scale, first=first)
    with waiting(f"computing the maps of {source}", as_json):
        found = feature_pictures.feature_maps(model, x, layers, channels)
        statistics = found.statistics()
    require_image(image, next(iter(found.values()), None))
    written = write_sheets(found, output, image) if output is not None else {}
    for row in statistics:
        row["written"] = written.get(row["layer"])
    if as_json:
        show_json({"model": source, "layers": statistics})
        return
    columns = ("layer", "shape", ">maps", ">min", ">mean", ">max", "dead maps", "written")
    show(source, columns, map(cells, statistics))


def check(
    scale: str,
    channels: str | None,
    inputs: Sequence[str] | None,
    filters: bool,
    output: Path | None,
) -> None:
    """UsageError for options that are unknown or don't go together."""
    if output is not None and output.suffix.lower() in OTHER_PICTURES:
        raise UsageError(
            f"--output {output}: expected a folder, or a name that ends in {', '.join(PICTURES)}"
        )
    _one_of("--scale", scale, SCALES)
    if channels is not None:
        _one_of("--channels", channels, SIDES)
    if filters and inputs:
        raise UsageError("--filters: filters don't depend on an --input: give one of them")
    if not filters and not inputs:
        raise UsageError("--input: expected a picture or a .npy file (only --filters needs none)")


def require_image(image: int, maps: Any) -> None:
    """UsageError for --image past a batch; `maps` are a layer's, None where there are none."""
    if maps is not None and image >= len(maps):
        raise UsageError(f"--image: expected a number below the batch's {len(maps)}, got {image}")


def _one_of(option: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise UsageError(f"{option}: expected one of {', '.join(known)}, got {value!r}")


def graph_side(model: Any) -> str:
    """Where a model's input has its channels."""
    return feature_pictures.channels_of(model, "")


def draw_filters(
    source: str, model: Any, layers: list[str] | None, output: Path | None, as_json: bool
) -> None:
    """The filters of one layer: numbers, and a sheet where it is wanted. The model is that of the file `source`."""
    if layers and len(layers) > 1:
        raise UsageError(f"--filters: expected one --layer, got {len(layers)}")
    found = feature_pictures.filters(model, layers[0] if layers else None)
    array = found.array
    row: dict[str, Any] = {
        "layer": found.layer,
        "shape": list(array.shape),
        "maps": len(found.maps),
        "min": float(array.min()),
        "max": float(array.max()),
        "mean": float(array.mean(dtype="float64")),
        "dead": [n for n, one in enumerate(array) if not one.any()],
        "nonfinite": 0,
        "written": None,
    }
    if output is not None:
        path = place_of(output, f"{found.layer}-filters", single=True)
        save(found.sheet(), path)
        row["written"] = str(path)
    if as_json:
        show_json({"model": source, "filters": row})
        return
    columns = ("layer", "shape", ">maps", ">min", ">mean", ">max", "zero filters", "written")
    show(source, columns, [cells(row)])


def write_sheets(found: FeatureMaps, output: Path, image: int) -> dict[str, str]:
    """Draws a sheet per layer and returns its file by the layer's name."""
    names: dict[str, str] = {}
    for layer in found:
        path = place_of(output, layer, single=len(found) == 1)
        if str(path) in names.values():
            path = path.with_stem(f"{path.stem}-{len(names)}")
        save(found.sheet(layer, image), path)
        names[layer] = str(path)
    return names


def place_of(output: Path, layer: str, single: bool) -> Path:
    """The file of a layer's sheet: the output itself, or one in that folder, which is made."""
    if output.suffix.lower() in PICTURES:
        if not single:
            raise UsageError(
                f"--output {output}: one sheet per layer: expected a folder, or a single --layer"
            )
        return output
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "it is a file" if output.is_file() else error.strerror or error
        raise OutputError(f"can't make the folder {output}: {reason}") from None
    return output / (re.sub(r"[^\w.-]+", "-", layer) + ".png")


def save(sheet: Any, path: Path) -> None:
    """Writes a sheet so that it is never half there."""
    kind = path.suffix[1:].lower().replace("tif", "tiff").replace("tifff", "tiff")
    writing.write_whole(path, files.encoded(lambda stream: sheet.save(stream, format=kind)))


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """The row as people read it."""
    numbers = ("-" if row[k] is None else f"{row[k]:.4g}" for k in ("min", "mean", "max"))
    dead = row["dead"]
    some = ", ".join(map(str, dead[:SHOWN_DEAD])) + (", …" if len(dead) > SHOWN_DEAD else "")
    text = f"{len(dead)} ({some})" if dead else "-"
    if row["nonfinite"]:
        text += f"; {row['nonfinite']} values are NaN or infinite"
    shape = "×".join(map(str, row["shape"]))
    return (row["layer"], shape, str(row["maps"]), *numbers, text, row["written"] or "")
