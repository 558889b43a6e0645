"""The panel's advice on the selected motion module."""

from __future__ import annotations

from lib_animatediff.builtin_model import BuiltInModel, of_motion
from lib_animatediff.hosts.webui.catalog.checkpoint import chosen_checkpoint
from lib_animatediff.hosts.webui.catalog.models import find_model, inspected, method_without_file
from lib_animatediff.hosts.webui.clip.speed import in_words
from lib_animatediff.request.distilled import described, distillation_of
from lib_animatediff.request.methods import WITHOUT_FILE
from motion_module import MotionFileError, MotionFileInfo
from motion_module.kinds import I2V, PIA

_MOVES = "This PIA model moves one image. Give it in Start from, and how much moves in SparseCtrl, PIA and I2V."

_OF_IMAGES = {
    PIA.name: _MOVES,
    I2V.name: f"The clip of this AnimateLCM-I2V model begins with one image. Give it in Start from. {I2V.sampler}",
}


def advice(name: str) -> str:
    """One line for a name in the list: the reason of a refusal, or recommended settings; empty otherwise."""
    if method := method_without_file(name):
        return WITHOUT_FILE[method]
    try:
        found = inspected(find_model(name))
    except (MotionFileError, OSError) as error:
        return str(error)
    checkpoint = chosen_checkpoint()
    unsuited = checkpoint.unsuited(found) if checkpoint else ""
    model = of_motion(found.name)
    hint = _use_of(model) if model else _OF_IMAGES.get(found.kind or "") or found.hint or _training_of(found)
    return found.problem or unsuited or hint


def _use_of(model: BuiltInModel) -> str:
    return (
        f"This built-in model is tiny and knows {model.knows} only: it shows how AnimateDiff works. Use {model.size} x "
        f'{model.size} pixels, a CFG scale of {model.cfg:g} and a prompt such as "{model.prompt}".'
    )


def _training_of(found: MotionFileInfo) -> str:
    """How a distilled motion module whose kind does not say it was trained to be sampled."""
    row = distillation_of(found.name, is_module=True, kind=found.kind)
    return f"Distilled for {described(row, in_words)}." if row else ""
