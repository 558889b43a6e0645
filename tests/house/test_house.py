"""Rules of the house that no linter checks. Each failure says where and what to do."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.matrix import in_matrix

import lib_animatediff
from lib_animatediff.request.settings import AUTOMATIC_CONTEXT

ROOT = Path(__file__).parents[2]
PACKAGES = ("motion_module", "lib_animatediff")
FOLDERS = (*PACKAGES, "scripts", "tests")
LONGEST_FILE = 400
LONGEST_SCRIPT = 40

# Heavy, or absent from a WebUI: only who uses them pays for them.
LATE = ("diffusers", "transformers", "accelerate", "peft", "av", "tensorboard", "click", "gradio", "imageio", "PIL")

# Names that torch got after 2.1, the oldest one that pyproject.toml allows. What they are needed for has a fallback.
NEWER_IN_TORCH = (
    "nn.attention amp.GradScaler swap_tensors library.custom_op functional.rms_norm nn.RMSNorm add_safe_globals "
    "get_unsafe_globals_in_checkpoint safe_globals skip_data torch.OutOfMemoryError torch.accelerator set_stance "
    "get_default_device module_load enable_gqa"
).split()


def files_of(*folders):
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def place(path, line=None):
    name = path.relative_to(ROOT).as_posix()
    return f"{name}:{line}" if line else name


# The second one imports the first.
@pytest.mark.parametrize("package", [in_matrix("lib_animatediff"), "lib_animatediff.training"])
def test_importing_the_library_imports_nothing_heavy(package):
    code = f"import sys, {package}; print(*[name for name in {LATE} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stdout.split(), f"`import {package}` imports {done.stdout.strip()}. Import it where it is used."


def names_in(tree):
    """Line and dotted name of every import, attribute and keyword, outside what catches its absence."""
    tried = [node for node in ast.walk(tree) if isinstance(node, ast.Try) and "Error" in ast.unparse(node.handlers)]
    guarded = {id(inner) for node in tried for line in node.body for inner in ast.walk(line)}
    for node in ast.walk(tree):
        if id(node) in guarded:
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((node.lineno, f"{getattr(node, 'module', '') or ''}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Attribute):
            yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.keyword):
            yield node.lineno, node.arg or ""


def test_nothing_newer_than_the_oldest_torch_is_used_without_a_fallback():
    ends = tuple(NEWER_IN_TORCH)
    uses = [
        f"{place(path, line)} {name}"
        for path in files_of(*PACKAGES)
        for line, name in names_in(ast.parse(path.read_text(encoding="utf-8")))
        if name.endswith(ends)
    ]
    assert not uses, f"not in torch 2.1: {uses}. Do without, or catch its absence and fall back."


def test_no_file_is_long_and_the_webuis_script_is_short():
    lines = {place(path): len(path.read_text(encoding="utf-8").splitlines()) for path in files_of(*FOLDERS)}
    long = {name: count for name, count in lines.items() if count > LONGEST_FILE}
    assert not long, f"files of more than {LONGEST_FILE} lines: {long}. Split them."
    script = lines["scripts/animatediff.py"]
    assert script <= LONGEST_SCRIPT, f"it has {script} lines. Its logic goes to lib_animatediff/hosts/webui."


MACHINE_PATH = re.compile(rb"(?<![\w.])/(?:srv|work|home|root|Users)/\w+")


def test_no_tracked_file_names_a_path_of_one_machine():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    found = [
        f"{place(path, number)}: {match[0].decode()}"
        for name in listed.stdout.split("\0")
        if name and (path := ROOT / name).is_file()
        for number, line in enumerate(path.read_bytes().splitlines(), 1)
        if (match := MACHINE_PATH.search(line)) and b"\0" not in line
    ]
    assert not found, f"only one machine has these paths: {found}. Use a path of the checkout, or a variable."


def test_the_version_has_one_home_and_the_changelog_names_it():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project = text.partition("[project]")[2].partition("\n[")[0]
    assert 'dynamic = ["version"]' in project, "pyproject.toml must leave the version to __version__."
    assert not re.search(r"^version\s*=", project, re.M), "pyproject.toml states a version beside __version__."
    assert 'version = { attr = "lib_animatediff.__version__" }' in text, "the version must come from __version__."
    version = lib_animatediff.__version__
    headings = re.findall(r"^##? .*$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    named = any(re.search(rf"(?<![\d.]){re.escape(version)}(?![\d.])", heading) for heading in headings)
    assert named, f"CHANGELOG.md has no heading for {version}."


def test_the_browser_counts_automatic_frames_as_python_does():
    script = (ROOT / "javascript" / "animatediff.js").read_text(encoding="utf-8")
    found = re.findall(r"AUTOMATIC_CONTEXT = (\d+)", script)
    assert found == [str(AUTOMATIC_CONTEXT)], f"animatediff.js says {found}, settings.py {AUTOMATIC_CONTEXT}."
