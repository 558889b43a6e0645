"""The script on the double of the WebUI in tests/support.

Frames of a whole request are the latents that were sampled, row by row, then the pictures of the answer, then the
frames of its files. Its text has the infotexts, what the script tells beside them, seeds, prompts, and what it prints.
Requests of noise hold what a sampler began with and drew, those of Text2Video-Zero what the sampler returned.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any

import torch
from hosts.webui.double.conftest import WebUI, new_checkpoint
from hosts.webui.double.test_text2video_zero import Run
from support.adapter_files import write_adapter
from support.motion_files import write_motion_file
from support.motion_lora_files import write_lora
from support.webui_double import components, double, noises, samplers
from support.webui_double.double import CLIP, shared

from .decoding import decoded
from .double_requests import NOISE, OTHER, WHOLE, Asked
from .prints import (
    DATE,
    FREE,
    PICTURE,
    Fingerprint,
    files_below,
    folder_rule,
    normalised,
    of_bytes,
    of_files,
    of_picture,
    of_rows,
    of_tensor,
)
from .workplace import workplace

ZERO_RUNS = {
    f"zero by {kind.__name__}": kind
    for kind in (
        samplers.euler_a,
        samplers.heun_with_churn,
        samplers.ddim,
        samplers.unipc,
        samplers.dpm_fast,
        samplers.dpm_adaptive,
    )
}
NOISE_REQUESTS = {
    f"{name} in {tab}": (chosen, make)
    for name, chosen in NOISE.items()
    for tab, make in (("txt2img", noises.request), ("img2img", noises.of_img2img))
}
NAMES = [*WHOLE, *NOISE_REQUESTS, *ZERO_RUNS]
LAYER = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"  # which the adapter changes


def render(names: Sequence[str]) -> Iterator[tuple[str, Fingerprint]]:
    """The fingerprints of requests."""
    for name in names:
        with workplace() as folder:
            if name in WHOLE:
                yield name, _painted(WHOLE[name], folder)
            elif name in NOISE_REQUESTS:
                yield name, _drawn(*NOISE_REQUESTS[name], folder)
            else:
                yield name, _moved(ZERO_RUNS[name], folder)


@cache
def _checkpoint(seed: int) -> Any:
    return new_checkpoint(seed)


@contextmanager
def _webui(folder: Path) -> Iterator[WebUI]:
    """As the fixture of the same name."""
    checkpoint = _checkpoint(0)
    double.begin(checkpoint)
    webui = WebUI(checkpoint, folder)
    write_motion_file(webui.models_folder, name="mm.safetensors")
    with double.in_place(webui.made):
        script = webui.module("hooks.script")
        webui.load_script(script.AnimateDiffScript)
        shared.cfg_denoiser_callbacks.append(script.before_denoising)
        yield webui
    components.Component.created.clear()
    if shared.swallowed:
        raise shared.swallowed[0]


def _painted(asked: Asked, folder: Path) -> Fingerprint:
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said), _webui(folder) as webui:
        write_lora(webui.models_folder / "pan.safetensors")
        generator = torch.Generator().manual_seed(1)
        change = torch.randn(2, 32, generator=generator), torch.randn(32, 2, generator=generator)
        write_adapter(webui.models_folder / "v3.safetensors", {LAYER: change})
        for name, value in asked.options.items():
            setattr(shared.opts, name, value)
        fields = {name: _checkpoint(1) if value == OTHER else value for name, value in asked.fields.items()}
        given = asked.clip if isinstance(asked.clip, tuple) else ({**CLIP, **asked.clip},)
        processed = webui.paint(*given, **fields)
        frames = [hashed for samples in shared.painted for hashed in of_rows(samples)]
    frames += [of_bytes(image.encode()) if isinstance(image, str) else of_picture(image) for image in processed.images]
    rules = [folder_rule(folder), DATE, FREE, PICTURE]
    lines = []
    for path in files_below(webui.outputs):
        of_file, line = decoded(path)
        frames += of_file
        lines.append(line)
    told = {
        name: getattr(processed, name)
        for name in ("extra_generation_params", "all_seeds", "all_subseeds", "all_prompts", "all_negative_prompts")
    }
    told |= {"batch_size": processed.batch_size, "comments": processed.comments, "calls": shared.calls}
    texts = [*processed.infotexts, json.dumps(told, indent=1, ensure_ascii=False), *lines, said.getvalue()]
    return Fingerprint(frames, normalised("\n".join(texts), rules), of_files(webui.outputs))


def _drawn(chosen: dict[str, Any], make: Any, folder: Path) -> Fingerprint:
    with noises.on_the_double(folder) as glue:
        plan, p = noises.plan(**chosen), make(clips=2)
        glue.arrange_seeds(p, plan)
        noises.begin_batch(p)
        noises.paint(glue, p, plan)
    drawn = ("noise", "ancestral", "brownian", "latents")
    frames = [hashed for run in p.sampler.runs for name in drawn for hashed in of_rows(getattr(run, name))]
    steps = [run.steps for run in p.sampler.runs]
    return Fingerprint(frames, f"seeds {p.all_seeds}, subseeds {p.all_subseeds}, steps {steps}")


def _moved(kind: Any, folder: Path) -> Fingerprint:
    with _webui(folder) as webui:
        shared.opts.uni_pc_order = 3
        run = Run(webui.module("clip.text2video_zero"), kind)
        frames = list(map(of_tensor, run()))
    return Fingerprint(frames, f"told {run.told}, calls {run.denoiser.calls}")
