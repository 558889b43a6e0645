"""Names that anyone may have written stay in their folder and suit every file system."""

from __future__ import annotations

import unicodedata
from pathlib import Path, PureWindowsPath

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lib_animatediff import ClipError
from lib_animatediff.video import place_within, safe_name

HOSTILE = st.text(st.sampled_from('./\\ :*?"<>|\0\n%~aCON1²\u202e\u200b\uff0f\uff0e\u2025\ud800🦊é'), max_size=40)


def is_harmless(name):
    assert name
    assert not set(name) & set('<>:"/\\|?*%')
    assert all(unicodedata.category(sign)[0] != "C" for sign in name)
    assert name == name.strip(" .")
    assert len(name.encode()) <= 120
    # What Windows takes for a device whatever follows.
    compatible = unicodedata.normalize("NFKC", name)
    stem = compatible.split(".")[0].strip().upper()
    assert stem not in {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"}
    assert not (stem[:3] in {"COM", "LPT"} and len(stem) == 4 and stem[3].isdigit())
    assert not set(compatible) & set("/\\:")
    assert PureWindowsPath(compatible).name == compatible


@given(st.text() | HOSTILE)
@settings(max_examples=500)
@example("..")
@example("nul")
@example("COM¹.txt")
@example("con .gif")
@example("a" * 119 + " .")
@example("é" * 200)
@example("\u2025/\uff0fetc")
def test_a_name_is_harmless_and_stays_as_it_is(text):
    name = safe_name(text)
    is_harmless(name)
    assert safe_name(name) == name


@given(st.lists(st.text() | HOSTILE, max_size=4))
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_place_is_within_its_folder(tmp_path, parts):
    place = place_within(tmp_path, *parts)
    assert place != tmp_path
    assert tmp_path in place.parents
    assert place.resolve().is_relative_to(tmp_path.resolve())
    for name in place.relative_to(tmp_path).parts:
        is_harmless(name)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a red fox, running (fast:1.2)", "a red fox, running (fast_1.2)"),
        ("狐が走る 🦊", "狐が走る 🦊"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("C:\\Windows", "C__Windows"),
        ("", "clip"),
        ("...", "clip"),
        ("aux", "_aux"),
        ("aux.gif", "_aux.gif"),
        ("auxiliary", "auxiliary"),
        ("photo\u202egpj.exe", "photo_gpj.exe"),
    ],
)
def test_names_that_people_give(text, name):
    assert safe_name(text) == name


def test_folders_in_a_pattern_are_kept(tmp_path):
    assert place_within(tmp_path, "2026-01-31/a fox", "00001") == tmp_path / "2026-01-31" / "a fox" / "00001"
    assert place_within(tmp_path, "/etc/../x") == tmp_path / "etc" / "x"
    assert place_within(tmp_path, "..") == tmp_path / "clip"


def test_a_link_that_leads_out_is_refused(tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    try:
        (inside / "link").symlink_to(outside, target_is_directory=True)
    except OSError:
        pytest.skip("no links here")
    with pytest.raises(ClipError, match="is outside"):
        place_within(inside, "link/clip")
    assert place_within(Path(inside), "other/clip").parent.name == "other"
