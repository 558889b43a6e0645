"""Noise of clips in the WebUI: seeds of rows, shared noise in whatever a sampler draws, and FreeInit around it."""

from __future__ import annotations

from functools import partial
from unittest.mock import Mock

import pytest
import torch
from support.webui_double.double import shared
from support.webui_double.noises import (
    FRAMES,
    LAST,
    SHAPE,
    ImageRNG,
    Sampler,
    begin_batch,
    freeinit,
    of_img2img,
    paint,
    plan,
    request,
)

from lib_animatediff import ContextWindows
from lib_animatediff.sampling.frame_noise import noise_sources, shared_noise
from lib_animatediff.sampling.freeinit import fresh_noise, next_noise

SHARING = plan(noise="shared", noise_share=0.4)
DRAWN = ("noise", "ancestral", "brownian")


@pytest.mark.parametrize("chosen", [plan(), plan(noise="shared", noise_share=0.5), plan(noise="freenoise")])
def test_frames_with_noise_of_their_own_keep_their_seeds(glue, chosen):
    p = request(clips=2)
    before = p.all_seeds, p.all_subseeds
    glue.arrange_seeds(p, chosen)
    assert p.all_seeds is before[0]
    assert p.all_subseeds is before[1]


@pytest.mark.parametrize(("length", "overlap"), [(16, -1), (8, 3)])
def test_freenoise_is_an_order_of_each_clips_seeds(glue, length, overlap):
    frames = 40
    p = request(clips=2, frames=frames)
    chosen = plan(noise="freenoise", frames=frames, context_length=length, overlap=overlap)
    glue.arrange_seeds(p, chosen)
    for clip, first in enumerate((5, 5 + frames)):
        sources = noise_sources("freenoise", frames, ContextWindows(length, overlap=0), first)
        rows = slice(clip * frames, (clip + 1) * frames)
        assert p.all_seeds[rows] == [first + source for source in sources]
        assert p.all_subseeds[rows] == [100 + clip * frames + source for source in sources]
        assert p.all_seeds[rows][0] == first


@pytest.mark.parametrize(
    ("values", "seeds", "subseeds"),
    [
        ({"noise": "constant"}, [5, 5, 5, 8, 8, 8], [100, 100, 100, 103, 103, 103]),
        ({"frame_seeds": "7, 3"}, [7, 3, 4, 10, 6, 7], [100, 101, 102, 103, 104, 105]),
        ({"frame_seeds": "7, 3", "noise": "constant"}, [7, 7, 7, 10, 10, 10], [100, 100, 100, 103, 103, 103]),
    ],
)
def test_seeds_that_are_chosen_count_on_from_clip_to_clip(glue, values, seeds, subseeds):
    p = request(clips=2)
    glue.arrange_seeds(p, plan(**values))
    assert (p.all_seeds, p.all_subseeds) == (seeds, subseeds)


@pytest.mark.parametrize("chosen", [plan(noise="constant"), plan(frame_seeds="7")])
def test_the_clients_list_of_seeds_is_not_changed(glue, chosen):
    p = request()
    p.seed = p.all_seeds  # as the WebUI does with a list
    glue.arrange_seeds(p, chosen)
    assert p.seed == [5, 6, 7]
    assert p.all_seeds != p.seed


def test_all_that_is_drawn_for_a_frame_follows_its_seed(glue):
    frames = 20
    p, plain = request(frames=frames), request(frames=frames)
    glue.arrange_seeds(p, plan(noise="freenoise", frames=frames))
    for other in (begin_batch(p), plain):
        paint(glue, other, plan(frames=frames))
    (run,), (wanted,) = p.sampler.runs, plain.sampler.runs
    sources = noise_sources("freenoise", frames, ContextWindows(), 5)
    for drawn in DRAWN:
        assert torch.equal(getattr(run, drawn), getattr(wanted, drawn)[sources])


@pytest.mark.parametrize("new", [request, of_img2img])
def test_all_that_a_sampler_draws_is_shared_within_each_clip(glue, new):
    p, plain = new(clips=2), new(clips=2)
    for other, chosen in ((p, SHARING), (plain, plan())):
        paint(glue, other, chosen)
    (run,), (wanted,) = p.sampler.runs, plain.sampler.runs
    for drawn in DRAWN:
        clips = getattr(wanted, drawn).split(FRAMES)
        assert torch.equal(getattr(run, drawn), torch.cat([shared_noise(clip, None, 0.4) for clip in clips]))


