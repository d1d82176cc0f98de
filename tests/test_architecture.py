"""The arrows of docs/architecture.md hold, and the house rules with them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "cmpnas"
ORDER = [
    {"errors"}, {"changes", "distributed", "files", "problems", "progress", "provenance", "resources", "strict"},
    {"cost"}, {"space"}, {"models"}, {"data"}, {"retrieval"}, {"compat"}, {"train"}, {"gallery"}, {"text"}, {"search"},
    {"export", "measure", "report"}, {"recipe"}, {"run"}, {"pipeline"}, {"cli", "testing"},
]  # fmt: skip
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}
FILES = sorted(PACKAGE.rglob("*.py"))


def part(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if own in ("__init__", "__main__"):
        return
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cmpnas."):
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.startswith("cmpnas.")]
        for name in names:
            assert LEVEL[part(name)] < LEVEL[own] or part(name) == own, f"{own} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_are_short_documented_and_do_not_assert(path):
    text = path.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "no docstring"
    assert text.count("\n") <= 300
    assert not any(isinstance(node, ast.Assert) for node in ast.walk(tree))


def test_every_package_is_in_the_wheel():
    import tomllib

    listed = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {".".join(path.parent.relative_to(PACKAGE.parent).parts) for path in PACKAGE.rglob("__init__.py")}
    assert set(listed) == found | {"cmpnas.recipes", "cmpnas.search_spaces"}
