"""What the stages learn from: pictures, captions, weights of the loss, gradients of several processes."""

import pytest
import torch
from torch import nn

from tools.pocket.loop import stream
from tools.pocket.text import EMPTY_PHRASINGS, TextEncoder
from tools.village.draw import truth
from tools.village.scene import CONCEPTS, scene
from tools.village.words import known_words, parse
from tools.village_model import workers
from tools.village_model.base import REACH, around
from tools.village_model.inversion import Inversion, unsaid
from tools.village_model.latents import SIDE
from tools.village_model.pictures import crops, drawn, picture
from tools.village_model.probe import FIELDS, NOTHING, Probe, _worn
from tools.village_model.recipe import SIZE
from tools.village_model.text import written

SCENES = [scene(3, number) for number in range(200)]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return TextEncoder(0, tmp_path_factory.mktemp("tokenizer"), known_words())


def test_captions_say_what_the_scenes_show_or_nothing():
    texts = written(SCENES, stream("captions"), plain_share=0.5, empty_share=0.1)
    empty = [text in EMPTY_PHRASINGS for text in texts]
    assert 0.04 < sum(empty) / len(texts) < 0.18
    around_captions = ("best quality", "clip of", "sharp", "detailed", "masterpiece")
    for text, shown, nothing in zip(texts, SCENES, empty, strict=True):
        if not nothing:
            for words in around_captions:
                text = text.replace(words, "")
            assert parse(text.replace(",", " ")) == shown.concepts


def test_crops_hold_the_subject():
    shown = drawn(stream("crops"), ("plain", "ink"), 12, CONCEPTS)
    assert {each.style for each, _ in shown} == {"plain", "ink"}
    cut = crops(shown, 64, stream("jitter"))
    for (each, frame), part in zip(shown, cut, strict=True):
        whole = picture(each, frame)
        places = [
            (top, left)
            for top in range(SIZE - 63)
            for left in range(SIZE - 63)
            if torch.equal(whole[:, top : top + 64 : 9, left : left + 64 : 9], part[:, ::9, ::9])
        ]
        x, y = truth(each, SIZE)[frame]
        assert any(left < x < left + 64 and top < y < top + 64 for top, left in places)


def test_the_subject_weighs_more_and_the_mean_weight_is_1():
    weights = around(torch.tensor([[4.0, 9.0], [14.0, 2.0]]), 3.0)
    assert weights.shape == (2, 1, SIDE, SIDE)
    assert torch.allclose(weights.mean(dim=(1, 2, 3)), torch.ones(2))
    first = weights[0, 0]
    assert first[9, 4] == pytest.approx(4 * float(first[0, 15]))
    assert first[9, min(15, int(4 + REACH + 1))] == first[0, 15]
    assert torch.equal(around(torch.zeros(1, 2), 0.0), torch.ones(1, 1, SIDE, SIDE))


def test_vectors_of_an_inversion_stand_for_words(encoder):
    inversion = Inversion(encoder, 2, seed=0)
    table = encoder.model.get_input_embeddings().weight
    words = encoder.tokenizer.convert_tokens_to_ids(["night</w>", "snow</w>"])
    with torch.no_grad():
        inversion.vectors.copy_(table[words])
    assert torch.allclose(inversion(["a red car"]), encoder(["a red car, night snow"]), atol=1e-5)
    inversion(["a red car"]).sum().backward()
    assert inversion.vectors.grad.abs().min() > 0
    assert table.grad is None
    assert "night" not in unsaid({**SCENES[0].concepts, "time": "night"}, {"time": "night"})


def test_a_wiped_subject_is_gone():
    pictures = torch.stack([picture(each, 3, 64) for each in SCENES[:60]])
    middles = torch.tensor([truth(each, 1)[3] for each in SCENES[:60]])
    worn, wiped = _worn(pictures, middles, stream("worn"))
    assert 0 < int(wiped.sum()) < 20
    for row in range(60):
        x, y = (int(along * 64) for along in middles[row])
        changed = float((worn[row] - pictures[row])[:, y - 4 : y + 4, x - 4 : x + 4].abs().mean())
        assert (changed > 0.1) or not wiped[row]
    scores, places = Probe().eval()(worn[:2])
    assert scores["subject"].shape[1] == len(FIELDS["subject"])
    assert FIELDS["subject"][-1] == NOTHING
    assert ((places > 0) & (places < 1)).all()


def _gradients(path):
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    rows = torch.arange(12.0).view(4, 3) / 12
    mine = rows.chunk(workers.count())[workers.rank()]
    model(mine).square().mean().backward()
    workers.average_gradients(list(model.parameters()))
    torch.save([weight.grad for weight in model.parameters()], f"{path}.{workers.rank()}")


@pytest.mark.matrix
def test_gradients_of_two_processes_are_those_of_one_with_the_whole_batch(tmp_path):
    workers.spread(_gradients, 2, str(tmp_path / "two"))
    _gradients(str(tmp_path / "one"))
    wanted = torch.load(tmp_path / "one.0", weights_only=True)
    for number in range(2):
        for mine, theirs in zip(torch.load(tmp_path / f"two.{number}", weights_only=True), wanted, strict=True):
            assert torch.allclose(mine, theirs, atol=1e-7)
