"""The stages of the village model, in order; see `tools.pocket.building`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tools.pocket.building import Stage

from . import base, cameras, export, fast, gates, inversion, latents, motion, motion_gates, probe, styles, vae, workers
from .recipe import Recipe

Work = Callable[[Recipe, Path, int | None], None]


def _together(work: Work) -> Work:
    """The same work in the recipe's number of processes."""
    return lambda recipe, folder, until: workers.spread(work, recipe.processes, recipe, folder, until)


def _camera(move: str) -> Stage:
    """The stage of a motion LoRA."""
    needs = (*base.PARTS, "motion", "smooth", "camera")
    return Stage(
        cameras.name(move),
        cameras.result(move),
        needs,
        lambda recipe, folder, until: workers.spread(
            cameras.train_camera, recipe.processes, recipe, folder, until, move
        ),
        lambda recipe, folder: motion_gates.gate_camera(recipe, folder, move),
    )


STAGES = (
    Stage("probe", probe.RESULT, ("probe",), probe.train_probe, gates.gate_probe),
    Stage("vae", vae.RESULT, ("vae",), _together(vae.train_vae), gates.gate_vae),
    Stage("latents", latents.RESULT, ("vae", "latents"), _together(latents.encode_clips), gates.gate_latents),
    Stage("base", base.RESULT, base.PARTS, _together(base.train_base), gates.gate_base),
    Stage("export", export.RESULT, base.PARTS, export.export, gates.gate_export),
    Stage(
        "motion",
        motion.RESULT,
        (*base.PARTS, "motion", "smooth"),
        _together(motion.train_motion),
        motion_gates.gate_motion,
    ),
    Stage(
        "fast",
        fast.RESULT,
        (*base.PARTS, "motion", "smooth", "fast"),
        _together(fast.train_fast),
        motion_gates.gate_fast,
    ),
    Stage(
        "lora-latents",
        latents.style_result("lora"),
        ("vae", "latents", "lora"),
        _together(styles.encode_lora_clips),
        gates.none,
    ),
    Stage("style-lora", styles.LORA_RESULT, (*base.PARTS, "lora"), _together(styles.train_lora), gates.gate_lora),
    Stage(
        "fine-tune-latents",
        latents.style_result("fine_tune"),
        ("vae", "latents", "fine_tune"),
        _together(styles.encode_fine_tune_clips),
        gates.none,
    ),
    Stage(
        "fine-tune",
        styles.FINE_TUNED_RESULT,
        (*base.PARTS, "fine_tune"),
        _together(styles.fine_tune),
        gates.gate_fine_tune,
    ),
    Stage(
        "inversion",
        inversion.RESULT,
        (*base.PARTS, "inversion"),
        _together(inversion.train_inversion),
        gates.gate_inversion,
    ),
    *map(_camera, cameras.MOVES),
)
