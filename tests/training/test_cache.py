"""Videos encoded once: the same training without the videos."""

from __future__ import annotations

import pytest
import torch
from training import parts
from training.test_data import write_video

from lib_animatediff.training import Clip, TrainingError, train
from lib_animatediff.training.cache import CachedSource
from lib_animatediff.training.clips import BrokenClipError, Cut
from lib_animatediff.training.latents import latents_of, moments
from lib_animatediff.training.rng import Draws
from lib_animatediff.training.sources import open_source
from lib_animatediff.training.videos import VideoSource


def test_a_cached_training_is_the_same_training(tmp_path):
    videos = tmp_path / "videos"
    for name in "ab":
        write_video(videos / f"{name}.mp4", frames=9)
    (videos / "broken.mp4").touch()
    base = parts.small_base(vae=parts.small_vae())
    results = []
    for name, cache in (("a", ""), ("b", str(tmp_path / "cache"))):
        asked = parts.settings(tmp_path / name, data=str(videos), size=64, cache=cache, mirror=True)
        results.append(parts.load_file(train(asked, base=base)))
    assert parts.largest_difference(*results) < 1e-5
    assert len(list((tmp_path / "cache").iterdir())) == 4  # both ways round


def filled(tmp_path, vae):
    """A cache of the videos by this VAE."""
    asked = parts.settings(tmp_path, data=str(tmp_path / "videos"), size=64)
    cached = CachedSource(open_source(asked), tmp_path / "cache", vae, asked)
    cached.fill(vae, process=0, processes=1)
    return cached


def test_what_is_cached_is_not_read_again(tmp_path, monkeypatch):
    write_video(tmp_path / "videos" / "a.mp4", frames=9)
    for _ in range(2):
        clip = filled(tmp_path, parts.small_vae()).read(0, Cut(4, 2, position=0.99))
        assert clip.frames is None
        assert clip.mean.shape == clip.deviation.shape == (4, 4, 8, 8)
        monkeypatch.setattr(VideoSource, "whole", None)  # from now on a video cannot be read


def test_another_vae_or_video_is_another_entry(tmp_path):
    video = write_video(tmp_path / "videos" / "a.mp4", frames=3)
    for count, seed in enumerate((0, 1), 1):
        filled(tmp_path, parts.small_vae(seed))
        assert len(list((tmp_path / "cache").iterdir())) == count
    write_video(video, frames=4)
    filled(tmp_path, parts.small_vae(1))
    assert len(list((tmp_path / "cache").iterdir())) == 3


def test_a_broken_video_stays_broken(tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").touch()
    with pytest.raises(BrokenClipError, match=r"a\.mp4"):
        filled(tmp_path, parts.small_vae()).read(0, Cut(1, 1))


def test_latents_are_sampled_anew_each_time(tmp_path):
    vae = parts.small_vae()
    mean, deviation = moments(vae, torch.zeros(2, 3, 64, 64))
    whole = vae.encode(torch.zeros(2, 3, 64, 64)).latent_dist
    assert torch.allclose(mean, whole.mean * 0.18215)
    assert torch.allclose(deviation, whole.std * 0.18215)
    clip = Clip("a", mean=mean, deviation=deviation)
    one, two, again = (latents_of(clip, None, Draws(0, n), torch.device("cpu")) for n in (1, 2, 1))
    assert torch.equal(one, again)
    assert not torch.allclose(one, two)


def test_a_cache_for_tensors_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="Only videos on disk can be cached"):
        parts.trained(tmp_path, cache=str(tmp_path / "cache"))
