"""The documentation says what the compiler does today."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from convc.cli import main
from tests.test_imports import ROOT

ARCHITECTURE = (ROOT / "docs" / "ARCHITECTURE.md").read_text()
README = (ROOT / "README.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def stages_of_example(tmp_path: Path) -> str:
    """Everything that `--dump` writes for the example of ARCHITECTURE.md, long constants left out."""
    path = tmp_path / "tiny.py"
    path.write_text(blocks(ARCHITECTURE, "python")[0])
    dump, command = tmp_path / "stages", ["compile", str(path), "--target", "x86-64-avx2"]
    assert main([*command, "-o", str(tmp_path / "tiny.cvc"), "--dump", str(dump)]) == 0
    texts = "\n".join(p.read_text() for p in sorted(dump.iterdir()))
    return re.sub(r" = \[[-0-9., e]+\]$", " = […]", texts, flags=re.MULTILINE)


def test_the_architecture_shows_the_stages_as_they_are(tmp_path: Path) -> None:
    made = stages_of_example(tmp_path)
    shown = [b for kind in ("graph", "program", "kernel") for b in blocks(ARCHITECTURE, kind)]
    assert len(shown) == 5
    for block in shown:
        assert block.rstrip("\n") in made, f"paste the stage as it is now instead of:\n{block}"


@pytest.mark.parametrize("mark", ["main", "test"])
def test_the_readme_has_the_commands_that_ci_runs(mark: str) -> None:
    (command,) = re.findall(rf"^<!-- ci: {mark} -->\n```sh\n(.*)\n```$", README, re.MULTILINE)
    assert command.startswith("python3 -m venv .venv && .venv/bin/pip install")


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", "docs/ARCHITECTURE.md", "docs/adr/README.md"]
)
def test_links_lead_somewhere(page: str) -> None:
    path = ROOT / page
    links = re.findall(r"\]\(([^)#:]+)\)", path.read_text())
    assert links
    assert not [link for link in links if not (path.parent / link).exists()]
