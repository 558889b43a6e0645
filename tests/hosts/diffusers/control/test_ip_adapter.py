"""IP-Adapters: as diffusers computes them frame by frame, and nothing at a weight of 0."""

from __future__ import annotations

import json
from pathlib import Path

import numpy
import pytest
import torch
from einops import rearrange
from PIL import Image
from support import hosts
from support.image_prompt_files import FACE, FULL, PLAIN, PLUS, adapter_state, write_adapter, write_encoder
from support.matrix import in_matrix
from support.pocket_clips import TINY, latents_of
from support.unchanged import Portrait

from lib_animatediff import (
    ClipError,
    ContextWindows,
    ControlUnit,
    FrameHints,
    FrameTokens,
    ImagePromptComponent,
    Pin,
    inject,
)
from lib_animatediff.engine.components.image_prompt import FlatMasks
from lib_animatediff.engine.unet import cross_attentions
from lib_animatediff.hosts.diffusers.control.image_encoder import load_encoder, read_encoder
from lib_animatediff.hosts.diffusers.control.ip_adapter import ip_adapter_of, load_layers
from lib_animatediff.hosts.diffusers.networks import NetworkError
from lib_animatediff.request.control.unit import control_from_json
from lib_animatediff.video.source import Source
from motion_module import IncompatibleModelError

FRAMES, TOKENS = 4, 3
BOUND = 1e-5


@pytest.fixture(autouse=True)
def _without_gradients():
    with torch.no_grad():
        yield


def layers_of(unet, state):
    numbers = sorted({int(name.split(".")[0]) for name in state})
    return [tuple(state[f"{number}.to_{part}_ip.weight"] for part in "kv") for number in numbers]


def literal(unet, given, tokens, layers):
    """One call of diffusers' UNet in which its own processors read the tokens of each row."""
    from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0

    former, weights = unet.attn_processors, iter(layers)
    processors = {}
    for name, processor in former.items():
        processors[name] = processor
        if ".attn2." in name:
            to_key, to_value = next(weights)
            own = IPAdapterAttnProcessor2_0(len(to_key), to_key.shape[1], num_tokens=(tokens.shape[1],), scale=1.0)
            own.to_k_ip[0].weight.data, own.to_v_ip[0].weight.data = to_key, to_value
            processors[name] = own
    unet.set_attn_processor(processors)
    try:
        rows = []
        for row in range(len(tokens)):
            one = {name: each[row : row + 1] for name, each in given.items()}
            vector = {}
            if unet.config.addition_embed_type:
                vector = {"added_cond_kwargs": {"text_embeds": one["pooled"], "time_ids": one["sizes"]}}
            states = (one["context"], [tokens[row : row + 1][:, None]])
            rows.append(unet(one["x"], one["t"], encoder_hidden_states=states, **vector).sample)
        return torch.cat(rows)
    finally:
        unet.set_attn_processor(former)


def set_up(unet, frames=FRAMES, seed=3):
    generator = torch.Generator().manual_seed(seed)
    context = unet.config.cross_attention_dim
    images = torch.randn(frames, TOKENS, context, generator=generator)
    nothing = torch.randn(TOKENS, context, generator=generator)
    return layers_of(unet, adapter_state(unet)["ip_adapter"]), images, nothing


@pytest.mark.parametrize("levels", [4, 3], ids=["SD 1.5", "SDXL"])
def test_each_row_has_the_image_of_its_frame_as_in_a_loop_of_diffusers(unets, levels):
    unet, given = unets["diffusers", levels], hosts.inputs(2 * FRAMES)
    layers, images, nothing = set_up(unet)
    rows = torch.cat([nothing.expand_as(images), images])
    wanted = literal(unet, given, rows, layers)
    component = ImagePromptComponent("adapter", layers, FrameTokens(images, nothing))
    with inject(unet, component, frames=FRAMES):
        got = hosts.call(unet, given)
    assert (got - wanted).abs().max() <= BOUND
    assert (got - hosts.call(unet, given)).abs().max() > 1e-2


