"""What motion costs in time: a UNet call with the motion module less the plain call of the same rows.

    python -m tools.benchmarks.motion_speed --frames 8 16
    python -m tools.benchmarks.motion_speed --kind v1 v3 --frames 8 --alone
    python -m tools.benchmarks.motion_speed --frames 8 --pixels 512 --alone

Stable Diffusion 1.5's UNet (diffusers') at full widths, random weights, float32, one stream. The peers run on the same
UNet with the same weights at the same places:

- *bare*: only the matrix products that a motion module needs, at each site, one after the other;
- *diffusers*: diffusers' own transformer;
- *existing*: the WebUI's existing extension, from the folder in the variable ANIMATEDIFF_PEER, if there is one.

Two times are a difference of calls of seconds each, so the machine should do nothing else.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib_animatediff import inject
from lib_animatediff.engine.unet import find_sites
from motion_module import MotionModule
from motion_module.kinds import KINDS
from motion_module.network import Layout
from motion_module.temporal_transformer import HEADS

from .harness import compare, conditions, spread
from .window_memory import SD15_WIDTHS, sd15_unet

PEER = "ANIMATEDIFF_PEER"
EXPANSION = 4


def motion_of(kind: str, widths: Sequence[int] = SD15_WIDTHS) -> MotionModule:
    """A motion module of a kind, at full widths unless others are given, whose output is not zero."""
    layout = Layout(
        down=tuple((width,) * 2 for width in widths),
        mid=widths[-1] if KINDS[kind].mid_block else None,
        up=tuple((width,) * 3 for width in reversed(widths)),
        trained_length=KINDS[kind].table_length,
    )
    motion = MotionModule.fresh(layout, KINDS[kind])
    for _, transformer in motion.sites():
        nn.init.normal_(transformer.proj_out.weight, std=0.002)
    return motion.eval().requires_grad_(False)


@contextmanager
def hooked(unet: nn.Module, of_site: Callable[[str], Callable[[Tensor], Tensor]]) -> Iterator[None]:
    """At each site's layer, give its output to a function of the peer's."""
    with ExitStack() as undo:
        for site in find_sites(unet):
            run = of_site(site.name)

            def after(_layer: nn.Module, _inputs: object, out: Any, run: Callable[[Tensor], Tensor] = run) -> Any:
                return (run(out[0]), *out[1:]) if isinstance(out, tuple) else run(out)

            undo.callback(site.layer.register_forward_hook(after).remove)
        yield


def bare_products(motion: MotionModule, sizes: dict[str, tuple[int, int]]) -> Callable[[], None]:
    """The products of all sites, on numbers of their sizes: ``sizes`` are tokens and channels."""
    work = []
    for name, transformer in motion.sites():
        tokens, channels = sizes[name]
        block = transformer.transformer_blocks[0]
        narrow = [transformer.proj_in, transformer.proj_out]
        for attention in block.attention_blocks:
            narrow += [attention.to_q, attention.to_k, attention.to_v, attention.to_out[0]]
        work.append((torch.randn(tokens, channels), [layer.weight for layer in narrow], block.ff.net[0].proj.weight))
        work.append((torch.randn(tokens, channels * EXPANSION), [block.ff.net[2].weight], None))

    def run() -> None:
        for x, weights, wide in work:
            for weight in weights:
                F.linear(x, weight)
            if wide is not None:
                F.linear(x, wide)

    return run


def of_diffusers(motion: MotionModule, frames: int) -> Callable[[str], Callable[[Tensor], Tensor]]:
    """Diffusers' transformers with these weights."""
    from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D

    made = {}
    for name, ours in motion.sites():
        channels = ours.proj_in.in_features
        theirs = AnimateDiffTransformer3D(
            num_attention_heads=HEADS,
            attention_head_dim=channels // HEADS,
            in_channels=channels,
            activation_fn="geglu",
            attention_bias=False,
            positional_embeddings="sinusoidal",
            num_positional_embeddings=motion.trained_length,
        )
        theirs.load_state_dict(_in_diffusers_names(ours.state_dict()), strict=False)
        made[name] = theirs.eval().requires_grad_(False)
    return lambda name: lambda x: made[name](x, num_frames=frames)


def _in_diffusers_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    names = {
        "attention_blocks.0": "attn1",
        "attention_blocks.1": "attn2",
        "ff_norm": "norm3",
        "norms.0": "norm1",
        "norms.1": "norm2",
    }
    pattern = re.compile("|".join(map(re.escape, names)))
    return {pattern.sub(lambda found: names[found[0]], key): tensor for key, tensor in state.items()}


