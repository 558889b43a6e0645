"""Rules of the house that no linter checks. Each failure says where and what to do."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import lib_animatediff
from lib_animatediff.request.settings import AUTOMATIC_CONTEXT

ROOT = Path(__file__).parents[2]
PACKAGES = ("motion_module", "lib_animatediff")
OLDEST_PYTHON = (3, 10)
OLDEST_TORCH = (2, 1)
LONGEST_FILE = 400
LONGEST_SCRIPT = 40

# Heavy, or absent from a WebUI: only who uses them pays for them.
LATE = ("diffusers", "transformers", "av", "gradio", "imageio", "PIL")

# Names that torch got after the oldest one that we allow, by the version that brought them.
NEWER_IN_TORCH = {
    "torch.nn.attention": (2, 3),
    "torch.amp.GradScaler": (2, 3),
    "torch.utils.swap_tensors": (2, 3),
    "torch.library.custom_op": (2, 4),
    "torch.nn.functional.rms_norm": (2, 4),
    "torch.nn.RMSNorm": (2, 4),
    "torch.serialization.add_safe_globals": (2, 4),
    "torch.serialization.get_unsafe_globals_in_checkpoint": (2, 5),
    "torch.serialization.safe_globals": (2, 5),
    "torch.serialization.skip_data": (2, 6),
    "torch.OutOfMemoryError": (2, 5),
    "torch.nn.attention.flex_attention": (2, 5),
    "torch.accelerator": (2, 6),
    "torch.compiler.set_stance": (2, 6),
    "torch.get_default_device": (2, 3),
}
NEWER_METHODS = {"module_load": (2, 3)}
NEWER_ARGUMENTS = {"enable_gqa": (2, 5)}


def files_of(*folders):
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def place(path, line=None):
    name = path.relative_to(ROOT).as_posix()
    return f"{name}:{line}" if line else name


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def tracked_files():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


# --------------------------------------------------------------------------------------------------------------------
# imports


def test_importing_the_library_imports_nothing_heavy():
    code = f"import sys, lib_animatediff; print(*[name for name in {LATE} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stdout.split(), (
        f"`import lib_animatediff` imports {done.stdout.strip()}. Import it where it is used."
    )


def outlined(node, names):
    """The dotted name behind an expression, with imported names spelled out; None for anything else."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute) and (owner := outlined(node.value, names)):
        return f"{owner}.{node.attr}"
    return None


