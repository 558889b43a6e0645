"""Installing, updating, switching off and removing the extension, as the WebUI does it and in its own Python."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from safetensors.torch import save_file
from support.motion_files import (
    PICKLES,
    SMALL_WIDTHS,
    adapter_config,
    as_adapter,
    random_motion_state,
    write_motion_file,
)
from support.webui_real.clicking import open_tab, prose
from support.webui_real.clips import FRAMES, animate, clip_of
from support.webui_real.places import REPOSITORY, webui_python
from support.webui_real.server import NOT_COPIED, WebUI, open_page

NOWHERE = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0", "HTTP_PROXY": "", "PIP_NO_INDEX": "1"}
PACKAGES = "import importlib.metadata as m; print(sorted((d.name, d.version) for d in m.distributions()))"
INSTALL = "from modules import launch_utils; launch_utils.run_extension_installer({!r})"
TIMED = "import time; start = time.perf_counter(); {}; print(round(time.perf_counter() - start, 3))"
FOLDER = "Bewegte Bilder für 'mich'"  # as a person may call it, with what shells and paths stumble on
# What the Extensions tab does for "Check for updates" and "Apply". Clicked, the latter would also write a backup of the
# WebUI's state beside its sources, which are not ours to write into.
UPDATE = """
import sys
sys.argv[1:] = [*{flags!r}, "--data-dir", {data!r}]
from modules.extensions import Extension, ExtensionMetadata
extension = Extension({name!r}, {path!r}, metadata=ExtensionMetadata({path!r}, {name!r}))
extension.read_info_from_repo()
extension.check_updates()
print(extension.can_update, extension.status)
extension.fetch_and_reset_hard()
extension.check_updates()
print(extension.can_update, extension.status)
"""
AUTHOR = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.com"]


def python_runner(python: Path, webui_dir: Path, **variables: str):

    def run(code: str) -> subprocess.CompletedProcess:
        environment = {**os.environ, **NOWHERE, **variables}
        command = [str(python), "-B", "-c", code]
        done = subprocess.run(command, cwd=webui_dir, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture(scope="module")
def run_in_webui(webui_dir):
    return python_runner(webui_python(webui_dir), webui_dir)


def required() -> dict[str, str]:
    """What install.py looks for: module and requirement."""
    return dict(re.findall(r'"(\w+)": "([\w-]+)>=', (REPOSITORY / "install.py").read_text(encoding="utf-8")))


@pytest.mark.shows("Install, update, disable, uninstall: packages differ by additions alone")
def test_the_installer_adds_nothing_to_a_complete_webui(run_in_webui):
    before = run_in_webui(PACKAGES).stdout
    printed = run_in_webui(INSTALL.format(str(REPOSITORY)))
    assert run_in_webui(PACKAGES).stdout == before
    found = run_in_webui(f"import importlib.util as u; print(*filter(u.find_spec, {list(required())}))").stdout.split()
    if absent := set(required()) - set(found):
        pytest.skip(f"this WebUI lacks {', '.join(sorted(absent))}: it is not complete, so nothing is proven")
    assert (printed.stdout + printed.stderr).strip() == ""


def write_wheel(folder: Path, name: str, version: str) -> None:
    about = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": "",
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*files, f"{about}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in {**files, f"{about}/RECORD": record}.items():
            wheel.writestr(path, text)


def empty_environment(python: Path, folder: Path, packages: tuple[str, ...]) -> Path:
    """A virtual environment with copies of only these packages of another Python; returns its own."""
    subprocess.run([str(python), "-m", "venv", "--without-pip", str(folder)], check=True)
    new = next(path for path in (folder / "bin" / "python", folder / "Scripts" / "python.exe") if path.exists())
    ask = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    theirs, ours = (
        Path(subprocess.run([str(one), "-c", ask], capture_output=True, text=True, check=True).stdout.strip())
        for one in (python, new)
    )
    for name in packages:
        for path in [*theirs.glob(name), *theirs.glob(f"{name}-*.dist-info"), *theirs.glob(f"{name}.libs")]:
            # no links: an installer that replaced one would write through it, into the WebUI's own packages
            shutil.copytree(path, ours / path.name)
    return new


@pytest.mark.shows("Install, update, disable, uninstall: packages differ by additions alone")
def test_what_is_missing_is_added_and_nothing_else_changes(webui_dir, tmp_path):
    needed = set(required().values())
    missing = needed - {"pillow", "safetensors"}
    assert "einops" in missing
    for name in needed:  # newer ones than those that are there, too: they must not be replaced
        write_wheel(tmp_path, name, "99.9")
    there = ("pip", "PIL", "Pillow", "safetensors")
    python = empty_environment(webui_python(webui_dir), tmp_path / "some where", there)
    run = python_runner(python, webui_dir, PIP_FIND_LINKS=str(tmp_path), PIP_INDEX_URL="")
    before, told = run(PACKAGES).stdout, run(INSTALL.format(str(REPOSITORY)))
    assert told.stderr == ""
    assert all(name in told.stdout for name in missing)
    after = ast.literal_eval(run(PACKAGES).stdout)
    assert set(after) - set(ast.literal_eval(before)) == {(name, "99.9") for name in missing}
    assert set(ast.literal_eval(before)) <= set(after)
    assert run(INSTALL.format(str(REPOSITORY))).stdout == ""


def git(folder: Path, *arguments: str) -> str:
    quiet = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    command = ["git", "-C", str(folder), *AUTHOR, *arguments]
    return subprocess.run(command, env=quiet, capture_output=True, text=True, check=True).stdout


@dataclass
class Published:
    """This repository where others can clone it: as the bare one."""

    working: Path
    bare: Path

    def publish(self, message: str) -> None:
        git(self.working, "add", "--all")
        git(self.working, "commit", "--quiet", "--message", message)
        git(self.working, "push", "--quiet", str(self.bare), "HEAD:main")


@dataclass
class Installed:
    """A WebUI that has the extension from a URL."""

    server: WebUI
    source: Published

    @property
    def folder(self) -> Path:
        return self.server.data_dir / "extensions" / FOLDER


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    place = tmp_path_factory.mktemp("published")
    source = Published(place / "working", place / "sd-webui-animatediff.git")
    shutil.copytree(REPOSITORY, source.working, ignore=shutil.ignore_patterns(*NOT_COPIED))
    git(place, "init", "--quiet", "--initial-branch=main", str(source.working))
    git(place, "init", "--quiet", "--initial-branch=main", "--bare", str(source.bare))
    source.publish("first")
    return source


@pytest.fixture(scope="module")
def installed(start_webui, browser, run_in_webui, published) -> Installed:
    """The extension, installed by clicking, and the WebUI started again."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in NOWHERE.items():  # the installer that the page runs must not reach a package index either
            patch.setenv(name, value)
        server = start_webui("install", extra_args=["--enable-insecure-extension-access", "--log-startup"])
    before = run_in_webui(PACKAGES).stdout
    page = browser.new_page(viewport={"width": 1400, "height": 1600})
    page.route(lambda url: not url.startswith("http://127.0.0.1:"), lambda route: route.abort())
    open_page(page, server)
    open_tab(page, "Extensions")
    open_tab(page, "Install from URL")
    page.get_by_label("URL for extension's git repository").fill(f"file://{published.bare}")
    page.get_by_label("Local directory name").fill(FOLDER)
    page.get_by_role("button", name="Install", exact=True).click()
    result = page.locator(prose("#extension_install_result"), has_text=re.compile(r"\S"))
    result.wait_for()
    assert "Installed into" in result.inner_text()
    page.close()
    write_motion_file(server.motion_modules_dir)
    server.restart()
    assert run_in_webui(PACKAGES).stdout == before
    return Installed(server, published)


