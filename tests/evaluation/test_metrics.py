"""Each metric against its formula written out, and on clips for which the answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from support.moving import gliding, texture

from lib_animatediff.evaluation import metrics
from lib_animatediff.evaluation.flow import SIDE, flow_of


def rows(count, seed=0):
    noise = torch.randn(count, 12, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(noise, dim=1)


def cosine(one, other):
    return sum(float(a) * float(b) for a, b in zip(one, other, strict=True))


def test_the_papers_scores_are_means_of_cosines():
    """With the prompt; of every frame with every still; of neighbours; of all pairs."""
    frames, stills = rows(5), rows(3, seed=1)
    for found, pairs in (
        (metrics.text_score(frames, stills[0]), [(frame, stills[0]) for frame in frames]),
        (metrics.domain_score(frames, stills), [(frame, still) for frame in frames for still in stills]),
        (metrics.smoothness(frames), [(frames[t], frames[t - 1]) for t in range(1, 5)]),
        (metrics.smoothness_of_all_pairs(frames), [(frames[i], frames[j]) for j in range(5) for i in range(j)]),
    ):
        assert found == pytest.approx(100 * sum(cosine(*pair) for pair in pairs) / len(pairs), abs=1e-4)


def test_consistency_is_vbenchs():
    frames = rows(6)
    cosines = [(cosine(frames[t], frames[t - 1]), cosine(frames[t], frames[0])) for t in range(1, 6)]
    assert min(before for before, _ in cosines) < 0
    literal = sum((max(0.0, before) + max(0.0, first)) / 2 for before, first in cosines)
    assert metrics.consistency(frames) == pytest.approx(literal / 5, abs=1e-5)


def test_flickering_is_vbenchs():
    frames = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3)).astype(np.uint8)
    changes = [np.abs(frames[t].astype(float) - frames[t - 1].astype(float)).mean() for t in (1, 2)]
    assert metrics.temporal_flickering(frames) == pytest.approx((255 - np.mean(changes)) / 255, abs=1e-6)


def test_a_frame_in_between_is_found_where_things_glide():
    gentle = metrics.motion_smoothness(flow_of(gliding(2, 0)))
    jumpy = gliding(2, 0)
    jumpy[3] = jumpy[0]
    assert gentle > 0.99
    assert metrics.motion_smoothness(flow_of(jumpy)) < gentle - 0.005


def test_a_frame_in_between_is_led_by_flow_and_not_mixed():
    frames = gliding(4, 0, frames=3)
    large = flow_of(frames).frames.astype(float)
    mixed = 1 - np.abs(large[1] - (large[0] + large[2]) / 2).mean() / 255
    assert metrics.motion_smoothness(flow_of(frames)) > mixed + 0.03
    assert metrics.motion_smoothness(flow_of(frames[:2])) is None  # two frames have none in between


@pytest.mark.parametrize("side", [64, 320])
@pytest.mark.parametrize(("right", "down"), [(2, 0), (0, -2), (-1.5, 1.0)])
def test_the_magnitude_is_in_pixels_of_the_clip(side, right, down):
    flow = flow_of(gliding(right, down, frames=4, side=side))
    assert metrics.magnitude(flow) == pytest.approx(math.hypot(right, down), rel=0.06)
    assert np.mean(metrics.top_magnitudes(flow)) == pytest.approx(math.hypot(right, down), rel=0.25)


def test_the_top_is_of_what_moves_most():
    frames = np.repeat(texture(0, SIDE, SIDE)[None], 3, axis=0)
    for number in range(3):
        frames[number, 100:160, 100 + 5 * number : 160 + 5 * number] = texture(1, 60, 60)  # 5.5 % of the picture
    flow = flow_of(frames)
    assert metrics.magnitude(flow) < 1
    assert metrics.top_magnitudes(flow)[0] == pytest.approx(5, rel=0.2)


def test_grain_on_plain_ground_does_not_move():
    plain = np.full((4, 64, 64, 3), 180, np.uint8)
    grain = np.random.default_rng(0).integers(0, 3, plain.shape).astype(np.uint8)
    assert metrics.top_magnitudes(flow_of(plain + grain)) == [0, 0, 0]


def test_a_clip_is_dynamic_by_vbenchs_rule():
    threshold = 6 * 128 / 256
    assert metrics.is_dynamic(flow_of(gliding(1.15 * threshold, 0)))
    assert not metrics.is_dynamic(flow_of(gliding(0.8 * threshold, 0)))


def test_a_quarter_of_the_pairs_makes_a_clip_dynamic():
    fast = gliding(5, 0, frames=16)
    for moving, dynamic in ((3, False), (4, True)):
        frames = fast.copy()
        frames[moving + 1 :] = frames[moving]
        assert metrics.is_dynamic(flow_of(frames)) is dynamic
