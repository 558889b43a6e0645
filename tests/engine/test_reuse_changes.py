"""When kept features are dropped, what acts at a step that reuses them, and that nothing stays in the UNet."""

from __future__ import annotations

import pytest
import torch
from support import hosts
from support.control_networks import Loud
from support.injected import injected
from support.matrix import every_once
from support.motions import shared_motion
from support.reusing import FRAMES, HALF, is_full, some, step_inputs
from support.unchanged import Portrait

from lib_animatediff import ClipError, ContextWindows, ControlComponent, FrameHints, IncompatibleModelError, inject
from lib_animatediff.engine.reuse.layers import branch_of
from lib_animatediff.engine.reuse.schedule import FEWEST_STEPS, FeatureReuse

WINDOWS = ContextWindows(length=4, overlap=1)


@pytest.fixture(autouse=True)
def _without_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def motion():
    return shared_motion("v2")[0]


def changed_size(injection):
    return step_inputs(1, size=(16, 8))


def fewer_streams(injection):
    return some(step_inputs(1), slice(0, FRAMES))


def more_streams(injection):
    return step_inputs(1, 3 * FRAMES)


def earlier_step(injection):
    injection.step = 0
    return step_inputs(1)


def another_run(injection):
    injection.begin_run(20)
    return step_inputs(1)


def told_to_drop(injection):
    injection.drop_features()
    return step_inputs(1)


def another_interval(injection):
    injection.step = 5
    return step_inputs(1)


CHANGES = [changed_size, fewer_streams, more_streams, earlier_step, another_run, told_to_drop, another_interval]


@pytest.mark.parametrize(("host", "change"), every_once(hosts.HOSTS, CHANGES))
def test_a_change_computes_everything_anew(unets, motion, host, change):
    unet = unets[host, 4]
    with inject(unet, motion, frames=FRAMES, reuse=FeatureReuse(4)) as injection:
        injection.step = 0
        hosts.call(unet, step_inputs(0))
        injection.step = 1
        assert not is_full(unet, step_inputs(1))
        given = change(injection)
        assert is_full(unet, given)
        got = hosts.call(unet, given)
    # Either nothing is left of the first step, or what the change kept is the same call's.
    assert (got - injected(unet, given, motion, frames=FRAMES)).abs().max() <= 1e-5


def test_after_a_change_of_streams_features_are_reused_again(ldm_unet, motion):
    fewer = [some(step_inputs(step), slice(0, FRAMES)) for step in range(4)]
    with inject(ldm_unet, motion, frames=FRAMES, reuse=FeatureReuse(4)):
        calls = [step_inputs(0), fewer[1], fewer[2], fewer[3]]
        assert [is_full(ldm_unet, given) for given in calls] == [True, True, False, False]


def test_an_interrupt_drops_the_features(ldm_unet, motion):
    trouble = []

    def between(_done, _count):
        if trouble:
            raise KeyboardInterrupt

    with inject(ldm_unet, motion, frames=FRAMES, windows=WINDOWS, reuse=FeatureReuse(4), between_windows=between):
        hosts.call(ldm_unet, step_inputs(0))
        assert not is_full(ldm_unet, step_inputs(1))
        trouble.append(True)
        with pytest.raises(KeyboardInterrupt):
            hosts.call(ldm_unet, step_inputs(2))
        trouble.clear()
        assert is_full(ldm_unet, step_inputs(2))


def test_a_run_of_few_steps_computes_everything(ldm_unet, motion):
    with inject(ldm_unet, motion, frames=FRAMES, reuse=HALF) as injection:
        injection.begin_run(FEWEST_STEPS - 1)
        assert all(is_full(ldm_unet, step_inputs(step)) for step in range(3))
        injection.begin_run(FEWEST_STEPS)
        steps = [is_full(ldm_unet, step_inputs(step)) for step in range(FEWEST_STEPS)]
    assert steps == [True, False, True, False, True, False, False, True]


# --------------------------------------------------------------------------------------------------------------------
# residuals, errors, compilers


def residuals_of(unet, given, size):
    """Of a ControlNet for diffusers: one for each skip connection, and one for the middle."""
    made = []
    handles = [
        layer.register_forward_hook(lambda _layer, _inputs, output: made.append(output))
        for layer in (*unet.down_blocks, unet.mid_block, unet.conv_in)
    ]
    hosts.call(unet, given)
    for handle in handles:
        handle.remove()
    first, *down, middle = made
    shapes = [first, *(skip for _, skips in down for skip in skips)]
    return [size * torch.randn_like(shape) for shape in shapes], size * torch.randn_like(middle)


def test_residuals_of_skipped_blocks_have_no_effect_and_those_of_computed_ones_act(unets, motion):
    unet, first, second = unets["diffusers", 4], step_inputs(0), step_inputs(1)
    down, middle = residuals_of(unet, first, 0.5)
    none = [torch.zeros_like(each) for each in down]

    def with_residuals(down, middle):
        with inject(unet, motion, frames=FRAMES, reuse=HALF):
            hosts.call(unet, first)
            given = {"encoder_hidden_states": second["context"]}
            residuals = {"down_block_additional_residuals": tuple(down), "mid_block_additional_residual": middle}
            return unet(second["x"], second["t"], **given, **residuals).sample

    plain = with_residuals(none, torch.zeros_like(middle))
    assert torch.equal(with_residuals([none[0], *down[1:]], middle), plain)
    assert not torch.allclose(with_residuals([down[0], *none[1:]], torch.zeros_like(middle)), plain, atol=1e-3)


