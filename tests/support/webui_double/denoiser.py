"""The double's sampler, in the one respect that matters here: which rows it puts into which calls of the UNet."""

from __future__ import annotations

import re
import zlib
from types import SimpleNamespace
from typing import TYPE_CHECKING

import torch
from support.webui_double.state import shared
from torch import Tensor, nn

if TYPE_CHECKING:
    from support.webui_double.double import Processing

CONTEXT = 64
TOKENS = 5
CFG = 7  # of a request that names none


def guided(p: Processing, unet: nn.Module, x: Tensor, prompts: list[str], step: int = 0) -> Tensor:
    """CFGDenoiser.forward: cond rows prompt by prompt, each with all its parts, before uncond's; cut by number."""
    parts = [row_parts(prompt) for prompt in prompts]
    params = SimpleNamespace(
        x=x,
        sigma=torch.full((len(x),), 500.0 - step),  # a timestep, as the samplers of the DDIM family pass it
        text_cond=conditions([part for row in parts for part in row]),
        text_uncond=torch.zeros(len(x), TOKENS, CONTEXT),
        sampling_step=max(step - 1, 0),  # counted after each call
        total_sampling_steps=shared.steps,
        image_cond=torch.zeros(sum(map(len, parts)) + len(x), 5, 1, 1),
        denoiser=SimpleNamespace(
            p=p,
            step=step,
            steps=shared.steps,
            total_steps=shared.steps,
            sampler=SimpleNamespace(sampler_extra_args=shared.conds),
            inner_model=SimpleNamespace(),
        ),
    )
    for callback in shared.cfg_denoiser_callbacks:
        callback(params)
    done = params.denoiser.step / shared.steps
    cond, uncond = params.text_cond, params.text_uncond
    if getattr(shared.opts, "pad_cond_uncond", False):
        uncond = nn.functional.pad(uncond, (0, 0, 0, cond.shape[1] - uncond.shape[1]))
    rows = torch.cat([x[i : i + 1] for i, row in enumerate(parts) for _ in row] + [x])
    skips = shared.opts.skip_early_cond != 0 and done <= shared.opts.skip_early_cond
    skips = skips and not (shared.guides_first_step and done == 0)
    shared.image_rows.append(len(params.image_cond))
    if skips:  # uncond is left out of the calls; its place is taken by a prompt's first part
        p.extra_generation_params["Skip Early CFG"] = shared.opts.skip_early_cond
        groups = [(rows[: -len(x)], cond)]
    elif cond.shape[1] == uncond.shape[1]:
        groups = [(rows, torch.cat([cond, uncond]))]
    else:
        groups = [(rows[: -len(x)], cond), (rows[-len(x) :], uncond)]
    batches = getattr(shared.opts, "batch_cond_uncond", True)
    size = len(x) if not batches else len(rows) if len(groups) == 1 else 2 * len(x)
    out = []
    for group, context in groups:
        for start in range(0, len(group), size):
            part = slice(start, start + size)
            shared.calls.append(len(group[part]))
            out.append(unet(group[part], torch.full((len(group[part]),), 500 - step), context=context[part]))
    out_rows = torch.cat(out)
    firsts = [sum(map(len, parts[:row])) for row in range(len(parts))]
    uncond_rows = out_rows[firsts] if skips else out_rows[-len(x) :]
    scale = 1 if skips else p.cfg_scale
    result = uncond_rows.clone()
    for row, first in enumerate(firsts):
        for part in range(len(parts[row])):
            result[row] += scale * (out_rows[first + part] - uncond_rows[row])
    return result


def row_parts(prompt: str) -> list[str]:
    return re.split(r"\bAND\b", prompt)


def conditions(prompts: list[str]) -> Tensor:
    """As many tokens for all as the longest prompt needs; a word "long" needs a second chunk."""
    chunks = 2 if any("long" in prompt for prompt in prompts) else 1
    generators = [torch.Generator().manual_seed(zlib.crc32(prompt.encode())) for prompt in prompts]
    return torch.stack([torch.randn(chunks * TOKENS, CONTEXT, generator=generator) for generator in generators])
