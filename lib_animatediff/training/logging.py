"""What a training tells while it runs: a JSON-lines file, and TensorBoard where it is installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tqdm import tqdm

LOG_NAME = "log.jsonl"


class Records:
    """Numbers and clips by step. Records after ``step`` are dropped: a resumed training writes them anew.

    Args:
        folder: of the training's output.
        step: after which the training goes on.
    """

    def __init__(self, folder: Path, step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / LOG_NAME
        kept = [line for line in _lines(path) if json.loads(line)["step"] <= step] if step else []
        path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        self._log = path.open("a", encoding="utf-8")
        self._board = _tensorboard(folder, step)

    def numbers(self, step: int, values: dict[str, float]) -> None:
        """Write numbers; a slash in a name groups them in TensorBoard."""
        self._log.write(json.dumps({"step": step, **values}) + "\n")
        self._log.flush()
        if self._board:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def image(self, step: int, name: str, path: Path, size: tuple[int, int]) -> None:
        """Show a PNG or a GIF in TensorBoard, whose browser plays the latter."""
        if self._board:
            from tensorboard.compat.proto.summary_pb2 import Summary

            image = Summary.Image(width=size[0], height=size[1], colorspace=3, encoded_image_string=path.read_bytes())
            self._board._get_file_writer().add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), step)

    def close(self) -> None:
        """Write out everything."""
        self._log.close()
        if self._board:
            self._board.close()


def _lines(path: Path) -> list[str]:
    """Whole lines only: the last one may have been cut off."""
    return path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []


def _tensorboard(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        tqdm.write(f"No TensorBoard ({error}); the numbers are in {LOG_NAME} alone.")
        return None
    return SummaryWriter(folder / "tensorboard", purge_step=step or None)
