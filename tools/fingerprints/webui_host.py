"""The script in a real WebUI, started on small random models and used through its API.

Frames are those that the model made, before they are rounded, then those of the clip's files or, where there are none,
of the reply's pictures. The text has the infotexts and the parameters that the reply tells.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy
from hosts.webui.real.conftest import REPOSITORY, TROUBLE, webui_python
from hosts.webui.real.test_amounts import MASK
from hosts.webui.real.test_motion_loras import spatial_layers
from PIL import Image
from support.adapter_files import random_adapter, write_adapter
from support.motion_files import write_motion_file
from support.motion_lora_files import write_lora
from support.webui_real.clips import clip_payload
from support.webui_real.server import LORA, WebUI, base64_image, file_bytes
from support.webui_real.studio import decoded as made_by_the_model

from .decoding import decoded
from .prints import DATE, Fingerprint, files_below, folder_rule, normalised, of_picture, of_rows
from .workplace import workplace

_LONG = {"frames": 14, "context_length": 6}
_FOUR = {"frames": 4}
_HIRES = {"enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "Latent", "denoising_strength": 0.7}
_TRAVEL = {"prompt": "a photo\n0: a red cat\n3: a blue dog\nin the garden"}
_ZERO = {"model": "Text2Video-Zero", "frames": 3, "zero_x": 64}
_IMG2IMG = {"denoising_strength": 0.6}
_LOOP = {"closed_loop": "A", "stride": 2, "fusion": "flat", "reverse": True}
_FORMATS = ["GIF", "WEBP", "APNG", "MP4", "WEBM", "AVIF", "PNG", "TXT", "Frame"]
SUBSEED = 100  # or the WebUI takes any
IMG2IMG = "img2img"  # begins the names of requests to that route

REQUESTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # the script's argument, and the payload
    "txt2img": ({}, {}),
    **{f"kind {kind}": ({**_FOUR, "model": f"mm_small_{kind}"}, {}) for kind in ("v1", "v2")},
    "two batches of two clips": (_FOUR, {"batch_size": 2, "n_iter": 2}),
    IMG2IMG: (_FOUR, _IMG2IMG),
    "hires": (_FOUR, _HIRES),
    "AND": (_FOUR, {"prompt": "a cat AND a dog AND a bird"}),
    **{f"windows {kind}": ({**_LONG, "context_kind": kind}, {}) for kind in ("uniform", "looped", "static")},
    "windows, closed loop, stride 2": ({**_LONG, **_LOOP}, {}),
    "views": ({**_LONG, "views": True}, {}),
    "travel": (_FOUR, _TRAVEL),
    "travel in windows and hires": ({**_LONG, "travel_interpolation": "linear"}, {**_HIRES, **_TRAVEL}),
    "amounts": ({**_FOUR, "scale": "1, 1.3", "effect": "0: 1, 3: 0.6", "blocks": "up.1 effect 0.5"}, {}),
    "amounts by steps": ({**_FOUR, "scale_steps": "0%: 1, 60%: 1.3", "effect_end": 0.8}, {}),
    "mask": ({**_FOUR, "scale": 1.5, "motion_mask": MASK, "mask_of": "both"}, {}),
    "LoRA": (_FOUR, {"prompt": f"a cat <lora:{LORA}:0.7>"}),
    "motion LoRA": (_FOUR, {"prompt": "a cat <lora:pan:0.8>"}),
    "domain adapter": ({**_FOUR, "motion_loras": "pan:-1, v3_adapter:0.5"}, _HIRES),
    "FreeInit": ({**_FOUR, "freeinit_enable": True, "freeinit_iters": 2}, {}),
    "FreeInit coarse": ({**_FOUR, "freeinit_enable": True, "freeinit_coarse": True, "noise": "shared"}, {}),
    "img2img with FreeInit": ({**_FOUR, "freeinit_enable": True, "freeinit_iters": 2}, _IMG2IMG),
    "noise freenoise": ({**_LONG, "noise": "freenoise"}, {}),
    "noise shared": ({**_FOUR, "noise": "shared", "noise_share": 0.4}, {"sampler_name": "DPM++ SDE"}),
    "noise constant": ({**_FOUR, "noise": "constant"}, {"batch_size": 2}),
    "seeds of frames": ({**_FOUR, "frame_seeds": "70, 90"}, {}),
    **{
        f"zero by {sampler}": (_ZERO, {"sampler_name": sampler, "steps": 8})
        for sampler in ("Euler a", "DDIM", "DPM++ 2M", "UniPC")
    },
    "zero smoothed": ({**_ZERO, "zero_smoothing": 0.6, "motion_mask": MASK}, {"steps": 20}),
    "zero in chunks": ({**_ZERO, "frames": 9, "context_length": 4}, {"steps": 8}),
    "poster": ({**_LONG, "poster": True}, {}),
    "poster of a travel": ({**_FOUR, "poster": True}, _TRAVEL),
    **{f"sampler {sampler}": (_FOUR, {"sampler_name": sampler}) for sampler in ("DDIM", "DPM++ 2M", "LCM")},
    "every format": ({**_FOUR, "formats": _FORMATS, "fps": 12.5, "loop_count": 2}, {}),
    "a plain picture": ({"enable": False}, {}),
}
NAMES = list(REQUESTS)


def render(names: Sequence[str]) -> Iterator[tuple[str, Fingerprint]]:
    """The fingerprints of requests."""
    webui_dir = Path(os.environ["WEBUI_DIR"])
    with (
        workplace() as folder,
        WebUI(webui_dir, webui_python(webui_dir), folder / "webui", extensions=[REPOSITORY, TROUBLE]) as server,
    ):
        for kind in ("v1", "v2", "v3"):
            write_motion_file(server.motion_modules_dir, kind)
        loras = server.models_dir / "Lora"
        write_lora(loras / "pan.safetensors")
        write_adapter(loras / "v3_adapter.safetensors", random_adapter(spatial_layers(server)))
        for name in names:
            yield name, _requested(server, folder, name)
            shutil.rmtree(server.outputs_dir, ignore_errors=True)  # so that files are numbered from 0


def _requested(server: WebUI, folder: Path, name: str) -> Fingerprint:
    clip, payload = REQUESTS[name]
    payload = clip_payload(clip, **{"subseed": SUBSEED, **payload})
    if name.startswith(IMG2IMG):
        server.txt2img(steps=1)  # the VAE encodes with noise from a generator that the request before has left behind
        answer = server.img2img(init_images=[base64_image(_start())], **payload)
    else:
        answer = server.txt2img(**payload)
    frames, lines = [*of_rows(made_by_the_model(server))], []
    info = json.loads(answer["info"])
    told = info["extra_generation_params"]
    files = [Path(file) for made in told.get("AnimateDiff clips", []) for file in made["files"]]
    for path in (below for file in files for below in (files_below(file) if file.is_dir() else [file])):
        of_file, line = decoded(path)
        frames += of_file
        lines.append(line)
    if not files:
        pictures = (Image.open(io.BytesIO(file_bytes(answer, index))) for index in range(len(answer["images"])))
        frames += [of_picture(picture.convert("RGBA")) for picture in pictures]
    kept = {key: info[key] for key in ("all_seeds", "all_subseeds", "all_prompts", "all_negative_prompts")}
    texts = [*info["infotexts"], json.dumps({**kept, **told}, indent=1, ensure_ascii=False), *lines]
    return Fingerprint(frames, normalised("\n".join(texts), [folder_rule(folder), DATE]))


def _start() -> Image.Image:
    """A picture with something to see in every part."""
    ramp = numpy.linspace(0, 255, 64, dtype=numpy.uint8)
    return Image.fromarray(numpy.stack(numpy.broadcast_arrays(ramp[:, None], ramp[None], ramp[::-1, None]), axis=-1))