def test_the_second_pass_of_hires_fix_is_shared_too(glue):
    p = request()
    paint(glue, p, SHARING)
    begin_batch(p).is_hr_pass, p.sampler = True, Sampler()  # the WebUI makes both anew
    p.init_latent, p.initial_noise_multiplier, p.denoising_strength = torch.zeros(FRAMES, *SHAPE), 1.0, 0.5
    first = paint(glue, p, SHARING)
    assert len(p.sampler.runs) == 1
    again = request()
    assert torch.equal(first, paint(glue, again, SHARING))


def test_img2imgs_sampler_serves_several_batches_and_shares_once(glue):
    p = of_img2img()
    paint(glue, p, SHARING)
    paint(glue, begin_batch(p), SHARING)
    first, second = p.sampler.runs
    for drawn in DRAWN:
        assert torch.equal(getattr(first, drawn), getattr(second, drawn))


def test_hooks_that_are_called_twice_share_later_noise_once(glue):
    p, twice = request(), request()
    noise = [other.rng.next() for other in (p, twice)]
    for other, times in ((p, 1), (twice, 2)):
        for _time in range(times):
            glue.share_noise(other, noise[0].clone(), SHARING)
    assert torch.equal(p.rng.next(), twice.rng.next())


@pytest.mark.parametrize("chosen", [plan(noise="shared", noise_share=0), plan(noise="constant"), plan()])
def test_nothing_is_touched_where_nothing_is_shared(glue, chosen):
    p = request()
    noise = p.rng.next()
    before, rng = noise.clone(), p.rng
    glue.share_noise(p, noise, chosen)
    assert torch.equal(noise, before)
    assert p.rng is rng
    assert "create_noise_sampler" not in vars(p.sampler)


def test_the_wrapped_generator_is_otherwise_itself(glue):
    p = request()
    rng = p.rng
    glue.share_noise(p, torch.zeros(FRAMES, *SHAPE), SHARING)
    assert p.rng.seeds is rng.seeds
    assert torch.equal(p.rng.first(), glue.shared_by_clips(ImageRNG(p.seeds).first(), FRAMES, 0.4))
    with pytest.raises(AttributeError):
        _ = p.rng.nothing


def test_a_sampler_without_trees_of_its_own_stays_so(glue):
    p = request()
    p.sampler.no_tree = True
    paint(glue, p, SHARING)
    assert p.sampler.runs[0].brownian is None


def expected_noise(p, former, initial, iteration, chosen):
    """Of img2img without what the given latents hold."""
    fresh = fresh_noise(SHAPE, p.seeds, iteration)
    asked = chosen.settings
    values = {"kind": asked.freeinit_filter, "spatial": asked.freeinit_ds, "temporal": asked.freeinit_dt}
    made = former.latents - getattr(p, "init_latent", 0.0)
    return next_noise(made, initial, fresh, frames=FRAMES, last_alpha_cumprod=LAST, **values)


@pytest.mark.parametrize(
    ("new", "values"),
    [
        (partial(request, clips=2), {"freeinit_filter": "butterworth", "freeinit_ds": 0.5}),
        (partial(request, clips=2, seed=50), {"freeinit_filter": "ideal", "freeinit_ds": 0.5}),
        (of_img2img, {}),
    ],
    ids=["butterworth", "ideal", "img2img"],
)
def test_each_iteration_begins_with_what_the_former_one_made(glue, new, values):
    p, chosen = new(), freeinit(**values)
    initial = ImageRNG(p.seeds).next()
    latents = paint(glue, p, chosen)
    first, second, third = p.sampler.runs
    assert all(run.given is getattr(p, "init_latent", None) for run in p.sampler.runs)
    assert torch.equal(first.noise, initial)
    assert torch.equal(second.noise, expected_noise(p, first, initial, 1, chosen))
    assert torch.equal(third.noise, expected_noise(p, second, initial, 2, chosen))
    assert latents is third.latents


