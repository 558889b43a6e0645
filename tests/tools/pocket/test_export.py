"""The exported files load in diffusers without a network and in the real LDM classes, with the same results."""

import pytest
import torch
from safetensors.torch import load_file

from tools.pocket.base import UNET
from tools.pocket.export import TEXT_PREFIX, UNET_PREFIX, VAE_PREFIX, load_pipeline
from tools.pocket.results import load_unet, load_vae
from tools.pocket.text import VOCABULARY_SIZE
from tools.pocket.vae import DDCONFIG, SCALE_FACTOR
from tools.pocket.world import CONCEPTS, caption

HALF = 5e-2  # of the values' size: half precision


@pytest.fixture(scope="module")
def pipeline(built):
    return load_pipeline(built)


def part(tensors, prefix):
    return {name.removeprefix(prefix): tensor.float() for name, tensor in tensors.items() if name.startswith(prefix)}


def test_the_checkpoint_fits_the_real_ldm_classes_strictly(built):
    from ldm.modules.diffusionmodules.model import Decoder, Encoder
    from ldm.modules.diffusionmodules.openaimodel import UNetModel

    tensors = load_file(built / "pocket.safetensors")
    UNetModel(**UNET).load_state_dict(part(tensors, UNET_PREFIX))
    Encoder(**DDCONFIG).load_state_dict(part(tensors, f"{VAE_PREFIX}encoder."))
    Decoder(**DDCONFIG).load_state_dict(part(tensors, f"{VAE_PREFIX}decoder."))
    assert tensors[f"{TEXT_PREFIX}embeddings.token_embedding.weight"].shape == (VOCABULARY_SIZE, 64)
    assert {tensor.dtype for name, tensor in tensors.items() if name.startswith(UNET_PREFIX)} == {torch.float16}


def test_diffusers_computes_what_was_trained(built, pipeline, conditions):
    context = conditions.plain(torch.tensor([7]))
    x, t = torch.randn(1, 4, 8, 8), torch.tensor([500])
    prompt, _ = pipeline.encode_prompt(caption(CONCEPTS[7]), "cpu", 1, False)
    assert torch.allclose(prompt, context, atol=1e-4)
    with torch.no_grad():
        mine = load_unet(built)(x, t, context=context)
        theirs = pipeline.unet(x, t, encoder_hidden_states=prompt).sample
        assert torch.dist(mine, theirs) < HALF * mine.norm()
        mine = load_vae(built).decode(x)
        theirs = (pipeline.vae.decode(x / SCALE_FACTOR).sample + 1) / 2
        assert torch.dist(mine, theirs) < HALF * mine.norm()
        picture = torch.rand(1, 3, 64, 64)
        mine = load_vae(built).encode(picture)
        theirs = pipeline.vae.encode(2 * picture - 1).latent_dist.mean * SCALE_FACTOR
        assert torch.dist(mine, theirs) < HALF * mine.norm()
