"""One page for a graphics card: what motion costs on it, what each switch saves, what it waits for, what fits.

    python -m tools.benchmarks.card > card.md          # less than eight minutes
    python -m tools.benchmarks.card --device cpu --small     # does it run? its figures mean nothing

Takes CUDA's first card, or Apple's. Stable Diffusion 1.5 (512 px, 16 frames, v2) and SDXL (1024 px, 8 frames) at full
widths with random weights, with CFG. Peers as in `peers`. The memory part and the count of waits need CUDA.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from lib_animatediff import ContextWindows, inject
from lib_animatediff.engine.memory import is_out_of_memory
from lib_animatediff.engine.reuse.schedule import FeatureReuse
from lib_animatediff.sampling.guidance import GuidanceInterval
from motion_module import MotionModule
from motion_module.kinds import KINDS
from motion_module.network import Layout

from .cheaper_steps import Way, sampled
from .harness import FEWEST_ROUNDS, Rounds, compare, conditions, spread
from .motion_speed import TIMESTEP, in_turn, inputs_of, whole_calls
from .peers import hooked, motion_of, of_peers
from .window_memory import SD15_WIDTHS, TEXT, sd15_unet

DTYPES = (torch.float16, torch.bfloat16)
STREAMS = 2  # with CFG
LIMITS = (6, 8, 12, 24)  # GB
GB = 1e9
SDXL_TEXT, SDXL_POOLED, SDXL_SIZES = (77, 2048), 1280, 6
WAYS = {
    "25 steps with CFG": Way(steps=25),
    "25 steps, reuse 2": Way(FeatureReuse(2), steps=25),
    "25 steps, reuse 3": Way(FeatureReuse(3), steps=25),
    "25 steps, guidance_end 0.6": Way(guidance=GuidanceInterval(end=0.6), steps=25),
    "8 steps at CFG 1 (AnimateLCM, Lightning)": Way(steps=8, has_uncond=False),
    "4 steps at CFG 1 (Lightning)": Way(steps=4, has_uncond=False),
}


@dataclass(frozen=True)
class Case:
    """What is measured.

    Attributes:
        base: ``sd15`` or ``sdxl``.
        pixels: side of the images.
        frames: of a clip.
        widths: of the UNet.
    """

    base: str
    pixels: int
    frames: int
    widths: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.base}, {self.pixels} px, {self.frames} frames"

    def unet(self, device: torch.device | str, dtype: torch.dtype) -> nn.Module:
        """A UNet with random weights, made on the device."""
        former = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            made = sd15_unet(self.widths, device=str(device)) if self.base == "sd15" else self._sdxl(device)
        finally:
            torch.set_default_dtype(former)
        return made.eval().requires_grad_(False)

    def _sdxl(self, device: torch.device | str) -> nn.Module:
        from diffusers import UNet2DConditionModel

        with torch.device(device):
            made: nn.Module = UNet2DConditionModel(
                block_out_channels=self.widths,
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                transformer_layers_per_block=(1, 2, 10),
                attention_head_dim=tuple(width // 64 for width in self.widths),
                cross_attention_dim=SDXL_TEXT[1],
                use_linear_projection=True,
                addition_embed_type="text_time",
                addition_time_embed_dim=256,
                projection_class_embeddings_input_dim=SDXL_POOLED + 256 * SDXL_SIZES,
            )
        return made

    def motion(self) -> MotionModule:
        """A motion module of the base, in full precision on the processor; it follows the activations."""
        if self.base == "sd15":
            return motion_of("v2", self.widths)
        layout = Layout(
            down=tuple((width,) * 2 for width in self.widths),
            mid=None,
            up=tuple((width,) * 3 for width in reversed(self.widths)),
            trained_length=KINDS["sdxl"].table_length,
        )
        motion = MotionModule.fresh(layout, KINDS["sdxl"])
        for _, transformer in motion.sites():
            nn.init.normal_(transformer.proj_out.weight, std=0.002)
        return motion.eval().requires_grad_(False)

    def call(self, unet: nn.Module, like: Tensor) -> Callable[[], Tensor]:
        """One call on both streams of a clip, on the device and in the dtype of ``like``."""
        rows, side = STREAMS * self.frames, self.pixels // 8
        latents = like.new_empty(rows, 4, side, side).normal_()
        text = like.new_empty(rows, *(TEXT if self.base == "sd15" else SDXL_TEXT)).normal_()
        more = {}
        if self.base == "sdxl":
            sizes = like.new_full((rows, SDXL_SIZES), self.pixels)
            more = {"added_cond_kwargs": {"text_embeds": like.new_zeros(rows, SDXL_POOLED), "time_ids": sizes}}
        return lambda: unet(latents, TIMESTEP, encoder_hidden_states=text, **more).sample


SD15 = Case("sd15", 512, 16, SD15_WIDTHS)
SDXL = Case("sdxl", 1024, 8, SD15_WIDTHS[:3])


def small(case: Case) -> Case:
    """A case that a processor computes in a moment."""
    return replace(case, pixels=64, frames=4, widths=tuple(64 * (level + 1) for level in range(len(case.widths))))


class Card:
    """The device that is measured."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    @property
    def name(self) -> str:
        """For the page's title."""
        if self.device.type == "cuda":
            found = torch.cuda.get_device_properties(self.device)
            return f"{found.name}, {found.total_memory / GB:.0f} GB"
        return f"no card: {self.device.type}" if self.device.type == "cpu" else self.device.type

    def wait(self) -> None:
        """Until all that was started is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()

    def free(self) -> None:
        """Give cached memory back."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def compare(self, things: Mapping[str, Callable[[], object]]) -> Rounds:
        """`harness.compare`, where each thing ends when the card has done it."""

        def waited(thing: Callable[[], object]) -> Callable[[], None]:
            def run() -> None:
                thing()
                self.wait()

            return run

        return compare({name: waited(thing) for name, thing in things.items()}, FEWEST_ROUNDS)


