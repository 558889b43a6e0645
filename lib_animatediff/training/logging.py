"""Log of a training: a JSON Lines file, and TensorBoard if installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tqdm import tqdm

LOG_NAME = "log.jsonl"


class Records:
    """Writes metrics and samples by step. When resuming, records after ``step`` are dropped, as they will be repeated.

    Args:
        folder: output folder of the training.
        step: last completed step.
    """

    def __init__(self, folder: Path, step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / LOG_NAME
        kept = [line for line in _lines(path) if json.loads(line)["step"] <= step] if step else []
        path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        self._log = path.open("a", encoding="utf-8")
        self._board = _tensorboard(folder, step)

    def numbers(self, step: int, values: dict[str, float]) -> None:
        """Write metrics; a slash in a name groups them in TensorBoard."""
        self._log.write(json.dumps({"step": step, **values}) + "\n")
        self._log.flush()
        if self._board:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def image(self, step: int, name: str, path: Path, size: tuple[int, int]) -> None:
        """Show a PNG or a GIF in TensorBoard, which plays GIFs."""
        if self._board:
            from tensorboard.compat.proto.summary_pb2 import Summary

            image = Summary.Image(width=size[0], height=size[1], colorspace=3, encoded_image_string=path.read_bytes())
            self._board._get_file_writer().add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), step)

    def close(self) -> None:
        """Flush and close all files."""
        self._log.close()
        if self._board:
            self._board.close()


def _lines(path: Path) -> list[str]:
    """Complete lines: the last one may be truncated."""
    return path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []


def _tensorboard(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        tqdm.write(f"TensorBoard is not available ({error}). Metrics are written to {LOG_NAME} only.")
        return None
    return SummaryWriter(folder / "tensorboard", purge_step=step or None)