def test_a_forward_that_adds_residuals_in_place_acts_on_the_computed_blocks_only(ldm_unet, motion):
    """As ControlNet's own forward in the WebUI does: it calls the blocks itself."""
    from ldm.modules.diffusionmodules.util import timestep_embedding

    strength, noise = {"outer": 0.0, "inner": 0.0}, torch.Generator().manual_seed(0)
    pattern = torch.randn(1, 1, 8, 8, generator=noise)

    def controlled(x, timesteps=None, context=None, y=None, **_more):
        emb = ldm_unet.time_embed(timestep_embedding(timesteps, ldm_unet.model_channels, repeat_only=False))
        hs, h = [], x
        for block in ldm_unet.input_blocks:
            hs.append(h := block(h, emb, context))
        h = ldm_unet.middle_block(h, emb, context)
        h += strength["inner"]
        for block in ldm_unet.output_blocks:
            size = strength["outer" if len(hs) == 1 else "inner"]
            skip = hs.pop()
            skip = skip + size * pattern[..., : skip.shape[2], : skip.shape[3]]
            h = block(torch.cat([h, skip], 1), emb, context)
        return ldm_unet.out(h)

    def second_output(**strengths):
        strength.update({"outer": 0.0, "inner": 0.0})
        with inject(ldm_unet, motion, frames=FRAMES, reuse=HALF):
            hosts.call(ldm_unet, step_inputs(0))
            strength.update(strengths)
            return hosts.call(ldm_unet, step_inputs(1))

    ldm_unet.forward = controlled
    try:
        plain = second_output()
        assert torch.equal(second_output(inner=0.5), plain)
        assert not torch.allclose(second_output(outer=0.5), plain, atol=1e-3)
    finally:
        del ldm_unet.forward


@pytest.mark.parametrize(
    ("host", "step", "error"), every_once(hosts.HOSTS, (0, 1), (RuntimeError, KeyboardInterrupt, None))
)
def test_the_unet_is_what_it_was(unets, motion, host, step, error):
    unet = unets[host, 4]
    before, plain = Portrait(unet), hosts.call(unet, step_inputs(5))

    def fail(*_):
        raise error

    layer = unet.out[0] if host == "ldm" else unet.conv_norm_out
    try:
        with inject(unet, motion, frames=FRAMES, windows=WINDOWS, reuse=HALF):
            for each in range(step):
                hosts.call(unet, step_inputs(each))
            handle = layer.register_forward_pre_hook(fail) if error else None
            try:
                hosts.call(unet, step_inputs(step))
            finally:
                if handle:
                    handle.remove()
    except (RuntimeError, KeyboardInterrupt):
        assert error
    before.assert_unchanged()
    assert torch.equal(hosts.call(unet, step_inputs(5)), plain)


def test_after_an_error_the_next_call_is_whole(ldm_unet, motion):
    def fail(*_):
        raise RuntimeError("no more memory")

    with inject(ldm_unet, motion, frames=FRAMES, reuse=FeatureReuse(4)):
        hosts.call(ldm_unet, step_inputs(0))
        with ldm_unet.out[0].register_forward_pre_hook(fail), pytest.raises(RuntimeError, match="no more memory"):
            hosts.call(ldm_unet, step_inputs(1))
        assert is_full(ldm_unet, step_inputs(2))


def test_gradients_are_refused(ldm_unet, motion):
    with torch.enable_grad(), inject(ldm_unet, motion, frames=FRAMES, reuse=HALF):
        given = step_inputs(0)
        with pytest.raises(ClipError, match=r"no gradients.*AD-G43"):
            hosts.call(ldm_unet, {**given, "x": given["x"].requires_grad_()})


def test_layers_that_are_compiled_inside_are_refused(motion):
    unet = hosts.ldm_unet()
    with inject(unet, motion, frames=FRAMES, reuse=HALF):
        unet.output_blocks[0].compile(backend="eager")
        with pytest.raises(IncompatibleModelError, match=r"were compiled.*AD-G44"):
            hosts.call(unet, step_inputs(0))


def test_a_unet_that_is_too_small_for_the_branch_is_refused():
    unet = hosts.new_ldm_unet(32, 64, attention_resolutions=[1], channel_mult=[1], num_heads=2)
    with pytest.raises(IncompatibleModelError, match=r"3 skip connections.*AD-G42"):
        branch_of(unet, FeatureReuse(2, 2))
    assert branch_of(unet, FeatureReuse(2, 1)).entry is unet.output_blocks[1][0]


def test_residuals_and_reuse_act_where_a_host_calls_the_layers_by_themselves(ldm_unet, monkeypatch):
    """reForge never calls the blocks that hold them."""
    steps, motion = [step_inputs(0), step_inputs(1)], shared_motion("v3")[0]
    hints = FrameHints(torch.rand(FRAMES, 3, 64, 64, generator=torch.Generator().manual_seed(0)))

    def clips():
        with inject(ldm_unet, motion, ControlComponent(Loud(), hints), frames=FRAMES, reuse=FeatureReuse(2)):
            return [hosts.call(ldm_unet, given) for given in steps]

    wanted = clips()

    def call_layers(block, x, emb, context=None):
        for layer in block.children():
            name = type(layer).__name__
            x = layer(x, emb) if name == "ResBlock" else layer(x, context) if "Transformer" in name else layer(x)
        return x

    monkeypatch.setattr(type(ldm_unet.middle_block), "__call__", call_layers)
    assert all(torch.equal(one, other) for one, other in zip(clips(), wanted, strict=True))
