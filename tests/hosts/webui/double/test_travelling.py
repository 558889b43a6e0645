"""Prompt travel on the way from a prompt to conditions; the parts of the WebUI that it meets are written out here."""

from __future__ import annotations

import copy
import re
import zlib
from collections import namedtuple
from types import SimpleNamespace

import pytest
import torch

from lib_animatediff import ClipError
from lib_animatediff.prompts.interpolate import slerp
from lib_animatediff.prompts.travel import Blend, read_travel

TOKENS, WIDTH = 77, 8
FRAMES = 6
SEASONS = "0: spring\n4: summer"

# ---- modules.prompt_parser

Schedule = namedtuple("Schedule", ["end_at_step", "cond"])


class Composable:
    def __init__(self, schedules, weight=1.0):
        self.schedules, self.weight = schedules, weight


class Multicond:
    def __init__(self, shape, batch):
        self.shape, self.batch = shape, batch


class DictWithShape(dict):
    """Takes a shape, too, which it does not keep."""

    def __init__(self, x, shape=None):
        super().__init__()
        self.update(x)

    @property
    def shape(self):
        return self["crossattn"].shape


def condition(text, *, xl=False):
    """Noise that the text decides; a word "long" takes one chunk more each time."""
    generator = torch.Generator().manual_seed(zlib.crc32(text.strip().encode()))
    tokens = torch.randn((1 + text.count("long")) * TOKENS, WIDTH, generator=generator)
    return {"crossattn": tokens, "vector": torch.randn(2 * WIDTH, generator=generator)} if xl else tokens


EMPTY = condition("")[None]


def learned(prompts, *, xl=False):
    """Rows with the same text share one schedule."""
    known = {text: [Schedule(20, condition(text, xl=xl))] for text in prompts}
    return [known[text] for text in prompts]


def multicond(prompts, *, xl=False):
    parts = [re.split(r"\bAND\b", prompt) for prompt in prompts]
    known = {text: [Schedule(20, condition(text, xl=xl))] for row in parts for text in row}
    return Multicond((len(prompts),), [[Composable(known[text]) for text in row] for row in parts])


def entries_of(conditioning):
    """Those of the first step: prompt by prompt, each with its parts side by side."""
    rows = conditioning.batch if isinstance(conditioning, Multicond) else [[Composable(row)] for row in conditioning]
    return [part.schedules[0].cond for row in rows for part in row]


def reconstructed(conditioning):
    """What reaches the denoiser's callback."""
    entries = entries_of(conditioning)
    if isinstance(entries[0], dict):
        return DictWithShape({name: stacked([entry[name] for entry in entries]) for name in entries[0]})
    return stacked(entries)


def stacked(entries):
    """`stack_conds`: the last token of a shorter one is repeated."""
    longest = max(len(entry) for entry in entries)
    return torch.stack([torch.cat([e, e[-1:].repeat(longest - len(e), *[1] * (e.dim() - 1))]) for e in entries])


def part_of(prompt, part):
    return re.split(r"\bAND\b", prompt)[part]


# ---- modules.styles


class Styles:
    """Two texts for each name."""

    def __init__(self, **styles):
        self.styles = styles

    def apply_styles_to_prompt(self, prompt, names):
        return self._applied(prompt, [self.styles[name][0] for name in names])

    def apply_negative_styles_to_prompt(self, prompt, names):
        return self._applied(prompt, [self.styles[name][1] for name in names])

    def _applied(self, prompt, texts):
        for text in texts:
            if "{prompt}" in text:
                prompt = text.replace("{prompt}", prompt)
            else:
                prompt = ", ".join(filter(None, (prompt.strip(), text.strip())))
        return prompt


@pytest.fixture
def glue(webui):
    """Our functions, in a WebUI that has styles and leaves out comments."""
    webui.module("shared").opts.enable_prompt_comments = True
    webui.module("shared").prompt_styles = Styles(
        photo=("photo of {prompt}, sharp", "blurry"), plain=("", "drawing"), twice=("{prompt}, {prompt}", "")
    )
    return webui.module("clip.prompt_travel")


def request(**fields):
    return SimpleNamespace(**{"prompt": "a cat", "negative_prompt": "", "styles": ["photo", "plain"], **fields})


