"""Training targets: a whole motion module, a LoRA on one, a LoRA on the base model's spatial attention, a ControlNet,
a SparseCtrl encoder, a PIA model, a CameraCtrl model.

Each provides the weights to train and puts them into a UNet. All other weights are frozen.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lib_animatediff.engine.inject import inject
from lib_animatediff.engine.unet import find_sites
from motion_module import IncompatibleModelError, MotionModule, load_domain_adapter, load_motion_module
from motion_module.files.diffusers_format import find_source
from motion_module.files.weights import read_header
from motion_module.image_input import image_input_key, load_image_input
from motion_module.kinds import KINDS, PIA, Kind
from motion_module.network import Layout
from motion_module.schedules import SCALED_LINEAR, BetaSchedule
from motion_module.sparse_ctrl.network import SparseCtrl
from motion_module.temporal_transformer import TemporalAttention

from .camera import CameraSteering, new_camera_ctrl
from .control import new_control_network
from .local_heads import look_nearby
from .pia import new_image_input, without_middle
from .rng import stream
from .settings import CAMERA, TrainingError, TrainingSettings
from .sparse import new_sparse_ctrl, trained_weights

_LINEARS = r"(to_q|to_k|to_v|to_out\.0)"
LORA_PLACES = {
    "motion-lora": rf".*\.attention_blocks\.\d+\.{_LINEARS}",  # both temporal attentions of each site
    "adapter": rf".*attentions\.\d+\..*\.attn[12]\.{_LINEARS}",  # spatial self- and cross-attention
}


@dataclass(frozen=True)
class Target:
    """A training target.

    Attributes:
        weights: trained weights by name, float32.
        schedule: noise levels of the training.
        motion: motion module to inject during training; None for an adapter or a ControlNet.
        unet: the base model's UNet.
        control: ControlNet that is trained.
        encoder: SparseCtrl encoder that is trained.
        image_input: weights of a PIA model's convolution for mask and image, which are trained with the motion module.
        steering: puts the CameraCtrl model that is trained into the UNet.
    """

    weights: dict[str, nn.Parameter]
    schedule: BetaSchedule
    motion: MotionModule | None
    unet: nn.Module
    control: nn.Module | None = None
    encoder: SparseCtrl | None = None
    image_input: nn.Parameter | None = None
    steering: CameraSteering | None = None

    def inside(self, unet: nn.Module, frames: int) -> Any:
        """Context in which the UNet runs with the trained weights."""
        if self.motion is None:
            return nullcontext()
        return inject(unet, self.motion, *filter(None, [self.steering]), frames=frames)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Disable gradients inside the block, so that the motion module may be copied to another dtype."""
        for weight in self.weights.values():
            weight.requires_grad_(False)
        try:
            yield
        finally:
            for weight in self.weights.values():
                weight.requires_grad_(True)


@contextmanager
def target_of(settings: TrainingSettings, unet: nn.Module) -> Iterator[Target]:
    """Create the training target for a UNet; LoRA layers are removed afterwards.

    Raises:
        AnimateDiffError: a file cannot be loaded, or does not fit the UNet.
    """
    if settings.target == "adapter":
        with _lora(unet, settings) as weights:
            yield Target(weights, SCALED_LINEAR, None, unet)
        return
    if settings.target == "controlnet":
        network = new_control_network(unet, settings)
        yield Target(dict(network.named_parameters()), SCALED_LINEAR, None, unet, control=network)
        return
    motion = _motion_of(settings, unet)
    with inject(unet, motion, frames=settings.frames):
        pass  # reports a misfit before the training
    if settings.target == "motion-lora":
        with _lora(motion, settings) as weights:
            yield Target(weights, motion.schedule, motion, unet)
    elif settings.target == "sparsectrl":
        encoder = new_sparse_ctrl(unet, motion, settings)
        yield Target(trained_weights(encoder), motion.schedule, motion, unet, encoder=encoder)
    elif settings.target == CAMERA:
        model = new_camera_ctrl(unet, settings)
        weights = dict(model.named_parameters())
        yield Target(weights, motion.schedule, motion, unet, steering=CameraSteering(model))
    elif settings.target == "pia":
        added = _image_input(settings, unet)
        weights = {"image_input.weight": added, **dict(motion.requires_grad_(True).named_parameters())}
        yield Target(weights, motion.schedule, motion, unet, image_input=added)
    else:
        yield Target(dict(motion.requires_grad_(True).named_parameters()), motion.schedule, motion, unet)


def _motion_of(settings: TrainingSettings, unet: nn.Module) -> MotionModule:
    motion = _loaded(settings) if settings.motion else _fresh(settings, unet)
    if settings.local_heads:
        look_nearby(motion)
    if settings.spread_positions:
        _spread_positions(motion, settings)
    return motion


