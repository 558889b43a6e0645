"""Our wrapper of p.sample among those of other extensions."""

from __future__ import annotations

import pytest
from support.matrix import every_once
from support.webui_double import double
from support.webui_double.double import CLIP, Script, shared


class Tiler(Script):
    """Another extension, which wraps p.sample in each batch and leaves its wrapper there."""

    def process_batch(self, p, *args):
        original = p.sample

        def tiled(**given):
            shared.tiled += 1
            return original(**given)

        p.sample = tiled


class Hypnotist(Script):
    """Another extension, which takes its wrapper off again and puts back what it found."""

    def process_batch(self, p, *args):
        found = p.sample

        def hypnotised(**given):
            try:
                return found(**given)
            finally:
                p.sample = found

        p.sample = hypnotised


@pytest.fixture
def wrapped(webui):
    """Loads another extension's script before or after ours."""
    shared.tiled = 0

    def load(kind, *, under):
        webui.load_script(kind)
        if under:
            for runner in webui.tabs.values():
                runner.alwayson_scripts.reverse()
        return webui

    return load


def frame_bytes(processed):
    return [image.tobytes() for image in processed.images]


def test_every_batch_is_wrapped_anew_and_the_wrapper_comes_off_by_itself(webui):
    p = webui.request(CLIP, n_iter=2)
    told = []
    shared.during_sampling = lambda p: told.append("sample" in vars(p))
    processed = double.process_images(p)
    assert told == [True, True]
    assert [sampling.hooks for sampling in shared.samplings] == [20, 20]
    assert processed.all_seeds == [1, 3]
    assert "sample" not in vars(p)


@pytest.mark.parametrize(("under", "kind"), every_once([True, False], [Tiler, Hypnotist]))
def test_among_other_wrappers_the_clip_is_the_same(webui, wrapped, kind, under):
    clip = frame_bytes(webui.paint(CLIP, n_iter=2))
    wrapped(kind, under=under)
    p = webui.request(CLIP, n_iter=2)
    shared.samplings.clear()
    assert frame_bytes(double.process_images(p)) == clip
    assert [sampling.hooks for sampling in shared.samplings] == [20, 20]


@pytest.mark.parametrize("under", [True, False], ids=["under", "over"])
def test_another_extensions_wrapper_stays_on_and_what_is_left_inside_it_does_nothing(wrapped, under):
    """The same p painted again with AnimateDiff off, through the wrappers of the first time."""
    webui = wrapped(Tiler, under=under)
    p = webui.request(CLIP)
    double.process_images(p)
    assert shared.tiled == 1
    assert p.sample.__name__ == "tiled"
    p.script_args = p.scripts.arguments({"enable": False})
    double.process_images(p)
    assert [(s.rows, s.hooks) for s in shared.samplings] == [(2, 20), (1, 0)]


def test_what_a_batch_left_that_was_never_sampled_does_nothing(webui):
    p = webui.request(CLIP)
    for hook in ("before_process", "process_batch"):
        p.scripts.call(hook, p)
    p.script_args = p.scripts.arguments({"enable": False})
    double.process_images(p)
    assert [(s.rows, s.hooks) for s in shared.samplings] == [(1, 0)]
    assert "sample" not in vars(p)