def of_the_existing_extension(
    motion: MotionModule, frames: int, folder: Path
) -> Callable[[str], Callable[[Tensor], Tensor]]:
    """The existing extension's modules with these weights, out of a checkout of it."""
    theirs = _imported(folder / "motion_module.py", frames)
    made = {}
    for name, ours in motion.sites():
        channels, length = ours.proj_in.in_features, motion.trained_length
        module = theirs.VanillaTemporalModule(in_channels=channels, temporal_position_encoding_max_len=length)
        state = {f"temporal_transformer.{key}": tensor for key, tensor in ours.state_dict().items()}
        left = module.load_state_dict(state, strict=False)
        assert not left.unexpected_keys
        assert all(key.endswith("pos_encoder.pe") for key in left.missing_keys)
        made[name] = module.eval().requires_grad_(False)
    return lambda name: made[name]


def _imported(path: Path, frames: int) -> ModuleType:
    """Its module reads the number of frames from the extension's running state."""
    state = ModuleType("scripts.animatediff_mm")
    state.mm_animatediff = SimpleNamespace(ad_params=SimpleNamespace(batch_size=frames))  # type: ignore[attr-defined]
    sys.modules.setdefault("scripts", ModuleType("scripts"))
    sys.modules["scripts.animatediff_mm"] = state
    spec = importlib.util.spec_from_file_location("peer_motion_module", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sizes_of(unet: nn.Module, call: Callable[[], object]) -> dict[str, tuple[int, int]]:
    """Tokens and channels at each site."""
    sizes: dict[str, tuple[int, int]] = {}

    def noted(name: str) -> Callable[[Tensor], Tensor]:
        def note(x: Tensor) -> Tensor:
            sizes[name] = (x.shape[0] * x.shape[2] * x.shape[3], x.shape[1])
            return x

        return note

    with hooked(unet, noted):
        call()
    return sizes


def measure(kind: str, frames: int, pixels: int, rounds: int, *, alone: bool) -> None:
    """Print one table."""
    torch.manual_seed(0)
    unet, motion = sd15_unet(), motion_of(kind)
    side = pixels // 8
    rows, text = torch.randn(frames, 4, side, side), torch.randn(frames, 77, 768)

    def plain() -> Tensor:
        out: Tensor = unet(rows, 500, encoder_hidden_states=text).sample
        return out

    def ours() -> Tensor:
        with inject(unet, motion, frames=frames):
            return plain()

    def peer(of_site: Callable[[str], Callable[[Tensor], Tensor]]) -> Callable[[], Tensor]:
        def run() -> Tensor:
            with hooked(unet, of_site):
                return plain()

        return run

    things: dict[str, Callable[[], Any]] = {"plain": plain, "ours": ours}
    if not alone:
        things["diffusers"] = peer(of_diffusers(motion, frames))
    if not alone and (folder := os.environ.get(PEER)):
        things["existing"] = peer(of_the_existing_extension(motion, frames, Path(folder)))
    wanted = ours()
    for name in list(things)[2:]:
        difference = (things[name]() - wanted).abs().max().item()
        print(f"{name} differs from ours by {difference:.1e} at most", file=sys.stderr)
    found = compare({**things, "bare": bare_products(motion, sizes_of(unet, plain))}, rounds)
    print(f"\n{kind}, {frames} frames of {pixels} px, {rounds} rounds; {conditions()}\n")
    print("|  | motion only, s | relative to bare | relative to ours | whole call relative to plain |")
    print("|---|---|---|---|---|")
    for name in list(things)[1:]:
        found = found.less(name, "plain", f"{name}'s motion")
    for name in list(things)[1:]:
        own = f"{name}'s motion"
        pairs = ((own, "bare"), (own, "ours's motion"), (name, "plain"))
        ratios = [spread(found.ratio(*pair)) for pair in pairs]
        print(f"| {name} | {found.median(own):.2f} | {' | '.join(ratios)} |")
    print(f"| bare products | {found.median('bare'):.2f} | 1 | | |")
    print(f"\nThe plain call takes {found.median('plain'):.2f} s.", flush=True)


def main() -> None:
    """Print a table for each number of frames."""
    parser = argparse.ArgumentParser(description="What motion costs in time, beside other programs.")
    parser.add_argument("--frames", type=int, nargs="+", default=[8, 16])
    parser.add_argument("--pixels", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--kind", choices=[name for name in KINDS if KINDS[name].base == "sd15"], nargs="+", default=["v2"]
    )
    parser.add_argument("--alone", action="store_true", help="without the peers")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    with torch.no_grad():
        for kind, frames in itertools.product(asked.kind, asked.frames):
            measure(kind, frames, asked.pixels, asked.rounds, alone=asked.alone)


if __name__ == "__main__":
    main()