def by_ldm(unet, given, tokens, layers, monkeypatch):
    """One call of LDM's UNet whose cross-attentions are written out, in the order of the files."""
    parts = (unet.input_blocks, unet.output_blocks, unet.middle_block)
    found = [each for part in parts for name, each in part.named_modules() if name.endswith(".attn2")]

    def attend(attention, queries, keys, values):
        heads = attention.heads
        q, k, v = (rearrange(each, "b n (h c) -> b h n c", h=heads) for each in (queries, keys, values))
        shares = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(-1)
        return rearrange(shares @ v, "b h n c -> b n (h c)")

    for attention, (to_key, to_value) in zip(found, layers, strict=True):

        def forward(x, context=None, mask=None, own=attention, key=to_key, value=to_value):
            text = attend(own, own.to_q(x), own.to_k(context), own.to_v(context))
            return own.to_out(text + attend(own, own.to_q(x), tokens @ key.T, tokens @ value.T))

        monkeypatch.setattr(attention, "forward", forward)
    try:
        return hosts.call(unet, given)
    finally:
        monkeypatch.undo()


@pytest.mark.parametrize("levels", [4, 3], ids=["SD 1.5", "SDXL"])
def test_ldm_is_given_the_same(unets, levels, monkeypatch):
    unet, given = unets["ldm", levels], hosts.inputs(2 * FRAMES)
    _, images, nothing = set_up(unets["diffusers", levels])
    widths = [attention.to_k.weight.shape for attention in cross_attentions(unet)]
    generator = torch.Generator().manual_seed(5)
    layers = [tuple(torch.randn(shape, generator=generator) / 8 for _ in "kv") for shape in widths]
    wanted = by_ldm(unet, given, torch.cat([nothing.expand_as(images), images]), layers, monkeypatch)
    with inject(unet, ImagePromptComponent("adapter", layers, FrameTokens(images, nothing)), frames=FRAMES):
        got = hosts.call(unet, given)
    assert (got - wanted).abs().max() <= BOUND
    assert (got - hosts.call(unet, given)).abs().max() > 1e-2


def test_windows_weights_and_travel_are_the_literal_average(unets):
    unet, frames = unets["diffusers", 4], 6
    given = hosts.inputs(2 * frames)
    layers, images, nothing = set_up(unet, 2)
    shares = [0.0, 0.0, 0.25, 0.5, 1.0, 1.0]
    tokens = FrameTokens(images, nothing, [(0, 1, share) for share in shares])
    weights = (1.0, 0.0, 0.5, 1.0, 1.0, 0.0)
    mixed = torch.stack([torch.lerp(images[0], images[1], share) for share in shares])
    own = [
        literal(
            unet, given, torch.cat([nothing.expand_as(mixed), mixed]), [(key, value * weight) for key, value in layers]
        )
        for weight in weights
    ]
    wanted = torch.stack([own[row % frames][row] for row in range(2 * frames)])
    before = Portrait(unet)
    component = ImagePromptComponent("adapter", layers, tokens, weights)
    with inject(unet, component, frames=frames, windows=ContextWindows(length=3, overlap=1)):
        got = hosts.call(unet, given)
    before.assert_unchanged()
    assert (got - wanted).abs().max() <= BOUND  # frames do not see each other, so that windows agree


def test_a_weight_of_0_is_to_the_bit_without(unets):
    unet, given = unets["diffusers", 4], hosts.inputs(2 * FRAMES)
    layers, images, nothing = set_up(unet)
    tokens = FrameTokens(images, nothing)
    plain = hosts.call(unet, given)
    with inject(unet, ImagePromptComponent("adapter", layers, tokens, (0.0,)), frames=FRAMES):
        assert torch.equal(hosts.call(unet, given), plain)
    with inject(unet, ImagePromptComponent("adapter", layers, tokens, (0.0, 0.0, 1.0)), frames=FRAMES):
        got = hosts.call(unet, given)
    kept = [0, 1, FRAMES, FRAMES + 1]
    assert torch.equal(got[kept], plain[kept])
    assert (got[2] - plain[2]).abs().max() > 1e-2


def test_a_mask_is_where_the_images_act(unets):
    """White is everywhere, and black nowhere; the positions of each attention are those of its level."""
    unet, given = unets["diffusers", 4], hosts.inputs(2 * FRAMES, size=(10, 6))
    layers, images, nothing = set_up(unet)
    tokens = FrameTokens(images, nothing)
    masks = torch.zeros(FRAMES, 1, 80, 48, dtype=torch.uint8)
    masks[0], masks[1, :, :40] = 255, 255
    with inject(unet, ImagePromptComponent("adapter", layers, tokens), frames=FRAMES):
        full = hosts.call(unet, given)
    with inject(unet, ImagePromptComponent("adapter", layers, tokens, masks=FrameHints(masks)), frames=FRAMES):
        got = hosts.call(unet, given)
    plain = hosts.call(unet, given)
    assert (got[0::FRAMES] - full[0::FRAMES]).abs().max() <= BOUND
    assert (got[2::FRAMES] - plain[2::FRAMES]).abs().max() <= BOUND
    assert min((got[1] - other[1]).abs().max() for other in (full, plain)) > 1e-3
    flat = FlatMasks(masks[:2].float() / 255, (10, 6))
    assert flat.at(60)[1].flatten().tolist() == [1.0] * 30 + [0.0] * 30
    assert flat.at(15).shape == (2, 15, 1)
    assert flat.at(6).shape == (2, 6, 1)


