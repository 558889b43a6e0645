"""The training loop that every stage shares: AdamW, a moving average, and a state from which it goes on exactly.

Randomness holds no state: what a step draws follows from the seed and the step's number alone (`stream`). Model,
average, optimizer and step are then all that a resumed run needs to equal an uninterrupted one bit for bit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from lib_animatediff.training.muon import Muon

LOG_EVERY = 50  # steps
CLIP_NORM = 1.0
BETAS = (0.9, 0.99)
READABLE = 0o644
WARM_AVERAGE = 10  # steps over which the moving average begins to weigh the past


@dataclass(frozen=True)
class Plan:
    """How to train.

    Attributes:
        name: of the stage, for messages.
        steps: in all.
        rate: learning rate of a step.
        average: decay of the moving average of the weights, which is the result.
        weight_decay: AdamW's.
        save_every: steps between two saved states.
        muon: update matrices by Muon, and only the rest by AdamW.
    """

    name: str
    steps: int
    rate: Callable[[int], float]
    average: float
    weight_decay: float = 0.01
    save_every: int = 200
    muon: bool = False


def stream(*names: object) -> torch.Generator:
    """A random generator that is a pure function of names and numbers."""
    digest = hashlib.sha256("/".join(map(str, names)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def train(
    model: nn.Module,
    loss: Callable[[int], Tensor],
    plan: Plan,
    state: Path,
    until: int | None = None,
    share: Callable[[Sequence[nn.Parameter]], None] | None = None,
    keeps: bool = True,
) -> bool:
    """Train a model in place and give it its averaged weights; True when all steps are done.

    Args:
        model: what is trained: every weight that asks for a gradient.
        loss: the loss of a step, drawn from `stream` by the step's number.
        plan: how.
        state: where the state lies from which a stopped run goes on; removed at the end by the caller.
        until: stop before this step and leave a state, as an interruption would.
        share: averages the gradients of several processes that train together.
        keeps: whether this process is the one that writes the state and says how it goes.
    """
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    average = [weight.detach().clone() for weight in weights]
    optimizer = _optimizer(weights, plan)
    first = 0
    if state.exists():
        first = _restore(state, weights, average, optimizer)
    stop = plan.steps if until is None else min(until, plan.steps)
    losses: list[float] = []
    progress = tqdm(
        range(first, stop), initial=first, total=plan.steps, desc=plan.name, disable=None if keeps else True
    )
    for step in progress:
        for group in optimizer.param_groups:
            group["lr"] = plan.rate(step)
        optimizer.zero_grad(set_to_none=True)
        value = loss(step)
        torch.autograd.backward(value)
        if share:
            share(weights)
        nn.utils.clip_grad_norm_(weights, CLIP_NORM)
        optimizer.step()
        with torch.no_grad():
            decay = min(plan.average, (1 + step) / (WARM_AVERAGE + step))
            torch._foreach_lerp_(average, [weight.detach() for weight in weights], 1 - decay)
        losses.append(float(value.detach()))
        done = step + 1
        if done % LOG_EVERY == 0 and keeps:
            tqdm.write(f"{plan.name}: step {done} of {plan.steps}, loss {sum(losses) / len(losses):.4f}")
            losses.clear()
        if keeps and (done % plan.save_every == 0 or done == stop):
            _keep(state, done, weights, average, optimizer)
    if stop < plan.steps:
        return False
    with torch.no_grad():
        for weight, mean in zip(weights, average, strict=True):
            weight.copy_(mean)
    return True


def warm_cosine(peak: float, steps: int, warm_up: int, floor: float = 0.01) -> Callable[[int], float]:
    """A learning rate that rises linearly, then falls along a cosine to a share of its peak."""

    def rate(step: int) -> float:
        if step < warm_up:
            return peak * (step + 1) / warm_up
        share = (step - warm_up) / max(1, steps - warm_up)
        return peak * (floor + (1 - floor) * 0.5 * (1 + float(torch.cos(torch.tensor(torch.pi * share)))))

    return rate


def _optimizer(weights: Sequence[nn.Parameter], plan: Plan) -> torch.optim.Optimizer:
    kind = Muon if plan.muon else torch.optim.AdamW
    return kind(weights, lr=plan.rate(0), betas=BETAS, weight_decay=plan.weight_decay)


def _keep(
    state: Path,
    step: int,
    weights: list[nn.Parameter],
    average: list[Tensor],
    optimizer: torch.optim.Optimizer,
) -> None:
    content = {
        "step": step,
        "weights": [weight.detach() for weight in weights],
        "average": average,
        "optimizer": optimizer.state_dict(),
    }
    with replacing(state) as path:
        torch.save(content, path)


def _restore(state: Path, weights: list[nn.Parameter], average: list[Tensor], optimizer: torch.optim.Optimizer) -> int:
    content = torch.load(state, weights_only=True)
    with torch.no_grad():
        for mine, kept in zip((*weights, *average), (*content["weights"], *content["average"]), strict=True):
            mine.copy_(kept)
    optimizer.load_state_dict(content["optimizer"])
    return int(content["step"])


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to; only when everything is written does it take the place of the one given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.unfinished")
    yield unfinished
    unfinished.replace(path)


def save(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any], **metadata: str) -> None:
    """Write a stage's result with what it was made from, and with what its hosts look for in its metadata."""
    whole = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as unfinished:
        save_file(whole, unfinished, metadata={**metadata, "about": json.dumps(about, sort_keys=True)})
        unfinished.chmod(READABLE)  # safetensors lets nobody else read it


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a stage's result and what it was made from."""
    with safe_open(path, framework="pt") as file:
        about = json.loads((file.metadata() or {}).get("about", "{}"))
        return {name: file.get_tensor(name) for name in file.keys()}, about  # noqa: SIM118 - not a dict
