"""A double of sd-webui-controlnet: the order of its hooks, its units, and one hint per row of a call."""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import numpy
import torch
from PIL import Image
from support.webui_double.components import Component
from support.webui_double.double import Script, shared
from torch import Tensor, nn

MARK = 1024.0
MODELS = {  # by name: the kind of each
    "net": "ControlNet",
    "lora": "ControlLoRA",
    "instant": "InstantID",
    "adapter": "T2I_Adapter",
    "lite": "Controlllite",
    "ip": "IPAdapter",
    "style": "T2I_StyleAdapter",
    "None": "AttentionInjection",
}
PIXELS = 8  # of an image, for each of a latent


class InputMode(Enum):
    SIMPLE = "simple"
    BATCH = "batch"
    MERGE = "merge"


@dataclass
class Unit:
    enabled: bool = False
    module: str = "none"
    model: str = "net"
    weight: float = 1.0
    image: Any = None
    mask: Any = None
    input_mode: InputMode = InputMode.SIMPLE
    batch_images: Any = None
    batch_mask_dir: str | None = None
    batch_modifiers: list[Any] = field(default_factory=list)
    animatediff_batch: bool = False
    ipadapter_input: list[Any] | None = None
    save_detected_map: bool = True
    control_mode: str = "Balanced"
    guidance_start: float = 0.0
    guidance_end: float = 1.0

    @property
    def is_ipadapter(self) -> bool:
        return self.module.startswith("ip-adapter")

    @property
    def is_inpaint(self) -> bool:
        return "inpaint" in self.module

    @staticmethod
    def parse_image(image: Any) -> Any:
        return numpy.asarray(image)

    def copy(self, update: dict[str, Any]) -> Unit:
        return replace(self, **update)


def to_processing_unit(given: Any) -> Unit:
    """A client's dictionary may have more keys, and is refused for an unknown model."""
    if isinstance(given, dict):
        known = {name: value for name, value in given.items() if name in Unit.__dataclass_fields__}
        given = Unit(**{**known, "input_mode": InputMode(known.get("input_mode", "simple"))})
    if given.model not in MODELS:
        raise ValueError(f"model({given.model}) not found in supported models.")
    return given


def units_module() -> ModuleType:
    module = ModuleType("internal_controlnet.external_code")
    vars(module).update(to_processing_unit=to_processing_unit, ControlNetUnit=Unit)
    return module


class Embedding(NamedTuple):
    cond_emb: Tensor
    uncond_emb: Tensor


class Parameters:
    """ControlParams, which drop what was made of the hints when others are set."""

    def __init__(self, unit: Unit, hints: Any, large: Any) -> None:
        self.control_model = Model(MODELS[unit.model])
        self.control_model_type = SimpleNamespace(name=MODELS[unit.model])
        self.preprocessor = {"name": unit.module}
        self._hints = hints
        self.hr_hint_cond = large
        self.used_hint_cond = self.used_hint_cond_latent = self.effective_region_mask = None
        self.weight = unit.weight
        self.start_guidance_percent, self.stop_guidance_percent = unit.guidance_start, unit.guidance_end
        self.guidance_stopped = False
        self.cfg_injection = unit.control_mode.startswith("ControlNet")

    @property
    def hint_cond(self) -> Any:
        return self._hints

    @hint_cond.setter
    def hint_cond(self, hints: Any) -> None:
        self._hints, self.used_hint_cond, self.used_hint_cond_latent = hints, None, None

    def apply_effective_region_mask(self, out: Tensor) -> Tensor:
        if self.effective_region_mask is None:
            return out
        return (out * self.effective_region_mask).mean(dim=(2, 3), keepdim=True)  # of the features of one pixel


