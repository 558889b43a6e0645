"""The models of one process: loaded once for the clips that follow each other."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from lib_animatediff.hosts.diffusers.methods import LoadedMethod, load_method
from lib_animatediff.hosts.diffusers.pipeline import find_config
from lib_animatediff.jobs.recipe import Ready, Request, prepare
from lib_animatediff.request.plan import ClipPlan
from lib_animatediff.video.hashing import file_hash, states_of


def models_key(request: Request) -> str:
    """What the pipeline of a request is loaded from: the files as they are now, since each may be replaced.

    Raises:
        CheckpointError: the request's ``config`` is no folder of configs.
        OSError: a file cannot be read.
    """
    parts = [
        _content(request.checkpoint),
        [str(state) for state in states_of(find_config(request.checkpoint, request.config))],
        [[*_content(lora.path), lora.strength] for lora in request.loras],
        [_content(path) for path in request.embeddings],
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _content(path: Path) -> list[str]:
    """A file by its path, which says the name of an embedding, and its content, which the recipe names."""
    return [str(path), file_hash(path)]


class Models:
    """The pipeline and the method that were used last. Each takes the place of the one before."""

    def __init__(self) -> None:
        self._pipeline: tuple[str, Any] | None = None
        self._method: tuple[object, LoadedMethod] | None = None

    def prepare(self, request: Request) -> Ready:
        """As `jobs.recipe.prepare`."""
        return prepare(request, self._load_method)

    def pipeline(self, ready: Ready) -> Any:
        """The pipeline of a request, as `Ready.load`."""
        key = f"{models_key(ready.request)} {ready.request.device}"
        if self._pipeline is None or self._pipeline[0] != key:
            self._pipeline = None  # so that its memory is free before the next one needs it
            self._pipeline = (key, ready.load())
        return self._pipeline[1]

    def _load_method(self, plan: ClipPlan) -> LoadedMethod:
        if not plan.method.modules:  # nothing that takes time
            return load_method(plan.method, plan)
        paths = [*(file.path for file in plan.method.modules), *(lora.path for lora in plan.method.loras)]
        files = (plan.method.modules, plan.method.loras, tuple(map(file_hash, paths)))
        if self._method is None or self._method[0] != files:
            self._method = None
            self._method = (files, load_method(plan.method, plan))
        return self._method[1]
