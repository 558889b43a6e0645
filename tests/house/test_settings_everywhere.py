"""What is in the settings table is everywhere: a line of it is all that a new setting needs.

Made-up settings, one of each type, are put into the table before anything reads it. So it is the table that brings each
one to its places, and not somebody who remembered them all.
"""

from __future__ import annotations

import base64
import importlib
import importlib.util
import io
import sys
from collections.abc import Iterator
from dataclasses import field, make_dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from support.webui_double import components, double

from lib_animatediff.cli import animate as cli
from lib_animatediff.request.settings import (
    SETTINGS,
    VIDEO_SETTINGS,
    ClipSettings,
    Setting,
    checks,
    from_infotext,
    json_schema,
    parse_settings,
    table,
    to_infotext,
)
from tools.settings_page import page, readme_rows, row

MADE_UP = [
    Setting("glow", bool, False, "Glow", "Whether it glows.", group="Made up", omit_default=True),
    Setting("petals", int, 5, "Petals", "How many.", aliases=("leaves",), minimum=0, maximum=9),
    Setting("sparkle", float, 0.5, "Sparkle", "How much it sparkles.", minimum=0, maximum=2, omit_default=True),
    Setting("motto", str, "", "Motto", "Any words.", group="Made up"),
    Setting("weather", str, "sun", "Weather", "Which one.", choices=("sun", "rain"), omit_default=True),
    Setting("tastes", tuple, ("sweet",), "Tastes", "Which ones.", choices=("sweet", "sour")),
    Setting("pace", str, "1", "Pace", "A number, or several.", accepts_numbers=True, parse=str.strip),
    Setting("secret", str, "", "Secret", "For clients only.", in_panel=False),
]


def another(setting: Setting) -> Any:
    """A value that is not the default."""
    picture = io.BytesIO()
    Image.new("L", (4, 4), 9).save(picture, "PNG")
    texts = {
        "scale": "0: 1, 8: 2",
        "effect": "0.5",
        "scale_steps": "0%: 1, 60%: 1.2",
        "effect_steps": "0.5",
        "blocks": "up.1 effect 0.5, mid scale 1.2",
        "motion_mask": base64.b64encode(picture.getvalue()).decode("ascii"),
        "frame_seeds": "5, 6, 90",
        "interpolate": "x3",
        "interpolator": "flownet.safetensors",
        "denoise": "0: 0.8, 15: 0.3",
        "rerender_frames": "3, 8-15",
        "key_images": "8: a.png, -1: in/b, c.png",
        "scribbles": "8: a.png, -1: in/b, c.png",
        "sparse_strength": "0: 1, 8: 0.5",
        "pia_motion": "0: 1, 15: 0.5",
        "i2v_strength": "0: 1, 15: 0.5",
        "camera": "pan-left 0.5, zoom-in 0.3/s ease-in; 8: static",
        "camera_strength": "0: 1, 15: 0.5",
        "control_images": "0: in/walk.mp4, 1@8: in/a, b.png",
        "control_weight": "1; 0: 1, 8: 0.5",
        "control_start": "0; 0: 0, 8: 0.5",
        "control_end": "0.6",
        "control_masks": "0: in/masks, 1: in/a, b.png",
    }
    if setting.type is bool:
        return not setting.default
    if setting.type is tuple:
        return setting.choices[::-1]
    if setting.choices:
        return setting.choices[-1]
    if setting.type is str:
        return texts.get(setting.name, 'word, "other": 1')
    assert setting.maximum is not None
    step = 1 if setting.type is int else 0.25
    return setting.default + (step if setting.default < setting.maximum else -step)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """All that derives from the table, read anew."""
    with pytest.MonkeyPatch.context() as patch:
        for setting in MADE_UP:
            patch.setitem(SETTINGS, setting.name, setting)
            for name in (setting.name, *setting.aliases):
                patch.setitem(table.CANONICAL, name, setting.name)
        fields = [(setting.name, Any, field(default=setting.default)) for setting in MADE_UP]
        patch.setattr(checks, "ClipSettings", make_dataclass("More", fields, bases=(ClipSettings,), frozen=True))
        spec = importlib.util.spec_from_file_location("lib_animatediff.cli.animate_anew", cli.__file__)
        assert spec is not None
        assert spec.loader is not None
        cli_anew = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, spec.name, cli_anew)
        spec.loader.exec_module(cli_anew)
        yield SimpleNamespace(**_of_the_webui(tmp_path_factory.mktemp("webui")), cli=cli_anew)


