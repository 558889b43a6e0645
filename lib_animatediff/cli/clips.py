"""The commands `info` and `reproduce`: print the recipe of a clip, and render it again."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lib_animatediff.builtin_model import MODELS
from lib_animatediff.hosts.diffusers.pipeline import pick_device
from lib_animatediff.hosts.diffusers.start.pins import check_images
from lib_animatediff.hosts.diffusers.start.video import check_video
from lib_animatediff.jobs.recipe import prepare, request_of
from lib_animatediff.request.plan import ClipPlan
from lib_animatediff.request.settings import from_infotext
from lib_animatediff.video import FORMATS, Recipe, read_clip, read_recipe
from lib_animatediff.video.hashing import file_hash
from motion_module import ClipError
from motion_module.limits import is_folder, printable

from .options import DEVICE_OPTION, say_device

if TYPE_CHECKING:
    from PIL.Image import Image

LEAST_PSNR = 25.0  # dB, of frame 0 in a lossy format; far below that of each format's default quality
_PATH = click.Path(path_type=Path)
_FIELD = re.compile(r'(?:^|, )AnimateDiff: (?:("(?:[^"\\]|\\.)*")|([^,\n]*))', re.MULTILINE)
_HASH_SHOWN = 12


@click.command()
@click.argument("files", type=_PATH, nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print a list of JSON objects.")
def info(files: tuple[Path, ...], as_json: bool) -> None:
    """Print the recipes of FILES: clips, images or folders of frames, from AnimateDiff or the WebUI."""
    recipes = [(path, read_recipe(path)) for path in files]
    if as_json:
        click.echo(_json([_as_json(path, recipe) for path, recipe in recipes]))
        return
    for path, recipe in recipes:
        click.echo(printable(f"{path}:") if len(recipes) > 1 else "", nl=len(recipes) > 1)
        click.echo(printable(recipe.infotext) or "The file contains no parameters.")
        if recipe.data is not None:
            click.echo(_json(recipe.data))


@click.command()
@click.argument("file", type=_PATH)
@click.option(
    "--models",
    type=_PATH,
    multiple=True,
    help="Folder with the checkpoint and the other files. May be repeated.",
)
@click.option("--config", type=_PATH, help="Folder with tokenizer and configs, as for animate.")
@DEVICE_OPTION
def reproduce(file: Path, models: tuple[Path, ...], config: Path | None, device: str) -> None:
    """Render the clip FILE again from its recipe, and compare the first frame that is no given image."""
    recipe = read_recipe(file)
    if recipe.data is None:
        raise ClipError(
            f"{file} contains no recipe that can be rendered. To print what it contains, run: animatediff info {file}",
            code="AD-K10",
        )
    request = request_of(recipe.data, _finder(models), config=config, device=pick_device(device))
    ready = prepare(request)
    check_video(ready.plan)
    check_images(ready.plan)
    say_device(device)
    compared = _compared(ready.plan)
    original = next(read_clip(file, start=compared, fps=request.settings.fps)).image.convert("RGB")
    pipeline = ready.load()
    with click.progressbar(length=ready.steps, label="Sampling", file=sys.stderr) as bar:
        rendered = ready.render(pipeline, lambda: bar.update(1))[compared].convert("RGB")
    psnr = _psnr(_cropped(original, rendered.size), rendered)
    lossless = _keeps_pixels(file, recipe.data)
    if psnr < (math.inf if lossless else LEAST_PSNR):
        wanted = "identical" if lossless else f"at least {LEAST_PSNR:g} dB"
        raise ClipError(
            f"{file} was not reproduced: frame {compared} differs ({psnr:.1f} dB PSNR, {wanted} expected). Another "
            "device or another version of a library may be the reason: the clip was made with "
            f"{_versions(recipe.data)}.",
            code="AD-K11",
        )
    likeness = "identical." if math.isinf(psnr) else f"the same, with {psnr:.1f} dB PSNR."
    click.echo(f"Reproduced: frame {compared} is {likeness}")


def _compared(plan: ClipPlan) -> int:
    """The frame that is compared. A file with frames in between has them at other places, except frame 0."""
    if plan.pins is None or plan.output.interpolation is not None:
        return 0
    return plan.pins.first_other(len(plan.rendered))


def _as_json(path: Path, recipe: Recipe) -> dict[str, Any]:
    return {
        "file": str(path),
        "infotext": recipe.infotext,
        "settings": _settings(recipe.infotext),
        "fps": None if recipe.fps is None else str(recipe.fps),
        "loop_count": recipe.loop_count,
        "data": recipe.data,
    }


def _json(value: Any) -> str:
    """JSON for people, in which characters that a terminal would obey are escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return "".join(sign if sign.isprintable() or sign == "\n" else json.dumps(sign)[1:-1] for sign in text)