def imports_of(tree):
    """Local name and full name of everything imported, with the node that imports it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.name if alias.asname else alias.name.partition(".")[0]
                yield alias.asname or name, name, node
                yield None, alias.name, node
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}", node


def newer_than_allowed(source):
    """Line and name of each use of something that the oldest torch does not have, outside a fallback."""
    tree = ast.parse(source)
    names = {local: full for local, full, _ in imports_of(tree) if local}
    guarded = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.Try) and any(_catches_absence(handler) for handler in node.handlers)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    uses = [(node, node.lineno, full, NEWER_IN_TORCH) for _, full, node in imports_of(tree)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            uses.append((node, node.lineno, outlined(node, names) or "", NEWER_IN_TORCH))
            uses.append((node, node.lineno, node.attr, NEWER_METHODS))
        if isinstance(node, ast.keyword) and node.arg:
            uses.append((node, node.lineno, node.arg, NEWER_ARGUMENTS))
    for node, line, name, newer in uses:
        if id(node) not in guarded and any(name == new or name.startswith(f"{new}.") for new in newer):
            yield line, name


def _catches_absence(handler):
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(getattr(name, "id", None) in ("ImportError", "ModuleNotFoundError", "AttributeError") for name in caught)


@pytest.mark.parametrize("path", files_of(*PACKAGES), ids=place)
def test_nothing_newer_than_the_oldest_torch_is_used_without_a_fallback(path):
    uses = [f"{place(path, line)} {name}" for line, name in newer_than_allowed(path.read_text(encoding="utf-8"))]
    oldest = ".".join(map(str, OLDEST_TORCH))
    assert not uses, f"not in torch {oldest}: {uses}. Do without, or catch its absence and fall back."


@pytest.mark.parametrize(
    "source",
    [
        "import torch.nn.attention",
        "from torch.nn import attention as kernels",
        "from torch.nn.attention import SDPBackend",
        "import torch\ntorch.nn.functional.rms_norm(x, (1,))",
        "from torch.nn import functional as F\nF.rms_norm(x, (1,))",
        "from torch import nn\nclass Mine(nn.RMSNorm): ...",
        "import torch as t\nwith t.serialization.safe_globals([]): ...",
        "import torch\ntry:\n    torch.accelerator.is_available()\nexcept RuntimeError: ...",
        "F.scaled_dot_product_attention(q, k, v, enable_gqa=True)",
    ],
)
def test_the_search_for_newer_names_finds(source):
    assert list(newer_than_allowed(source))


@pytest.mark.parametrize(
    "source",
    [
        "from torch.nn import functional as F\nF.scaled_dot_product_attention(q, k, v, scale=1)",
        "weight.register_post_accumulate_grad_hook(hook)",
        "try:\n    from torch.nn.attention import SDPBackend\nexcept ImportError:\n    SDPBackend = None",
        "from torch.nn import functional as F\ntry:\n    F.rms_norm\nexcept AttributeError: ...",
        "other.accelerator.is_available()",
    ],
)
def test_the_search_for_newer_names_passes(source):
    assert not list(newer_than_allowed(source))


def test_the_list_of_newer_names_holds_newer_names_only():
    for name, version in {**NEWER_IN_TORCH, **NEWER_METHODS, **NEWER_ARGUMENTS}.items():
        assert version > OLDEST_TORCH, f"{name} is in every torch that we allow. Take it off the list."


def test_the_oldest_torch_of_the_list_is_that_of_the_package():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (oldest,) = re.findall(r'"torch>=([\d.]+)"', text)
    assert tuple(map(int, oldest.split("."))) == OLDEST_TORCH, "pyproject.toml allows another oldest torch than this."


# --------------------------------------------------------------------------------------------------------------------
# files


def undocumented(tree):
    """Line and name of every public module, class and function without a docstring.

    Public is what has no leading underscore, nor lies in something that has one or in a function.
    """
    if not ast.get_docstring(tree):
        yield 1, "the module"

    def inside(owner, prefix):
        for node in owner.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith(
                "_"
            ):
                if not ast.get_docstring(node):
                    yield node.lineno, f"{prefix}{node.name}"
                if isinstance(node, ast.ClassDef):
                    yield from inside(node, f"{prefix}{node.name}.")

    yield from inside(tree, "")


@pytest.mark.parametrize("path", files_of(*PACKAGES), ids=place)
def test_everything_public_has_a_docstring(path):
    missing = [f"{place(path, line)} {name}" for line, name in undocumented(tree_of(path))]
    assert not missing, f"no docstring: {', '.join(missing)}"


@pytest.mark.parametrize("path", files_of(*PACKAGES, "scripts", "tests"), ids=place)
def test_no_file_is_long(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST_FILE, f"{place(path)} has {lines} lines, more than {LONGEST_FILE}. Split it."


def test_the_webuis_script_is_short():
    lines = len((ROOT / "scripts" / "animatediff.py").read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST_SCRIPT, (
        f"scripts/animatediff.py has {lines} lines. Its logic goes to lib_animatediff/hosts/webui."
    )


@pytest.mark.parametrize("path", files_of(*PACKAGES, "scripts", "tests"), ids=place)
def test_every_file_is_python_of_the_oldest_version(path):
    try:
        ast.parse(path.read_text(encoding="utf-8"), str(path), feature_version=OLDEST_PYTHON)
    except SyntaxError as error:
        pytest.fail(f"{place(path, error.lineno)} is not Python {OLDEST_PYTHON[0]}.{OLDEST_PYTHON[1]}: {error.msg}")


MACHINE_PATH = re.compile(rb"(?<![\w.])/(?:srv|work|home|root|Users)/\w+")


def test_no_tracked_file_names_a_path_of_one_machine():
    found = [
        f"{place(path, number)}: {match[0].decode()}"
        for path in tracked_files()
        for number, line in enumerate(path.read_bytes().splitlines(), 1)
        if (match := MACHINE_PATH.search(line)) and b"\0" not in line
    ]
    assert not found, f"only one machine has these paths: {found}. Use a path of the checkout, or a variable."


# --------------------------------------------------------------------------------------------------------------------
# things that are written in two places


def test_the_version_has_one_home():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project = text.partition("[project]")[2].partition("\n[")[0]
    assert 'dynamic = ["version"]' in project, "pyproject.toml must leave the version to __version__."
    assert not re.search(r"^version\s*=", project, re.M), "pyproject.toml states a version beside __version__."
    assert 'version = { attr = "lib_animatediff.__version__" }' in text, "the version must come from __version__."


def test_the_changelog_names_the_version():
    changelog = ROOT / "CHANGELOG.md"
    if not changelog.exists():
        pytest.skip("no changelog yet")
    version = lib_animatediff.__version__
    headings = re.findall(r"^##? .*$", changelog.read_text(encoding="utf-8"), re.M)
    named = any(re.search(rf"(?<![\d.]){re.escape(version)}(?![\d.])", heading) for heading in headings)
    assert named, f"CHANGELOG.md has no heading for {version}."


def test_the_browser_counts_automatic_frames_as_python_does():
    script = (ROOT / "javascript" / "animatediff.js").read_text(encoding="utf-8")
    found = re.findall(r"AUTOMATIC_CONTEXT = (\d+)", script)
    assert found == [str(AUTOMATIC_CONTEXT)], f"animatediff.js says {found}, settings.py {AUTOMATIC_CONTEXT}."