def complaints(server: WebUI) -> list[str]:
    """Lines of the log since the start that tell of trouble with an extension."""
    return [line for line in server.log_text().splitlines() if re.search(r"Traceback|Error|\*\*\*", line)]


@pytest.mark.shows("Install, update, disable, uninstall: from URL, into a folder with spaces and unicode")
def test_installed_from_a_url_it_makes_a_clip(installed):
    assert (installed.folder / ".git").is_dir()
    assert not complaints(installed.server)
    assert len(clip_of(animate(installed.server)).frames) == FRAMES


@pytest.mark.shows("Install, update, disable, uninstall: start-up cost")
def test_the_start_up_log_tells_what_the_extension_costs(installed, run_in_webui):
    """The WebUI's start-up log has the seconds of the extension's script; the test prints them and sets no limit."""
    (script, *callbacks) = map(float, re.findall(r"animatediff\.py: done in ([\d.]+)s", installed.server.log_text()))
    whole = re.search(r"Startup time: ([\d.]+)s", installed.server.log_text())[1]
    installer = run_in_webui(TIMED.format(INSTALL.format(str(installed.folder)))).stdout.strip()
    print(f"script {script} s, callbacks {sum(callbacks)} s, install.py {installer} s, of a start of {whole} s")


@pytest.mark.shows("Install, update, disable, uninstall: models survive updates")
def test_an_update_brings_new_files_and_keeps_the_models(installed, run_in_webui):
    server, folder = installed.server, installed.folder
    own = write_motion_file(folder / "model", seed=1, name="own.safetensors")
    notes = (folder / "README.md").read_text(encoding="utf-8")
    (folder / "README.md").write_text("mine", encoding="utf-8")
    (installed.source.working / "news.md").write_text("second version", encoding="utf-8")
    installed.source.publish("second")
    printed = run_in_webui(
        UPDATE.format(flags=installed.server.host.flags, data=str(server.data_dir), name=FOLDER, path=str(folder))
    )
    assert "True new commits\nFalse latest" in printed.stdout
    assert (folder / "news.md").read_text(encoding="utf-8") == "second version"
    assert (folder / "README.md").read_text(encoding="utf-8") == notes
    assert git(folder, "status", "--porcelain") == ""
    server.restart()
    assert own.exists()
    for name in ("own.safetensors", "mm_small_v3.safetensors"):
        assert len(clip_of(animate(server, {"model": name})).frames) == FRAMES


