"""Inside p.sample the UNet is animated on the motion module's schedule; afterwards the model is what it was."""

from __future__ import annotations

from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from support.matrix import every_once, only_at
from support.unchanged import Portrait
from support.webui_double import double
from support.webui_double.double import CLIP, SIDE, shared
from support.webui_double.sampling import Sampler

from motion_module.schedules import LINEAR

SITES = 20
HIRES = {"enable_hr": True}
IMG2IMG = {"tab": "img2img", "init_images": [Image.new("RGB", (SIDE, SIDE))]}


@pytest.fixture
def both(checkpoint, other_checkpoint):
    """Two checkpoints, which are afterwards what they were."""
    before = [Portrait(model) for model in (checkpoint, other_checkpoint)]
    yield checkpoint, other_checkpoint
    for portrait in before:
        portrait.assert_unchanged()


def frames_of(webui, *args, **fields):
    """The pictures as they leave the sampler, before they become a clip."""
    p, latents = webui.request(*args, **fields), []
    sample = p.sample
    p.sample = lambda **given: latents.append(sample(**given)) or latents[-1]
    double.process_images(p)
    return latents[0]


@pytest.mark.parametrize("fields", [{}, IMG2IMG], ids=["txt2img", "img2img"])
def test_every_frame_is_another_than_in_a_plain_batch(webui, fields):
    plain = frames_of(webui, {"enable": False}, **fields, batch_size=2)
    for frame, picture in zip(frames_of(webui, CLIP, **fields), plain, strict=True):
        assert not torch.allclose(frame, picture, atol=0.1)


PASSES = [({}, 1), (HIRES, 2), (IMG2IMG, 1), ({**IMG2IMG, "n_iter": 2}, 2)]


@pytest.mark.parametrize(
    ("fields", "passes", "is_downcast"),
    only_at([(*made, is_downcast) for made in PASSES for is_downcast in (False, True)], 0, 3, 4, 7),
)
def test_every_sampler_is_animated_on_the_motion_modules_schedule(webui, fields, passes, is_downcast):
    shared.opts.use_downcasted_alpha_bar = is_downcast
    webui.paint(CLIP, **fields)
    assert [sampling.hooks for sampling in shared.samplings] == [SITES] * passes
    table = LINEAR.alphas_cumprod()
    for sampling in shared.samplings:
        assert torch.equal(sampling.table, table.half() if is_downcast else table)


def test_the_sampler_that_img2img_made_comes_back(webui):
    p, samplers = webui.request(CLIP, **IMG2IMG), []
    init = p.init
    p.init = lambda *lists: init(*lists) or samplers.append(p.sampler)
    double.process_images(p)
    assert p.sampler is samplers[0]


def test_zero_terminal_snr_is_applied_to_the_motion_modules_schedule(webui):
    shared.opts.sd_noise_schedule = "Zero Terminal SNR"
    webui.paint(CLIP)
    table = shared.samplings[0].table
    assert table[-1] == pytest.approx(4.8973451890853435e-08)
    assert table[0] == pytest.approx(float(LINEAR.alphas_cumprod()[0]), rel=1e-4)


def test_a_second_pass_that_is_announced_twice_is_prepared_once(webui, checkpoint, monkeypatch):
    """As Forge does: shared noise would be mixed twice, and the checkpoint's methods would stay replaced."""
    monkeypatch.setattr(Sampler, "create_noise_sampler", None, raising=False)
    clip = {**CLIP, "noise": "shared", "noise_share": 0.5}
    wanted, before = frames_of(webui, clip, **HIRES), Portrait(checkpoint)
    denoise = double.denoise

    def announce_twice(p, given, x, prompts):
        if p.is_hr_pass:
            p.scripts.call("process_before_every_sampling", p, noise=x)
        return denoise(p, given, x, prompts)

    monkeypatch.setattr(double, "denoise", announce_twice)
    recorded = webui.module("clip.unfinished.request").UnfinishedClips
    begin, begun = recorded.begin_pass, []
    monkeypatch.setattr(recorded, "begin_pass", lambda *given: begun.append(begin(*given)))
    frames = frames_of(webui, clip, **HIRES)
    assert len(begun) == 2
    assert torch.equal(torch.stack(frames), torch.stack(wanted))
    before.assert_unchanged()


def test_a_program_without_the_options_of_other_ones_makes_the_same_clip(webui):
    """Forge Neo removed them: cond and uncond share a call, nothing is padded, and no table is rounded."""
    wanted = webui.paint(CLIP).images
    for name in ("batch_cond_uncond", "pad_cond_uncond", "pad_cond_uncond_v0", "use_downcasted_alpha_bar"):
        del shared.opts.data[name]
    assert webui.module("compat.a1111").batches_cond_uncond()
    assert not webui.module("compat.a1111").pads_conditions()
    assert webui.paint(CLIP).images == wanted


