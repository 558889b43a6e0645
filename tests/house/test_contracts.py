"""What each part of the package may know and do. Each failure says where and what to do."""

from __future__ import annotations

import ast
import graphlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("motion_module", "lib_animatediff")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MOST_MODULES = 12
MOST_METHODS = 12

# Settings reach a request here, and become a plan; or they become text, which says what was asked.
TAKES_SETTINGS = {
    "lib_animatediff/hosts/diffusers/animate.py:animate": "the front door",
    "lib_animatediff/hosts/webui/output/files.py:recipe": "a recipe",
}
# The files of a method, and what compares methods by their names.
OWN_FILES = (
    "lib_animatediff/request/",
    "lib_animatediff/sampling/text2video_zero.py",
    "lib_animatediff/hosts/diffusers/text2video_zero.py",
    "lib_animatediff/hosts/webui/clip/text2video_zero.py",
    "lib_animatediff/engine/components/cross_frame.py",
    "lib_animatediff/evaluation/",
    "lib_animatediff/cli/",
)
NAMES_A_METHOD = re.compile(r"text_?2_?video|poster|preview|(?:^|_)zeros?(?:_|$)", re.IGNORECASE)
OTHER_ZEROS = ("torch.zeros", "torch.zeros_like", "zero_()", "rescale_betas_zero_snr", "Zero Terminal SNR")
# Packages beside the path from a request to a clip, whose modules are many and alike.
LARGE = ("evaluation", "training", "video")


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def taking_settings(tree: ast.Module) -> set[str]:
    """Functions and methods with a parameter that is annotated with ClipSettings, or with something made of them."""
    found = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        given = node.args
        every = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
        annotations = [ast.unparse(one.annotation) for one in every if one is not None and one.annotation is not None]
        if any(re.search(r"\bClipSettings\b", annotation) for annotation in annotations):
            found.add(node.name)
    return found


def test_outside_request_everything_takes_the_plan():
    inside = "lib_animatediff/request/"
    found = {
        f"{place(path)}:{name}"
        for path in SOURCES
        if not place(path).startswith(inside)
        for name in taking_settings(tree_of(path))
    }
    assert found == set(TAKES_SETTINGS), f"these should take a ClipPlan instead of settings: {found}"


def names_asked_for(tree: ast.Module) -> set[tuple[int, str]]:
    """Line and name of all that something is asked about: in conditions, comparisons, matches and isinstance."""
    asked: list[ast.AST] = []
    for node in ast.walk(tree):
        match node:
            case ast.If() | ast.IfExp() | ast.While() | ast.Assert():
                asked.append(node.test)
            case ast.comprehension():
                asked += node.ifs
            case ast.Match():
                asked += [node.subject, *(case.pattern for case in node.cases)]
            case ast.Compare() | ast.BoolOp() | ast.UnaryOp(op=ast.Not()):
                asked.append(node)
            case ast.Call(func=ast.Name(id="isinstance" | "issubclass" | "hasattr" | "getattr" | "bool")):
                asked.append(node)
    found = set()
    for expression in asked:
        for node in ast.walk(expression):
            name = {ast.Name: "id", ast.Attribute: "attr", ast.Constant: "value", ast.keyword: "arg"}.get(type(node))
            text = getattr(node, name) if name else None
            if isinstance(text, str):
                found.add((getattr(node, "lineno", 0), text))
    return found


def naming_a_method(tree: ast.Module) -> list[str]:
    known = {name.rpartition(".")[2].removesuffix("()") for name in OTHER_ZEROS}
    return [
        f"line {line}: {name}"
        for line, name in sorted(names_asked_for(tree))
        if NAMES_A_METHOD.search(name) and name not in known
    ]


def test_the_search_for_methods_finds_what_the_methods_own_files_ask():
    for name in ("request/plan.py", "evaluation/run.py"):
        assert naming_a_method(tree_of(ROOT / "lib_animatediff" / name))


@pytest.mark.parametrize("path", [path for path in SOURCES if not place(path).startswith(OWN_FILES)], ids=place)
def test_only_its_own_files_ask_for_a_method_or_a_preview(path):
    found = naming_a_method(tree_of(path))
    assert not found, (
        f"{place(path)} asks by name: {found}. Let the plan say it (`ClipPlan.rendered`, `makes_clip`), or the method."
    )


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def runs_at_import(tree: ast.Module) -> list[ast.Import | ast.ImportFrom]:
    """Imports that run when the module is imported: neither in functions nor for type checkers."""
    found: list[ast.Import | ast.ImportFrom] = []
    todo: list[ast.AST] = list(tree.body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.append(node)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            todo += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            todo += ast.iter_child_nodes(node)
    return found


def imported(path: Path, modules: set[str]) -> set[str]:
    """Our modules that this one imports. A package's name counts where something of its own is taken from it."""
    package = module_of(path) if path.name == "__init__.py" else module_of(path).rpartition(".")[0]
    found = set()
    for node in runs_at_import(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
            continue
        above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
        base = ".".join([*above, *filter(None, [node.module])])
        for alias in node.names:
            inner = f"{base}.{alias.name}"
            found.add(inner if inner in modules else base)
    return (found & modules) - {module_of(path)}


def test_no_module_imports_itself_through_others():
    modules = {module_of(path) for path in SOURCES}
    graph = {module_of(path): imported(path, modules) for path in SOURCES}
    assert "lib_animatediff.engine.call" in graph["lib_animatediff.engine.inject"]
    assert "lib_animatediff.hosts.diffusers.methods" in graph["lib_animatediff.hosts.diffusers.text2video_zero"]
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"an import circle: {' <- '.join(error.args[1])}. Move what both need to a module below.")


FOLDERS = sorted({path.parent for path in SOURCES if path.parent.name not in LARGE})


@pytest.mark.parametrize("folder", FOLDERS, ids=place)
def test_no_folder_holds_many_modules(folder):
    modules = [path.name for path in folder.glob("*.py") if path.name != "__init__.py"]
    assert len(modules) <= MOST_MODULES, f"{place(folder)} holds {len(modules)} modules. Split it."


def test_no_class_has_many_methods():
    """Properties count, special methods and setters do not."""
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    sizes = {
        node.name: len({m.name for m in node.body if isinstance(m, functions) and not re.fullmatch(r"__\w+__", m.name)})
        for path in SOURCES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ClassDef)
    }
    large = {name: size for name, size in sizes.items() if size > MOST_METHODS}
    assert not large, f"more than {MOST_METHODS} methods: {large}. Give a part of them to an object of its own."
