"""What each way of directing a clip does, measured with the small built-in model, and a moving picture of each.

    python -m tools.benchmarks.features [PART ...]

Prints a Markdown table for each part and writes its picture into docs/images/features: those of docs/features.md. Size,
CFG and sampler as in docs/pocket.md, fixed seeds. All parts take about seven minutes on one core.
"""

from __future__ import annotations

import base64
import functools
import io
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import mean, median

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from lib_animatediff.builtin_model import POCKET
from lib_animatediff.hosts.diffusers.animate import animate
from lib_animatediff.hosts.diffusers.networks import LoraFile, with_motion_loras
from lib_animatediff.hosts.diffusers.pipeline import load_pipeline
from lib_animatediff.request.settings import clip_frames, context_windows, parse_settings
from lib_animatediff.video import Encoding, measure, write_clip
from motion_module import load_motion_module
from tools.pocket.evaluate import went
from tools.pocket.measure import Track, read, track
from tools.pocket.sampling import CFG, STEPS
from tools.pocket.world import SIZE, Concept, caption

PICTURES = Path(__file__).resolve().parents[2] / "docs" / "images" / "features"
MOST_BYTES = 100_000
SEED, SEEDS_APART = 11, 1000  # frame i takes seed + i
LONG, LONG_STEPS, LONG_QUALITY = 48, 12, 30  # as many steps and bytes as a clip of that length can have here
MOVING: tuple[Concept, ...] = (
    ("red", "disc", "right"),
    ("blue", "square", "left"),
    ("green", "cross", "up"),
    ("yellow", "square", "down"),
    ("blue", "disc", "up"),
    ("red", "square", "left"),
)
STANDING: tuple[Concept, ...] = tuple((colour, shape, "still") for colour, shape, _ in MOVING[:3])
ZOOM, GAP, LINE = 2, 6, 16  # of the pictures, in pixels
TEXT = (70, 70, 70)

Clip = list[Image.Image]


class Studio:
    """The built-in model; makes clips."""

    def __init__(self) -> None:
        self._folder = POCKET.folder
        self.pipeline = load_pipeline(self._folder / POCKET.checkpoint)
        self.pipeline.set_progress_bar_config(disable=True)
        self.motion = load_motion_module(self._folder / POCKET.motion)
        self.concept = functools.cache(self._concept)

    def _concept(self, number: int, concept: Concept) -> Clip:
        return self.clip(caption(concept), number)

    def clip(self, prompt: str, number: int = 0, pan: float = 0.0, steps: int = STEPS, **settings: object) -> Clip:
        """The clip of a prompt with the seed of a number."""
        checked = parse_settings(settings)
        added = [LoraFile(self._folder / POCKET.motion_loras[0], pan)] if pan else []
        return animate(
            self.pipeline,
            with_motion_loras(self.motion, added).motion,
            prompt=prompt,
            seed=SEED + number * SEEDS_APART,
            frames=clip_frames(checked),
            windows=context_windows(checked),
            settings=checked,
            size=(SIZE, SIZE),
            steps=steps,
            cfg=CFG,
        )


def tensor(clip: Clip) -> Tensor:
    """Frames, f c h w from 0 to 1."""
    rows = [torch.frombuffer(bytearray(frame.convert("RGB").tobytes()), dtype=torch.uint8) for frame in clip]
    return torch.stack(rows).reshape(len(clip), SIZE, SIZE, 3).permute(0, 3, 1, 2) / 255


# --------------------------------------------------------------------------------------------------------------------
# tables


def lines(head: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    cells = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in cells)


