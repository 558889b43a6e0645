"""The WebUI's names that the extension uses are the ones that it has: a table, read against both."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.webui_real import contract
from support.webui_real.hosts import Host, host_of
from support.webui_real.names import Sources, Uses, door_of, importers, members_of, named_in
from support.webui_real.places import REPOSITORY, webui_python

OURS = [*(REPOSITORY / "lib_animatediff" / "hosts" / "webui").rglob("*.py"), REPOSITORY / "scripts/animatediff.py"]
OURS += [REPOSITORY / "install.py"]
COMPAT = REPOSITORY / "lib_animatediff" / "hosts" / "webui" / "compat"
LIBRARIES = ("gradio", "fastapi", "starlette")
REPOSITORIES = ("stable-diffusion-stability-ai", "generative-models")
WHERE = "import importlib.util, os; print(os.path.dirname(os.path.dirname(importlib.util.find_spec('gradio').origin)))"
SIGNATURES = {**contract.SIGNATURES, **contract.IN_THE_MODELS}
TABLE = {*contract.MODULES, *SIGNATURES, *contract.NAMES, *contract.OPTIONS, *contract.SET_FROM_OUTSIDE}
OF_THE_BROWSER = {
    "Boolean",
    "Number",
    "String",
    "Array",
    "Object",
    "Set",
    "MutationObserver",
    "setInterval",
    "setTimeout",
    "clearTimeout",
}
KEYWORDS = {"if", "for", "while", "switch", "return", "catch", "function", "await"}


@pytest.fixture(scope="module")
def libraries(webui_dir) -> Path:
    """The folder that the WebUI's Python has gradio in; gradio itself, which is slow, is not imported."""
    told = subprocess.run([webui_python(webui_dir), "-c", WHERE], capture_output=True, text=True, check=True)
    return Path(told.stdout.strip())


def sources_of(webui_dir: Path, libraries: Path) -> Sources:
    models = [webui_dir / "repositories" / name for name in REPOSITORIES]
    return Sources([webui_dir, *models, libraries], contract.OBJECTS)


def changes(sources: Sources) -> Iterator[str]:
    yield from (f"{name}: there is no such module" for name in contract.MODULES if not sources.is_module(name))
    for name, expected in SIGNATURES.items():
        yield from changed_signature(sources, name, expected)
    yield from (f"{name}: is gone" for name in contract.NAMES if not sources.definitions(name))
    options = sources.option_names()
    yield from (f"{name}: there is no such option" for name in contract.OPTIONS if name.split(".")[-1] not in options)
    for name, module in contract.SET_FROM_OUTSIDE.items():
        if not is_known_in(sources, name.split(".")[-1], module):
            yield f"{name}: {module} does not know it any more"


def changed_signature(sources: Sources, name: str, expected: str) -> Iterator[str]:
    """A line if a function or class is gone, or takes other parameters than the table says."""
    definitions = sources.definitions(name)
    found = [signature for place in definitions if (signature := sources.signature(place))]
    if not definitions or (expected and not found):
        yield f"{name}{expected}: is gone"
    elif expected and not any(fits(expected, signature) for signature in found):
        yield f"{name}: we call it as {expected}, this WebUI has {' or '.join(sorted(set(found)))}"


def fits(expected: str, found: str) -> bool:
    """Whether a signature is the expected one; of one with "..." only the parameters before that count."""
    if not expected.endswith("...)"):
        return expected == found
    wanted = expected[1:-4].strip(", ").split(", ") if expected != "(...)" else []
    return set(wanted) <= set(found[1:-1].split(", "))


def is_known_in(sources: Sources, attribute: str, module: str) -> bool:
    """Whether a module's source mentions an attribute, also by a text as in `getattr`."""
    nodes = [inner for _, tree in sources.definitions(module) for inner in ast.walk(tree)]
    return any(attribute in (getattr(node, "attr", None), getattr(node, "value", None)) for node in nodes)


def changed_javascript(webui_dir: Path) -> Iterator[str]:
    paths = [webui_dir / "script.js", *webui_dir.glob("javascript/*.js")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in paths)
    for name, expected in contract.JAVASCRIPT.items():
        found = re.findall(rf"^function {name}(\(.*?\))", text, re.MULTILINE)
        if expected not in found:
            yield f"{name}{expected} of the page: {f'is {name}{found[0]} now' if found else 'is gone'}"


def uses() -> dict[str, dict[str, set[str]]]:
    """Every name that we use, with the keywords that it is called with and the files that do so."""
    found: dict[str, dict[str, set[str]]] = {}
    door = door_of("a1111", parsed(COMPAT / "a1111.py"), contract.PROTOCOLS) | {"self._sd_model": "sd_model"}
    for path in OURS:
        collected = Uses({"modules", "gradio", "launch"}, contract.OBJECTS, contract.SETTERS, door)
        collected.visit(parsed(path))
        for name, keywords in collected.found.items():
            use = found.setdefault(name, {"keywords": set(), "files": set()})
            use["keywords"] |= keywords
            use["files"].add(path.name)
    return {name: use for name, use in found.items() if name not in contract.NOT_THE_WEBUIS}


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@pytest.mark.shows("Install, update, disable, uninstall: the contract with the WebUI's names")
def test_every_name_of_the_webui_that_we_use_is_what_it_was(webui_dir, libraries):
    told = [*changes(sources_of(webui_dir, libraries)), *changed_javascript(webui_dir)]
    assert told == known_differences(host_of(webui_dir)), (
        "this WebUI differs from the one that the extension knows:\n" + "\n".join(told)
    )