class Lite(nn.Module):
    def set_cond_image(self, hints: Tensor) -> None:
        self.hints, self.made = hints, None

    def forward(self, x: Tensor) -> Tensor:
        if self.made is None:
            self.made = self.hints.mean(dim=(1, 2, 3)).view(-1, 1, 1)
        return self.made.repeat(len(x) // len(self.made), 1, 1).expand(-1, 3, 2)


class Model(nn.Module):
    """A control model of any kind. What it returns is the mean of the hint."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.control_model, self.kept, self.cache = kind, SimpleNamespace(), None, {}
        self.ipadapter = SimpleNamespace(
            get_image_emb=lambda level: Embedding(torch.full((1, 1, 1), level), torch.full((1, 1, 1), -1.0))
        )
        if kind == "Controlllite":
            self.modules = {"one": Lite()}

    def reset(self) -> None:
        self.kept = None

    def apply_effective_region_mask(self, out: Tensor) -> Tensor:
        return out

    def hook(self, hints: Any) -> None:
        """As adapters in the attention take their hints when a request is prepared."""
        if self.kind == "Controlllite":
            self.modules["one"].set_cond_image(hints * 2 - 1)
        if self.kind == "IPAdapter":
            made = [
                self.ipadapter.get_image_emb(one) for one in (hints if isinstance(hints, (list, tuple)) else [hints])
            ]
            self.image_emb = Embedding(*(torch.stack(parts).mean(0) for parts in zip(*made, strict=True)))
            self.cache = {}

    def forward(self, *, hint: Tensor) -> list[Tensor]:
        if self.kind != "T2I_Adapter" or self.kept is None:
            self.kept = hint.mean(dim=(1, 2, 3)).view(-1, 1, 1, 1)
        return [self.kept.clone()]


class Network:
    """UnetHook: what is in the UNet while a request is controlled. The marks that it expects come off."""

    def __init__(self, p: Any, params: list[Parameters]) -> None:
        self.model = p.sd_model.model.diffusion_model
        self.control_params = params
        self.process = p
        self.original_forward = self.model.forward
        self.model.forward = self.controlled
        p.sample = functools.partial(self.sample_marked, p.sample)
        shared.cfg_denoiser_callbacks.append(self.guidance_schedule_handler)
        for number, param in enumerate(params):
            if param.control_model_type.name in ("Controlllite", "IPAdapter"):
                param.control_model.hook(param.hint_cond)
            if param.control_model_type.name == "InstantID":
                param.control_context_override = params[number - 1].control_model.image_emb

    @staticmethod
    def sample_marked(sample: Any, *, prompts: Any) -> Any:
        """The conditions are marked in place, and may be in a cache."""
        prompts.marks = (MARK,)
        return sample(prompts=prompts)

    def guidance_schedule_handler(self, params: Any) -> None:
        share = params.sampling_step / params.total_sampling_steps
        self.model.current_sampling_percent = share
        for param in self.control_params:
            param.guidance_stopped = not param.start_guidance_percent <= share <= param.stop_guidance_percent

    @staticmethod
    def call_vae_using_process(_p: Any, hints: Tensor) -> Tensor:
        shared.encoded += len(hints)
        return hints.mean(dim=(1, 2, 3)).view(-1, 1, 1, 1).expand(-1, 4, 8, 8).clone()

    def controlled(self, x: Tensor, timesteps: Any = None, context: Any = None, **kwargs: Any) -> Tensor:
        marks, context = context[:, 0, 0], context[:, 1:]
        assert (marks.abs() == MARK).all()
        assert (context.abs() < MARK).all()
        shared.tokens.append(context.shape[1] + 1)
        self.model.cond_mark = (marks > 0).float().view(-1, 1, 1, 1)
        seen = [self._acted(param, x) for param in self.control_params]
        for values in seen:
            assert len(values) in (1, len(x)), f"The size of tensor a ({len(x)}) must match {len(values)}"
        shared.controlled.append((x.clone(), [values.expand(len(x), 1, 1, 1).flatten() for values in seen]))
        out = self.original_forward(x, timesteps, context=context, **kwargs)
        for values in seen:
            out = out + values
        return out

    def _acted(self, param: Parameters, x: Tensor) -> Tensor:
        kind, model = param.control_model_type.name, param.control_model
        if self._is_stopped(param, kind):
            return torch.zeros(1, 1, 1, 1)
        if kind == "Controlllite":
            return model.modules["one"](x).mean(dim=(1, 2)).view(-1, 1, 1, 1)
        if kind == "IPAdapter":
            if "key" not in model.cache:
                mark = self.model.cond_mark[:, :, :, 0]
                assert len(model.image_emb.cond_emb) in (1, len(x))
                model.cache["key"] = model.image_emb.cond_emb * mark + model.image_emb.uncond_emb * (1 - mark)
            return model.apply_effective_region_mask(model.cache["key"]).view(-1, 1, 1, 1)
        param.used_hint_cond = param.hint_cond if param.used_hint_cond is None else param.used_hint_cond
        if param.hr_hint_cond is not None:
            height = x.shape[2] * PIXELS
            low, high = (abs(height - hints.shape[2]) for hints in (param.hint_cond, param.hr_hint_cond))
            chosen = param.hint_cond if low < high else param.hr_hint_cond
            if param.used_hint_cond is not chosen:
                param.used_hint_cond, param.used_hint_cond_latent = chosen, None
        if kind == "AttentionInjection":
            if param.used_hint_cond_latent is None:
                made = self.call_vae_using_process(self.process, param.used_hint_cond)
                param.used_hint_cond_latent = made if len(made) == len(x) else made.repeat(len(x), 1, 1, 1)
            assert len(param.used_hint_cond_latent) == len(x)
            return param.used_hint_cond_latent.mean(dim=(1, 2, 3)).view(-1, 1, 1, 1)
        outputs = model(hint=param.used_hint_cond)
        if kind == "InstantID":  # the embedding stands for the text
            outputs = [output + param.control_context_override.cond_emb[..., None] for output in outputs]
        if param.cfg_injection:
            if kind == "T2I_Adapter":
                outputs = [output.repeat(len(x), 1, 1, 1) for output in outputs]
            outputs = [output * self.model.cond_mark for output in outputs]
        (output,) = outputs
        return param.apply_effective_region_mask(output * param.weight)

    def _is_stopped(self, param: Parameters, kind: str) -> bool:
        """Adapters in the attention ask the UNet, which others see as well."""
        if kind not in ("Controlllite", "IPAdapter"):
            return bool(param.guidance_stopped)
        share = getattr(self.model, "current_sampling_percent", 0.5)
        return not param.start_guidance_percent <= share <= param.stop_guidance_percent

    def restore(self) -> None:
        shared.cfg_denoiser_callbacks.remove(self.guidance_schedule_handler)
        self.control_params = None
        del self.model.forward


class ControlNet(Script):
    """The extension's script. What goes wrong in ``process`` is swallowed by the WebUI."""

    def __init__(self) -> None:
        self.latest_network = None
        self.post_processors: list[str] = []
        self.ui_batch_option_state = ["All ControlNet units for all images in a batch", False]

    def title(self) -> str:
        return "ControlNet"

    def ui(self, is_img2img: bool) -> list[Any]:
        return [Component(value=Unit()) for _ in range(3)]

    def process(self, p: Any, *_units: Any) -> None:
        if self.latest_network is not None:
            self.latest_network.restore()
            self.latest_network = None
        shared.maps = []
        given = map(to_processing_unit, p.script_args[self.args_from : self.args_to])
        units = [copy.copy(unit) for unit in given if unit.enabled]
        if units:
            self.latest_network = Network(p, [prepared(p, unit) for unit in units])
            self.post_processors = [unit.module for unit in units]

    def postprocess(self, p: Any, processed: Any, *_units: Any) -> None:
        self.post_processors = []
        if self.latest_network is None:
            return
        processed.images += shared.maps
        self.latest_network.restore()
        self.latest_network = None


def prepared(p: Any, unit: Unit) -> Parameters:
    """Hints of a unit, at both sizes: what a preprocessor makes of each image, here the image itself."""
    if unit.ipadapter_input is not None:
        return Parameters(unit, list(unit.ipadapter_input), list(unit.ipadapter_input))
    images = unit.image
    if unit.animatediff_batch:
        images = []
        for modifier in unit.batch_modifiers:
            images = modifier(unit.batch_images.split("\n"), p)
        if unit.is_inpaint:
            images = [masked(*each) for each in zip(images, masks_in(unit.batch_mask_dir), strict=True)]
    elif isinstance(images, list):
        assert unit.is_ipadapter
        images = [one["image"] for one in images]
    elif images is None:
        given = getattr(p, "init_images", None)
        if not given:
            raise ValueError("controlnet is enabled but no input image is given")
        images = [numpy.asarray(given[0])]
    else:
        images = [images]
    levels = [float(numpy.asarray(image)[0, 0, 0]) / 255 for image in images]
    shared.prepared = len(levels)
    if unit.save_detected_map:
        shared.maps += [Image.new("RGB", (8, 8)) for _ in levels]
    if unit.is_ipadapter:
        return Parameters(unit, levels[0] if len(levels) == 1 else tuple(levels), None)
    sizes = [p.height * PIXELS] + ([p.hr_upscale_to_y * PIXELS] if getattr(p, "enable_hr", False) else [])
    hints = [torch.tensor(levels).view(-1, 1, 1, 1).repeat(1, 3, size, size) for size in sizes]
    if unit.animatediff_batch and len(levels) > 1 and shared.opts.batch_cond_uncond:
        hints = [torch.cat([one, one]) for one in hints]
    return Parameters(unit, hints[0], hints[1] if len(hints) > 1 else None)


def masks_in(folder: str) -> list[Any]:
    return [Image.open(path).convert("L") for path in sorted(Path(folder).iterdir())]


def masked(image: Any, mask: Image.Image) -> Any:
    """An image as a ControlNet sees it, but black and not -1 where it is masked."""
    assert image.shape[1::-1] == mask.size
    share = numpy.asarray(mask)[..., None] / 255
    shown = image * (1 - share)
    return numpy.broadcast_to(shown.mean(axis=(0, 1)), image.shape)


def mark_conditions(params: Any) -> None:
    """Its wrapper of ``p.sample`` marks the conditions, of cond and of uncond."""
    if not shared.marks:
        return
    for name, mark in (("text_cond", MARK), ("text_uncond", -MARK)):
        cond = getattr(params, name)
        setattr(params, name, torch.cat([torch.full_like(cond[:, :1], mark), cond], dim=1))
