"""The names of sd-webui-controlnet that we use are the ones that it has: a table, read against both."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.webui_real.contract import CONTROLNET, CONTROLNET_SETS
from support.webui_real.names import Sources
from support.webui_real.places import REPOSITORY

pytestmark = pytest.mark.of_a1111("Forge and reForge have a ControlNet of their own: Integrated ControlNet")

HOST = REPOSITORY / "lib_animatediff" / "hosts" / "webui"
OURS = [HOST / "compat" / "controlnet.py", *(HOST / "clip" / "control").glob("*.py")]
# What we keep the extension's objects in.
OWNERS = """
    unit self.unit host.unit unit.host.unit type(unit) type(unit.input_mode) type(self.unit.input_mode) offered
    param self._param param.control_model adapter self._adapter self._adapter.ipadapter module one made[0]
    network unet script script.latest_network
""".split()
NAMES = {name for names in CONTROLNET.values() for name in names.split()} | set(CONTROLNET_SETS)
# Of pydantic, of a namedtuple, of enumerations, of torch and of Python; and ours in a variable of such a name.
OTHERS = set(
    """
    copy get in_channels name register_forward_hook register_forward_pre_hook values args_from args_to before_call count
    fill has_amounts has_embeddings host image_order images inpainted keys mask_order masks named notes order parts read
    source weights
    """.split()
)


def used() -> Iterator[str]:
    for path in OURS:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) in OWNERS:
                yield node.attr


def changes(folder: Path) -> Iterator[str]:
    sources = Sources([folder], {})
    for owner, names in CONTROLNET.items():
        yield from (f"{owner}.{name}: is gone" for name in names.split() if not sources.definitions(f"{owner}.{name}"))
    for name, module in CONTROLNET_SETS.items():
        path = sources.path(module)
        if path is None or not re.search(rf"\b{name}\b", path.read_text(encoding="utf-8")):
            yield f"{name}: {module} does not know it any more"


def test_every_name_that_we_use_stands_in_the_table():
    unknown = sorted(set(used()) - NAMES - OTHERS)
    assert not unknown, f"add to tests/support/webui_real/contract.py: {unknown}"


def test_nothing_stands_in_the_table_that_we_do_not_use():
    text = "".join(path.read_text(encoding="utf-8") for path in OURS)
    assert not [name for name in NAMES if not re.search(rf"\b{name}\b", text)]


@pytest.mark.shows("Install, update, disable, uninstall: the contract with the names of sd-webui-controlnet")
def test_every_name_is_what_it_was(tmp_path):
    folder = os.environ.get("CONTROLNET_DIR")
    if not folder:
        pytest.skip("CONTROLNET_DIR is not set: the ControlNet extension was not read")
    found = list(changes(Path(folder)))
    assert not found, "this ControlNet differs from the one that the extension knows:\n" + "\n".join(found)
    (tmp_path / "scripts").mkdir()
    hook = (Path(folder) / "scripts" / "hook.py").read_text(encoding="utf-8")
    (tmp_path / "scripts" / "hook.py").write_text(hook.replace("hr_hint_cond", "large_hint"), encoding="utf-8")
    assert "scripts.hook.ControlParams.hr_hint_cond: is gone" in list(changes(tmp_path))