def calls(card: Card, case: Case, dtype: torch.dtype) -> None:
    """Whole calls of the UNet, and motion only, beside the peers."""
    unet, motion = case.unet(card.device, dtype), case.motion()
    like = next(unet.parameters())
    motion = motion.to(like)
    call = case.call(unet, like)
    rows = STREAMS * case.frames
    whole = card.compare(whole_calls(unet, motion, case.frames, call, alone=False))
    inputs = {name: x.to(like) for name, x in inputs_of(unet, call).items()}
    with ExitStack() as undo:
        things = {"ours": in_turn(unet, inject(unet, motion, frames=case.frames), inputs, undo)}
        for name, peer in of_peers(motion, case.frames).items():
            things[name] = in_turn(unet, hooked(unet, peer), inputs, undo)
        if card.device.type == "cuda":
            compiled = case.motion().to(like)
            for _, transformer in compiled.sites():
                transformer.compile()
            things["ours, compiled"] = in_turn(unet, inject(unet, compiled, frames=case.frames), inputs, undo)
        alone = card.compare(things)
    print(f"\n## {case}, {rows} rows, {str(dtype).removeprefix('torch.')}\n")
    print(f"A plain call takes {whole.median('plain') * 1000:.0f} ms.\n")
    print("| | whole call, relative to plain | motion only, ms | relative to ours |\n|---|---|---|---|")
    for name in things:
        of_whole = spread(whole.ratio(name, "plain")) if name in whole.seconds else ""
        print(f"| {name} | {of_whole} | {alone.median(name) * 1000:.1f} | {spread(alone.ratio(name, 'ours'))} |")
    _flush()


