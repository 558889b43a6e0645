"""Notes what reaches the UNet of Forge and reForge, as lines of JSON beside the models."""

import json
from pathlib import Path

from modules import paths, script_callbacks, scripts

NOTES = Path(paths.data_path) / "unet_calls.jsonl"


def note(**line):
    with NOTES.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def note_call(_unet, given, named):
    x, timesteps, *_ = [*given, *([named["timesteps"]] if len(given) < 2 else [])]
    options = named.get("transformer_options") or {}
    levels = sorted({float(level) for level in timesteps.flatten()})
    note(rows=len(x), timesteps=levels, streams=options.get("cond_or_uncond"))


def note_room(p):
    """What the host makes room for, in all rows of the request and in sixteen."""
    patcher = p.sd_model.forge_objects.unet
    estimate = patcher.model_options.get("memory_peak_estimation_modifier", patcher.memory_required)
    estimates = [float(estimate([2 * rows, 4, 8, 8])) for rows in (p.batch_size, 16)]
    note(estimates=estimates, preserved=patcher.extra_preserved_memory_during_sampling)


class ForgeSpy(scripts.Script):
    handle = None

    def title(self):
        return "Forge spy"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def process_before_every_sampling(self, p, *args, **kwargs):
        self.postprocess()
        unet = p.sd_model.forge_objects.unet.model.diffusion_model
        ForgeSpy.handle = unet.register_forward_pre_hook(note_call, with_kwargs=True)

    def postprocess(self, *args):
        if ForgeSpy.handle is not None:
            ForgeSpy.handle.remove()
            ForgeSpy.handle = None


def before_call(params):
    note_room(params.denoiser.p)


script_callbacks.on_cfg_denoiser(before_call)
