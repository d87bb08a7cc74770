"""The page docs/keras-support.md: `python -m tests.keras.support.page`; Keras' side is in `names.json` (record.py)."""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.keras.support.record import FILE, default, parameters, shown

PAGE = Path(__file__).parents[3] / "docs" / "keras-support.md"

WHY = {
    "quantizers": "8 bits: ONNX files that are quantized compile",
    "distribution": "one machine",
    "export": "`convc compile` writes artifacts, C libraries and ONNX files",
    "legacy.saving": "see `saving`",
}
"""Why whole modules are missing."""

REASONS: dict[str, str] = {
    "FlaxLayer JaxLayer TFSMLayer TorchModuleWrapper": "of other frameworks",
    "MelSpectrogram STFTSpectrogram STFT STFTInitializer stft fft fft2 ifft2 rfft irfft istft": "Fourier transforms",
    "OrbaxCheckpoint": "a format of JAX's",
    "RemoteMonitor": "sends to a server",
    "eig lu_factor": "complex numbers, pivots",
    "angle conj conjugate imag real view_as_complex view_as_real isreal polar": "complex numbers",
    "custom_gradient jvp vectorize": "functions of functions",
    "device name_scope remat RematScope StatelessScope SymbolicScope distillation src wrappers": "of Keras' machinery",
    "JaxTrainer": "of data pipelines",
}  # fmt: skip
"""Why single names are missing."""


INTERNAL = ("KerasTensor",)
"""Classes that users don't make themselves."""

ELSEWHERE = ("Input", "Layer")
"""Names of several modules: their differences stand under `layers`."""


@dataclass
class Found:
    """A module's names: ours, those that we lack, and arguments that differ."""

    have: list[str] = field(default_factory=list)
    lack: list[str] = field(default_factory=list)
    differ: list[tuple[str, str]] = field(default_factory=list)
    """(what, whose)."""


def reason_of(name: str) -> str:
    return next((why for names, why in REASONS.items() if name in names.split()), "")


def ours(module: str) -> Any:
    try:
        return importlib.import_module("convc.keras" + ("" if module == "keras" else f".{module}"))
    except ModuleNotFoundError:
        return None


def compared(module: str, names: dict[str, Any]) -> Found:
    """What a module has of Keras' names."""
    mine, found = ours(module), Found()
    for name, facts in names.items():
        item = getattr(mine, name, None) if mine is not None else None
        if item is None:
            found.lack.append(name)
            continue
        found.have.append(name)
        if facts["kind"] == "module" or (module in ("keras", "models") and name in ELSEWHERE):
            continue
        if name not in INTERNAL:
            found.differ += differences(name, item, facts["parameters"])
        for method, wanted in facts.get("methods", {}).items():
            made = getattr(item, method, None)
            if made is None:
                found.differ.append(("methods that are missing", f"{name}.{method}"))
            else:
                found.differ += differences(f"{name}.{method}", made, wanted)
    return found


def differences(name: str, item: Any, wanted: list[list[str]] | None) -> list[tuple[str, str]]:
    """Arguments that Keras has and we don't, and defaults that differ."""
    try:
        mine = {pair[0]: pair[1] for pair in parameters(item) or []}
        accepts = any(
            p.kind is inspect.Parameter.VAR_KEYWORD
            for p in inspect.signature(
                item.__init__ if inspect.isclass(item) else item
            ).parameters.values()
        )
    except (TypeError, ValueError):
        return []
    found = []
    for argument, value in wanted or []:
        if argument.startswith("*") or argument == "self":
            continue
        if argument not in mine:
            if not accepts:
                found.append((f"no `{argument}`", name))
        elif "object" not in (value, mine[argument]) and not alike(value, mine[argument]):
            found.append((f"`{argument}={mine[argument]}` where Keras has `{value}`", name))
    return found


def alike(one: str, other: str) -> bool:
    """Whether two defaults mean the same: 1 and 1.0, (1, 1) and 1, required and None."""
    if one == other or "required" in (one, other):
        return True
    try:
        a, b = (
            json.loads(v.replace("(", "[").replace(")", "]").replace(",]", "]").replace("'", '"'))
            for v in (one, other)
        )
    except ValueError:
        return False
    return bool(leaves(a) == leaves(b))


def leaves(value: Any) -> set[Any]:
    """The numbers or words in nested lists."""
    if not isinstance(value, list):
        return {value}
    return {leaf for item in value for leaf in leaves(item)}


def page() -> str:
    recorded = json.loads(FILE.read_text())
    maker = recorded.pop("made by")
    results = {m: compared(m, names) for m, names in recorded.items()}
    lines = [
        "# What of Keras there is",
        "",
        f"The public names of {maker}, module by module, and what `convc.keras` has of them. "
        "`python -m tests.keras.support.page` writes this page.",
        "A name that is missing is refused where it is used, by name.",
        "",
        "| module | there | missing |",
        "|---|---|---|",
    ]
    for module, found in results.items():
        total = len(found.have) + len(found.lack)
        lines.append(
            f"| [{module}](#{module.replace('.', '')}) | {len(found.have)} of {total} | {len(found.lack)} |"
        )
    for module, found in results.items():
        lines += ["", f"## {module}", ""]
        if found.have:
            lines += [f"There: {listed(found.have)}."]
        if found.lack:
            lines += ["", *missing(module, found.lack)]
        if found.differ:
            lines += ["", "Differences:", "", *grouped(found.differ)]
    return "\n".join(lines) + "\n"


def grouped(differences: list[tuple[str, str]]) -> list[str]:
    """A line for each difference, with all that have it."""
    whose: dict[str, list[str]] = {}
    for what, name in differences:
        whose.setdefault(what, []).append(name)
    return [f"- {what}: {listed(names)}" for what, names in whose.items()]


def missing(module: str, names: list[str]) -> list[str]:
    """The missing names in a list by the reason."""
    if module in WHY:
        return [f"Missing ({WHY[module]}): {listed(names)}."]
    by_reason: dict[str, list[str]] = {}
    for name in names:
        by_reason.setdefault(reason_of(name), []).append(name)
    rows = [f"- {listed(found)}: {why}" for why, found in sorted(by_reason.items()) if why]
    rest = by_reason.get("")
    return ["Missing:", "", *rows, *([f"- not yet: {listed(rest)}"] if rest else [])]


def listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def main() -> None:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else PAGE
    target.write_text(page())


__all__ = ["default", "page", "shown"]

if __name__ == "__main__":
    main()
