"""Names that the tools import from the project exist: most tools run by hand only, and no type checker reads them."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = ("lib_animatediff", "motion_module", "tools")


@cache
def names_in(module: str) -> frozenset[str]:
    """The names that a module defines at any depth, and the modules in it; none if there is no such module."""
    place = ROOT.joinpath(*module.split("."))
    file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    found = {path.stem for path in place.iterdir()} if place.is_dir() else set()
    if not file.exists():
        return frozenset(found)
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {(each.asname or each.name).partition(".")[0] for each in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return frozenset(found)


def imported_by(file: Path) -> list[tuple[str, str]]:
    """Module and name of each import from the project."""
    package = file.relative_to(ROOT).parent.parts
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            found += [(module, each.name) for each in node.names if module.partition(".")[0] in PROJECT]
    return found


def test_every_name_that_a_tool_imports_from_the_project_exists():
    wrong = [
        f"{file.relative_to(ROOT)}: {module}.{name}"
        for file in sorted((ROOT / "tools").rglob("*.py"))
        for module, name in imported_by(file)
        if name not in names_in(module)
    ]
    assert not wrong
