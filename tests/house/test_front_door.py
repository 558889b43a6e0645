"""The public surface, what pip installs of it, and what happens where a foreign motion_module is in the way."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.matrix import in_matrix

import lib_animatediff

ROOT = Path(__file__).parents[2]
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def imported(path: list[Path], cwd: Path) -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.path[:0] = {list(map(str, path))}; import lib_animatediff"
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True)


@pytest.mark.parametrize("content", ["", in_matrix("def inject(): ..."), "raise RuntimeError('needs the WebUI')"])
def test_a_foreign_motion_module_is_named(tmp_path, content):
    foreign = tmp_path / "motion_module.py"
    foreign.write_text(content)
    ended = imported([tmp_path, ROOT], tmp_path)
    assert ended.returncode
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: ")
    assert str(foreign) in last


def test_a_foreign_motion_module_behind_ours_is_none(tmp_path):
    (tmp_path / "motion_module.py").write_text("")
    assert not imported([ROOT, tmp_path], tmp_path).returncode


def test_every_public_name_is_there():
    missing = [name for name in lib_animatediff.__all__ if not hasattr(lib_animatediff, name)]
    assert not missing
    with pytest.raises(AttributeError, match="no attribute 'surprise'"):
        _ = lib_animatediff.surprise


def test_everything_that_the_pages_import_from_the_package_is_public():
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    texts = [page.read_text(encoding="utf-8") for page in pages]
    lines = [line for text in texts for line in re.findall(r"^from (lib_animatediff\S*) import (.+)$", text, re.M)]
    named = {name.strip(" ()") for module, names in lines if module == "lib_animatediff" for name in names.split(",")}
    assert len(named) > 5
    assert named <= set(lib_animatediff.__all__)
    # Two subjects of their own, each with its page.
    assert {module for module, _ in lines} <= {"lib_animatediff", "lib_animatediff.training", "lib_animatediff.video"}


def test_pip_installs_the_library_and_its_model_but_nothing_of_the_webui():
    from setuptools import find_packages

    found = dict(re.findall(r"^(include|exclude) = (\[.*\])", PROJECT, re.M))
    lists = {key: re.findall(r'"([^"]+)"', text) for key, text in found.items()}
    packages = find_packages(str(ROOT), include=lists["include"], exclude=lists["exclude"])
    assert {"motion_module", "lib_animatediff.hosts.diffusers", "lib_animatediff.builtin_model"} <= set(packages)
    assert {name.partition(".")[0] for name in packages} == {"motion_module", "lib_animatediff"}
    assert not [name for name in packages if "webui" in name]
    data = re.search(r'^"lib_animatediff\.builtin_model" = (\[.*\])$', PROJECT, re.M)[1]
    folder = ROOT / "lib_animatediff" / "builtin_model"
    shipped = {path for pattern in re.findall(r'"([^"]+)"', data) for path in folder.glob(pattern) if path.is_file()}
    present = {path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert shipped == present


def test_the_console_script_has_a_name_of_its_own():
    """`animatediff` is that of animatediff-cli."""
    scripts = PROJECT.partition("[project.scripts]")[2].partition("\n[")[0]
    assert re.findall(r"^([\w-]+) = ", scripts, re.M) == ["lib-animatediff"]