def interrupt(p):
    shared.state.interrupted = True


FAILURES = [Mock(side_effect=error) for error in (RuntimeError, KeyboardInterrupt)]


@pytest.mark.parametrize(("fields", "trouble"), every_once([{}, HIRES, IMG2IMG], [None, *FAILURES, interrupt]))
def test_the_model_is_what_it_was(webui, checkpoint, fields, trouble):
    before, picture = Portrait(checkpoint), webui.picture()
    shared.during_sampling = trouble
    try:
        webui.paint(CLIP, **fields)
    except (RuntimeError, KeyboardInterrupt):
        assert trouble is not None
    before.assert_unchanged()
    shared.during_sampling = None
    assert webui.picture() == picture


def test_a_second_pass_on_another_checkpoint_animates_that_one(webui, both):
    seen = []
    shared.during_sampling = lambda p: seen.append([double.count_hooks(model) for model in both])
    webui.paint(CLIP, **HIRES, hr_checkpoint=both[1])
    assert seen == [[SITES, 0], [0, SITES]]
    assert all(torch.equal(sampling.table, LINEAR.alphas_cumprod()) for sampling in shared.samplings)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_second_pass_that_fails_on_another_checkpoint_leaves_both_clean(webui, both, error):
    picture = webui.picture()
    shared.during_sampling = Mock(side_effect=[None, error])
    with pytest.raises(error):
        webui.paint(CLIP, **HIRES, hr_checkpoint=both[1])
    shared.during_sampling = None
    assert webui.picture() == picture


def test_a_second_pass_on_what_cannot_be_animated_is_refused(webui, both, monkeypatch):
    monkeypatch.setattr(both[1], "is_sd2", True)
    with pytest.raises(Exception, match="Stable Diffusion 2") as refusal:
        webui.paint(CLIP, **HIRES, hr_checkpoint=both[1])
    assert refusal.value.status_code == 422
    assert [sampling.model for sampling in shared.samplings] == [both[0]]
    monkeypatch.undo()


def test_interrupted_in_the_first_pass_the_second_stays_away(webui):
    shared.during_sampling = interrupt
    processed = webui.paint(CLIP, **HIRES)
    assert len(shared.samplings) == 1
    assert processed.images[0].size == (SIDE, SIDE)


def test_the_live_preview_walks_through_the_frames(webui):
    """The WebUI previews the first row: each preview is of the next frame. Other requests' latents stay."""
    before_denoising = webui.module("hooks.script").before_denoising
    seen = []

    def preview(p):
        for step in range(4):
            shared.state.current_latent = torch.arange(2)
            denoiser = SimpleNamespace(p=p, step=step, total_steps=4)
            before_denoising(SimpleNamespace(denoiser=denoiser, text_cond=None, text_uncond=None))
            seen.append(shared.state.current_latent.tolist())
            shared.state.id_live_preview += step % 2  # the WebUI does not show every step
        shared.state.current_latent = None

    shared.during_sampling = preview
    webui.paint(CLIP)
    assert seen == [[0, 1], [0, 1], [1, 0], [1, 0]]
    seen.clear()
    webui.paint({"enable": False}, batch_size=2)
    assert seen == [[0, 1]] * 4


def test_after_sampling_the_live_preview_has_one_row(webui):
    """It is decoded once more while images are decoded, which takes the memory of all its rows."""
    shared.during_sampling = lambda p: setattr(shared.state, "current_latent", torch.zeros(2, 4, SIDE, SIDE))
    webui.paint(CLIP)
    assert len(shared.state.current_latent) == 1


def test_a_file_of_half_precision_is_widened_once_where_the_processor_computes_in_full(webui):
    """Otherwise each clip would make a copy. No weight changes, so neither does the clip."""
    (path,) = (file for file in webui.models_folder.iterdir() if file.suffix == ".safetensors")
    state = {name: weight.half() for name, weight in load_file(path).items()}
    for name, kept in (("a_half", state), ("a_full", {name: weight.float() for name, weight in state.items()})):
        save_file(kept, path.with_stem(name))
    half, full = (frames_of(webui, {**CLIP, "model": f"{name}.safetensors"}) for name in ("a_half", "a_full"))
    assert torch.equal(half, full)
    caches = webui.module("hooks.script").AnimateDiffScript._caches
    held = caches.modules.load(path.with_stem("a_half"))
    assert {weight.dtype for weight in held.parameters()} == {torch.float32}
