"""FreeInit around a sampler of the WebUI: what each iteration begins with, and that the loop leaves nothing behind."""

from __future__ import annotations

from functools import partial

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

from lib_animatediff.sampling.frame_noise import shared_noise
from lib_animatediff.sampling.freeinit import fresh_noise, next_noise


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


@pytest.mark.parametrize("chosen", [plan(), freeinit(freeinit_iters=1)])
def test_a_sampler_is_left_alone_where_nothing_is_repeated(glue, chosen):
    p = request()
    glue.with_freeinit(p, chosen, LAST)
    assert not vars(p.sampler).keys() & {"sample", "sample_img2img"}
    assert shared.state.job_count == 1


def test_the_second_pass_of_hires_fix_runs_once(glue):
    p = of_img2img(is_hr_pass=True)
    paint(glue, p, freeinit())
    assert len(p.sampler.runs) == 1


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

    def fail(number):
        if number == 1:
            raise error

    p.sampler.before_run = fail
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


def test_the_progress_bar_counts_iterations_of_all_batches(glue):
    p, state = request(n_iter=2), shared.state
    state.job_count = 2
    told = []
    p.sampler.before_run = lambda number: told.append((state.job_no, state.job_count, state.textinfo))
    for p.iteration in range(2):
        paint(glue, begin_batch(p), freeinit())
        state.nextjob()  # the WebUI, after each batch
    texts = [f"AnimateDiff: FreeInit, {number} of 3" for number in (1, 2, 3)] * 2
    assert told == [(number, 6, text) for number, text in enumerate(texts)]
    assert state.job_no == state.job_count


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
    assert shared.state.job_no == 4  # and the WebUI's own step ends the five


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
