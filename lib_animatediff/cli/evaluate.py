"""The command `evaluate`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from lib_animatediff.builtin_model import DEFAULT, BuiltInModel, built_in
from lib_animatediff.evaluation.embedders import CLIP, DINO, Embedder, SmallEmbedder, load_embedder
from lib_animatediff.evaluation.errors import EvaluationError
from lib_animatediff.evaluation.measuring import Embedders
from lib_animatediff.evaluation.methods import Sampling
from lib_animatediff.evaluation.page import About, page_of
from lib_animatediff.evaluation.preview import write_preview
from lib_animatediff.evaluation.prompts import BUILT_IN, Prompt, read_prompts
from lib_animatediff.evaluation.results import how_made, results_of
from lib_animatediff.evaluation.run import EvaluatedClip, Evaluation, Model, check, run
from lib_animatediff.hosts.diffusers import networks
from lib_animatediff.hosts.diffusers import pipeline as host
from lib_animatediff.sampling.text2video_zero import Text2VideoZero
from lib_animatediff.video.atomic import write_atomic
from lib_animatediff.video.opencv import need_opencv
from motion_module.limits import exists, is_folder

from .animate import SIZE
from .files import KIND_OPTION
from .options import CHECKPOINT_OPTION, DEVICE_OPTION, say_device

_FILE = click.Path(path_type=Path)
_PAPER = Text2VideoZero()
_SMALL_LEVELS = 501, 561  # for latents of 8x8 cells, which are still noise at the paper's timesteps


@click.command()
@CHECKPOINT_OPTION
@click.option(
    "--motion",
    type=_FILE,
    help="Motion module, such as v3_sd15_mm.ckpt. Default: that of a built-in checkpoint.",
)
@KIND_OPTION
@click.option(
    "--prompts",
    type=_FILE,
    help="File with one prompt per line and its heading: a fox running to the right | right. Or JSON. Default: "
    "built-in prompts.",
)
@click.option("--negative-prompt", default="", help="Describes what no clip should show.")
@click.option(
    "--lora", "loras", multiple=True, help="Personalised model: the checkpoint with this LoRA, FILE or FILE:STRENGTH."
)
@click.option(
    "--tuned", type=_FILE, multiple=True, help="Personalised model: a fine-tuned checkpoint of the same base."
)
@click.option("--seeds", default=2, show_default=True, help="Clips per prompt.")
@click.option("--seed", default=0, show_default=True, help="First seed.")
@click.option("--frames", default=16, show_default=True, help="Frames per clip.")
@click.option("--width", type=int, help=f"In pixels, a multiple of 8. Default: {SIZE}, built-in {DEFAULT.size}.")
@click.option("--height", type=int, help=f"In pixels, a multiple of 8. Default: {SIZE}, built-in {DEFAULT.size}.")
@click.option("--steps", default=25, show_default=True, help="Sampling steps.")
@click.option("--sampler", type=click.Choice(list(host.SAMPLERS)), default="ddim", show_default=True, help="Sampler.")
@click.option(
    "--cfg",
    type=float,
    help=f"CFG scale: higher values follow the prompt more strictly. Default: {host.CFG}, built-in {DEFAULT.cfg}.",
)
@click.option(
    "--zero-levels",
    type=(int, int),
    help="Timestep at which Text2Video-Zero shifts the first frame, and timestep from which it denoises all frames. "
    f"Default: the paper's {_PAPER.begin} {_PAPER.renoised}, built-in {_SMALL_LEVELS[0]} {_SMALL_LEVELS[1]}.",
)
@click.option("--fps", default=8.0, show_default=True, help="Frames per second of the clips.")
@click.option(
    "--embedder",
    "folders",
    type=_FILE,
    multiple=True,
    help="Folder of CLIP or DINO (save_pretrained). Repeat it for both. Default: a small built-in embedder.",
)
@click.option(
    "--config",
    type=_FILE,
    help="Folder with tokenizer and configs. Default: config in the checkpoint's folder, or SD 1.5's.",
)
@DEVICE_OPTION
@click.option(
    "--output", type=_FILE, default=Path("evaluation.html"), show_default=True, help="HTML page with the results."
)
@click.pass_context
def evaluate(
    context: click.Context,
    checkpoint: Path,
    motion: Path | None,
    kind: str | None,
    prompts: Path | None,
    negative_prompt: str,
    loras: tuple[str, ...],
    tuned: tuple[Path, ...],
    seeds: int,
    seed: int,
    frames: int,
    width: int | None,
    height: int | None,
    steps: int,
    sampler: str,
    cfg: float | None,
    zero_levels: tuple[int, int] | None,
    fps: float,
    folders: tuple[Path, ...],
    config: Path | None,
    device: str,
    output: Path,
) -> None:
    """Compare the motion module with Text2Video-Zero, independent frames and a frozen frame, on an HTML page.

    A folder next to the page contains the clips, results.json and clips.webp, a grid of some clips.
    After an interruption, the same command continues.
    """
    _check_page(output)
    asked_device, device = device, host.pick_device(device)
    ours = built_in(checkpoint)
    module_file, asked = _motion_and_prompts(motion, prompts, ours)
    need_opencv()
    size, guidance = (ours.size, ours.cfg) if ours else (SIZE, host.CFG)
    models = _models(checkpoint, ours, loras, tuned)
    begin, renoised = zero_levels or (_SMALL_LEVELS if ours else (_PAPER.begin, _PAPER.renoised))
    evaluation = Evaluation(
        models=models,
        motion=module_file,
        prompts=asked,
        how=Sampling(
            size=(size if width is None else width, size if height is None else height),
            frames=frames,
            steps=steps,
            cfg=guidance if cfg is None else cfg,
            sampler=sampler,
            negative_prompt=negative_prompt,
        ),
        seed=seed,
        seeds=seeds,
        folder=output.with_suffix(""),
        fps=fps,
        kind=kind,
        # A fine-tuned checkpoint has the same base, whatever its folder.
        config=host.find_config(models[0].checkpoint, config),
        device=device,
        zero=Text2VideoZero(begin=begin, renoised=renoised),
    )
    _check_output(output, evaluation.folder)
    module = check(evaluation)
    embedders = _embedders(folders, device)
    say_device(asked_device)
    shown: list[EvaluatedClip] = []
    with click.progressbar(length=evaluation.renders, label="Clips", file=sys.stderr) as bar:
        try:
            shown.extend(run(evaluation, module, embedders, lambda _model: bar.update(1)))
        except KeyboardInterrupt:
            click.echo(f"\nThe finished clips are in {evaluation.folder}. The same command continues.", err=True)
            raise
    made = how_made(evaluation, embedders, _command(context))
    results = evaluation.folder / "results.json"
    write_atomic(results, results_of(evaluation, shown, made).encode())
    page = page_of(evaluation, shown, embedders, About(made, _notes(evaluation, ours is not None and not tuned)))
    write_atomic(output, page.encode())
    preview = write_preview(evaluation.folder / "clips.webp", evaluation, shown)
    click.echo(f"{output}\n{results}\n{preview}")


def _motion_and_prompts(
    motion: Path | None, prompts: Path | None, ours: BuiltInModel | None
) -> tuple[Path, tuple[Prompt, ...]]:
    """The given ones, or those of a built-in model."""
    if ours:
        return motion or ours.folder / ours.motion, read_prompts(prompts) if prompts else BUILT_IN[ours.name]
    if motion is None or prompts is None:
        raise EvaluationError(
            "With --checkpoint also give --motion and --prompts: the built-in ones only fit the built-in models.",
            code="AD-K15",
        )
    return motion, read_prompts(prompts)


def _models(
    checkpoint: Path, ours: BuiltInModel | None, loras: Sequence[str], tuned: Sequence[Path]
) -> tuple[Model, ...]:
    """The checkpoint and its personalised models. A built-in checkpoint has a built-in LoRA if none is given."""
    base = ours.folder / ours.checkpoint if ours else checkpoint
    added = [networks.parse_added(text) for text in loras]
    if ours and ours.style_lora and not added:
        added = [networks.LoraFile(ours.folder / ours.style_lora)]
    return (
        Model(f"{base.stem} (base model)", "The checkpoint alone.", base),
        *(
            Model(
                f"{lora.path.stem} (LoRA{'' if lora.strength == 1 else f' at {lora.strength:g}'})",
                f"The base model with a LoRA at strength {lora.strength:g} that the motion module was not trained "
                "with.",
                base,
                (lora,),
            )
            for lora in added
        ),
        *(
            Model(
                f"{path.stem} (fine-tuned)",
                "A fully fine-tuned checkpoint that the motion module was not trained with.",
                path,
            )
            for path in tuned
        ),
    )


def _embedders(folders: Sequence[Path], device: str) -> Embedders:
    """The main embedder is CLIP (which also embeds texts), DINO or the built-in one; DINO also measures the subject."""
    found = [load_embedder(folder, device) for folder in folders]
    kinds = [embedder.kind for embedder in found]
    if len(set(kinds)) < len(kinds):
        raise EvaluationError(
            f"--embedder takes one folder of each kind, not {' and '.join(kinds)}. Remove one.", code="AD-K16"
        )
    by_kind: dict[str, Embedder] = dict(zip(kinds, found, strict=True))
    main = by_kind.get(CLIP) or by_kind.get(DINO) or SmallEmbedder()
    return Embedders(main, by_kind.get(DINO, main))


def _check_page(output: Path) -> None:
    if output.suffix.lower() not in (".html", ".htm"):
        raise EvaluationError(f"{output} is not an HTML page. Choose a name that ends in .html.", code="AD-K17")


def _check_output(output: Path, folder: Path) -> None:
    if is_folder(output) or (exists(folder) and not is_folder(folder)):
        raise EvaluationError(
            f"{output.stem} already exists and is not an evaluation. Choose another --output.", code="AD-K18"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EvaluationError(
            f"{folder} cannot be written ({error.strerror}). Choose another --output.", code="AD-K19"
        ) from error


def _notes(evaluation: Evaluation, without_tuned: bool) -> list[str]:
    """Notes for a fair comparison."""
    notes = []
    cells = evaluation.how.size[0] // host.PIXELS_PER_LATENT
    zero = evaluation.zero
    share = zero.motion[0] / 512 * cells
    if share < 1:
        notes.append(
            f"Text2Video-Zero is designed for images of 512 pixels. Here the latents are {cells} cells wide and its "
            f"shift is {share:.2f} cells per frame, rounded to whole cells: its clips jump instead of gliding."
        )
    if (zero.begin, zero.renoised) != (_PAPER.begin, _PAPER.renoised):
        notes.append(
            f"Text2Video-Zero shifts its first frame at timestep {zero.begin} and continues from {zero.renoised} (the "
            f"paper: {_PAPER.begin} and {_PAPER.renoised}, where latents as small as the built-in model's are still "
            "noise, so that its clips would be worse)."
        )
    if without_tuned:
        notes.append(
            "The models do not include a fully fine-tuned checkpoint, because the package has none. Add one with "
            "--tuned."
        )
    return notes


def _command(context: click.Context) -> str:
    """The command with the names of files instead of their paths."""
    words = ["python -m lib_animatediff evaluate"]
    for option in context.command.params:
        name = option.name or ""
        if context.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            continue
        given = context.params[name]
        if option.nargs > 1:
            words += [option.opts[0], *map(str, given)]
            continue
        for value in given if isinstance(given, tuple) else (given,):
            words += [option.opts[0], shlex.quote(_named(value, option))]
    return " ".join(words)


def _named(value: Any, option: click.Parameter) -> str:
    return Path(value).name if isinstance(value, Path) or option.name == "loras" else str(value)
