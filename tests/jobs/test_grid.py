"""A row of a manifest as the clips that it asks for."""

from __future__ import annotations

import pytest

from lib_animatediff.jobs.many.errors import ManifestError
from lib_animatediff.jobs.many.grid import Field, clips_of

FIELDS = {
    "prompt": Field(),
    "seed": Field(number=True),
    "cfg": Field(number=True),
    "loras": Field(multiple=True),
}


def values(name, value):
    return [clip[name] for clip in clips_of({name: value}, FIELDS)]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("seed", 7, [7]),
        ("seed", [3, 1], [3, 1]),
        ("seed", "1..3", ["1", "2", "3"]),
        ("seed", "3 .. 1", ["3", "2", "1"]),
        ("seed", ["1..2", 9], ["1", "2", 9]),
        ("seed", "18446744073709551614..18446744073709551615", ["18446744073709551614", "18446744073709551615"]),
        ("cfg", "0.1..0.5:0.2", ["0.1", "0.3", "0.5"]),
        ("cfg", "1..2:0.4", ["1.0", "1.4", "1.8"]),
        ("prompt", "a {red|blue} {cat|dog}", ["a red cat", "a red dog", "a blue cat", "a blue dog"]),
        ("prompt", "a cat{|, sharp}", ["a cat", "a cat, sharp"]),
        ("prompt", "1..3", ["1..3"]),
        ("prompt", "[a|b] (c:1.2) {d}", ["[a|b] (c:1.2) {d}"]),
        ("prompt", "\\{a|b}", ["{a|b}"]),
        ("loras", "a:{0.5|1}", [["a:0.5"], ["a:1"]]),
        ("loras", ["a", "b"], [["a", "b"]]),
        ("loras", [["a"], ["b:{1|2}", "c"]], [["a"], ["b:1", "c"], ["b:2", "c"]]),
    ],
)
def test_a_field_has_the_values_that_it_says(name, value, expected):
    assert values(name, value) == expected


def test_a_row_is_each_combination_and_the_last_field_changes_first():
    clips = list(clips_of({"prompt": "{a|b}", "seed": "1..2", "cfg": 3}, FIELDS))
    assert [(clip["prompt"], clip["seed"], clip["cfg"]) for clip in clips] == [
        ("a", "1", 3),
        ("a", "2", 3),
        ("b", "1", 3),
        ("b", "2", 3),
    ]


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("seed", [], "AD-M14"),
        ("loras", ["a", ["b"]], "AD-M15"),
        ("seed", [[1], [2]], "AD-M16"),
        ("loras", [["a", ["b"]]], "AD-M16"),
        ("cfg", "1..2:0", "AD-M17"),
        ("cfg", "2..1:-1", "AD-M17"),
        ("prompt", "{a|{b|c}}", "AD-M18"),
        ("prompt", "{{a|b} c|d}", "AD-M18"),
        ("prompt", "{a|b", "AD-M18"),
        ("prompt", "a|b}", "AD-M18"),
    ],
)
def test_what_is_no_grid_is_refused(name, value, code):
    with pytest.raises(ManifestError) as refused:
        values(name, value)
    assert refused.value.code == code


def test_billions_of_clips_cost_nothing_before_they_are_asked_for():
    clips = clips_of({"prompt": "{a|b}" * 40, "seed": "0..18446744073709551615", "cfg": "0..1e9"}, FIELDS)
    assert [next(clips)["seed"] for _ in range(3)] == ["0", "1", "2"]