@pytest.mark.shows("Install, update, disable, uninstall: the contract with the WebUI's names")
def test_every_name_of_the_webui_that_we_use_stands_in_the_table():
    used = uses()
    missing = [f"{name} ({', '.join(sorted(use['files']))})" for name, use in used.items() if name not in TABLE]
    assert not missing, "add to tests/support/webui_real/contract.py:\n" + "\n".join(sorted(missing))
    unknown = [
        f"{name}: {keyword}"
        for name, use in used.items()
        if "**" not in SIGNATURES.get(name, "**")
        for keyword in sorted(use["keywords"] - named_in(SIGNATURES[name]))
    ]
    assert not unknown, "the signatures in tests/support/webui_real/contract.py lack:\n" + "\n".join(unknown)
    assert set(called_in_javascript()) == set(contract.JAVASCRIPT), "the page's functions are not those that we call"


def known_differences(host: Host) -> list[str]:
    """How the others differ from the table; compat/host_models.py, and Forge's shims of gradio, deal with it."""
    path = Path(contract.__file__).with_name(f"contract_{host.name.lower().replace(' ', '_')}.txt")
    return path.read_text(encoding="utf-8").splitlines() if host.is_patched else []


def called_in_javascript() -> Iterator[str]:
    for path in (REPOSITORY / "javascript").glob("*.js"):
        text = re.sub(r"//.*|`[^`]*`|\"[^\"\n]*\"", "", path.read_text(encoding="utf-8"))
        defined = set(re.findall(r"\bfunction (\w+)|\b(?:const|let|var) (\w+)", text))
        calls = set(re.findall(r"(?<![.\w])([A-Za-z_]\w*)\(", text))
        yield from calls - {name for pair in defined for name in pair} - OF_THE_BROWSER - KEYWORDS


def test_one_module_is_the_door_to_the_webui():
    assert importers(OURS, "modules") == {"a1111.py", "animatediff.py"}
    assert importers(OURS, "launch") == {"install.py"}
    assert importers(OURS, "gradio") == {
        "clip_upload.py",
        "fields.py",
        "first_steps.py",
        "gallery.py",
        "image_upload.py",
        "options.py",
        "panel.py",
        "sampling_offer.py",
        "unavailable.py",
        "video_field.py",
    }


@pytest.mark.shows("Install, update, disable, uninstall: the contract with the WebUI's names")
def test_the_types_of_the_webuis_objects_tell_what_we_use_of_them():
    tree = parsed(COMPAT / "base.py")
    told = {f"{owner}.{name}" for kind, owner in contract.PROTOCOLS.items() for name in members_of(tree, kind)}
    assert told - TABLE == set()
    assert told - set(uses()) == set()


def test_nothing_stands_in_the_table_that_we_do_not_use():
    """The table holds no name that the extension has ceased to use, but for those that stand for what it is handed."""
    handed = {"modules.script_callbacks.app_started_callback", "modules.script_callbacks.cfg_denoiser_callback"}
    handed |= {"gradio.events.EventListenerMethod.__call__", "*.alphas_cumprod", "*.alphas_cumprod_original"}
    assert TABLE - set(uses()) - set(contract.IN_THE_MODELS) - handed == set()


CHANGES = (
    ("images", "def get_next_sequence_number(path, basename)", "def get_next_sequence_number(folder, basename)"),
    ("processing", "firstpass_image", "first_image"),
    ("script_callbacks", "def on_cfg_denoiser(callback, *, name=None)", "def on_denoiser(callback, *, name=None)"),
    ("scripts", "def process_batch(self, p, *args, **kwargs)", "def process_batch(self, p, batch, *args)"),
    ("shared_options", '"pad_cond_uncond_v0"', '"pad_cond"'),
    ("shared_state", "skipped", "jumped"),
    ("ui_tempdir", "already_saved_as", "saved_at"),
)
TOLD = """\
*.already_saved_as: modules.ui_tempdir does not know it any more
modules.images.get_next_sequence_number: we call it as (path, basename), this WebUI has (folder, basename)
modules.script_callbacks.on_cfg_denoiser(callback, *, name=): is gone
modules.scripts.Script.process_batch: we call it as (p, *args, **kwargs), this WebUI has (p, batch, *args)
modules.shared.opts.pad_cond_uncond_v0: there is no such option
modules.shared.state.skipped: is gone
p.firstpass_image: is gone"""


@pytest.mark.shows("Install, update, disable, uninstall: the contract with the WebUI's names")
def test_each_changed_name_is_told_in_one_line(webui_dir, libraries, tmp_path):
    shutil.copytree(webui_dir / "modules", tmp_path / "modules", ignore=shutil.ignore_patterns("*.pyc"))
    for name in ("extensions-builtin", "launch.py", "repositories", "scripts", "webui.py"):
        (tmp_path / name).symlink_to(webui_dir / name)
    for module, before, after in CHANGES:
        source = tmp_path / "modules" / f"{module}.py"
        text = source.read_text(encoding="utf-8")
        assert before in text, f"{module} has no {before} to change"
        source.write_text(text.replace(before, after), encoding="utf-8")
    known = known_differences(host_of(webui_dir))
    told = [line for line in sorted(changes(sources_of(tmp_path, libraries))) if line not in known]
    assert "\n".join(told) == TOLD
