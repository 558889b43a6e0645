"""Prompt travel in the real WebUI: every frame is given its own prompt, in both prompts and both passes."""

from __future__ import annotations

import json

import numpy
import pytest
from support.webui_real.clicking import choose, fill, generate, pasted, prepare_clip, slide
from support.webui_real.clips import FRAMES, animate, clip_payload
from support.webui_real.server import LORA, PAYLOAD, STYLE
from support.webui_real.studio import FLOAT_ORDER, conditions_of, decoded, frames_of, made_from, preview_of, with_text

MIDDLES = {0: "a red cat", 4: "a blue dog", 7: "a green picture of the garden"}
TRAVEL = "a photo\n" + "\n".join(f"{frame}: {text}" for frame, text in MIDDLES.items()) + "\nin the garden"
WHOLE = {frame: f"a photo, {text}, in the garden" for frame, text in MIDDLES.items()}
LONG = "of the red garden " * 12  # two chunks of 75
STILL = {"effect": 0}  # each frame is a picture of its own
HIRES = {"enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "Latent", "denoising_strength": 0.7}
EXACT = 1e-5  # conditions in another batch


@pytest.fixture(scope="module")
def told(studio):
    """Returns a function: the condition that the WebUI makes of a prompt, by itself."""
    known = {}

    def condition(prompt: str) -> numpy.ndarray:
        if prompt not in known:
            known[prompt] = conditions_of(studio, {"frames": 1}, prompt=prompt, steps=1)[0][0]
        return known[prompt]

    return condition


def slerp(one: numpy.ndarray, other: numpy.ndarray, part: float) -> numpy.ndarray:
    """Token by token along the arc between them."""
    one, other = one.astype(float), other.astype(float)
    lengths = numpy.linalg.norm(one, axis=-1, keepdims=True) * numpy.linalg.norm(other, axis=-1, keepdims=True)
    cosine = (one * other).sum(-1, keepdims=True) / lengths
    angle = numpy.arccos(numpy.clip(cosine, -1, 1))
    straight = abs(cosine) > 0.9995
    sine = numpy.where(straight, 1, numpy.sin(angle))
    arc = (numpy.sin((1 - part) * angle) * one + numpy.sin(part * angle) * other) / sine
    return numpy.where(straight, (1 - part) * one + part * other, arc)


def fade(one: numpy.ndarray, other: numpy.ndarray, part: float) -> numpy.ndarray:
    return (1 - part) * one.astype(float) + part * other.astype(float)


def stand(one: numpy.ndarray, _other: numpy.ndarray, _part: float) -> numpy.ndarray:
    return one


def eased(part: float) -> float:
    return part * part * (3 - 2 * part)


# Of each frame: the keys before and after it, and how far it is on the way.
THREE_KEYS = [(0, 4, i / 4) for i in range(4)] + [(4, 7, i / 3) for i in range(3)] + [(7, 7, 0)]
EASED = [(a, b, eased(part)) for a, b, part in THREE_KEYS]
HELD = [(a, b, max(part - 0.5, 0) / 0.5) for a, b, part in THREE_KEYS]
LOOP = [(0, 4, i / 4) for i in range(4)] + [(4, 7, 0), (4, 7, 0.5), (7, 0, 0), (7, 0, 0.5)]
RANGES = [(0, 0, 0)] * 3 + [(0, 4, 0.5)] + [(4, 4, 0)] * 3 + [(7, 7, 0)]
IN_RANGES = TRAVEL.replace("0:", "0%-2:").replace("4:", "4 hold:").replace("7:", "-1:")
WAYS = {
    "slerp": ({}, slerp, TRAVEL, THREE_KEYS),
    "linear, eased": ({"travel_interpolation": "linear", "travel_easing": "ease-in-out"}, fade, TRAVEL, EASED),
    "step": ({"travel_interpolation": "step"}, stand, TRAVEL, THREE_KEYS),
    "held for half of the way": ({"travel_hold": 0.5}, slerp, TRAVEL, HELD),
    "closed loop": ({"closed_loop": "A"}, slerp, TRAVEL.replace("7:", "6:"), LOOP),
    "ranges, parts of the clip, words of a line": ({}, slerp, IN_RANGES, RANGES),
}


@pytest.mark.shows(
    "Prompt travel: each frame its own prompt, positive and negative, mixed as the formula says: "
    "slerp, linear, step, easing, hold, ranges, percent, closed loop"
)
@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
@pytest.mark.parametrize("way", WAYS)
def test_every_frame_is_given_what_the_formula_says(studio, told, way, field):
    settings, mix, prompt, ways = WAYS[way]
    other_field = ({"prompt", "negative_prompt"} - {field}).pop()
    calls = conditions_of(studio, settings, **{field: prompt, other_field: "a dog"}, steps=2)
    wanted = numpy.stack([mix(told(WHOLE[a]), told(WHOLE[b]), part) for a, b, part in ways])
    rows, others = (slice(FRAMES), slice(FRAMES, None)) if field == "prompt" else (slice(FRAMES, None), slice(FRAMES))
    assert len(calls) == 2
    for call in calls:
        assert len(call) == 2 * FRAMES
        assert abs(call[rows] - wanted).max() < EXACT
        assert abs(call[others] - told("a dog")).max() < EXACT


@pytest.mark.shows("Prompt travel: a key of more than 75 tokens")
def test_a_key_beyond_75_tokens(studio, told):
    """One key's prompt is longer than the others: these are filled up with the empty prompt, and mixed with it."""
    middle = f"a blue dog {LONG}"
    prompt = f"0: a red cat\n4: {middle}"
    call = conditions_of(studio, prompt=prompt, steps=1)[0][:FRAMES]  # uncond has a call of its own, or comes after
    filled = numpy.concatenate([told("a red cat"), told("")])
    assert told(middle).shape == filled.shape
    wanted = [slerp(filled, told(middle), min(frame / 4, 1)) for frame in range(FRAMES)]
    assert abs(call - numpy.stack(wanted)).max() < EXACT


TAG = f"<lora:{LORA}:0.7>"
KEYS = "0: {}\n4: {}"
WRITTEN = {
    "head and tail": (TRAVEL, "a photo, {}, in the garden", {}),
    "LoRA in the head": (f"a photo {TAG}\n{KEYS}", f"a photo {TAG}, {{}}", {}),
    "LoRA in the tail": (f"{KEYS}\nin the garden {TAG}", f"{{}}, in the garden {TAG}", {}),
    "AND in the head": (f"a red cat AND a dog :0.6 AND\n{KEYS}", "a red cat AND a dog :0.6 AND {}", {}),
    "AND in the tail": (f"{KEYS}\nAND a dog in the garden :0.6", "{} AND a dog in the garden :0.6", {}),
    "AND in keys": ("0: {} AND a dog\n4: {} AND a dog", "{} AND a dog", {}),
    "scheduled": (f"a [red:blue:0.5] photo\n{KEYS}", "a [red:blue:0.5] photo, {}", {}),
    "DDIM": (KEYS, "{}", {"sampler_name": "DDIM"}),
    "hires fix": (KEYS, "{}", HIRES),
    "NGMS": (KEYS, "{}", {"s_min_uncond": 40}),
    "cond and uncond apart": (KEYS, "{}", {"override_settings": {"batch_cond_uncond": False}}),
    "over 75 tokens": (f"{KEYS}\n{LONG}", f"{{}}, {LONG}", {}),
    "comments": (f"a photo # of\n# 2: a dog\n{KEYS} # and", "a photo, {}", {}),
}


@pytest.mark.shows(
    "Prompt travel: head, tail, LoRA, AND, scheduled words, comments, hires fix, NGMS: a key's "
    "frame is its prompt's picture"
)
@pytest.mark.parametrize(("travel", "whole", "request_"), WRITTEN.values(), ids=WRITTEN)
def test_a_keys_frame_is_the_picture_of_its_whole_prompt(studio, travel, whole, request_):
    written = travel if travel == TRAVEL else travel.format(MIDDLES[0], MIDDLES[4])
    frames = frames_of(studio, STILL, prompt=written, negative_prompt="0: a dog\n4: a cat", **request_)
    for frame, negative in ((0, "a dog"), (4, "a cat")):
        seeded = {"prompt": whole.format(MIDDLES[frame]), "negative_prompt": negative, "seed": 1 + frame}
        picture = preview_of(studio, **seeded, **request_)
        assert abs(frames[frame] - picture).max() < FLOAT_ORDER
        assert abs(frames[2] - picture).max() > 0.02


@pytest.mark.shows("Prompt travel: a hires prompt that travels by itself")
def test_the_second_pass_travels_by_its_own_prompt(studio, told):
    hires = {**HIRES, "hr_prompt": "0: a red cat\n4: a blue dog", "hr_negative_prompt": "0: a dog\n4: a cat"}
    calls = conditions_of(studio, STILL, **hires)
    frames = decoded(studio)
    for number, pair in ((2, ("a red cat", "a blue dog")), (FRAMES + 2, ("a dog", "a cat"))):
        assert abs(calls[-1][number] - slerp(*map(told, pair), 0.5)).max() < EXACT
    assert abs(calls[0][:FRAMES] - told(PAYLOAD["prompt"])).max() < EXACT
    for frame, prompt, negative in ((0, "a red cat", "a dog"), (4, "a blue dog", "a cat")):
        second = {**HIRES, "hr_prompt": prompt, "hr_negative_prompt": negative, "seed": 1 + frame}
        assert abs(frames[frame] - preview_of(studio, **second)).max() < FLOAT_ORDER


@pytest.mark.shows("Prompt travel: in context windows")
def test_in_windows_a_frame_keeps_its_prompt(studio):
    clip = {**STILL, "frames": 12, "context_length": 8, "overlap": 3}
    frames = frames_of(studio, clip, prompt="0: a red cat\n9: a blue dog", steps=2)
    for frame, prompt in ((0, "a red cat"), (9, "a blue dog"), (11, "a blue dog")):
        picture = preview_of(studio, prompt=prompt, seed=1 + frame, steps=2)
        assert abs(frames[frame] - picture).max() < FLOAT_ORDER
    assert abs(frames[4] - preview_of(studio, prompt="a red cat", seed=5, steps=2)).max() > 0.02


@pytest.mark.shows("Prompt travel: in img2img")
def test_img2img_travels(studio):
    start = studio.txt2img()["images"][0]

    def painted(prompt: str) -> numpy.ndarray:
        studio.img2img(**clip_payload(STILL, init_images=[start], denoising_strength=0.8, prompt=prompt))
        return decoded(studio)

    painted("a cat")  # the encoder draws from the generator as the former request has left it
    frames, cat, dog = map(painted, ("0: a red cat\n4: a blue dog", "a red cat", "a blue dog"))
    assert abs(frames[0] - cat[0]).max() < FLOAT_ORDER
    assert abs(frames[4:] - dog[4:]).max() < FLOAT_ORDER
    assert min(abs(frames[1:4] - other[1:4]).max() for other in (cat, dog)) > 0.02


@pytest.mark.shows("Prompt travel: batch count and batch size")
@pytest.mark.parametrize("more", ["", "\nAND a photo :0.5\n"], ids=["one part", "AND"])
def test_two_batches_of_two_clips_travel_alike(studio, more):
    clip = {"frames": 4}
    prompts = {"prompt": f"a photo\n0: a red cat\n-1: a blue dog{more.rstrip()}", "negative_prompt": "0: red\n3: blue"}
    answer = animate(studio, clip, **prompts, batch_size=2, n_iter=2, steps=2)
    frames, info = decoded(studio), json.loads(answer["info"])
    assert len(frames) == 16
    assert info["all_prompts"] == [prompts["prompt"]] * 4
    for number in range(4):
        start = f"{prompts['prompt']}\nNegative prompt: {prompts['negative_prompt']}\nSteps: "
        assert info["infotexts"][number].startswith(start)
        alone = frames_of(studio, clip, **prompts, seed=1 + 4 * number, steps=2)
        assert abs(frames[4 * number : 4 * number + 4] - alone).max() < FLOAT_ORDER


@pytest.mark.shows("Prompt travel: styles reach every frame")
def test_a_style_reaches_every_frame(studio):
    styled = frames_of(studio, prompt=TRAVEL, negative_prompt="0: a dog\n4: a cat", styles=[STYLE])
    written = frames_of(studio, prompt=f"{TRAVEL}, blue", negative_prompt="0: a dog\n4: a cat\nred")
    assert (styled == written).all()


@pytest.mark.shows("Prompt travel: one key is the plain prompt, bit for bit")
def test_one_line_for_frame_0_is_the_plain_prompt(studio):
    plain = frames_of(studio)
    assert (frames_of(studio, prompt=f"0: {PAYLOAD['prompt']}") == plain).all()
    assert abs(frames_of(studio, prompt=f"0: {PAYLOAD['prompt']}\n7: a dog") - plain).max() > 0.02


FULL = {"prompt": TRAVEL, "negative_prompt": "red\n0: a dog\n50%: a cat"}


@pytest.mark.shows("Prompt travel: the clip's text has what the user wrote, and gives the clip again")
def test_the_text_holds_what_the_user_wrote_and_gives_the_same_clip(studio):
    settings = {"travel_interpolation": "linear", "travel_easing": "ease-out", "travel_hold": 0.2}
    frames, text = with_text(studio, settings, **FULL)
    assert text.startswith(f"{FULL['prompt']}\nNegative prompt: {FULL['negative_prompt']}\nSteps: ")
    assert all(f"{name}: {value}" in text for name, value in settings.items())
    assert (made_from(studio, text) == frames).all()


@pytest.mark.shows("Prompt travel: by clicking and by pasting")
def test_a_travel_by_clicking(studio, page):
    settings = {"travel_interpolation": "linear", "travel_easing": "ease-in", "travel_hold": 0.25, "frames": FRAMES}
    wanted, text = with_text(studio, settings, **FULL, sampler_name="DPM++ 2M")
    prepare_clip(page, studio, FRAMES)
    fill(page, {"txt2img_prompt": FULL["prompt"], "txt2img_neg_prompt": FULL["negative_prompt"]})
    choose(page, "travel_interpolation", "linear")
    choose(page, "travel_easing", "ease-in")
    slide(page, "travel_hold", 0.25)
    generate(page)
    assert (decoded(studio) == wanted).all()
    pasted(page, studio, text)
    assert (decoded(studio) == wanted).all()
