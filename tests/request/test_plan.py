"""A request, resolved once: what follows from the settings, what is refused, and the way through a file and back."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.setting_values import other_than_default

from lib_animatediff import AnimateDiffError, ClipError, ContextWindows, MotionFileError, MotionScale, Text2VideoZero
from lib_animatediff.engine.context_windows import Chunks
from lib_animatediff.request.loras import LoraFile
from lib_animatediff.request.methods import ModuleFile, ModuleMethod, Text2VideoZeroMethod
from lib_animatediff.request.plan import Sampling, plan_clip
from lib_animatediff.request.settings import SETTINGS, parse_settings
from lib_animatediff.request.stored_plan import plan_from_json
from lib_animatediff.sampling.frame_noise import NOISE_KINDS, noise_sources

ROOT = Path(__file__).parents[2]
ZERO = "text2video-zero"


def plan(sampling=None, files=None, **settings):
    return plan_clip(parse_settings(settings), sampling, files)


class Catalog:
    """Files by names in a folder; knows no other."""

    def find_motion(self, name):
        if name != "mm":
            raise MotionFileError(f"There is no motion module {name}.")
        return Path("folder", "mm.safetensors")

    def find_lora(self, name):
        if name not in ("pan", "zoom"):
            raise MotionFileError(f"There is no motion LoRA {name}.")
        return Path("folder", f"{name}.safetensors")


# --------------------------------------------------------------------------------------------------------------------
# frames and windows


@pytest.mark.parametrize(
    ("settings", "frames"),
    [((16, 16), 16), ((0, 16), 16), ((0, 24), 24), ((0, 0), 16), ((24, 0), 24), ((24, 32), 24), ((48, 16), 48)],
)
def test_frames_0_is_the_context_length_or_what_modules_do_best(settings, frames):
    made = plan(**dict(zip(("frames", "context_length"), settings, strict=True)))
    assert (made.frames, made.rendered, made.makes_clip) == (frames, range(frames), True)


def test_a_preview_renders_one_frame_of_the_clip_in_one_piece():
    made = plan(frames=48, preview=True, freeinit_enable=True, scale=3)
    assert (made.frames, made.rendered, made.makes_clip) == (48, range(1), False)
    assert (made.windows, made.freeinit) == (None, None)
    assert made.method.scale == MotionScale(effect=(0.0,))
    assert plan(frames=48, poster=True) == plan(frames=48, preview=True)


LONG = {"frames": 48}
WINDOWS = [
    ({"frames": 16}, None),
    ({"frames": 16, "context_length": 0}, None),
    ({"frames": 0, "context_length": 32}, None),
    ({"frames": 8, "context_length": 16}, None),
    ({"frames": 20, "context_length": 20}, None),
    (LONG, ContextWindows(16, 4)),
    (LONG | {"context_length": 0}, ContextWindows(16, 4)),
    (LONG | {"context_length": 10}, ContextWindows(10, 2)),
    (LONG | {"context_length": 3}, ContextWindows(3, 0)),
    (LONG | {"overlap": 0}, ContextWindows(16, 0)),
    (LONG | {"context_length": 24}, ContextWindows(24, 6)),
    (LONG | {"context_length": 7, "overlap": -1}, ContextWindows(7, 1)),
    (
        LONG | {"context_length": 24, "overlap": 5, "stride": 2, "context_kind": "static", "fusion": "flat"},
        ContextWindows(24, 5, 2, "static", "flat"),
    ),
    (LONG | {"views": True}, ContextWindows(16, 4, as_views=True)),
    (LONG | {"closed_loop": "R-P"}, ContextWindows(16, 4, kind="looped")),
    (LONG | {"closed_loop": "R+P"}, ContextWindows(16, 4, kind="looped")),
    (LONG | {"closed_loop": "A"}, ContextWindows(16, 4, kind="looped", closed=True)),
    ({"closed_loop": "A"}, ContextWindows(kind="looped", closed=True)),  # it rolls in its one window
    ({"closed_loop": "A", "frames": 1}, None),
    ({"closed_loop": "R+P"}, None),
    (LONG | {"model": ZERO}, Chunks(16)),
    ({"frames": 9, "context_length": 8, "model": ZERO}, Chunks(8)),
    ({"frames": 8, "model": ZERO}, None),
    (LONG | {"model": ZERO, "preview": True}, None),
]


@pytest.mark.parametrize(("settings", "windows"), WINDOWS, ids=[str(settings) for settings, _ in WINDOWS])
def test_windows_follow_from_the_settings(settings, windows):
    assert plan(**settings).windows == windows


# --------------------------------------------------------------------------------------------------------------------
# noise


@pytest.mark.parametrize("noise", NOISE_KINDS)
@pytest.mark.parametrize("frame_seeds", ["", "5, 60, 9"])
def test_each_frame_has_the_seed_of_its_noise(noise, frame_seeds):
    made = plan(Sampling(seed=40), frames=30, context_length=8, overlap=3, noise=noise, frame_seeds=frame_seeds)
    own = [5, 60, 9, *range(10, 37)] if frame_seeds else list(range(40, 70))
    assert len(own) == 30
    assert list(made.seeds) == [own[source] for source in noise_sources(noise, 30, ContextWindows(8, 3), own[0])]
    if noise == "constant":
        assert set(made.seeds) == {own[0]}
    if noise == "freenoise":
        assert list(made.seeds[:10]) == own[:10]
        assert made.seeds != tuple(own)
        assert set(made.seeds) == set(own[:10])
    if noise in ("random", "shared"):
        assert list(made.seeds) == own


def test_only_shared_noise_has_a_share():
    assert plan(noise="shared", noise_share=0.25).noise.share == 0.25
    assert [plan(noise=kind, noise_share=0.25).noise.share for kind in NOISE_KINDS if kind != "shared"] == [0, 0, 0]


def test_a_preview_has_the_seed_of_frame_0_only():
    assert plan(Sampling(seed=40), frames=30, preview=True, noise="freenoise").seeds == (40,)
    assert plan(Sampling(seed=40), frames=30, preview=True, frame_seeds="7, 8").seeds == (7,)


def test_a_host_may_ask_for_the_seeds_of_another_clip_of_the_batch():
    made = plan(Sampling(seed=40), frames=4)
    assert made.noise.seeds(44, 4) == (44, 45, 46, 47)
    assert plan(frames=4, frame_seeds="3, 9").noise.seeds(44, 2) == (3, 9)


# --------------------------------------------------------------------------------------------------------------------
# runs, travel, output


@pytest.mark.parametrize(
    ("settings", "runs"),
    [
        ({}, (20,)),
        ({"freeinit_iters": 4}, (20,)),
        ({"freeinit_enable": True}, (20, 20, 20)),
        ({"freeinit_enable": True, "freeinit_iters": 1}, (20,)),
        ({"freeinit_enable": True, "freeinit_iters": 4, "freeinit_coarse": True}, (5, 10, 15, 20)),
        ({"freeinit_enable": True, "preview": True}, (20,)),
    ],
    ids=str,
)
def test_freeinit_is_a_list_of_runs(settings, runs):
    made = plan(Sampling(steps=20), **settings)
    assert made.runs == runs
    assert sum(made.runs_of(8)) == sum(steps * 8 // 20 for steps in runs)


def test_freeinit_says_how_noise_is_mixed():
    given = {"freeinit_filter": "gaussian", "freeinit_ds": 0.1, "freeinit_dt": 0.4, "freeinit_enable": True}
    assert plan(**given).freeinit.next_noise_options() == {"kind": "gaussian", "spatial": 0.1, "temporal": 0.4}
    assert plan(**given | {"freeinit_enable": False}).freeinit is None


def test_each_prompt_that_travels_is_read():
    travelling = Sampling(
        prompt="0: spring\n8: autumn",
        negative_prompt="a plain text, 8: not the beginning of a line",
        hires_prompt="0: large\n3: larger",
        hires_negative_prompt="",
    )
    made = plan(travelling, frames=10)
    assert sorted(made.travel) == ["hires_prompt", "prompt"]
    assert made.travel["prompt"].prompts()[0] == "spring"
    assert made.travel["prompt"].prompts()[8:] == ["autumn", "autumn"]
    assert plan(frames=10).travel == {}


def test_how_prompts_travel():
    made = plan(
        Sampling(prompt="0: a\n4: b"),
        frames=9,
        travel_interpolation="linear",
        travel_easing="ease-in",
        travel_hold=0.25,
        **{"closed_loop": "R+P", "context_length": 4, "overlap": 1},
    )
    options = made.travel_options
    assert (options.interpolation, options.easing, options.hold, options.loop) == ("linear", "ease-in", 0.25, True)
    travel = made.travel["prompt"]
    assert options.blends(travel) == travel.blends("linear", "ease-in", 0.25, True)
    assert options.blends(travel) != travel.blends("linear", "ease-in", 0.25, False)
    loops = {"N": False, "R-P": False, "R+P": True, "A": True}
    assert {kind: plan(closed_loop=kind).travel_options.loop for kind in loops} == loops


def test_a_host_may_read_a_prompt_over_the_whole_clip():
    made = plan(frames=30, preview=True)
    assert made.read_travel("0: a\n29: b").prompts()[-1] == "b"
    assert made.read_travel("a, b") is None
    with pytest.raises(ClipError, match="Line 2 of the hires prompt"):
        made.read_travel("0: a\n30: b", "hires prompt")


def test_the_output():
    given = {"formats": ["MP4", "Frame", "PNG"], "fps": 12, "loop_count": 2, "reverse": True, "request_id": "job7"}
    output = plan(**given).output
    assert output.formats == ("mp4", "frames")
    assert (output.with_frames, output.fps, output.loop_count) == (True, 12.0, 2)
    assert (output.ping_pong, output.request_id) == (True, "job7")
    assert (plan().output.formats, plan().output.with_frames, plan().output.ping_pong) == (("gif",), False, False)


# --------------------------------------------------------------------------------------------------------------------
# the method


def test_a_motion_module_with_its_files():
    made = plan(files=Catalog(), model="mm", motion_loras="pan:0.5, zoom", effect=0.5)
    assert made.method == ModuleMethod(
        "mm",
        (ModuleFile(Path("folder", "mm.safetensors")),),
        (LoraFile(Path("folder", "pan.safetensors"), 0.5), LoraFile(Path("folder", "zoom.safetensors"))),
    )
    assert made.method.scale == MotionScale(effect=(0.5,))
    assert plan(files=Catalog(), model="mm").method.scale is None
    assert plan(model="whatever").method == ModuleMethod("whatever")  # the caller has loaded it


def test_text2video_zero_needs_no_file():
    made = plan(files=Catalog(), model=" Text2Video-ZERO ", zero_x=-3, zero_y=5)
    assert isinstance(made.method, Text2VideoZeroMethod)
    assert made.method.name == "Text2Video-Zero"
    assert made.method.text2video_zero == Text2VideoZero((-3.0, 5.0))


REFUSED = [
    ({"model": "nothing"}, "no motion module nothing"),
    ({"model": "mm", "motion_loras": "tilt"}, "no motion LoRA tilt"),
    ({"model": "mm", "motion_loras": "pan:much"}, "is not a motion LoRA with a strength"),
    ({"model": ZERO, "scale": "2"}, "scale"),
    ({"model": ZERO, "freeinit_enable": True, "views": True}, "freeinit_enable, views"),
    ({"model": ZERO, "motion_loras": "pan"}, "motion_loras"),
    ({"model": ZERO, "zero_smoothing": 0.5}, "needs a mask"),
]


@pytest.mark.parametrize(("settings", "words"), REFUSED, ids=[str(settings) for settings, _ in REFUSED])
def test_what_a_method_cannot_do_is_refused(settings, words):
    with pytest.raises(AnimateDiffError, match=words):
        plan(files=Catalog(), **settings)


@pytest.mark.parametrize("name", ["prompt", "negative prompt", "hires prompt", "hires negative prompt"])
def test_a_wrong_line_is_refused_with_the_prompts_name(name):
    with pytest.raises(ClipError, match=f"Line 2 of the {name}"):
        plan(Sampling(**{name.replace(" ", "_"): "0: a\n16: b"}), frames=16)


def test_files_may_be_given_to_a_plan():
    modules = [ModuleFile(Path("a")), ModuleFile(Path("b"), effect=0.5)]
    made = plan(model="mm").with_files(modules, [LoraFile(Path("c"))])
    assert [file.path.name for file in made.method.modules] == ["a", "b"]
    assert [file.path.name for file in made.method.loras] == ["c"]
    zero = plan(model=ZERO)
    assert zero.with_files([ModuleFile(Path(ZERO))], []) == zero
    for modules, loras, words in (([ZERO, "a"], [], "further motion modules"), ([ZERO], ["c"], "motion_loras")):
        with pytest.raises(ClipError, match=words):
            zero.with_files([ModuleFile(Path(name)) for name in modules], [LoraFile(Path(name)) for name in loras])


# --------------------------------------------------------------------------------------------------------------------
# the plan is the job


def there_and_back(made, files=None):
    return plan_from_json(json.loads(json.dumps(made.to_json())), files)


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=lambda setting: setting.name)
def test_every_setting_is_in_the_plan_its_id_and_its_file(setting):
    other = plan(**{setting.name: other_than_default(setting)})
    assert other != plan()
    assert other.id != plan().id
    again = there_and_back(other)
    assert again == other
    assert again.settings == other.settings
    assert (again.id, hash(again)) == (other.id, hash(other))


@pytest.mark.parametrize("field", dataclasses.fields(Sampling), ids=lambda field: field.name)
def test_everything_of_the_host_is_in_it_too(field):
    value = 7 if isinstance(field.default, int) else '0: a "red" fox, größer\n3: \u2028blue'
    made = plan(Sampling(**{field.name: value}))
    assert made.id != plan().id
    assert there_and_back(made) == made
    assert there_and_back(made).id == made.id


def test_files_are_in_it_too():
    """Whoever finds a finished job by its id must not find that of another module, strength or scale."""
    plans = [
        plan(model="mm").with_files(modules, loras)
        for modules, loras in [
            ([], []),
            ([ModuleFile(Path("a"))], []),
            ([ModuleFile(Path("a"), "v2")], []),
            ([ModuleFile(Path("b"))], []),
            ([ModuleFile(Path("a")), ModuleFile(Path("b"))], []),
            ([ModuleFile(Path("b")), ModuleFile(Path("a"))], []),
            ([ModuleFile(Path("a")), ModuleFile(Path("b"), effect=0.5)], []),
            ([ModuleFile(Path("a")), ModuleFile(Path("b"), scale=0.5)], []),
            ([ModuleFile(Path("a"))], [LoraFile(Path("c"))]),
            ([ModuleFile(Path("a"))], [LoraFile(Path("c"), 0.5)]),
        ]
    ]
    assert len({made.id for made in plans}) == len(set(plans)) == len(plans)
    for made in plans:
        assert there_and_back(made) == made
        assert there_and_back(made).id == made.id


def test_a_catalog_finds_the_same_files_again():
    made = plan(files=Catalog(), model="mm", motion_loras="pan:0.5")
    assert there_and_back(made) == made
    assert there_and_back(made, Catalog()) == made


def test_the_id_is_the_same_in_every_process_and_for_every_order_of_names():
    """It names files and jobs."""
    given = {"frames": 9, "noise": "constant"}
    assert plan(**given).id == plan(**dict(reversed(given.items()))).id
    code = (
        "from lib_animatediff.request.plan import plan_clip; from lib_animatediff.request.settings import ClipSettings;"
        "print(plan_clip(ClipSettings()).id)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == plan().id


def test_a_plan_is_frozen():
    made = plan(Sampling(prompt="0: a\n3: b"), frames=20)
    for owner in (made, made.sampling, made.settings, made.noise, made.travel_options, made.output, made.method):
        for field in dataclasses.fields(owner):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(owner, field.name, None)
    assert {made: "job"}[there_and_back(made)] == "job"


GOOD = {"settings": {}, "sampling": {}, "files": {"modules": [], "loras": []}}
DAMAGED = [
    ({}, "sampling is None"),
    (GOOD | {"settings": None}, "settings is None"),
    (GOOD | {"settings": {"frames": -1}}, "frames must be"),
    (GOOD | {"settings": {"surprise": 1}}, "no setting 'surprise'"),
    (GOOD | {"sampling": {"seed": True}}, "sampling, seed is True"),
    (GOOD | {"sampling": {"surprise": 1}}, "surprise"),
    (GOOD | {"sampling": {"prompt": "0: a\n99: b"}}, "Line 2 of the prompt"),
    (GOOD | {"files": {"modules": []}}, "loras is None"),
    (GOOD | {"files": {"modules": ["a"], "loras": []}}, "modules is 'a'"),
    (GOOD | {"files": {"modules": [], "loras": [{"path": "a", "strength": float("nan")}]}}, "strength is nan"),
    (GOOD | {"settings": {"model": ZERO}, "files": {"modules": [], "loras": [{"path": "a"}]}}, "motion_loras"),
]


@pytest.mark.parametrize(("data", "words"), DAMAGED, ids=[words for _, words in DAMAGED])
def test_a_plan_from_a_stranger_is_checked(data, words):
    assert plan_from_json(GOOD) == plan()
    with pytest.raises(ClipError, match=words):
        plan_from_json(data)