@pytest.mark.shows("Install, update, disable, uninstall: switched off and removed")
def test_switched_off_it_leaves_no_trace_and_removed_neither(installed):
    server = installed.server
    picture = server.txt2img()["images"]
    server.post("/sdapi/v1/options", {"disabled_extensions": [FOLDER]})
    server.restart()
    assert_no_trace(server, picture)
    server.post("/sdapi/v1/options", {"disabled_extensions": []})
    shutil.rmtree(installed.folder)
    server.restart()
    assert_no_trace(server, picture)
    assert list(server.motion_modules_dir.iterdir())


def assert_no_trace(server: WebUI, picture: list[str]) -> None:
    assert "animatediff" not in server.api("GET", "/sdapi/v1/scripts").json()["txt2img"]
    components = server.api("GET", "/config").json()["components"]
    assert not [c for c in components if "animatediff" in str(c["props"].get("elem_id"))]
    assert not complaints(server)
    assert server.txt2img()["images"] == picture


def open_files(server: WebUI) -> Iterator[str]:
    """Every file that a process of the server holds open or has mapped into its memory."""
    for process in Path("/proc").glob("[0-9]*"):
        if is_of(server, int(process.name)):
            yield from (str(handle.readlink()) for handle in (process / "fd").iterdir())
            yield from (process / "maps").read_text(encoding="utf-8").splitlines()


def is_of(server: WebUI, pid: int) -> bool:
    try:
        return os.getsid(pid) == server._process.pid
    except ProcessLookupError:
        return False


def write_in_every_format(folder: Path) -> list[str]:
    """The same motion module as each kind of file; returns their names in the list."""
    folder.mkdir()
    state = random_motion_state("v3")
    names = [write_motion_file(folder).name]
    for kind, save in PICKLES.items():
        save(state, folder / f"{kind}.ckpt")
        names.append(f"{kind}.ckpt")
    adapter = folder / "adapter"
    adapter.mkdir()
    (adapter / "config.json").write_text(json.dumps(adapter_config("v3", SMALL_WIDTHS)), encoding="utf-8")
    save_file(as_adapter(state), adapter / "diffusion_pytorch_model.safetensors")
    return [f"{folder.name}/{name}" for name in [*names, "adapter/diffusion_pytorch_model.safetensors"]]


@pytest.mark.shows("Install, update, disable, uninstall: no file stays open")
@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells which files a process holds")
def test_no_motion_module_file_stays_open(webui):
    """After a clip no file of a motion module is open or mapped, so that Windows lets it be replaced or deleted."""
    folder = webui.motion_modules_dir / "held"
    clips = []
    try:
        for name in write_in_every_format(folder):
            clips.append(clip_of(animate(webui, {"model": name})).frames)
            assert not [file for file in open_files(webui) if "animatediff" in file and folder.name in file], name
    finally:
        shutil.rmtree(folder)
    assert all((clip == clips[0]).all() for clip in clips)
    assert any("small.safetensors" in file or "torch" in file for file in open_files(webui)), "nothing was looked at"
