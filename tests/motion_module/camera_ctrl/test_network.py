"""CameraCtrl against a literal one, and against numbers of the official implementation (hehao13/CameraCtrl af45a7a)."""

from __future__ import annotations

import math
from copy import deepcopy

import pytest
import torch
from support.camera_ctrl import (
    LENGTH,
    encoder_shapes,
    literal_camera_site,
    literal_features,
    literal_rays,
    merge_shapes,
    poses_of,
    shared_camera,
)
from support.motion_files import site_shapes

from motion_module.camera_ctrl.network import CameraCtrl, CameraLayout
from motion_module.camera_ctrl.poses import CameraPose, parse_poses
from motion_module.camera_ctrl.rays import intrinsics_in_pixels, pluecker_rays, relative_poses
from motion_module.options import TemporalOptions
from motion_module.temporal_transformer import TemporalTransformer

WIDTHS = (64, 64, 128, 128)
# mean of the absolute values, first and last value of each feature of the official encoder, torch 2.13
FEATURES = (
    (0.984161, -1.816666, -2.352685),
    (1.084478, -0.833951, 0.654367),
    (0.897718, -1.128025, -0.890996),
    (1.140574, -2.915652, -1.197219),
)
SITE = (1.038381, -1.904311, 0.793792)
WITHOUT_SCALE, WITHOUT_FEATURE = -1.865473, -0.018010  # first value; mean


@pytest.fixture(autouse=True)
def _without_gradients():
    with torch.no_grad():
        yield


def wave(shape, step):
    return torch.sin(step * torch.arange(math.prod(shape), dtype=torch.float64)).reshape(shape).float()


def filled(shapes):
    """The fill of the facts: parameters in the order of their names, each a wave of its own."""
    state = {}
    for k, (name, shape) in enumerate(sorted(shapes.items())):
        count = math.prod(shape)
        waves = torch.sin(0.1 + 0.7 * torch.arange(count, dtype=torch.float64) + k).reshape(shape)
        if len(shape) >= 2:
            waves = waves * math.sqrt(2 * shape[0] / count)
        else:
            waves = 0.05 * waves + name.endswith("weight")
        state[name] = waves.float()
    return state


def measured(values):
    values = values.flatten()
    return torch.stack([values.abs().mean(), values[0], values[-1]])


def test_the_encoder_computes_what_the_official_one_does():
    merges = {name: torch.zeros(shape) for name, shape in merge_shapes(WIDTHS).items()}
    model = CameraCtrl.from_state_dict(filled(encoder_shapes(WIDTHS)) | merges, CameraLayout(WIDTHS, LENGTH))
    features = model.encode(wave((1, 6, 4, 128, 64), 0.013)[0].transpose(0, 1))
    for feature, wanted in zip(features, FEATURES, strict=True):
        assert torch.allclose(measured(feature.transpose(0, 1)), torch.tensor(wanted), atol=2e-5)


def test_the_merge_computes_what_the_official_one_does():
    prefix, block = "temporal_transformer.", "transformer_blocks.0.attention_blocks.0.processor.qkv_merge."
    names = site_shapes(64) | {f"{block}weight": (64, 64), f"{block}bias": (64,)}
    state = {k.removeprefix(prefix): v for k, v in filled({prefix + k: v for k, v in names.items()}).items()}
    weight, bias = state.pop(f"{block}weight"), state.pop(f"{block}bias")
    transformer = TemporalTransformer(64, 32).eval()
    transformer.load_state_dict(state)
    rows, feature = (wave((1, 64, 4, 6, 5), step)[0].transpose(0, 1).double() for step in (0.29, 0.17))
    weight, bias, transformer = weight.double(), bias.double(), transformer.double()
    state = {name: tensor.double() for name, tensor in state.items()}

    def run(scale, feature):
        tokens = feature.flatten(2).transpose(1, 2)

        def merge(x, at, _view):
            return x + scale * torch.nn.functional.linear(x + tokens[:, at], weight, bias)

        got = transformer(rows, 4, TemporalOptions(merge=merge, pieces=3))
        literal = literal_camera_site(state, (weight, bias), rows, feature, [scale] * 4)
        assert (got - literal).abs().max() <= 1e-9
        return got.transpose(0, 1)

    assert torch.allclose(measured(run(1.0, feature)), torch.tensor(SITE).double(), atol=2e-6)
    assert abs(run(0.0, feature).flatten()[0] - WITHOUT_SCALE) <= 2e-6
    assert abs(run(1.0, torch.zeros_like(feature)).mean() - WITHOUT_FEATURE) <= 2e-6


