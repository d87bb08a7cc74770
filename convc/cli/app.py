"""The commands and their help."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

import convc
from convc.cli.bench import bench
from convc.cli.compile import compile  # noqa: A004
from convc.cli.curves import curves
from convc.cli.diff import diff
from convc.cli.doctor import doctor
from convc.cli.export import export
from convc.cli.features import features
from convc.cli.inspect import inspect
from convc.cli.optimize import optimize
from convc.cli.run import run
from convc.cli.run_script import PASS_ON, run_script
from convc.cli.train import train
from convc.cli.verify import verify

EXAMPLES: dict[Callable[..., None], str] = {
    compile: "convc compile examples/digits/model.py -o digits.cvc",
    run: "convc run digits.cvc --input images.npy --output scores.npy",
    train: "convc train digits.cvc -i image=images.npy -i digit=labels.npy --state digits.state --epochs 5",
    bench: "convc bench examples/digits/model.py --threads 1 --profile",
    inspect: "convc inspect examples/digits/model.py --stage lowered",
    export: "convc export examples/digits/model.py -o digits.onnx --opset 17",
    doctor: "convc doctor model.onnx --shape batch=1",
    optimize: "convc optimize model.onnx -o smaller.onnx",
    diff: "convc diff model.onnx --against onnxruntime",
    verify: "convc verify examples/digits/model.py --tolerance 1e-5",
    features: "convc features model.keras --input photo.png --layer conv2d -o sheets",
    curves: "convc curves training.csv -o curves.png",
    run_script: "convc run-script examples/tutorials/mnist_conv.py --data mnist.npz --epochs 1",
}

app = typer.Typer(
    name="convc",
    help="Compiles Keras-like and ONNX models to native code that an application embeds.",
    epilog="Example: convc compile model.py && convc bench model.cvc",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.")
    ] = False,
) -> None:
    """Compiles Keras-like and ONNX models to native code that an application embeds."""
    if version:
        typer.echo(f"convc {convc.__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


for command, example in EXAMPLES.items():
    app.command(
        epilog=f"Example: {example}",
        no_args_is_help=False,
        context_settings=PASS_ON if command is run_script else None,
    )(command)
