"""Motion at the sites of a UNet by other programs, with the same weights: what benchmarks compare ours with.

- *bare*: only the matrix products that a motion module needs, at each site, one after the other;
- *diffusers*: diffusers' own transformer;
- *existing*: the WebUI's existing extension, from the folder in the variable ANIMATEDIFF_PEER, if there is one.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from lib_animatediff.engine.unet import find_sites
from motion_module import MotionModule
from motion_module.kinds import KINDS
from motion_module.network import Layout
from motion_module.temporal_transformer import HEADS

from .window_memory import SD15_WIDTHS

PEER = "ANIMATEDIFF_PEER"
EXPANSION = 4

OfSite = Callable[[str], Callable[[Tensor], Tensor] | None]  # a site's name to its function of activations, if any


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


def of_peers(motion: MotionModule, frames: int) -> dict[str, OfSite]:
    """Each peer that is there."""
    found = {"diffusers": of_diffusers(motion, frames)}
    if folder := os.environ.get(PEER):
        found["existing"] = of_the_existing_extension(motion, frames, Path(folder))
    return found


@contextmanager
def hooked(unet: nn.Module, of_site: OfSite) -> Iterator[None]:
    """At each site's layer, give its output to a function of the peer's."""
    with ExitStack() as undo:
        for site in find_sites(unet):
            run = of_site(site.name)
            if run is None:
                continue

            def after(_layer: nn.Module, _inputs: object, out: Any, run: Callable[[Tensor], Tensor] = run) -> Any:
                return (run(out[0]), *out[1:]) if isinstance(out, tuple) else run(out)

            undo.callback(site.layer.register_forward_hook(after).remove)
        yield


def bare_products(motion: MotionModule, inputs: Mapping[str, Tensor]) -> Callable[[], None]:
    """The products of all sites, on numbers of the sizes of their inputs, ``f c h w``."""
    work = []
    for name, transformer in motion.sites():
        x = inputs[name]
        tokens, channels = x.shape[0] * x.shape[2] * x.shape[3], x.shape[1]
        block = transformer.transformer_blocks[0]
        narrow = [transformer.proj_in, transformer.proj_out]
        for attention in block.attention_blocks:
            narrow += [attention.to_q, attention.to_k, attention.to_v, attention.to_out[0]]
        work.append(
            (x.new_empty(tokens, channels).normal_(), [layer.weight for layer in narrow], block.ff.net[0].proj.weight)
        )
        work.append((x.new_empty(tokens, channels * EXPANSION).normal_(), [block.ff.net[2].weight], None))

    def run() -> None:
        for x, weights, wide in work:
            for weight in weights:
                F.linear(x, weight)
            if wide is not None:
                F.linear(x, wide)

    return run


def of_diffusers(motion: MotionModule, frames: int) -> OfSite:
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
        made[name] = theirs.eval().requires_grad_(False).to(ours.proj_in.weight)
    return lambda name: partial(made[name], num_frames=frames) if name in made else None


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


def of_the_existing_extension(motion: MotionModule, frames: int, folder: Path) -> OfSite:
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
        made[name] = module.eval().requires_grad_(False).to(ours.proj_in.weight)
    return made.get


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