def test_a_request_without_travel_is_left_to_the_webui(glue):
    p = request(prompt=["a cat", "16:9"], enable_hr=True, hr_prompt="", hr_negative_prompt="")
    assert glue.styled(p) == {}
    assert not glue.check_prompts(p, FRAMES)
    p = request(prompt=SEASONS, styles=[])
    assert glue.styled(p) == {}
    assert glue.check_prompts(p, FRAMES)


def test_styles_reach_every_frame_and_all_other_prompts(glue):
    p = request(prompt=SEASONS, enable_hr=True, hr_prompt="a dog", hr_negative_prompt="")
    before = copy.deepcopy(vars(p))
    fields = glue.styled(p)
    assert vars(p) == before
    assert fields == {
        "styles": [],
        "prompt": f"photo of\n{SEASONS}\nsharp",
        "negative_prompt": "blurry, drawing",
        "hr_prompt": "photo of a dog, sharp",
    }
    assert read_travel(fields["prompt"], FRAMES).prompts()[5] == "photo of, summer, sharp"


def test_a_negative_prompt_travels(glue):
    """In the existing extension it does not."""
    p = request(negative_prompt=SEASONS)
    assert glue.check_prompts(p, FRAMES)
    assert glue.styled(p)["negative_prompt"] == f"{SEASONS}\nblurry, drawing"
    assert glue.styled(p)["prompt"] == "photo of a cat, sharp"
    with pytest.raises(ClipError, match='Line 2 of the negative prompt, "9: b": the clip has no frame 9'):
        glue.check_prompts(request(negative_prompt="0: a\n9: b"), FRAMES)


def test_a_list_of_prompts_travels(glue):
    """In the existing extension a list, as styles and wildcards make it, switches travel off without a word."""
    p = request(prompt=[SEASONS, "a dog"], negative_prompt=["", "x"])
    assert glue.check_prompts(p, FRAMES)
    fields = glue.styled(p)
    assert fields["prompt"] == [f"photo of\n{SEASONS}\nsharp", "photo of a dog, sharp"]
    assert fields["negative_prompt"] == ["blurry, drawing", "x, blurry, drawing"]
    with pytest.raises(ClipError, match="Line 1 of the prompt"):
        glue.check_prompts(request(prompt=["a dog", "9: b"]), FRAMES)


@pytest.mark.parametrize(("enable_hr", "is_asked"), [(True, True), (False, False)])
def test_prompts_of_the_second_pass_count_where_there_is_one(glue, enable_hr, is_asked):
    p = request(enable_hr=enable_hr, hr_prompt="", hr_negative_prompt=SEASONS)
    assert glue.check_prompts(p, FRAMES) is is_asked
    assert bool(glue.styled(p)) is is_asked


def test_comments_are_no_lines_of_the_map(glue, webui):
    text = "# my map\n0: spring # mild\n# later\n4: summer\n# 9: autumn"
    p = request(prompt=text)
    assert glue.check_prompts(p, FRAMES)
    travel = read_travel(glue.styled(p)["prompt"], FRAMES)
    assert [key.text for key in travel.keys] == ["spring", "summer"]
    assert travel.tail == "sharp"
    with pytest.raises(ClipError, match='Line 5 of the prompt, "9: autumn"'):
        glue.check_prompts(request(prompt=text.replace("# 9", "9")), FRAMES)
    webui.module("shared").opts.enable_prompt_comments = False
    with pytest.raises(ClipError, match='begins in line 3, "# later"'):
        glue.check_prompts(p, FRAMES)


@pytest.mark.parametrize("has_option", [True, False], ids=["Forge Neo", "reForge"])
def test_comments_with_slashes_are_no_travel(webui, glue, has_option):
    def strip_comments(text):
        return re.sub(r"(#|//).*", "", re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL))

    script = SimpleNamespace(strip_comments=strip_comments)
    path = "modules/processing_scripts/comments.py"
    webui.module("scripts").scripts_data.append(SimpleNamespace(path=path, module=script))
    if not has_option:
        del webui.module("shared").opts.data["enable_prompt_comments"]
    p = request(prompt="// my map\n0: spring // mild\n/* 3: hail\n9: snow */\n4: summer # hot")
    assert [key.text for key in read_travel(glue.styled(p)["prompt"], FRAMES).keys] == ["spring", "summer"]
    p.prompt += "\n9: autumn"
    with pytest.raises(ClipError, match='Line 6 of the prompt, "9: autumn"'):
        glue.check_prompts(p, FRAMES)


