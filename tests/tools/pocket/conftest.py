"""A pocket model of a few tiny steps, built once: what it paints is noise, but all its files are there."""

from pathlib import Path

import pytest

from tools.pocket.base import Conditions
from tools.pocket.recipe import Recipe
from tools.pocket.results import load_conditions
from tools.pocket.stages import build

RECIPE = Recipe(seed=1).smoke(2)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a smoke build."""
    folder = tmp_path_factory.mktemp("pocket")
    build(RECIPE, folder, gates=False)
    return folder


@pytest.fixture(scope="session")
def conditions(built: Path) -> Conditions:
    return load_conditions(RECIPE, built)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Building takes longer than all that it shows; what comes of it is a part of the package and tested as such."""
    for item in items:
        if "built" in item.fixturenames:
            item.add_marker(pytest.mark.matrix)
