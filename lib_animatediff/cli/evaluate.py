"""The command `evaluate`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from lib_animatediff import builtin_model as pocket
from lib_animatediff.evaluation.embedders import CLIP, DINO, Embedder, SmallEmbedder, load_embedder
from lib_animatediff.evaluation.errors import EvaluationError
from lib_animatediff.evaluation.flow import opencv
from lib_animatediff.evaluation.measuring import Embedders
from lib_animatediff.evaluation.methods import Sampling
from lib_animatediff.evaluation.page import About, page_of
from lib_animatediff.evaluation.preview import write_preview
from lib_animatediff.evaluation.prompts import BUILT_IN, read_prompts
from lib_animatediff.evaluation.results import how_made, results_of
from lib_animatediff.evaluation.run import EvaluatedClip, Evaluation, Model, check, run
from lib_animatediff.hosts.diffusers import networks
from lib_animatediff.hosts.diffusers import pipeline as host
from lib_animatediff.sampling.text2video_zero import Text2VideoZero
from lib_animatediff.video.atomic import write_atomic

from .animate import CFG, SIZE
from .files import KIND_OPTION
from .options import DEVICE_OPTION, say_device

_FILE = click.Path(path_type=Path)
_TUNED = "build/pocket/pocket-lilac.safetensors"
_PAPER = Text2VideoZero()
_SMALL_LEVELS = 501, 561  # for latents of 8x8 cells, which show nothing yet at the paper's


@click.command()
@click.option("--checkpoint", type=_FILE, help="Stable Diffusion 1.5 checkpoint. Default: the small built-in one.")
@click.option("--motion", type=_FILE, help="Motion module, such as v3_sd15_mm.ckpt. Default: the built-in one.")
@KIND_OPTION
@click.option(
    "--prompts",
    type=_FILE,
    help="One to a line, with where it goes: a fox running to the right | right. Or JSON. Default: built-in ones.",
)
@click.option("--negative-prompt", default="", help="What no clip should show.")
@click.option(
    "--lora", "loras", multiple=True, help="A personalised model: the checkpoint with this FILE or FILE:STRENGTH."
)
@click.option("--tuned", type=_FILE, multiple=True, help="A personalised model: a fine-tuned checkpoint of one base.")
@click.option("--seeds", default=2, show_default=True, help="Clips of each prompt.")
@click.option("--seed", default=0, show_default=True, help="Where the seeds begin.")
@click.option("--frames", default=16, show_default=True, help="Pictures in a clip.")
@click.option("--width", type=int, help=f"In pixels, a multiple of 8. Default: {SIZE}, built-in {pocket.SIZE}.")
@click.option("--height", type=int, help=f"In pixels, a multiple of 8. Default: {SIZE}, built-in {pocket.SIZE}.")
@click.option("--steps", default=25, show_default=True, help="Sampling steps.")
@click.option(
    "--sampler", type=click.Choice(list(host.SAMPLERS)), default="ddim", show_default=True, help="How to sample."
)
@click.option("--cfg", type=float, help=f"How strictly prompts are followed. Default: {CFG}, built-in {pocket.CFG}.")
@click.option(
    "--zero-levels",
    type=(int, int),
    help="Timesteps at which Text2Video-Zero shifts the first frame, and from which it denoises all. "
    f"Default: the paper's {_PAPER.begin} {_PAPER.renoised}, built-in {_SMALL_LEVELS[0]} {_SMALL_LEVELS[1]}.",
)
@click.option("--fps", default=8.0, show_default=True, help="How fast clips play.")
@click.option(
    "--embedder",
    "folders",
    type=_FILE,
    multiple=True,
    help="Folder of CLIP or DINO (save_pretrained); give it twice for both. Default: a small built-in one.",
)
@click.option(
    "--config", type=_FILE, help="Tokenizer and configs. Default: a folder config beside the checkpoint, or SD 1.5's."
)
@DEVICE_OPTION
@click.option("--output", type=_FILE, default=Path("evaluation.html"), show_default=True, help="The page to write.")
@click.pass_context
def evaluate(
    context: click.Context,
    checkpoint: Path | None,
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
    """Compare the motion module with Text2Video-Zero, independent frames and a frozen one, on a page.

    Clips are kept in a folder beside the page, with results.json and a grid of some, clips.webp.
    Interrupted, the same command goes on.
    """
    asked_device, device = device, host.pick_device(device)
    built_in = checkpoint is None
    if not built_in and (motion is None or prompts is None):
        raise EvaluationError(
            "With --checkpoint also give --motion and --prompts: the built-in ones only fit the built-in model.",
            code="AD-K15",
        )
    opencv()
    size, guidance = (pocket.SIZE, pocket.CFG) if built_in else (SIZE, CFG)
    models = _models(checkpoint, loras, tuned)
    begin, renoised = zero_levels or (_SMALL_LEVELS if built_in else (_PAPER.begin, _PAPER.renoised))
    wanted = Evaluation(
        models=models,
        motion=motion or pocket.pocket_folder() / pocket.MOTION,
        prompts=BUILT_IN if prompts is None else read_prompts(prompts),
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
        # A fine-tuned checkpoint is of the same base, wherever it lies.
        config=host.find_config(models[0].checkpoint, config),
        device=device,
        zero=Text2VideoZero(begin=begin, renoised=renoised),
    )
    _check_output(output, wanted.folder)
    module = check(wanted)
    say_device(asked_device)
    embedders = _embedders(folders, device)
    shown: list[EvaluatedClip] = []
    with click.progressbar(length=wanted.renders, label="Clips", file=sys.stderr) as bar:
        try:
            shown.extend(run(wanted, module, embedders, lambda _model: bar.update(1)))
        except KeyboardInterrupt:
            click.echo(f"\nWhat is made so far is in {wanted.folder}. The same command goes on.", err=True)
            raise
    made = how_made(wanted, embedders, _command(context))
    results = wanted.folder / "results.json"
    write_atomic(results, results_of(wanted, shown, made).encode())
    page = page_of(wanted, shown, embedders, About(made, _notes(wanted, built_in and not tuned)))
    write_atomic(output, page.encode())
    picture = write_preview(wanted.folder / "clips.webp", wanted, shown)
    click.echo(f"{output}\n{results}\n{picture}")


def _models(checkpoint: Path | None, loras: Sequence[str], tuned: Sequence[Path]) -> tuple[Model, ...]:
    """The checkpoint and the personalised models of it; of the built-in one the shipped LoRA, if none is named."""
    folder = None if checkpoint else pocket.pocket_folder()
    base = checkpoint or (folder or Path()) / pocket.CHECKPOINT
    added = [networks.parse_added(text) for text in loras]
    if folder and not added and (folder / pocket.STYLE_LORA).is_file():
        added = [networks.LoraFile(folder / pocket.STYLE_LORA)]
    return (
        Model(f"{base.stem} (base model)", "The checkpoint as it is.", base),
        *(
            Model(
                f"{lora.path.stem} (LoRA{'' if lora.strength == 1 else f' at {lora.strength:g}'})",
                f"The base model with a LoRA at strength {lora.strength:g}, which the motion module never met.",
                base,
                (lora,),
            )
            for lora in added
        ),
        *(
            Model(f"{path.stem} (fine-tuned)", "A checkpoint with all its weights tuned; never met, either.", path)
            for path in tuned
        ),
    )


def _embedders(folders: Sequence[Path], device: str) -> Embedders:
    """CLIP, which also reads texts, before DINO before the one built in; DINO for VBench's subject, if there is one."""
    found = [load_embedder(folder, device) for folder in folders]
    kinds = [embedder.kind for embedder in found]
    if len(set(kinds)) < len(kinds):
        raise EvaluationError(
            f"--embedder takes one folder of each kind, not {' and '.join(kinds)}. Remove one.", code="AD-K16"
        )
    by_kind: dict[str, Embedder] = dict(zip(kinds, found, strict=True))
    main = by_kind.get(CLIP) or by_kind.get(DINO) or SmallEmbedder()
    return Embedders(main, by_kind.get(DINO, main))


