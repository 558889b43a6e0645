"""Decoding: bit for bit the pipeline's images, in slices that memory allows, with a tiny decoder as a choice."""

from __future__ import annotations

import weakref

import pytest
import torch
from PIL import Image
from support.pocket_clips import RED, SIZE, pixels
from support.tiny_decoder import tiny_autoencoder, weights_of, write_tiny_decoder

from lib_animatediff import AnimateDiffError, ClipError
from lib_animatediff.builtin_model import POCKET
from lib_animatediff.hosts.diffusers import decode as decoding
from lib_animatediff.hosts.diffusers.animate import animate
from lib_animatediff.hosts.diffusers.decode import check_decoder, decode_frames, load_decoder
from lib_animatediff.video import write_clip
from lib_animatediff.video.spool import SpooledFrames


@pytest.fixture(scope="module")
def latents():
    return torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def tiny():
    """diffusers' decoder, which knows nothing of ours."""
    return tiny_autoencoder()


@pytest.fixture(params=["original", "whole", "diffusers"])
def file(request, tmp_path):
    return write_tiny_decoder(tmp_path / "taesd_decoder.safetensors", request.param)


def test_frames_are_the_images_of_the_pipeline_bit_for_bit(pipeline, latents):
    with torch.no_grad():
        decoded = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor, return_dict=False)[0]
    wanted = pipeline.image_processor.postprocess(decoded, output_type="pil", do_denormalize=[True] * 3)
    assert [frame.tobytes() for frame in decode_frames(pipeline, latents)] == [image.tobytes() for image in wanted]


def test_a_tiny_decoder_shows_what_diffusers_shows(pipeline, latents, tiny, file):
    with torch.no_grad():
        wanted = pipeline.image_processor.postprocess(tiny.decode(latents).sample, output_type="pil")
    found = list(decode_frames(pipeline, latents, load_decoder(file)))
    for frame, image in zip(found, wanted, strict=True):
        assert frame.size == image.size == (64, 64)
        assert (pixels([frame]).int() - pixels([image]).int()).abs().max() <= 1  # one row or three at a time


def test_a_tiny_decoder_follows_the_dtype_of_the_latents(latents, file):
    decode = load_decoder(file)
    with torch.no_grad():
        assert decode(latents.bfloat16()).dtype == torch.bfloat16
        assert decode(latents).dtype == torch.float32


def test_a_clip_by_a_tiny_decoder(pipeline, motion, file):
    clip = animate(pipeline, motion, prompt=RED, frames=2, size=SIZE, steps=1, cfg=1.0, decoder=load_decoder(file))
    plain = animate(pipeline, motion, prompt=RED, frames=2, size=SIZE, steps=1, cfg=1.0)
    assert [frame.size for frame in clip] == [frame.size for frame in plain] == [SIZE] * 2
    assert not torch.equal(pixels(clip), pixels(plain))


def test_another_model_or_a_part_of_one_is_no_tiny_decoder(tmp_path, tiny):
    with pytest.raises(AnimateDiffError, match="not a tiny decoder"):
        check_decoder(POCKET.folder / POCKET.motion)
    last = max(weights_of(tiny, "original"), key=lambda name: int(name.split(".")[0]))
    path = write_tiny_decoder(tmp_path / "part.safetensors", without=last)
    check_decoder(path)
    with pytest.raises(AnimateDiffError, match="no complete tiny decoder"):
        load_decoder(path)


# --------------------------------------------------------------------------------------------------------------------
# slices


def sliced(count, at_once, most=100):
    """Decode in slices on a device whose memory holds ``most`` latents; returns frames and sizes of the slices."""
    seen = []

    def decode(some):
        seen.append(len(some))
        if len(some) > most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return some.to(torch.uint8).expand(-1, 2, 2, 3)

    given = torch.arange(count).view(-1, 1, 1, 1)
    return [frame[0] for frame in decoding._in_slices(given, decode, at_once)], seen


def test_slices_become_smaller_when_memory_runs_out_and_no_frame_is_lost():
    assert sliced(7, 4) == (list(range(7)), [4, 3])
    assert sliced(7, 8, most=2) == (list(range(7)), [7, 4, 2, 2, 2, 1])
    with pytest.raises(ClipError, match="while frame 0 was decoded"):
        sliced(3, 2, most=0)


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    def decode(some):
        raise RuntimeError("the weights are of another dtype")

    with pytest.raises(RuntimeError, match="another dtype"):
        list(decoding._in_slices(torch.zeros(2, 1, 1, 1), decode, 2))


def test_the_next_slice_is_started_before_the_frames_of_the_last_one_are_written():
    begun = []

    def decode(some):
        begun.append(len(some))
        return some.to(torch.uint8).expand(-1, 2, 2, 3)

    frames = decoding._in_slices(torch.zeros(9, 1, 1, 1), decode, 3)
    next(frames)
    assert begun == [3, 3]
    for _ in range(3):
        next(frames)
    assert begun == [3, 3, 3]


def test_a_thousand_frames_from_latents_to_a_film_take_the_memory_of_a_few(tmp_path):
    """What a decoder gives and what is live beside it: latents are the only thing that grows."""
    live, greatest = set(), 0

    def decode(some):
        nonlocal greatest
        shown = some.mul(255).to(torch.uint8).permute(0, 2, 3, 1)[..., :3].contiguous()
        key = object()
        live.add(key)
        weakref.finalize(shown, live.discard, key)
        greatest = max(greatest, len(live))
        return shown

    latents = torch.rand(1000, 4, 16, 16)
    frames = SpooledFrames(decoding._in_slices(latents, decode, 4), 1000, (16, 16))
    (path,) = write_clip(tmp_path / "clip.mp4", frames)
    assert path.stat().st_size > 0
    assert greatest <= 3  # slices: the one under way, the one that is written, and one that goes
    assert isinstance(frames[999], Image.Image)
