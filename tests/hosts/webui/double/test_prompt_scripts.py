"""Scripts that fill in prompts and seeds in ``process``: each clip has one prompt and seeds of its own."""

from __future__ import annotations

import math
from unittest.mock import Mock

import pytest
from support.matrix import in_matrix
from support.webui_double import double
from support.webui_double.double import CLIP, Script, shared


class DynamicPrompts(Script):
    """As the extension of that name: it counts images by ``p.batch_size``, and sets prompts, seeds and ``p.n_iter``."""

    variants: tuple[str, ...] = ()
    fixed_seed = False
    name = "Dynamic Prompts v2.17.1"

    def title(self):
        return self.name

    def process(self, p, *args):
        if not self.variants:
            return
        prompts = list(self.variants)
        if not self.combinatorial:
            count = p.n_iter * p.batch_size
            prompts = [self.variants[image % len(self.variants)] for image in range(count)]
        p.n_iter = math.ceil(len(prompts) / p.batch_size)
        places = range(len(prompts))
        p.all_seeds = [p.seed + (0 if self.fixed_seed else place) for place in places]
        p.all_subseeds = [p.subseed + (0 if self.fixed_seed else place) for place in places]
        p.all_prompts, p.all_negative_prompts = prompts, [""] * len(prompts)


@pytest.fixture(params=["after ours", "before ours"])
def prompts_of(webui, request):
    """Renders with the script, and returns what the reply says and the rows of each sampling."""
    webui.load_script(DynamicPrompts)
    script = webui.tabs["txt2img"].alwayson_scripts[-1]
    if request.param == "before ours":
        webui.tabs["txt2img"].alwayson_scripts.reverse()

    def paint(*variants, combinatorial=True, fixed_seed=False, clip=CLIP, **fields):
        script.variants, script.combinatorial, script.fixed_seed = variants, combinatorial, fixed_seed
        rows = []
        shared.during_sampling = lambda p: rows.append((list(p.prompts), list(p.seeds)))
        processed = webui.paint(clip, **{"seed": 5, **fields})
        assert "process" not in vars(script)
        return processed, rows

    paint.script = script
    return paint


def names(count):
    return tuple(f"a {word} cat" for word in "red blue green black white grey pink old".split()[:count])


@pytest.mark.parametrize("variants", [2, 3, in_matrix(4), in_matrix(8)])
@pytest.mark.parametrize("frames", [2, in_matrix(16)])
@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize("n_iter", [1, in_matrix(2)])
def test_each_combination_is_one_clip(prompts_of, variants, frames, batch_size, n_iter):
    wanted = names(variants)
    clip = {**CLIP, "frames": frames}
    processed, rows = prompts_of(*wanted, clip=clip, batch_size=batch_size, n_iter=n_iter)
    assert processed.all_prompts == list(wanted)
    assert processed.all_seeds == [5 + number * frames for number in range(variants)]
    assert [text.split("\n")[0] for text in processed.infotexts] == list(wanted)
    assert len(processed.images) == variants
    assert [len(seeds) for _prompts, seeds in rows] == [
        frames * min(batch_size, variants - first) for first in range(0, variants, batch_size)
    ]
    assert [word for prompts, _ in rows for word in prompts] == [word for word in wanted for _ in range(frames)]


def test_a_clips_text_gives_it_again(webui, prompts_of):
    processed, _rows = prompts_of(*names(3))
    frames = [image.tobytes() for image in processed.images]
    for prompt, seed, frame in zip(processed.all_prompts, processed.all_seeds, frames, strict=True):
        assert prompts_of(seed=seed, prompt=prompt)[0].images[0].tobytes() == frame


def test_random_prompts_are_one_for_each_clip(prompts_of):
    processed, rows = prompts_of(*names(8), combinatorial=False, batch_size=2, n_iter=2)
    assert processed.all_prompts == list(names(4))
    assert [seeds for _, seeds in rows] == [[5, 6, 7, 8], [9, 10, 11, 12]]


@pytest.mark.parametrize("combinatorial", [True, False])
def test_a_fixed_seed_begins_each_clip(prompts_of, combinatorial):
    processed, rows = prompts_of(*names(2), combinatorial=combinatorial, fixed_seed=True, batch_size=2)
    assert processed.all_seeds == [5, 5]
    assert [seeds for _, seeds in rows] == [[5, 6, 5, 6]]


def test_a_preview_has_the_seed_of_its_clip(prompts_of):
    _processed, rows = prompts_of(*names(2), clip={**CLIP, "frames": 4, "preview": True}, batch_size=2)
    assert [seeds for _, seeds in rows] == [[5, 9]]


def test_switched_off_it_changes_nothing(webui, prompts_of):
    processed, rows = prompts_of(batch_size=2)
    assert [seeds for _, seeds in rows] == [[5, 6, 7, 8]]
    assert processed.all_prompts == ["a cat", "a cat"]


def test_other_requests_see_the_script_as_it_is(webui, prompts_of):
    processed, _rows = prompts_of(*names(3), clip={"enable": False})
    assert processed.all_prompts == list(names(3))


def test_prompts_of_an_unknown_script_are_one_for_each_clip(prompts_of):
    prompts_of.script.name = "Wildcards of my own"
    assert prompts_of(*names(3))[0].all_prompts == list(names(3))


def test_a_script_that_writes_each_rows_prompt_gives_a_clip_its_first(prompts_of):
    prompts_of.script.name = "Wildcards of my own"
    processed, rows = prompts_of(*names(4), combinatorial=False, fixed_seed=True, batch_size=2)
    one, _, other, _ = names(4)
    assert processed.all_prompts == [one, other]
    assert rows == [([one, one, other, other], [5, 6, 5, 6])]


@pytest.mark.parametrize(
    ("given", "written"),
    [(["x", "y"], ["x", "y"]), (["red", "blue", "green"], ["red, blue, green"] * 2), (["red"], ["red"] * 2)],
)
def test_lists_among_the_parameters_are_of_clips_or_one_value(webui, given, written):
    """The WebUI takes the entry of an image's number: Cutoff's list of targets has none for most rows."""

    class Cutoff(Script):
        def process(self, p, *args):
            p.extra_generation_params["Targets"] = given

    webui.load_script(Cutoff)
    processed = webui.paint(CLIP, batch_size=2)
    found = [text.split("Targets: ")[1].strip('"') for text in processed.infotexts]
    assert [text.startswith(value) for text, value in zip(found, written, strict=True)] == [True, True]


def test_after_an_error_the_script_has_its_own_hook(webui, prompts_of):
    script = prompts_of.script
    script.variants, script.combinatorial = names(2), True
    shared.during_sampling = Mock(side_effect=RuntimeError("no memory"))
    with pytest.raises(RuntimeError, match="no memory"):
        double.process_images(webui.request(CLIP))
    assert "process" not in vars(script)