def test_img2imgs_noise_multiplier_holds_for_fresh_noise_too(glue):
    p = of_img2img()
    p.initial_noise_multiplier = 0.5
    paint(glue, p, freeinit(freeinit_ds=0))
    assert torch.equal(p.sampler.runs[1].noise, 0.5 * fresh_noise(SHAPE, p.seeds, 1))


def test_fresh_noise_is_shared_where_noise_is(glue):
    p = request()
    paint(glue, p, freeinit(freeinit_ds=0, noise="shared", noise_share=0.4))
    assert torch.equal(p.sampler.runs[1].noise, shared_noise(fresh_noise(SHAPE, p.seeds, 1), None, 0.4))
    ancestral = [run.ancestral for run in p.sampler.runs]
    assert all((noise[0] * noise[1]).mean() > 0.4 for noise in ancestral)


@pytest.mark.parametrize(
    ("new", "chosen"),
    [
        (request, plan()),
        (request, freeinit(freeinit_iters=1)),
        (partial(of_img2img, is_hr_pass=True), freeinit()),  # the second pass of hires fix
    ],
)
def test_a_sampler_is_left_alone_where_nothing_is_repeated(glue, new, chosen):
    p = new()
    glue.with_freeinit(p, chosen, LAST)
    assert not vars(p.sampler).keys() & {"sample", "sample_img2img"}


@pytest.mark.parametrize("new", [request, of_img2img])
def test_the_loop_comes_off_and_each_batch_has_its_own(glue, new):
    p = new()
    for runs in (3, 6):
        paint(glue, begin_batch(p), freeinit())
        assert len(p.sampler.runs) == runs
        assert not vars(p.sampler).keys() & {"sample", "sample_img2img"}
    paint(glue, begin_batch(p), plan())
    assert len(p.sampler.runs) == 7


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_the_loop_comes_off_when_sampling_fails(glue, error):
    p = request()
    p.sampler.before_run = Mock(side_effect=[None, error])
    with pytest.raises(error):
        paint(glue, p, freeinit())
    assert "sample" not in vars(p.sampler)


def test_a_method_that_another_extension_put_there_stays(glue):
    p = request()
    theirs = p.sampler.sample = lambda *args, **kwargs: Sampler.sample(p.sampler, *args, **kwargs)
    paint(glue, p, freeinit())
    assert len(p.sampler.runs) == 3
    assert p.sampler.sample is theirs


def test_left_inside_another_extensions_wrapper_the_loop_passes_through(glue):
    p = request()
    glue.with_freeinit(p, freeinit(), LAST)
    ours = p.sampler.sample
    p.sampler.sample = lambda *args, **kwargs: ours(*args, **kwargs)
    for runs in (3, 4):
        p.sampler.sample(p, p.rng.next(), "c", "uc", image_conditioning="image")
        assert len(p.sampler.runs) == runs


@pytest.mark.parametrize("flag", ["interrupted", "skipped", "stopping_generation"])
def test_a_stop_ends_the_loop_after_the_run_under_way(glue, flag):
    p = request()

    def stop(number):
        if number == 1:
            setattr(shared.state, flag, True)

    p.sampler.before_run = stop
    latents = paint(glue, p, freeinit(freeinit_iters=5))
    assert len(p.sampler.runs) == 2
    assert latents is p.sampler.runs[1].latents


@pytest.mark.parametrize(
    ("new", "steps"),
    [(request, [6, 13, None]), (of_img2img, [3, 7, None])],  # img2img runs int(0.5 * 20) + 1
)
def test_coarse_to_fine_ends_with_the_steps_of_a_plain_run(glue, new, steps):
    p = new()
    paint(glue, p, freeinit(freeinit_coarse=True))
    assert [run.steps for run in p.sampler.runs] == steps


def test_steps_that_another_extension_asks_for_are_kept(glue):
    p = request()
    glue.with_freeinit(p, freeinit(freeinit_coarse=True), LAST)
    p.sampler.sample(p, p.rng.next(), "c", "uc", steps=9, image_conditioning="image")
    assert [run.steps for run in p.sampler.runs] == [3, 6, 9]