def test_another_base_is_refused(unets):
    layers, images, nothing = set_up(unets["diffusers", 3])
    component = ImagePromptComponent("adapter", layers, FrameTokens(images, nothing))
    with (
        pytest.raises(IncompatibleModelError, match="was not made for this checkpoint's base"),
        inject(unets["diffusers", 4], component, frames=FRAMES),
    ):
        pass


# --------------------------------------------------------------------------------------------------------------------
# files and clips


@pytest.fixture(scope="module")
def files(tmp_path_factory, pipeline):
    """An IP-Adapter of each kind for the built-in model, an encoder, and images in plain colours."""
    folder = tmp_path_factory.mktemp("adapter")
    for kind in (PLAIN, PLUS, FULL, FACE):
        write_adapter(folder / f"{kind}.safetensors", adapter_state(pipeline.unet, kind))
    write_encoder(folder / "encoder")
    Image.new("RGB", (48, 40)).save(folder / "black.png")
    (folder / "images").mkdir()
    for number, colour in enumerate(("red", "blue", "white", "green")):
        image = Image.new("RGB", (48, 40), colour)
        image.paste("black", (4 * number, 4, 4 * number + 16, 20))
        image.save(folder / "images" / f"{number}.png")
    return folder


def unit(files, kind=PLAIN, **options):
    options.setdefault("source", None if "keys" in options else Source(files / "images"))
    return ControlUnit(files / f"{kind}.safetensors", encoder=files / "encoder", **options)


@pytest.fixture
def latents(pipeline, motion, monkeypatch):
    """Makes a clip whose frames do not see each other: a function `(*units, **settings) -> latents f c h w`."""

    def sampled(*units, **settings):
        given = {"frames": FRAMES, "effect": "0"} | settings
        return latents_of(monkeypatch, pipeline, motion, units, given, negative_prompt="", seed=3, size=TINY)

    return sampled


@pytest.mark.parametrize("kind", [PLAIN, PLUS, FULL])
def test_the_tokens_are_those_of_diffusers(pipeline, files, kind):
    """By its own loader, from the same two parts and the same pixels."""
    unet = pipeline.unet
    file = ip_adapter_of(unit(files, kind))
    encoder = load_encoder(read_encoder(files / "encoder"), unet.device, unet.dtype)
    images = [Image.open(files / "images" / f"{number}.png").resize((encoder.side,) * 2) for number in range(2)]
    made, nothing = encoder.embed(images, in_parts=file.in_parts)
    project, layers = load_layers(file, unet)
    from transformers import CLIPVisionModelWithProjection

    theirs = CLIPVisionModelWithProjection.from_pretrained(files / "encoder")
    pixels = torch.stack([torch.from_numpy(numpy.array(image.convert("RGB"))) for image in images])
    pixels = pixels.permute(0, 3, 1, 2) / 255
    means, deviations = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
    pixels = (pixels - torch.tensor(means).view(3, 1, 1)) / torch.tensor(deviations).view(3, 1, 1)
    output = theirs(pixels, output_hidden_states=True)
    black = theirs(torch.zeros_like(pixels[:1]), output_hidden_states=True)
    wanted = output.image_embeds if kind == PLAIN else output.hidden_states[-2]
    assert (made - wanted).abs().max() <= BOUND
    assert (nothing - (0 if kind == PLAIN else black.hidden_states[-2])).abs().max() <= BOUND
    state = adapter_state(unet, kind)
    own = unet._convert_ip_adapter_image_proj_to_diffusers(state["image_proj"], low_cpu_mem_usage=False)
    assert (project(made) - own(wanted)).abs().max() <= 1e-4
    assert all(torch.equal(a, b) for a, b in zip(layers[0], layers_of(unet, state["ip_adapter"])[0], strict=True))


