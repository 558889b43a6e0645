"""Where clips come from, which frames are taken, what happens to broken files, and videos that are encoded once."""

from __future__ import annotations

import av
import numpy
import pytest
import torch
from training import parts

from lib_animatediff.training import Clip, MemorySource, TrainingError, train
from lib_animatediff.training.cache import CachedSource
from lib_animatediff.training.clips import BrokenClipError, Cut
from lib_animatediff.training.dataset import Examples, split, training_cut
from lib_animatediff.training.export import read_recipe
from lib_animatediff.training.latents import latents_of, moments
from lib_animatediff.training.rng import Draws
from lib_animatediff.training.sources import open_source
from lib_animatediff.training.videos import VideoSource, bucket_sizes

STEP = 8  # of brightness from frame to frame


def write_video(path, frames=30, size=(96, 64)):
    """Frame i is i * STEP bright; its left half is blue, so that a mirror shows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for number in range(frames):
            picture = numpy.full((size[1], size[0], 3), number * STEP, dtype=numpy.uint8)
            picture[:, : size[0] // 2, 2] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def numbers(clip):
    """Which frames these are, told by their brightness."""
    red = (clip.frames[:, 0, :, 40:].mean(dim=(1, 2)) + 1) * 127.5
    return [round(float(value) / STEP) for value in red]


def folder_of_videos(folder):
    for name in ("one", "two", "three"):
        write_video(folder / f"{name}.mp4").with_suffix(".txt").write_text(f"caption of\n {name}")
    return folder


def source_of(data, tmp_path, **more):
    return open_source(parts.settings(tmp_path, data=str(data), size=64, **more))


def test_a_folder_with_captions_beside(tmp_path):
    folder = folder_of_videos(tmp_path / "videos")
    write_video(folder / "deeper" / "four.mp4")
    source = source_of(folder, tmp_path, caption="for all others")
    clips = [source.read(index, Cut(4, 2)) for index in range(len(source))]
    assert [clip.caption for clip in clips] == [
        "for all others",
        "caption of one",
        "caption of three",
        "caption of two",
    ]
    assert all(clip.frames.shape == (4, 3, 64, 64) for clip in clips)
    assert all(-1 <= clip.frames.min() < clip.frames.max() <= 1 for clip in clips)


def test_a_webvid_table(tmp_path):
    folder_of_videos(tmp_path / "videos")
    table = tmp_path / "table.csv"
    table.write_text('videoid,name,page_dir\none,"a caption, with comma",000\nabsent,another,000\n')
    source = source_of(table, tmp_path, videos=str(tmp_path / "videos"))
    assert source.read(0, Cut(2, 1)).caption == "a caption, with comma"
    with pytest.raises(BrokenClipError, match=r"absent\.mp4 cannot be read: the file does not exist"):
        source.read(1, Cut(2, 1))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n", "lacks the column videoid and name"),
        ("videoid,name,page_dir\n", "no rows"),
        ("", "lacks the column"),
    ],
)
def test_other_tables_are_refused(tmp_path, content, message):
    (tmp_path / "table.csv").write_text(content)
    with pytest.raises(TrainingError, match=message):
        source_of(tmp_path / "table.csv", tmp_path)


def test_no_data_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="contains no videos"):
        source_of(tmp_path, tmp_path)
    with pytest.raises(TrainingError, match="does not exist"):
        source_of(tmp_path / "absent", tmp_path)
    with pytest.raises(TrainingError, match="No training data is set"):
        open_source(parts.settings(tmp_path))
    with pytest.raises(TrainingError, match="no clips"):
        MemorySource([])
    with pytest.raises(TrainingError, match="Clip 1 must be a pair"):
        MemorySource([(torch.zeros(2, 3, 64, 64), "a"), (torch.zeros(3, 64, 64), "b")])


def test_frames_are_those_asked_for(tmp_path):
    write_video(tmp_path / "a.mp4")
    source = source_of(tmp_path, tmp_path)
    assert numbers(source.read(0, Cut(4, 3))) == [0, 3, 6, 9]
    assert numbers(source.read(0, Cut(4, 3, position=0.999))) == [20, 23, 26, 29]
    assert numbers(source.read(0, Cut(1, 4, position=0.5))) == [15]


def test_starts_are_uniform_and_short_videos_are_squeezed():
    starts = [Cut(16, 4, (i + 0.5) / 40).indices(100)[0] for i in range(40)]
    assert starts == list(range(40))
    assert Cut(16, 4, 0.9).indices(61) == list(range(0, 61, 4))
    assert Cut(4, 4, 0.9).indices(7) == [0, 2, 4, 6]
    assert Cut(4, 4).indices(2) == [0, 0, 0, 1]
    assert Cut(4, 4).indices(1) == [0, 0, 0, 0]


def test_tensors_in_memory_as_bytes_and_floats():
    bytes_ = torch.arange(8, dtype=torch.uint8).view(-1, 1, 1, 1).expand(8, 3, 64, 64) * 30
    one, two = MemorySource([(bytes_, "a"), (bytes_ / 127.5 - 1, "b")]).read, Cut(4, 2)
    assert torch.allclose(one(0, two).frames, one(1, two).frames, atol=1e-6)
    assert one(0, two).frames[:, 0, 0, 0].tolist() == pytest.approx([n * 60 / 127.5 - 1 for n in range(4)])


def test_no_clip_is_mirrored_unless_asked(tmp_path):
    asked = [training_cut(parts.settings(tmp_path), Draws(1, n)).mirror for n in range(200)]
    assert not any(asked)
    half = [training_cut(parts.settings(tmp_path, mirror=True), Draws(1, n)).mirror for n in range(400)]
    assert 160 < sum(half) < 240
    write_video(tmp_path / "a.mp4")
    read = source_of(tmp_path, tmp_path).read
    plain, mirrored = (read(0, Cut(2, 1, mirror=mirror)).frames for mirror in (False, True))
    assert torch.equal(plain.flip(-1), mirrored)
    assert plain[0, 2, 32, 0] > 0 > plain[0, 2, 32, -1]


def test_buckets_keep_the_shape(tmp_path):
    assert (256, 256) in bucket_sizes(256)
    for width, height in bucket_sizes(512):
        assert width % 64 == height % 64 == 0
        assert 0.8 < width * height / 512**2 < 1.25
        assert 0.5 <= width / height <= 2
    for size, expected in (((96, 64), (320, 192)), ((64, 96), (192, 320)), ((64, 64), (256, 256))):
        folder = tmp_path / str(size)
        write_video(folder / "a.mp4", frames=2, size=size)
        source = open_source(parts.settings(tmp_path, data=str(folder), size=256, buckets=True))
        assert tuple(source.read(0, Cut(1, 1)).frames.shape[:1:-1]) == expected


def broken_folder(folder):
    """Two good videos and four broken ones."""
    write_video(folder / "good.mp4")
    write_video(folder / "well.mp4")
    (folder / "empty.mp4").touch()
    (folder / "page.mp4").write_text("<html>not found</html>")
    cut = write_video(folder / "cut.mp4")
    cut.write_bytes(cut.read_bytes()[:700])
    (folder / "folder.mp4").mkdir()
    return folder


BROKEN = ["cut.mp4", "empty.mp4", "folder.mp4", "page.mp4"]


def test_broken_files_are_named_and_replaced(tmp_path, capsys):
    data = broken_folder(tmp_path / "videos")
    base = parts.small_base(vae=parts.small_vae())
    path = train(parts.settings(tmp_path / "out", data=str(data), size=64, steps=6), base=base)
    assert read_recipe(path)["clips"]["broken"] == BROKEN
    told = capsys.readouterr().out
    assert all(told.count(f"Skipped: {name}") == 1 for name in BROKEN)


def test_replacements_are_the_same_again(tmp_path):
    data = broken_folder(tmp_path / "videos")
    asked = parts.settings(tmp_path, data=str(data), size=64)
    first, again = (Examples(open_source(asked), range(6), asked) for _ in range(2))
    forward = {number: first[number] for number in range(6)}
    for number in reversed(range(6)):
        assert torch.equal(again[number].clip.frames, forward[number].clip.frames)
        assert again[number].broken == forward[number].broken


def test_nothing_but_broken_files_is_an_error(tmp_path):
    (tmp_path / "videos").mkdir()
    for number in range(3):
        (tmp_path / "videos" / f"{number}.mp4").write_text("no video")
    with pytest.raises(TrainingError, match=r"3 clips in a row could not be read, starting with: \d\.mp4"):
        train(parts.settings(tmp_path / "out", data=str(tmp_path / "videos")), base=parts.small_base())


def test_numbers_that_are_none_are_broken():
    source = MemorySource([(torch.full((2, 4, 8, 8), float("nan")), "a")], latents=True)
    with pytest.raises(BrokenClipError, match="clip 0"):
        source.read(0, Cut(2, 1))


def test_an_epoch_shows_every_clip_once_in_an_order_of_its_own(tmp_path):
    source = MemorySource(parts.latent_clips(12), latents=True)
    examples = Examples(source, range(12), parts.settings(tmp_path))
    first, second = ([examples[n].clip.caption for n in range(k, k + 12)] for k in (0, 12))
    assert sorted(first) == sorted(second) == sorted(f"clip {n}" for n in range(12))
    assert first != second


def test_clips_held_out_are_not_trained_on(tmp_path):
    source = MemorySource(parts.latent_clips(40), latents=True)
    train_on, held_out = split(source, parts.settings(tmp_path, validation_clips=4))
    assert (len(train_on), len(held_out)) == (36, 4)
    assert not set(train_on) & set(held_out)
    few = MemorySource(parts.latent_clips(19), latents=True)
    assert len(split(few, parts.settings(tmp_path, validation_clips=4))[1]) == 1


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_captions_are_dropped_at_the_rate_asked_for(tmp_path, rate):
    draws = [Draws(42, number).uniform("caption") < rate for number in range(2000)]
    assert abs(sum(draws) / 2000 - rate) < 0.03
    base = parts.small_base()
    parts.trained(tmp_path, base=base, steps=2, batch=4, caption_dropout=rate)
    encoder = base._encode_text
    if rate in (0.0, 1.0):
        assert ("" in encoder.asked) == bool(rate)
        assert any(encoder.asked) == (not rate)
    assert len(encoder.asked) == len(set(encoder.asked))  # each caption is encoded once


def test_timesteps_follow_the_power():
    for power, mean in ((1.0, 500), (0.6, 625)):
        drawn = [Draws(0, n).timestep(1000, power) for n in range(3000)]
        assert abs(sum(drawn) / 3000 - mean) < 15
        assert 0 <= min(drawn) < 20
        assert 980 < max(drawn) <= 999


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