def test_the_encoder_equals_the_literal_one_also_in_views():
    model, state = shared_camera()
    model, state = deepcopy(model).double(), {name: tensor.double() for name, tensor in state.items()}
    rays = torch.randn(5, 6, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for views in (None, [range(3), range(1, 4), range(2, 5)]):
        given = [(view, [1.0] * len(view)) for view in views or ()]
        for got, wanted in zip(model.encode(rays, given), literal_features(state, rays, views), strict=True):
            assert (got - wanted).abs().max() <= 1e-9


# --------------------------------------------------------------------------------------------------------------------
# rays


def official_poses():
    lines = [f"{i} .5 .9 .5 .5 0 0 1 0 0 {0.1 * i} 0 1 0 {-0.05 * i} 0 0 1 {0.2 * i}" for i in range(4)]
    return parse_poses("\n".join(["https://example.org", *lines]))


def test_rays_are_those_of_the_official_code():
    poses = official_poses()
    pixels = intrinsics_in_pixels(poses, (64, 64))[0]
    assert torch.allclose(pixels, torch.tensor([56.888889, 57.6, 32, 32], dtype=torch.float64), atol=1e-6)
    rays = pluecker_rays(poses, (64, 64))
    for (frame, y, x), wanted in {
        (0, 0, 0): (0, 0, 0, -0.436974, -0.431579, 0.789173),
        (1, 0, 0): (-0.046857, 0.166312, 0.065007, -0.436974, -0.431579, 0.789173),
        (3, 63, 10): (0.398174, 0.438675, -0.089418, -0.314734, 0.455428, 0.832783),
    }.items():
        assert (rays[frame, :, y, x] - torch.tensor(wanted)).abs().max() <= 1e-6


@pytest.mark.parametrize(("width", "height"), [(24, 8), (8, 16)])
def test_rays_are_the_literal_ones_in_wide_and_in_tall_clips(width, height):
    wanted = literal_rays(poses_of(3), width, height)
    assert (pluecker_rays(poses_of(3), (width, height)) - wanted).abs().max() <= 1e-6


def test_a_plane_of_dots_is_seen_where_the_rays_say():
    """Dots at a depth of 5 are projected by the exact camera; the ray of each pixel that one falls on hits it."""
    poses, size = poses_of(6), (96, 64)
    rays = pluecker_rays(poses, size).double()
    to_first = relative_poses(poses)
    fx, fy, cx, cy = intrinsics_in_pixels(poses, size).T
    seen = 0
    for frame in range(len(poses)):
        to_camera = torch.linalg.inv(to_first[frame])
        for row in range(-3, 4):
            for column in range(-4, 5):
                dot = torch.tensor([0.6 * column, 0.6 * row, 5.0, 1.0], dtype=torch.float64)
                x, y, z = (to_camera @ dot)[:3]
                u, v = fx[frame] * x / z + cx[frame], fy[frame] * y / z + cy[frame]
                if z <= 0 or not (1 <= u < size[0] - 1 and 1 <= v < size[1] - 1):
                    continue
                seen += 1
                moment, direction = rays[frame, :3, int(v), int(u)], rays[frame, 3:, int(v), int(u)]
                # a line with moment m and direction d passes a point p at |p x d - m|; a pixel is 1 / f wide
                away = (torch.linalg.cross(dot[:3], direction) - moment).norm() / z
                assert away <= 0.75 / min(fx[frame], fy[frame])
    assert seen > 150


def test_the_first_camera_is_the_origin_and_the_length_of_a_direction_is_one():
    rays = pluecker_rays(poses_of(3)[1:], (16, 16))
    assert rays[0, :3].abs().max() == 0
    assert (rays[:, 3:].norm(dim=1) - 1).abs().max() <= 1e-6
    assert (rays[:, :3] * rays[:, 3:]).sum(1).abs().max() <= 1e-6


def test_a_pose_without_motion_looks_straight_ahead():
    rays = pluecker_rays([CameraPose()] * 2, (16, 16))
    assert torch.equal(rays[0], rays[1])
    assert (rays[0, 5] > 0).all()


# frames 0 and 3 of 0f47577ab3441480.txt, an example of CameraCtrl's from RealEstate10K
EXAMPLE = """https://example.org
195562033 0.507650910 0.902490531 0.5 0.5 0 0 0.999749303 -0.004518872 0.021929268 0.038810557 0.004613766 0.999980211 \
-0.004278630 0.328177052 -0.021909500 0.004378735 0.999750376 -0.278403591
196396200 0.507650910 0.902490531 0.5 0.5 0 0 0.998096347 -0.008753631 0.061049398 0.026475959 0.009088391 0.999945164 \
-0.005207890 0.583593760 -0.061000463 0.005752816 0.998121142 -0.236166024
"""


def test_a_real_file_has_the_rays_of_the_official_code():
    poses, size = parse_poses(EXAMPLE), (384, 256)
    assert intrinsics_in_pixels(poses, size)[1, 0] == pytest.approx(231.037567, abs=1e-5)
    ray = pluecker_rays(poses, size)[1, :, 0, 0]
    wanted = torch.tensor([-0.191415, 0.026059, -0.157375, -0.616347, -0.387603, 0.685479])
    assert (ray - wanted).abs().max() <= 1e-6
    moved = relative_poses(poses)[1, :3, 3]
    assert (moved - torch.tensor([0.000517, -0.255010, -0.042855], dtype=torch.float64)).abs().max() <= 1e-6