def test_a_style_that_repeats_the_prompt_is_refused(glue):
    assert glue.styled(request(styles=["twice"])) == {}
    with pytest.raises(ClipError, match=r"twice has \{prompt\} more than once"):
        glue.styled(request(prompt=SEASONS, styles=["twice"]))


def test_rows_become_their_frames_prompts(glue):
    rows = [f"girl\n{SEASONS}"] * FRAMES + ["a dog"] * FRAMES + ["0: x"] * FRAMES
    prompts, travels = glue.frame_prompts(rows, FRAMES)
    assert prompts == ["girl, spring"] * 4 + ["girl, summer"] * 2 + ["a dog"] * FRAMES + ["x"] * FRAMES
    assert [travel and len(travel.keys) for travel in travels] == [2, None, 1]
    with pytest.raises(ClipError, match="Line 1 of the negative prompt"):
        glue.frame_prompts(["9: x"] * FRAMES, FRAMES, "negative prompt")


def test_keys_must_have_as_many_parts(glue):
    same = "a AND b\n0: x AND y\n4: z AND 0\nc"
    glue.check_parts(read_travel(same, FRAMES))
    wrong = "a AND b\n4: z AND 0\n0: x\nc"
    with pytest.raises(ClipError, match=r'Line 2 of the hires prompt, "4: z AND 0": .*3 parts .*, but 2 with line 3\.'):
        glue.check_parts(read_travel(wrong, FRAMES), "hires prompt")
    with pytest.raises(ClipError, match="parts joined with AND"):
        glue.frame_prompts([wrong] * FRAMES, FRAMES)
    with pytest.raises(ClipError, match="parts joined with AND"):
        glue.check_prompts(request(prompt=wrong), FRAMES)


@pytest.mark.parametrize("make", [learned, multicond])
@pytest.mark.parametrize("xl", [False, True], ids=["tensors", "SDXL"])
def test_short_conditions_are_filled_with_the_empty_prompts_and_equal_lengths_left_alone(glue, make, xl):
    equal = make(["a", "b"], xl=xl)
    assert glue.pad_conditionings(equal, EMPTY, [range(2)]) is equal
    prompts = ["a", "b long long", "a", "c long", "d"] + (["x AND y long"] if make is multicond else [])
    cached = make(prompts, xl=xl)
    before = copy.deepcopy(entries_of(cached))
    evened = glue.pad_conditionings(cached, EMPTY, [range(4)])
    assert type(evened) is type(cached)
    assert evened is not cached
    torch.testing.assert_close(entries_of(cached), before, rtol=0, atol=0)
    texts = [text for prompt in prompts for text in prompt.split("AND")]
    for entry, text in zip(entries_of(evened), texts, strict=True):
        chunks = [condition(text, xl=xl)["crossattn"] if xl else condition(text)]
        chunks += [EMPTY[0]] * (2 - text.count("long")) * (prompts.index(text) < 4 if text in prompts else False)
        assert torch.equal(entry["crossattn"] if xl else entry, torch.cat(chunks))
        assert not xl or torch.equal(entry["vector"], condition(text, xl=True)["vector"])
    if make is multicond:
        assert evened.shape == (6,)
        assert [len(row) for row in evened.batch] == [1, 1, 1, 1, 1, 2]
        assert evened.batch[0][0].schedules is evened.batch[2][0].schedules
    else:
        assert evened[0] is evened[2]


def test_every_step_of_a_schedule_is_filled_in_its_dtype_and_parts_keep_their_weights(glue):
    steps = [Schedule(5, condition("a").half()), Schedule(20, condition("b long").half())]
    conditioning = Multicond((2,), [[Composable(steps, 0.5)], [Composable(learned(["c long"])[0], 2.0)]])
    (one,), (other,) = glue.pad_conditionings(conditioning, EMPTY, [range(2)]).batch
    assert [(entry.end_at_step, *entry.cond.shape) for entry in one.schedules] == [(5, 154, WIDTH), (20, 154, WIDTH)]
    assert one.schedules[0].cond.dtype == torch.float16
    assert one.schedules[1].cond is steps[1].cond
    assert (one.weight, other.weight) == (0.5, 2.0)