@pytest.mark.parametrize("kind", [PLAIN, in_matrix(PLUS), in_matrix(FULL)])
def test_each_frame_is_as_in_a_clip_of_its_own_image(files, latents, kind):
    windows = {"frames": 6, "context_length": 3, "overlap": 1}
    both = latents(unit(files, kind, fill="loop"), **windows)
    plain = latents(**windows)
    for number in (0, 3):
        alone = latents(unit(files, kind, source=Source(files / "images" / f"{number}.png")), **windows)
        places = [frame for frame in range(6) if frame % FRAMES == number]
        others = [frame for frame in range(6) if frame % FRAMES != number]
        assert (both[places] - alone[places]).abs().max() <= 1e-4
        assert min((both[frame] - alone[frame]).abs().max() for frame in others) > 1e-3
        assert min((alone[frame] - plain[frame]).abs().max() for frame in range(6)) > 1e-3


def test_images_at_frames_turn_into_each_other(files, latents):
    images = [files / "images" / f"{number}.png" for number in (0, 1)]
    travel = latents(unit(files, keys=(Pin(1, images[0]), Pin(3, images[1]))), frames=5)
    first, second = (latents(unit(files, source=Source(image)), frames=5) for image in images)
    assert (travel[:2] - first[:2]).abs().max() <= 1e-4
    assert (travel[3:] - second[3:]).abs().max() <= 1e-4
    assert min((travel[2] - one[2]).abs().max() for one in (first, second)) > 1e-3
    assert unit(files, keys=(Pin(1, images[0]), Pin(3, images[1]))).mixtures(5, 0) == [
        (0, 0, 0.0),
        (0, 0, 0.0),
        (0, 1, 0.5),
        (1, 1, 0.0),
        (1, 1, 0.0),
    ]


def test_strength_0_and_a_part_of_the_steps(files, latents):
    plain = latents()
    assert torch.equal(latents(unit(files, weight="0")), plain)
    part = latents(unit(files, weight="0: 0, 1: 0, 2: 1"))
    assert torch.equal(part[:2], plain[:2])
    assert (part[2:] - latents(unit(files))[2:]).abs().max() <= 1e-4
    travel = latents(unit(files, start="0: 0.5, 1: 0.5, 2: 0"))
    late = latents(unit(files, start=0.5))
    assert (travel[:2] - late[:2]).abs().max() <= 1e-4
    assert (travel[2:] - latents(unit(files))[2:]).abs().max() <= 1e-4
    black = latents(unit(files, mask=Source(files / "black.png")))
    assert (black - plain).abs().max() <= 1e-5
    assert (late - plain).abs().max() > 1e-4
    assert (late - latents(unit(files))).abs().max() > 1e-4


def test_a_pickle_of_two_dictionaries(pipeline, files, latents):
    write_adapter(files / "ip.bin", adapter_state(pipeline.unet))
    made = latents(ControlUnit(files / "ip.bin", Source(files / "images"), encoder=files / "encoder"))
    assert torch.equal(made, latents(unit(files)))


def test_the_plan_keeps_the_encoder(files):
    mask = Source(files / "images" / "2.png")
    own = unit(files, weight="0: 1, 3: 0.4", start="0: 0, 3: 0.2", mask=mask)
    assert control_from_json(json.loads(json.dumps(own.to_json())), lambda entry: Path(entry["path"])) == own


def test_what_cannot_be_right_is_refused_before_sampling(pipeline, files, latents, tmp_path):
    with pytest.raises(NetworkError, match="FaceID, which reads the embeddings of InsightFace"):
        latents(unit(files, FACE))
    with pytest.raises(ClipError, match="needs the image encoder"):
        latents(ControlUnit(files / "plain.safetensors", Source(files / "images")))
    with pytest.raises(ClipError, match="Leave the preprocessor canny out"):
        latents(unit(files, preprocessor="canny"))
    write_adapter(files / "wide.safetensors", adapter_state(pipeline.unet, reads=7))
    with pytest.raises(NetworkError, match="reads 7 numbers of an image, and the image encoder encoder makes 24"):
        latents(unit(files, "wide"))
    state = adapter_state(pipeline.unet)
    write_adapter(files / "part.safetensors", {**state, "ip_adapter": dict(list(state["ip_adapter"].items())[:6])})
    with pytest.raises(IncompatibleModelError, match="it has 3 cross-attentions"):
        latents(unit(files, "part"))
    with pytest.raises(NetworkError, match="is not an image encoder"):
        latents(ControlUnit(files / "plain.safetensors", Source(files / "images"), encoder=tmp_path))