def _spread_positions(motion: MotionModule, settings: TrainingSettings) -> None:
    """Give frame f the position f x stride, in place. Files of the motion module keep the usual tables."""
    last = (settings.frames - 1) * settings.stride
    if last >= motion.trained_length:
        raise TrainingError(
            f"The last frame would have position {last}, and the motion module has {motion.trained_length} of them. "
            "Lower frames or stride, or leave out spread_positions.",
            code="AD-T53",
        )
    for layer in motion.modules():
        if isinstance(layer, TemporalAttention):
            layer.pe = layer.pe[:, :: settings.stride].contiguous()


def _loaded(settings: TrainingSettings) -> MotionModule:
    path = Path(settings.motion)
    if settings.target != "pia":
        return load_motion_module(path).float()
    if _is_pia(path):
        return load_motion_module(path, kind=PIA.name).float()
    motion = load_motion_module(path).float()
    layout = replace(motion.layout, mid=None)
    return MotionModule.from_state_dict(without_middle(motion), layout, PIA, motion.name)


def _is_pia(path: Path) -> bool:
    return image_input_key(read_header(find_source(path).weights)) is not None


def _image_input(settings: TrainingSettings, unet: nn.Module) -> nn.Parameter:
    added = new_image_input(unet)
    if settings.motion and _is_pia(Path(settings.motion)):
        with torch.no_grad():
            added.copy_(load_image_input(settings.motion))
    return added


def _fresh(settings: TrainingSettings, unet: nn.Module) -> MotionModule:
    kind = PIA if settings.target == "pia" else KINDS[settings.kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream(settings.seed, "initial weights").initial_seed())
        return MotionModule.fresh(layout_for(unet, kind, settings.frames), kind, "the new motion module")


def layout_for(unet: nn.Module, kind: Kind, frames: int) -> Layout:
    """Layout of a new motion module for a UNet. Its positional table has the official length, or more for longer clips.

    Raises:
        IncompatibleModelError: the UNet has no known sites.
    """
    sites = find_sites(unet)
    if not sites:
        raise IncompatibleModelError(
            f"{type(unet).__name__} is not a Stable Diffusion UNet of a known type. Choose another base model.",
            code="AD-T32",
        )
    widths: dict[str, list[int]] = {}
    for site in sites:
        widths.setdefault(site.name.partition(".motion_modules.")[0], []).append(site.channels)

    def path(name: str) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(channels) for block, channels in widths.items() if block.startswith(name))

    return Layout(
        down=path("down_blocks."),
        mid=widths["mid_block"][0] if kind.mid_block else None,
        up=path("up_blocks."),
        trained_length=max(kind.table_length, frames),
    )


@contextmanager
def _lora(model: nn.Module, settings: TrainingSettings) -> Iterator[dict[str, nn.Parameter]]:
    """Add low-rank layers for the target. Their scale is 1, so that the file needs no alpha."""
    from peft import LoraConfig, inject_adapter_in_model

    places = LORA_PLACES[settings.target]
    config = LoraConfig(r=settings.lora_rank, lora_alpha=settings.lora_rank, target_modules=places)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream(settings.seed, "initial weights").initial_seed())
        try:
            inject_adapter_in_model(config, model)
        except ValueError as error:  # PEFT found no matching layer
            raise TrainingError(
                f"{type(model).__name__} has no attention layer that a LoRA can be trained on. "
                "Choose another base model.",
                code="AD-T33",
            ) from error
    try:
        # Half precision would lose small updates, so trained weights are float32, whatever the model's dtype.
        for name, weight in model.named_parameters():
            weight.requires_grad_("lora_" in name)
            if weight.requires_grad:
                weight.data = weight.data.float()
        yield {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    finally:
        _without_lora(model)


def _without_lora(model: nn.Module) -> None:
    from peft.tuners.lora import LoraLayer

    for name, layer in list(model.named_modules()):
        if isinstance(layer, LoraLayer):
            owner, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(owner), attribute, layer.get_base_layer())
    if hasattr(model, "peft_config"):
        del model.peft_config


@contextmanager
def adapter_in(unet: nn.Module, settings: TrainingSettings) -> Iterator[None]:
    """Merge the settings' domain adapter into a UNet, as in the official training; restored bit for bit afterwards.

    Raises:
        TrainingError: it does not fit the UNet.
        MotionFileError: it cannot be read, or is not an adapter.
    """
    former: list[tuple[nn.Parameter, Tensor]] = []
    try:
        for weight, change in _adapter_changes(unet, settings):
            former.append((weight, weight.detach().clone()))
            weight.data += (settings.adapter_strength * change.to(weight.device)).to(weight.dtype)
        yield
    finally:
        for weight, value in former:
            weight.data.copy_(value)


def _adapter_changes(unet: nn.Module, settings: TrainingSettings) -> list[tuple[nn.Parameter, Tensor]]:
    if not settings.adapter:
        return []
    adapter = load_domain_adapter(settings.adapter)
    weights = dict(unet.named_parameters())
    changes = []
    for layer, update in adapter.deltas.items():
        weight = weights.get(f"{layer}.weight")
        if weight is None or update.shape != tuple(weight.shape):
            raise TrainingError(
                f"{adapter.name} does not fit this base model at {layer}. Use an adapter made for it.", code="AD-T34"
            )
        changes.append((weight, update.delta_weight()))
    return changes