def test_without_travel_the_conditions_are_not_touched(glue):
    cond = reconstructed(multicond(["a"] * FRAMES))
    assert glue.blended(cond, [None], FRAMES, "slerp") is cond


@pytest.mark.parametrize("xl", [False, True], ids=["tensors", "SDXL"])
@pytest.mark.parametrize("interpolation", ["slerp", "step"])
def test_from_prompts_to_blended_conditions(glue, webui, xl, interpolation):
    """Three clips: three parts, one that stands still, two parts; every row against its own keys, part by part."""
    clips = [
        "head AND tree\n0: spring AND sun\n3: summer long AND sea\ntail",
        "a dog",
        "1: up AND down long long\n5: left AND right",
    ]
    rows = [text for text in clips for _ in range(FRAMES)]
    prompts, travels = glue.frame_prompts(rows, FRAMES)
    blends = [travel and travel.blends(interpolation, closed=True) for travel in travels]
    parts = webui.module("clip.batching").parts_of(prompts)
    travelling = [range(FRAMES), range(2 * FRAMES, 3 * FRAMES)]
    cond = reconstructed(glue.pad_conditionings(multicond(prompts, xl=xl), EMPTY, travelling))
    found = glue.blended(cond, blends, FRAMES, interpolation, parts)
    assert type(found) is type(cond)
    assert found.shape == cond.shape

    def of(prompt, part, others):
        """A part is filled with the empty prompt up to the longest of its clip's, the rest is the WebUI's."""
        entry = condition(part_of(prompt, part), xl=xl)
        tokens = entry["crossattn"] if xl else entry
        longest = max(len(condition(part_of(other, part))) for other in others)
        filled = torch.cat([tokens, *[EMPTY[0]] * ((longest - len(tokens)) // TOKENS)])
        filled = torch.cat([filled, filled[-1:].repeat(3 * TOKENS - len(filled), 1)])
        return {"crossattn": filled, "vector": entry["vector"]} if xl else {"": filled}

    row = 0
    for clip, travel in enumerate(travels):
        for frame in range(FRAMES):
            blend = blends[clip][frame] if travel else Blend(frame, frame, 0.0)
            texts = travel.prompts() if travel else [clips[clip]] * FRAMES
            for part in range((3, 1, 2)[clip]):
                one, other = (of(texts[key], part, texts) for key in (blend.first, blend.second))
                for name in one:
                    entry = found[name][row] if xl else found[row]
                    if blend.weight:
                        assert torch.allclose(entry, slerp(one[name], other[name], blend.weight), atol=1e-5)
                    else:
                        assert torch.equal(entry, one[name])
                row += 1
    assert row == found.shape[0] == FRAMES * 6


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0: a AND b :0.2\n4: a AND b :1.0", "weights of its parts differ"),
        ("0: a AND b :0.2\n4: a AND b :0.2\nbest quality", "weight at the end of this line"),
    ],
)
def test_weights_that_would_be_lost_are_refused(glue, text, words):
    with pytest.raises(ClipError, match=words):
        glue.frame_prompts([text] * FRAMES, FRAMES)


def test_equal_weights_stay(glue):
    prompts, _ = glue.frame_prompts(["x :0.5 AND\n0: a\n4: b"] * FRAMES, FRAMES)
    assert prompts[0] == "x :0.5 AND a"


def test_negative_conditions_are_blended_row_by_row(glue):
    travel = read_travel(SEASONS, FRAMES)
    uncond = reconstructed(learned([*travel.prompts(), *map(str, range(FRAMES))]))
    found = glue.blended(uncond, [travel.blends(), None], FRAMES, "linear")
    assert torch.allclose(found[1], torch.lerp(condition("spring"), condition("summer"), 0.25))
    assert torch.equal(found[4:], uncond[4:])  # of the other clip, too, which has no keys


def test_conditions_that_another_extension_laid_out_are_refused(glue):
    travel = read_travel(SEASONS, FRAMES)
    with pytest.raises(ClipError, match="conditions for 7 rows instead of 6: another extension"):
        glue.blended(torch.zeros(7, TOKENS, WIDTH), [travel.blends()], FRAMES, "slerp")