def _of_the_webui(folder: Path) -> dict[str, Any]:
    """Of the WebUI's side, which in the double is imported anew."""
    double.begin(None)  # type: ignore[arg-type]
    made = double.modules(folder)
    plot = SimpleNamespace(
        AxisOption=lambda label, *args, **more: (label, SimpleNamespace(apply=args[1])), axis_options=[]
    )
    with double.in_place(made):
        made["modules.scripts"].scripts_data[:] = [SimpleNamespace(path="scripts/xyz_grid.py", module=plot)]
        panel, axes = (importlib.import_module(f"lib_animatediff.hosts.webui.ui.{name}") for name in ("panel", "axes"))
        axes.register()
        built = panel.build_panel("txt2img")
        fields = panel.infotext_fields(built)
    names = [setting.name for setting in panel.PANEL_SETTINGS]
    components.Component.created.clear()
    return {
        "panel": dict(zip(names, built, strict=True)),
        "shown": names,
        "axes": dict(plot.axis_options),
        "with_axes": axes.with_axes,
        "panel_values": panel.panel_values,
        "infotext_fields": {name: read for name, (_, read) in zip(names, fields, strict=True)},
    }


def option_words(places: SimpleNamespace, setting: Setting, folder: Path) -> list[str]:
    """How the command line is told of a value."""
    (option,) = (each for each in places.cli.animate.params if each.name == setting.name)
    value = another(setting)
    if setting.type is bool:
        return [option.opts[0]]
    if setting.image:
        path = folder / "picture.png"
        path.write_bytes(base64.b64decode(value))
        value = path
    return [word for each in (value if setting.type is tuple else [value]) for word in (option.opts[0], str(each))]


@pytest.mark.parametrize("setting", [*SETTINGS.values(), *MADE_UP], ids=lambda setting: setting.name)
def test_a_line_of_the_table_is_in_every_place(places, setting, tmp_path):
    name, value = setting.name, another(setting)
    assert value != setting.default
    # the API: values, and the schema that tells of them
    for known in (name, *setting.aliases):
        assert getattr(parse_settings({known: value}), name) == value
    property = json_schema()["properties"][name]
    assert (property["title"], property["description"]) == (setting.label, setting.full_help)
    # the panel: a component, and its value on the way to a clip
    has_component = setting.in_panel or name == "enable"
    assert (name in places.panel) == has_component
    if has_component:
        assert places.panel[name].elem_id.endswith("-checkbox" if name == "enable" else f"_{name}")
        assert places.panel[name].label == setting.label
        values = tuple(value if each == name else SETTINGS[each].default for each in places.shown)
        assert places.panel_values(values)[name] == value
    # into the infotext and out of it, also into the panel
    line = to_infotext(parse_settings({name: value}))
    assert getattr(parse_settings({name: from_infotext(line)[name]}), name) == value
    if has_component and name not in ("enable", "model"):
        assert places.infotext_fields[name]({"AnimateDiff": line}) == from_infotext(line)[name]
    # the X/Y/Z plot
    p = SimpleNamespace()
    places.axes[f"[AnimateDiff] {setting.label}"].apply(p, value, [value])
    assert places.with_axes(p, {})[name] == value
    # the command line
    if name in places.cli.OTHER_OPTIONS:
        spelled = [option for each in places.cli.animate.params for option in each.opts]
        assert places.cli.OTHER_OPTIONS[name] in ("", *spelled)
    elif name in VIDEO_SETTINGS:  # a video is opened, and tests/cli/test_video_in.py shows what comes of each
        (option,) = (each for each in places.cli.animate.params if each.name == name)
        assert (option.help, option.default) == (setting.full_help, setting.default)
    else:
        asked = []
        words = ["--output", str(tmp_path / "clip.gif"), *option_words(places, setting, tmp_path)]
        places.cli.animate.main(words, standalone_mode=False, obj=lambda clip, _: asked.append(clip.request))
        assert getattr(asked[0].settings, name) == value
    # the pages
    assert row(setting) in page(SETTINGS.values()).splitlines()
    assert (row(setting) in readme_rows(SETTINGS.values()).splitlines()) != setting.omit_default