def _settings(infotext: str) -> dict[str, Any] | None:
    """AnimateDiff's settings from an infotext, by canonical name; None if it has none."""
    fields = _FIELD.findall(infotext)
    if not fields:
        return None
    quoted, plain = fields[-1]  # the last one: a prompt can contain anything
    try:
        return from_infotext(json.loads(quoted) if quoted else plain)
    except ValueError:
        return None


def _finder(folders: Sequence[Path]) -> Callable[[str, str], Path]:
    """Finds a file by name and hash in the given folders and in those of the built-in models."""

    def find(name: str, digest: str) -> Path:
        others = []
        for folder in (*folders, *(model.folder for model in MODELS.values() if model.is_installed)):
            for path in _named(folder, name):
                if file_hash(path) == digest:
                    return path
                others.append(path)
        if others:
            raise ClipError(
                f"{others[0]} is not the file that the clip was made with: its SHA-256 differs. Give the folder of the "
                "original: --models.",
                code="AD-K12",
            )
        raise ClipError(
            f"The clip was made with {name} (SHA-256 {digest[:_HASH_SHOWN]}...), which was not found. Give its folder: "
            "--models.",
            code="AD-K13",
        )

    return find


def _named(folder: Path, name: str) -> list[Path]:
    """What has a name in a folder and those below it, or has files that fit a pattern."""
    below = sorted(folder.rglob("*"))  # never by the name itself, which may contain a path
    found = [path for path in below if path.name == name]
    if found or not any(sign in name for sign in "*?["):
        return found
    return [path / name for path in (folder, *below) if path.is_dir() and any(path.glob(name))]


def _keeps_pixels(file: Path, data: Mapping[str, Any]) -> bool:
    if is_folder(file):
        return FORMATS["frames"].lossless
    encoding = data.get("encoding")
    lossless = isinstance(encoding, dict) and encoding.get("lossless") is True
    suffix = file.suffix.lower()
    return suffix in (".png", ".apng") or (suffix == ".webp" and lossless)


def _cropped(image: Image, size: tuple[int, int]) -> Image:
    """The image without the row and column that pad odd sizes."""
    if image.width - size[0] not in (0, 1) or image.height - size[1] not in (0, 1):
        raise ClipError(
            f"The file's frames have {image.width}x{image.height} pixels, but its recipe {size[0]}x{size[1]}. "
            "Use the original file of the clip.",
            code="AD-K14",
        )
    return image.crop((0, 0, *size))


def _psnr(one: Image, other: Image) -> float:
    """Peak signal-to-noise ratio of two images in dB; infinite if they are identical."""
    from PIL import ImageChops, ImageStat

    squares = ImageStat.Stat(ImageChops.difference(one, other)).sum2
    error = sum(squares) / (3 * one.width * one.height)
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def _versions(data: Mapping[str, Any]) -> str:
    versions = data.get("versions")
    named = versions.items() if isinstance(versions, dict) else ()
    return ", ".join(f"{name} {number}" for name, number in named if isinstance(number, str)) or "unknown versions"
