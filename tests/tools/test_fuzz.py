"""The fuzzer finds what it is for, and what it has found stays mended."""

from __future__ import annotations

import sys

import pytest
from support.bad_surfaces import LIMITS, RIGHT, WRONG, surface

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the supervisor needs Linux or macOS")


@pytest.fixture(scope="module")
def outcomes():
    from tools.fuzz.supervisor import supervise

    return supervise([surface(name) for name in (*WRONG, *RIGHT)], 0, limits=LIMITS)


@pytest.mark.parametrize("name", WRONG)
def test_what_an_input_must_not_do_is_found(outcomes, name):
    (finding,) = outcomes[name].findings.values()
    assert WRONG[name][1] in finding.what
    assert (finding.number, finding.data) == (1, b"bad")
    assert outcomes[name].inputs == 3


@pytest.mark.parametrize(("name", "taken", "refused"), [("accept", 3, 0), ("refuse", 2, 1)])
def test_errors_of_ours_and_files_in_the_folder_are_no_findings(outcomes, name, taken, refused):
    assert not outcomes[name].findings
    assert (outcomes[name].taken, outcomes[name].refused) == (taken, refused)


def test_an_input_is_made_again_from_its_number():
    from tools.fuzz.surfaces import SURFACES

    recipes = SURFACES["recipe"]
    seeds = recipes.seeds(None)
    made = [recipes.input(number, 0, seeds) for number in range(100, 130)]
    assert made == [recipes.input(number, 0, seeds) for number in range(100, 130)]
    assert len(set(made)) > 25
    assert made != [recipes.input(number, 1, seeds) for number in range(100, 130)]


@pytest.mark.parametrize("seconds", [0, pytest.param(60, marks=pytest.mark.matrix)])
def test_no_door_gives_way(seconds):
    """Valid inputs and those that once did harm; in the matrix, a minute of new ones."""
    from tools.fuzz.supervisor import supervise
    from tools.fuzz.surfaces import SURFACES

    outcomes = supervise(list(SURFACES.values()), seconds)
    assert {name: list(outcome.findings.values()) for name, outcome in outcomes.items() if outcome.findings} == {}
    assert all(outcome.inputs for outcome in outcomes.values())
