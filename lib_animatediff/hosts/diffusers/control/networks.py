"""Control models as diffusers' networks, read without running code from their files and without downloads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lib_animatediff.engine.components.control import ControlInputs, Residuals
from lib_animatediff.hosts.diffusers.networks import NetworkError
from motion_module.files.load import read_checked

from .files import CONTROLNET, PER_LEVEL, PREFIX, UNSHUFFLED, ControlFile, is_original_full, t2i_channels

_CONVERTED = "time_embedding.linear_1.weight"  # a ControlNet's weight under diffusers' name
_COLOURS = 3


class LoadedControlNet:
    """A ControlNet.

    Args:
        name: for messages.
        network: diffusers' ``ControlNetModel`` on the device and in the dtype of the UNet.
    """

    def __init__(self, name: str, network: Any) -> None:
        self.name = name
        self.channels: int = network.config.conditioning_channels
        self._network = network

    def __call__(self, inputs: ControlInputs) -> Residuals:
        """The residuals of some rows."""
        skips, middle = self._network(
            inputs.latents[:, : self._network.config.in_channels],  # an inpainting UNet also sees mask and image
            inputs.timesteps,
            encoder_hidden_states=inputs.context,
            controlnet_cond=inputs.for_rows(inputs.hints),
            added_cond_kwargs=inputs.added,
            return_dict=False,
        )
        return Residuals(skips, middle)


class LoadedT2IAdapter:
    """A T2I adapter. Its features are the same at every step, so those of the last call are kept.

    Args:
        name: for messages.
        network: diffusers' ``T2IAdapter`` on the device and in the dtype of the UNet.
    """

    def __init__(self, name: str, network: Any) -> None:
        self.name = name
        self.channels: int = network.config.in_channels
        self._network = network
        self._last: tuple[Tensor | None, list[Tensor]] = (None, [])

    def __call__(self, inputs: ControlInputs) -> Residuals:
        """The residuals of some rows."""
        if self._last[0] is not inputs.hints:
            self._last = inputs.hints, self._network(inputs.hints)
        features = enumerate(self._last[1], 1)
        return Residuals(down={level * PER_LEVEL - 1: inputs.for_rows(feature) for level, feature in features})


LoadedNetwork = LoadedControlNet | LoadedT2IAdapter


def load_network(file: ControlFile, unet: Any) -> LoadedNetwork:
    """The network of a control model, on the device and in the dtype of a UNet.

    Args:
        unet: diffusers' ``UNet2DConditionModel``; a ControlNet without a configuration has the same layout.

    Raises:
        MotionFileError: the file cannot be read.
        NetworkError: weights are missing, or do not fit.
    """
    names = file.header.tensors
    own = [name for name in names if name.startswith(PREFIX)] or list(names)
    read = read_checked(file.weights, file.header, own)
    tensors = {name.removeprefix(PREFIX): tensor for name, tensor in read.items()}
    build = _controlnet if file.kind == CONTROLNET else _t2i_adapter
    try:
        network, weights = build(file, tensors, unet)
        network.load_state_dict(weights, assign=True)
    except Exception as error:  # diffusers raises errors of any type
        reason = next(iter(str(error).strip().splitlines()[1:2] or [str(error)]), "").strip()
        raise NetworkError(
            f"{file.name} could not be used as {file.kind} for this checkpoint: {reason:.200}. Check that it is "
            "complete and made for this base.",
            code="AD-H23",
        ) from error
    # By torch's own method: that of diffusers warns about layers in float32, of which there are none.
    network = nn.Module.to(network, device=unet.device, dtype=unet.dtype).eval().requires_grad_(False)
    return LoadedControlNet(file.name, network) if file.kind == CONTROLNET else LoadedT2IAdapter(file.name, network)


def _controlnet(file: ControlFile, tensors: Mapping[str, Tensor], unet: Any) -> tuple[Any, Mapping[str, Tensor]]:
    from diffusers import ControlNetModel
    from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint

    is_converted = _CONVERTED in tensors
    with torch.device("meta"):
        if file.config is not None:
            network = ControlNetModel.from_config(dict(file.config))
        else:
            first = "controlnet_cond_embedding.conv_in.weight" if is_converted else "input_hint_block.0.weight"
            own = ControlNetModel.from_unet(
                unet, load_weights_from_unet=False, conditioning_channels=tensors[first].shape[1]
            )
            conv_in = tensors["conv_in.weight" if is_converted else "input_blocks.0.0.weight"]
            network = ControlNetModel.from_config({**own.config, "in_channels": conv_in.shape[1]})
    if is_converted:
        return network, tensors
    converted = convert_controlnet_checkpoint(dict(tensors), network.config)
    return network, {name: tensor for name, tensor in converted.items() if tensor is not None}


def _t2i_adapter(file: ControlFile, tensors: Mapping[str, Tensor], _unet: Any) -> tuple[Any, Mapping[str, Tensor]]:
    from diffusers import T2IAdapter

    weights = {_t2i_name(name, is_full=is_original_full(tensors)): tensor for name, tensor in tensors.items()}
    config = file.config
    if config is None:
        is_light = "adapter.conv_in.weight" not in weights
        channels = t2i_channels(file.tensors)
        first = weights["adapter.body.0.in_conv.weight" if is_light else "adapter.conv_in.weight"]
        config = {
            "in_channels": first.shape[1] // UNSHUFFLED,
            "channels": channels[:-1] if is_light else channels,  # a light one repeats its last width
            "num_res_blocks": sum(name.startswith("adapter.body.0.") and "block1.weight" in name for name in weights),
            "adapter_type": "light_adapter" if is_light else "full_adapter",
        }
    with torch.device("meta"):
        network = T2IAdapter.from_config(dict(config))
    return network, weights


def _t2i_name(name: str, *, is_full: bool) -> str:
    """A weight's name in diffusers, which numbers the blocks inside each resolution."""
    if name.startswith("adapter."):
        return name
    if is_full and (match := re.match(r"body\.(\d+)\.(block\d\..*)", name)):
        level, block = divmod(int(match[1]), 2)
        return f"adapter.body.{level}.resnets.{block}.{match[2]}"
    if is_full and (match := re.match(r"body\.(\d+)\.(in_conv\..*)", name)):
        return f"adapter.body.{int(match[1]) // 2}.{match[2]}"
    return "adapter." + re.sub(r"^(body\.\d+)\.body\.", r"\1.resnets.", name)


def needs_grey(network: LoadedNetwork) -> bool:
    """Whether a network reads images of one channel."""
    return network.channels < _COLOURS
