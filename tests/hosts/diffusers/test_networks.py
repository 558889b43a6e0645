"""LoRAs, embeddings and motion LoRAs on the command line's host, from the files that people have."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.motion_files import write_motion_file
from support.motion_lora_files import official, write_lora
from support.small_configs import write_config_folder
from support.webui_real import small_models

from lib_animatediff.hosts.diffusers import networks
from lib_animatediff.hosts.diffusers import pipeline as host
from lib_animatediff.hosts.diffusers.animate import animate
from lib_animatediff.hosts.diffusers.networks import NetworkError, add_embeddings, add_loras, parse_added
from lib_animatediff.request.loras import LoraFile
from motion_module import AnimateDiffError, load_motion_module


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write_config_folder(folder / "config")
    return small_models.write_checkpoint(folder), write_motion_file(folder)


@pytest.fixture
def pipeline(files):
    loaded = host.load_pipeline(files[0])
    loaded.set_progress_bar_config(disable=True)
    return loaded


def clip(pipeline, motion, prompt="a red cat"):
    pictures = animate(pipeline, motion, prompt=prompt, frames=2, size=(32, 32), steps=2)
    return [picture.tobytes() for picture in pictures]


@pytest.fixture(scope="module")
def motion(files):
    return load_motion_module(files[1])


def test_a_kohya_lora_changes_the_clip_by_its_strength(files, pipeline, motion, tmp_path):
    lora = small_models.write_lora(tmp_path, "style", files[0])
    plain = clip(pipeline, motion)
    add_loras(pipeline, [LoraFile(lora, 0.0)])
    assert clip(pipeline, motion) == plain
    pipeline.set_adapters(["lora_0"], [1.0])
    assert clip(pipeline, motion) != plain


def test_an_embedding_is_the_word_of_its_file(pipeline, motion, tmp_path):
    torch.manual_seed(0)
    save_file({"emb_params": 3 * torch.randn(2, small_models.CONTEXT_DIM)}, tmp_path / "strangeword.safetensors")
    before = clip(pipeline, motion, "a strangeword")
    add_embeddings(pipeline, [tmp_path / "strangeword.safetensors"])
    assert clip(pipeline, motion, "a strangeword") != before


def test_a_motion_lora_changes_a_copy_of_the_module(motion, tmp_path):
    site = "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0"
    width = motion.state_dict()[f"{site}.to_q.weight"].shape[0]
    parts = {"down": torch.ones(2, width), "up": torch.ones(width, 2)}
    lora = {f"{site}.processor.to_q_lora.{part}.weight": tensor for part, tensor in parts.items()}
    save_file(lora, tmp_path / "pan.safetensors")
    former = motion.state_dict()[f"{site}.to_q.weight"].clone()
    changed = networks.with_motion_loras(motion, [LoraFile(tmp_path / "pan.safetensors", 0.5)])
    assert changed.reports == ("pan.safetensors: 1 of its 1 weights match mm_small_v3.safetensors.",)
    torch.testing.assert_close(changed.motion.state_dict()[f"{site}.to_q.weight"], former + 1)
    assert torch.equal(motion.state_dict()[f"{site}.to_q.weight"], former)


@pytest.mark.parametrize(("text", "strength"), [("{}", 1.0), ("{}:0.5", 0.5), ("{}:-1", -1.0)])
def test_a_strength_follows_a_colon(tmp_path, text, strength):
    path = tmp_path / "a b.safetensors"
    path.touch()
    assert parse_added(text.format(path)) == LoraFile(path, strength)


def test_what_is_not_there_is_told(tmp_path):
    with pytest.raises(NetworkError, match="There is no file"):
        parse_added(f"{tmp_path / 'nothing.safetensors'}:0.5")


@pytest.mark.parametrize("strength", ["nan", "inf", "-inf"])
def test_a_strength_is_a_number(tmp_path, strength):
    (tmp_path / "pan.ckpt").touch()
    with pytest.raises(NetworkError):
        parse_added(f"{tmp_path / 'pan.ckpt'}:{strength}")


KOHYA = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
OTHERS = {
    "LoHa": {f"{KOHYA}.{part}": torch.ones(4, 4) for part in ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")},
    "LoKr": {f"{KOHYA}.lokr_w1": torch.ones(2, 2), f"{KOHYA}.lokr_w2": torch.ones(2, 2)},
    "Tucker": {f"{KOHYA}.{part}.weight": torch.ones(4, 4, 1, 1) for part in ("lora_down", "lora_mid", "lora_up")},
    "DoRA": {f"{KOHYA}.dora_scale": torch.ones(4), f"{KOHYA}.lora_down.weight": torch.ones(4, 4)},
}


@pytest.mark.parametrize("name", OTHERS)
def test_loras_of_other_methods_are_named(pipeline, tmp_path, name):
    save_file({key: tensor.clone() for key, tensor in OTHERS[name].items()}, tmp_path / "other.safetensors")
    with pytest.raises(AnimateDiffError, match="Use a plain LoRA"):
        add_loras(pipeline, [LoraFile(tmp_path / "other.safetensors", 1.0)])


def test_other_files_are_no_loras(files, pipeline, tmp_path):
    lora = write_lora(tmp_path / "pan.safetensors", official)
    for path, words in ((files[0], "an image checkpoint"), (lora, "--motion-lora"), (files[1], "not a LoRA")):
        with pytest.raises(NetworkError, match=words) as caught:
            add_loras(pipeline, [LoraFile(path, 1.0)])
        assert "\n" not in str(caught.value)
        assert path.name in str(caught.value)


def test_a_lora_of_the_text_encoder_alone_is_a_lora(files, pipeline, motion, tmp_path):
    whole = load_file(small_models.write_lora(tmp_path, "style", files[0]))
    save_file({key: t for key, t in whole.items() if key.startswith("lora_te")}, tmp_path / "text.safetensors")
    plain = clip(pipeline, motion)
    add_loras(pipeline, [LoraFile(tmp_path / "text.safetensors", 1.0)])
    assert clip(pipeline, motion) != plain


@pytest.mark.parametrize("tensors", [{"emb_params": torch.ones(2, 1024)}, {"clip_g": torch.ones(2, 1280)}])
def test_an_embedding_of_another_base(pipeline, tmp_path, tensors):
    save_file(tensors, tmp_path / "word.safetensors")
    with pytest.raises(NetworkError, match="a textual inversion embedding that does not fit"):
        add_embeddings(pipeline, [tmp_path / "word.safetensors"])
