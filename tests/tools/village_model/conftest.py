"""A village model of two tiny steps, built once: what it paints is noise, but all its files are there."""

from pathlib import Path

import pytest

from tools.pocket.building import run_stages
from tools.village_model.recipe import Recipe
from tools.village_model.stages import STAGES

RECIPE = Recipe(seed=1).smoke(2)


@pytest.fixture(scope="session")
def village(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a smoke build."""
    folder = tmp_path_factory.mktemp("village")
    run_stages(STAGES, RECIPE, folder, gates=False)
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Building takes longer than all that it shows."""
    for item in items:
        if "village" in item.fixturenames:
            item.add_marker(pytest.mark.matrix)
