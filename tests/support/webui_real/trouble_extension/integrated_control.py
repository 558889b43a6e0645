"""What the ControlNet that is built into Forge and reForge adds to the rows of each call of the UNet."""

import sys

import loaded_model
import torch

KINDS = (("backend.nn.cnets.cldm", "ControlNet"), ("ldm_patched.controlnet.cldm", "ControlNet"))


def watch(note, undo):
    """Have each model add the grey of its hint in the channel of its number, and note what the rows of a call get.

    `note` receives the latents of a call's rows, and for each model the grey that was added to each row.
    """
    kind = next(getattr(sys.modules[module], name) for module, name in KINDS if module in sys.modules)
    former, unet, seen = kind.forward, loaded_model.unet(), {}

    def forward(self, x, hint, *args, **kwargs):
        greys = hint.float().mean(dim=(1, 2, 3)).expand(len(x))
        return filled(former(self, x, hint, *args, **kwargs), greys, number_of(self))

    def note_before(_layer, given):
        seen["x"] = given[0]

    def note_middle(_layer, _given, output):
        seen["middle"] = output.clone()

    def note_after(_layer, given):
        added = given[0][:, : seen["middle"].shape[1]] - seen["middle"]
        note(seen["x"], added[:, : len(chain())].mean(dim=(2, 3)).T)

    kind.forward = forward
    undo.callback(setattr, kind, "forward", former)
    undo.callback(unet.input_blocks[0][0].register_forward_pre_hook(note_before).remove)
    undo.callback(unet.middle_block[-1].register_forward_hook(note_middle).remove)
    undo.callback(unet.output_blocks[0][0].register_forward_pre_hook(note_after).remove)


def chain():
    """The control models of the units, in their order."""
    found, each = [], loaded_model.objects().unet.controlnet_linked_list
    while each is not None:
        found.insert(0, each.control_model)
        each = each.previous_controlnet
    return found


def number_of(model):
    return next(number for number, each in enumerate(chain()) if each is model)


def filled(outputs, greys, number):
    if isinstance(outputs, dict):
        return {name: filled(listed, greys, number) for name, listed in outputs.items()}
    made = []
    for each in outputs:
        full = torch.zeros_like(each)
        full[:, number] = greys.to(each)[:, None, None]
        made.append(full)
    return made
