"""What makes rows of pictures and texts: the built-in one by what it tells apart, CLIP and DINO on tiny weights."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from support.moving import as_bytes, texture
from transformers import CLIPConfig, CLIPModel, ViTConfig, ViTModel

from lib_animatediff.evaluation.embedders import SmallEmbedder, load_embedder
from lib_animatediff.evaluation.errors import EvaluationError
from tools.pocket.world import Scene, render


def sprite(x, colour="red", style="plain", y=32.0):
    return as_bytes(render([Scene(colour, "disc", "right", style, x, y, 0.0)], [(x, y)]))


def alike(one, other):
    first, second = SmallEmbedder().images(np.concatenate([one, other]))
    return float(first @ second)


def test_rows_have_length_one_and_are_fp32_and_texts_have_none():
    rows = SmallEmbedder().images(np.stack([texture(0, 64, 96), np.zeros((64, 96, 3), np.uint8)]))
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(2))
    assert SmallEmbedder().text("a red disc") is None


def test_a_picture_is_like_itself_and_a_copy_of_another_size():
    picture = texture(0, 128, 128)[None]
    large = np.asarray(Image.fromarray(picture[0]).resize((256, 256), Image.Resampling.BICUBIC))[None]
    assert alike(picture, picture) == pytest.approx(1, abs=1e-5)
    assert alike(picture, large[:, ::2, ::2]) > 0.9


def test_a_picture_alone_has_the_row_that_it_has_among_others():
    pictures = np.concatenate([sprite(20), sprite(40)])
    assert torch.equal(SmallEmbedder().images(pictures)[1:], SmallEmbedder().images(pictures[1:]))


def test_the_farther_a_sprite_has_gone_the_less_alike_it_is_and_colour_and_ground_count():
    here = sprite(20)
    near, far = alike(here, sprite(22)), alike(here, sprite(40))
    assert 1 > near > 0.93 > far
    assert alike(here, sprite(20, "blue")) < 0.98
    assert alike(here, sprite(20, style="lilac")) < 0.9
    assert alike(here, sprite(44)) > alike(here, sprite(44, style="lilac")) + 0.1


def test_colours_are_known_again_in_another_place():
    halves = np.zeros((1, 64, 64, 3), np.uint8)
    halves[:, :, :32, 0] = halves[:, :, 32:, 2] = 255
    assert alike(halves, halves[:, :, ::-1].copy()) > 0.6  # the same shape and the same colours, elsewhere


def test_grain_too_faint_to_see_is_no_shape():
    plain = np.full((1, 64, 64, 3), 200, np.uint8)
    grainy = plain.copy()
    grainy[:, ::2, ::2] += 1
    assert alike(plain, grainy) > 0.99


WORDS = ["<|startoftext|>", "<|endoftext|>", "fox</w>", "red</w>", "r", "e", "d</w>", "re", "f", "o", "x</w>", "fo"]
MERGES = "#version: 0.2\nr e\nre d</w>\nf o\nfo x</w>\n"


SMALL = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
PICTURES = SMALL | {"image_size": 32, "patch_size": 16}
TEXTS = SMALL | {"vocab_size": len(WORDS), "max_position_embeddings": 8, "bos_token_id": 0, "eos_token_id": 1}


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny-clip"
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(text_config=TEXTS, vision_config=PICTURES, projection_dim=12)).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(WORDS)}))
    (folder / "merges.txt").write_text(MERGES)
    return folder


@pytest.fixture(scope="module")
def dino_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny-dino"
    torch.manual_seed(0)
    ViTModel(ViTConfig(**PICTURES), add_pooling_layer=False).save_pretrained(folder)
    return folder


def normed(picture, mean, std):
    return ((torch.from_numpy(picture) / 255 - torch.tensor(mean)) / torch.tensor(std)).permute(2, 0, 1)[None]


@torch.no_grad()
def test_clip_gives_what_transformers_gives(clip_folder):
    embedder, picture = load_embedder(clip_folder), texture(0, 32, 32)
    values = normed(picture, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
    text = {"input_ids": torch.tensor([[0, 3, 2, 1]]), "attention_mask": torch.ones(1, 4)}
    whole = CLIPModel.from_pretrained(clip_folder)(pixel_values=values, **text)
    torch.testing.assert_close(embedder.images(picture[None]), whole.image_embeds)
    torch.testing.assert_close(embedder.text("red fox"), whole.text_embeds[0])
    assert (embedder.kind, embedder.name) == ("CLIP", "CLIP (tiny-clip)")


@torch.no_grad()
def test_dino_gives_the_class_tokens_row(dino_folder):
    embedder, picture = load_embedder(dino_folder), texture(0, 32, 32)
    values = normed(picture, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    token = ViTModel.from_pretrained(dino_folder)(pixel_values=values).last_hidden_state[:, 0]
    torch.testing.assert_close(embedder.images(picture[None]), torch.nn.functional.normalize(token, dim=1))
    assert embedder.text("red fox") is None


@pytest.mark.parametrize("folder", ["clip_folder", "dino_folder"])
def test_the_middle_of_a_picture_is_seen_whatever_its_shape(folder, request):
    embedder = load_embedder(request.getfixturevalue(folder))
    wide = texture(0, 32, 64)
    other = wide.copy()
    other[:, :12] = 0
    other[:, -12:] = 255
    first, second, middle = (embedder.images(each[None]) for each in (wide, other, wide[:, 16:48]))
    assert torch.equal(first, second)
    torch.testing.assert_close(first, middle)


def test_more_pictures_than_one_batch_have_the_same_rows(dino_folder):
    embedder = load_embedder(dino_folder)
    pictures = np.stack([texture(seed, 32, 32) for seed in range(19)])
    torch.testing.assert_close(embedder.images(pictures)[18:], embedder.images(pictures[18:]))


def test_a_folder_without_words_takes_those_of_stable_diffusion(clip_folder, tmp_path):
    bare = shutil.copytree(clip_folder, tmp_path / "bare")
    (bare / "vocab.json").unlink()
    (bare / "merges.txt").unlink()
    config = CLIPConfig.from_pretrained(bare)
    config.text_config.update({"vocab_size": 49408, "bos_token_id": 49406, "eos_token_id": 49407})
    CLIPModel(config).save_pretrained(bare)
    embedder = load_embedder(bare)
    assert embedder.text("a red fox").shape == (12,)
    assert not torch.equal(embedder.text("a red fox"), embedder.text("a blue fox"))


@pytest.mark.parametrize(
    ("files", "says"),
    [
        *((files, "no config.json with a model type") for files in ({}, {"config.json": "{"}, {"config.json": "[]"})),
        ({"config.json": '{"model_type": "llama"}'}, "model of type llama. Choose a folder of CLIP"),
        ({"config.json": '{"model_type": "clip"}'}, "must contain its weights as model.safetensors"),
        ({"config.json": '{"model_type": "vit"}', "pytorch_model.bin": "x"}, "must contain its weights"),
    ],
)
def test_a_folder_that_is_no_embedder_is_refused(tmp_path, files, says):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(EvaluationError, match=says):
        load_embedder(tmp_path)
