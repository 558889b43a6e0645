"""The personalised models: files that hosts read as they are meant, and a base model that stays what it was."""

import pytest
import torch
from safetensors.torch import save_file

from tools.pocket import kohya
from tools.pocket.export import load_pipeline
from tools.pocket.loop import load, stream
from tools.pocket.results import load_unet
from tools.pocket.style import FINE_TUNED, load_fine_tuned, load_styled

RANK, ALPHA = 4, 2.0
X, T = torch.randn(1, 4, 8, 8, generator=stream("x")), torch.tensor([500])


@pytest.fixture
def trained(built):
    """A UNet and a LoRA on it that changes much."""
    unet = load_unet(built)
    added = kohya.add(unet, RANK, ALPHA, seed=3)
    for number, pair in enumerate(added.values()):
        pair.up.data = 0.5 * torch.randn(pair.up.shape, generator=stream("up", number))
    return unet, added


def same(mine, theirs):
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_the_base_model_stays_what_it_was(built, conditions):
    before = load_unet(built).state_dict()
    assert same(load_styled(built, strength=0.0).state_dict(), before)
    for after in (load_styled(built).state_dict(), load_fine_tuned(built).state_dict()):
        assert after.keys() == before.keys()
        assert not same(after, before)
    trained = {
        name for name, weight in load_styled(built).state_dict().items() if not torch.equal(weight, before[name])
    }
    assert all(".transformer_blocks." in name or ".proj_" in name for name in trained)


def test_a_merged_file_equals_the_lora_that_was_trained(built, trained, conditions):
    unet, added = trained
    merged = load_unet(built)
    kohya.merge(merged, {name: tensor.float() for name, tensor in kohya.tensors(added).items()})
    context = conditions.plain(torch.tensor([3]))
    with torch.no_grad():
        plain, mine, theirs = (model(X, T, context=context) for model in (load_unet(built), unet, merged))
    assert torch.dist(plain, mine) > 0.1 * plain.norm()
    assert torch.dist(theirs, mine) < 1e-2 * mine.norm()  # half precision


def test_diffusers_computes_the_same_from_the_file(built, trained, conditions, tmp_path):
    """Through peft, from the file, at two strengths: with another alpha, or a layer left out, it would not."""
    _, added = trained
    save_file(kohya.tensors(added), tmp_path / "lora.safetensors")
    pipeline = load_pipeline(built)
    pipeline.load_lora_weights(tmp_path, weight_name="lora.safetensors", adapter_name="style")
    context = conditions.plain(torch.tensor([3]))
    for strength in (1.0, 0.5):
        unet = load_unet(built)
        unet.load_state_dict({name: weight.half().float() for name, weight in unet.state_dict().items()})
        plain = unet(X, T, context=context)
        kohya.merge(unet, load(tmp_path / "lora.safetensors")[0], strength)
        pipeline.set_adapters(["style"], [strength])
        with torch.no_grad():
            mine = unet(X, T, context=context)
            theirs = pipeline.unet(X, T, encoder_hidden_states=context).sample
        assert torch.dist(mine, theirs) < 1e-5 * mine.norm()
        assert torch.dist(mine, plain) > 0.1 * plain.norm()


def test_the_second_checkpoint_loads_in_diffusers_and_shares_all_but_the_unet(built):
    base, tuned = (load(built / f"{name}.safetensors")[0] for name in ("pocket", FINE_TUNED))
    assert tuned.keys() == base.keys()
    changed = {name for name in base if not torch.equal(base[name], tuned[name])}
    assert changed
    assert all(name.startswith("model.diffusion_model.") for name in changed)
    assert load_pipeline(built, FINE_TUNED).unet
    assert (built / f"{FINE_TUNED}.yaml").read_text() == (built / "pocket.yaml").read_text()