def _cell(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def paths(clips: Sequence[Clip], concepts: Sequence[Concept], towards: str = "") -> list[Track]:
    """How the sprite of each clip moves."""
    pairs = zip(clips, concepts, strict=True)
    return [track(tensor(clip), towards or concept[2]) for clip, concept in pairs]


def change_in(clip: Clip, columns: slice) -> float:
    """Mean difference of neighbouring frames in some columns, in levels of 255."""
    seen = tensor(clip)[..., columns]
    return 255 * float((seen[1:] - seen[:-1]).abs().mean())


def drift(clip: Clip, frames: int = 8) -> float:
    """How far the mean colour of the last frames is from that of the first ones, in levels of 255."""
    seen = tensor(clip).mean(dim=(2, 3))
    return 255 * float((seen[-frames:].mean(dim=0) - seen[:frames].mean(dim=0)).abs().mean())


# --------------------------------------------------------------------------------------------------------------------
# pictures


def write_picture(name: str, clips: dict[str, Clip], quality: int = 60) -> None:
    """Clips side by side under their names; a shorter one stands still at its end."""
    width, height = SIZE * ZOOM + GAP, SIZE * ZOOM + LINE + GAP
    frames = []
    for number in range(max(map(len, clips.values()))):
        canvas = Image.new("RGB", (width * len(clips) - GAP, height - GAP), "white")
        pen = ImageDraw.Draw(canvas)
        for column, (title, clip) in enumerate(clips.items()):
            picture = clip[min(number, len(clip) - 1)].resize((SIZE * ZOOM, SIZE * ZOOM), Image.Resampling.NEAREST)
            canvas.paste(picture, (column * width, LINE))
            pen.text((column * width + 2, 1), title, fill=TEXT, font=ImageFont.load_default(11))
        frames.append(canvas)
    (path,) = write_clip(PICTURES / f"{name}.webp", frames, fps=8, encoding=Encoding(quality=quality))
    size = path.stat().st_size
    assert size <= MOST_BYTES, f"{path.name} has {size} bytes, more than {MOST_BYTES}"


# --------------------------------------------------------------------------------------------------------------------
# the parts


def loras(studio: Studio) -> Iterator[str]:
    """The pan motion LoRA on sprites that stand: how far they drift to the right."""
    shown, rows = {}, []
    for strength in (-1.0, 0.0, 0.5, 1.0, 1.5):
        clips = [studio.clip(caption(each), number, pan=strength) for number, each in enumerate(STANDING)]
        ways = [path.displacement for path in paths(clips, STANDING, "right")]
        rows.append([f"{strength:g}", *ways, mean(ways)])
        shown[f"pan:{strength:g}"] = clips[1]
    write_picture("loras", shown)
    yield lines(["strength", *(" ".join(each[:2]) for each in STANDING), "mean, pixels"], rows)


TRAVELS: dict[str, tuple[str, dict[str, object]]] = {
    "8: blue": ("0: a red disc moving right\n8: a blue disc moving right", {}),
    "8: blue, step": (
        "0: a red disc moving right\n8: a blue disc moving right",
        {"travel_interpolation": "step"},
    ),
    "8: left": ("0: a red disc moving right\n8: a red disc moving left", {}),
    "8: left, step": ("0: a red disc moving right\n8: a red disc moving left", {"travel_interpolation": "step"}),
}


def travel(studio: Studio) -> Iterator[str]:
    """What each frame of a travelling prompt shows."""
    shown, rows = {"red, right": studio.concept(0, MOVING[0])}, []
    shown |= {name: studio.clip(prompt, **more) for name, (prompt, more) in TRAVELS.items()}
    write_picture("travel", shown)
    for name, clip in shown.items():
        readings = [read(frame) for frame in tensor(clip)]
        colours = "".join(each.concept[0][0] if each.found else "." for each in readings)
        headings = "".join(each.concept[2][0] if each.found else "." for each in readings)
        ways = [round(readings[at].x) for at in (0, 8, 15)]
        rows.append([name, f"`{colours}`", f"`{headings}`", " ".join(map(str, ways))])
    yield lines(["prompt", "colour of frames 0 to 15", "nose of frames 0 to 15", "x in frames 0, 8, 15"], rows)


AMOUNTS: tuple[dict[str, object], ...] = (
    {"effect": 0},
    {"effect": 0.5},
    {"effect": 0.8},
    {},
    {"scale": 0.5},
    {"scale": 0.7},
    {"scale": 1.3},
)


def amounts(studio: Studio) -> Iterator[str]:
    """How far sprites go, and how they look, by scale and effect."""
    shown, rows = {}, []
    for amount in AMOUNTS:
        name = ", ".join(f"{key} {value}" for key, value in amount.items()) or "as trained"
        clips = [
            studio.clip(caption(each), number, **amount) if amount else studio.concept(number, each)
            for number, each in enumerate(MOVING[:2])
        ]
        found = paths(clips, MOVING[:2])
        changes = mean(255 * path.change for path in found)
        ways, monotone = mean(path.displacement for path in found), mean(path.monotone for path in found)
        rows.append([name, ways, monotone, changes, subject_of(found, MOVING[:2])])
        shown[name] = clips[0]
    kept = ("effect 0", "effect 0.5", "as trained", "scale 0.5", "scale 1.3")
    write_picture("amounts", {name: shown[name] for name in kept})
    yield lines(["", "displacement", "monotone", "change", "subject"], rows)


def subject_of(found: Sequence[Track], concepts: Sequence[Concept]) -> float:
    """Share of the frames that show what the caption says."""
    return mean(path.share(concept) for path, concept in zip(found, concepts, strict=True))


def mask(studio: Studio) -> Iterator[str]:
    """Motion in the right half only."""
    half = Image.new("L", (SIZE, SIZE))
    half.paste(255, (SIZE // 2, 0, SIZE, SIZE))
    written = io.BytesIO()
    half.save(written, "PNG")
    masked = {"motion_mask": base64.b64encode(written.getvalue()).decode("ascii")}
    prompt = caption(MOVING[0])
    shown = {
        "no mask": studio.concept(0, MOVING[0]),
        "mask of effect": studio.clip(prompt, **masked),
        "shared noise": studio.clip(prompt, noise="shared", noise_share=0.8, **masked),
        "mask of scale, 0": studio.clip(prompt, mask_of="scale", scale=0, **masked),
    }
    write_picture("mask", {"the mask": [half.convert("RGB")], **shown})
    sides = (slice(0, SIZE // 2), slice(SIZE // 2, SIZE))
    rows = [[name, *(change_in(clip, side) for side in sides)] for name, clip in shown.items()]
    yield lines(["clip", "change in the left half", "change in the right half"], rows)


LONG_CLIPS: dict[str, dict[str, object]] = {
    "random": {},
    "freenoise": {"noise": "freenoise"},
    "shared 0.5": {"noise": "shared"},
    "constant": {"noise": "constant"},
    "views": {"views": True},
    "closed loop": {"closed_loop": "A"},
    "closed loop, views": {"closed_loop": "A", "views": True},
}


def long(studio: Studio) -> Iterator[str]:
    """Clips of 48 frames: kinds of noise, and views against windows."""
    concept = STANDING[0]
    shown, rows = {}, []
    for name, more in LONG_CLIPS.items():
        clip = studio.clip(caption(concept), steps=LONG_STEPS, frames=LONG, **more)
        shown[name] = clip
        settings = parse_settings({"frames": LONG, **more})
        windows = context_windows(settings)
        assert windows is not None
        motion = measure(clip, [window[0] for window in windows.plan(LONG, LONG_STEPS - 1)])
        path = track(tensor(clip), concept[2])
        seams = (motion.worst_seam or 0.0, motion.loop_seam)
        rows.append([name, path.displacement, *seams, 1000 * motion.usual, drift(clip), path.share(concept)])
    noises = ("random", "freenoise", "shared 0.5", "constant")
    write_picture("noise", {name: shown[name] for name in noises}, LONG_QUALITY)
    loops = ("random", "views", "closed loop", "closed loop, views")
    write_picture("views", {name.replace("random", "windows"): shown[name] for name in loops}, LONG_QUALITY)
    yield lines(["", "drift", "worst seam", "loop seam", "usual change, 1/1000", "colour drift", "subject"], rows)


DISCS: tuple[Concept, ...] = (
    ("red", "disc", "right"),
    ("blue", "disc", "left"),
    ("green", "disc", "up"),
    ("yellow", "disc", "down"),
    ("blue", "disc", "up"),
    ("red", "disc", "left"),
)
STILL: tuple[Concept, ...] = (
    *STANDING,
    ("yellow", "disc", "still"),
    ("blue", "disc", "still"),
    ("green", "square", "still"),
)
SEAMLESS = (0.8, 1.25)  # loop seams like the usual change


def loops(studio: Studio) -> Iterator[str]:
    """Loop seams of moving and standing sprites: long loops by noise, and clips of one window."""
    rows = []
    for noise in ("random", "freenoise"):
        seams = [
            _of_loop(studio, concept, number, frames=LONG, closed_loop="A", noise=noise)[0]
            for number, concept in enumerate(DISCS)
        ]
        rows.append([noise, *seams, median(seams)])
    yield lines(["", *(f"{colour} {heading}" for colour, _, heading in DISCS), "median"], rows)
    rows = []
    ways: dict[str, dict[str, object]] = {
        "no loop": {},
        "ping-pong": {"reverse": True},
        "closed loop": {"closed_loop": "A"},
    }
    for name, more in ways.items():
        for what, concepts in (("moving", MOVING), ("standing", STILL)):
            measured = [_of_loop(studio, concept, number, **more) for number, concept in enumerate(2 * concepts)]
            seams = [seam for seam, _, _ in measured]
            seamless = sum(SEAMLESS[0] <= seam <= SEAMLESS[1] for seam in seams)
            others = mean(greatest for _, greatest, _ in measured), mean(subject for _, _, subject in measured)
            rows.append([name, what, f"{seamless} of {len(seams)}", median(seams), *others])
    yield "\n" + lines(["", "sprites", "seamless", "median loop seam", "greatest / usual change", "subject"], rows)


def _of_loop(studio: Studio, concept: Concept, number: int, **settings: object) -> tuple[float, float, float]:
    """Loop seam of a clip, its greatest change by its usual one, and the share of frames with the subject."""
    clip = studio.clip(caption(concept), number, steps=LONG_STEPS, **settings)
    motion = measure(clip)
    greatest = max(*motion.changes, motion.loop) / motion.usual
    return motion.loop_seam, greatest, track(tensor(clip), concept[2]).share(concept)


FREEINIT_SHOWN = (MOVING[1], MOVING[2], MOVING[5])  # one that gets worse, one that stays, one that gets better


def freeinit(studio: Studio) -> Iterator[str]:
    """Three iterations against one."""
    rows, shown = [], {}
    for number, concept in enumerate(MOVING):
        clips = {
            "plain": studio.concept(number, concept),
            "FreeInit": studio.clip(caption(concept), number, freeinit_enable=True),
        }
        for name, clip in clips.items():
            (path,) = paths([clip], [concept])
            motion = measure(clip)
            uneven = max(motion.changes) / motion.usual
            rows.append([" ".join(concept), name, went(path), path.displacement, uneven, path.share(concept)])
            if concept in FREEINIT_SHOWN:
                shown[f"{' '.join(concept[:2])}, {name}"] = clip
    write_picture("freeinit", shown)
    yield lines(["clip", "", "direction", "displacement", "greatest / usual change", "subject"], rows)


def poster(studio: Studio) -> Iterator[str]:
    """How long a quick look takes, and what it is of the clip."""
    rows, shown = [], {}
    for name, more in {"poster": {"poster": True}, "clip": {}}.items():
        start = time.perf_counter()
        shown[name] = studio.clip(caption(MOVING[0]), **more)
        rows.append([name, len(shown[name]), time.perf_counter() - start])
    write_picture("poster", shown)
    yield lines(["", "frames", "seconds"], rows)


PARTS: dict[str, Callable[[Studio], Iterator[str]]] = {
    each.__name__: each for each in (travel, amounts, mask, loras, long, loops, freeinit, poster)
}


def main() -> None:
    """Print the tables and write the pictures."""
    names = sys.argv[1:] or list(PARTS)
    if unknown := set(names) - set(PARTS):
        sys.exit(f"There is no part {', '.join(sorted(unknown))}. Parts: {', '.join(PARTS)}.")
    studio = Studio()
    for name in names:
        print(f"{name}\n", *PARTS[name](studio), "", sep="\n", flush=True)


if __name__ == "__main__":
    main()