def switches(card: Card, case: Case, dtype: torch.dtype) -> None:
    """Whole clips, by what is switched on."""
    unet, motion = case.unet(card.device, dtype), case.motion()

    def clip(way: Way) -> Callable[[], Tensor]:
        return lambda: sampled(unet, motion, way, case.frames, case.frames, case.pixels // 8)

    found = card.compare({name: clip(way) for name, way in WAYS.items()})
    base = next(iter(WAYS))
    print(f"\n## A clip by switch: {case}, {str(dtype).removeprefix('torch.')}, without text encoder and VAE\n")
    print("| clip | s | time, relative |\n|---|---|---|")
    for name in WAYS:
        print(f"| {name} | {found.median(name):.2f} | {spread(found.ratio(name, base))} |")
    _flush()


def waits(card: Card, case: Case, dtype: torch.dtype) -> int:
    """How often a call in context windows waits for the card, after the first one."""
    unet, motion = case.unet(card.device, dtype), case.motion()
    call = replace(case, frames=2 * case.frames).call(unet, next(unet.parameters()))
    windows = ContextWindows(length=case.frames, overlap=case.frames // 4)
    with torch.no_grad(), inject(unet, motion, frames=2 * case.frames, windows=windows) as injection:
        injection.step, injection.timestep = 0, TIMESTEP
        call()
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                call()
            finally:
                torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(each.message).lower() for each in seen)


def memory(card: Card, case: Case, dtype: torch.dtype) -> None:
    """Peak memory of a clip of one window and of two, and which of them fit, under limits as of smaller cards."""
    total = torch.cuda.get_device_properties(card.device).total_memory
    print(f"\n## Memory: {case}, {str(dtype).removeprefix('torch.')}, weights and three steps with CFG\n")
    print("| limit | frames | peak, GB | |\n|---|---|---|---|")
    for limit in (None, *LIMITS):
        if limit is not None and limit * GB > total:
            continue
        torch.cuda.set_per_process_memory_fraction(1.0 if limit is None else limit * GB / total, card.device)
        try:
            for frames in (case.frames, 2 * case.frames):
                peak, said = _peak(card, case, dtype, frames)
                print(f"| {'none' if limit is None else f'{limit} GB'} | {frames} | {peak / GB:.2f} | {said} |")
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, card.device)
    _flush()


def _peak(card: Card, case: Case, dtype: torch.dtype, frames: int) -> tuple[int, str]:
    card.free()
    torch.cuda.reset_peak_memory_stats(card.device)
    try:
        with _retries() as retried:
            unet = case.unet(card.device, dtype)
            sampled(unet, case.motion(), Way(steps=3), frames, case.frames, case.pixels // 8)
        said = "motion in chunks, after memory ran out" if retried else "fits"
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        said = "does not fit"
    return torch.cuda.max_memory_allocated(card.device), said


@contextmanager
def _retries() -> Iterator[list[str]]:
    """What the motion module says when memory runs out and it goes on in chunks."""
    import logging

    said: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    handler, log = Kept(), logging.getLogger("lib_animatediff.engine.components.motion")
    log.addHandler(handler)
    try:
        yield said
    finally:
        log.removeHandler(handler)


def _flush() -> None:
    print(end="", flush=True)


def pick() -> torch.device | None:
    """The card to measure; None where there is none."""
    if torch.cuda.is_available():
        return torch.device("cuda", 0)
    return torch.device("mps") if torch.backends.mps.is_available() else None


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(description="One page about a graphics card.")
    parser.add_argument("--device", type=torch.device, default=pick())
    parser.add_argument("--small", action="store_true", help="small widths, to see whether it runs")
    asked = parser.parse_args()
    if asked.device is None:
        parser.exit(2, "There is no graphics card here. To see whether the script runs: --device cpu --small\n")
    card, began = Card(asked.device), time.monotonic()
    cases = [small(case) if asked.small else case for case in (SD15, SDXL)]
    print(f"# {card.name}\n\n{conditions()}; medians of {FEWEST_ROUNDS} rounds, least and most in brackets")
    dtypes = (torch.float32,) if asked.device.type == "cpu" else DTYPES
    with torch.no_grad():
        for case in cases:
            for dtype in dtypes:
                calls(card, case, dtype)
                card.free()
        switches(card, cases[0], dtypes[0])
        if card.device.type == "cuda":
            print(f"\nA call in context windows waits {waits(card, cases[0], dtypes[0])} times for the card.")
            for case in cases:
                memory(card, case, dtypes[0])
    print(f"\nMeasured in {time.monotonic() - began:.0f} s.")


if __name__ == "__main__":
    main()