def _check_output(output: Path, folder: Path) -> None:
    if output.suffix.lower() not in (".html", ".htm"):
        raise EvaluationError(f"{output} is not an HTML page. Choose a name that ends in .html.", code="AD-K17")
    if output.is_dir() or (folder.exists() and not folder.is_dir()):
        raise EvaluationError(
            f"{output.stem} already exists and is not an evaluation. Choose another --output.", code="AD-K18"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EvaluationError(
            f"{folder} cannot be written ({error.strerror}). Choose another --output.", code="AD-K19"
        ) from error


def _notes(wanted: Evaluation, without_tuned: bool) -> list[str]:
    """What a reader has to know to judge fairly."""
    notes = []
    cells = wanted.how.size[0] // host.PIXELS_PER_LATENT
    zero = wanted.zero
    share = zero.motion[0] / 512 * cells
    if share < 1:
        notes.append(
            f"Text2Video-Zero is made for pictures of 512 pixels. Here the latents are {cells} cells wide and its "
            f"shift is {share:.2f} cells per frame, of which it makes whole ones: its clips jump instead of gliding."
        )
    if (zero.begin, zero.renoised) != (_PAPER.begin, _PAPER.renoised):
        notes.append(
            f"Text2Video-Zero shifts its first frame at timestep {zero.begin} and goes on from {zero.renoised} (the "
            f"paper: {_PAPER.begin} and {_PAPER.renoised}, where latents as small as the built-in model's show nothing "
            "yet, so that its clips are worse)."
        )
    if without_tuned:
        notes.append(
            "A fully fine-tuned checkpoint is not among the models, since none is part of the package: make pocket "
            f"makes one (two hours on two cores); then add --tuned {_TUNED}."
        )
    return notes


def _command(context: click.Context) -> str:
    """The command as it was given, but of paths the names only."""
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
