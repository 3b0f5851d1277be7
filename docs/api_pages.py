"""A page of the API for every public module, made while mkdocs builds the site: a new module appears by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("episodes", "fewshot")


def modules() -> list[str]:
    """Dotted names of all modules that do not begin with an underscore."""
    found = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            if not any(part.startswith("_") for part in parts):
                found.append(".".join(parts))
    return found


def on_files(files: Any, config: Any) -> Any:
    """Add a page for each module, and put them behind the other pages in the navigation."""
    from mkdocs.structure.files import File

    names = modules()
    for name in names:
        files.append(File.generated(config, f"api/{name}.md", content=f"::: {name}\n"))
    config["nav"] = [*config["nav"], {"API": [{name: f"api/{name}.md"} for name in names]}]
    return files
