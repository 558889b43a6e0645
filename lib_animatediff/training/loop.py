"""The training loop. Each step is a function of the previous state and its own number only."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor
from tqdm import tqdm

from motion_module import load_motion_module
from motion_module.temporal_transformer import TemporalTransformer

from . import export
from .base import Base
from .cache import CachedSource
from .camera import CameraObjective
from .clips import Clip, Source
from .consistency import ConsistencyObjective, Teacher
from .control import ControlObjective
from .dataset import Example, Examples, batches, readable, split
from .latents import latents_of
from .logging import Records
from .loss import Group, Objective, text_once_per_clip
from .muon import Muon
from .pia import PiaObjective, largest_differences
from .rng import Draws
from .settings import TrainingError, TrainingSettings, recipe
from .sparse import SparseCtrlObjective
from .state import EMA, States
from .trainables import Target, adapter_in, target_of
from .validation import held_out_groups, timestep_errors, write_samples
from .videos import VideoSource

LAST_SHARE = 0.01  # of the learning rate, at the end of a cosine schedule
ADAM_EPS = 1e-8
HALVES = {"fp16": torch.float16, "bf16": torch.bfloat16}


def run(settings: TrainingSettings, base: Base, source: Source) -> Path:
    """Train all steps and return the result's path. See `lib_animatediff.training.train`."""
    if settings.validation_prompts and base.pipeline is None:
        raise TrainingError(
            "Validation clips need a base model with a pipeline. Leave out validation_prompts.", code="AD-T08"
        )
    accelerator = Accelerator(cpu=settings.device == "cpu", mixed_precision=_precision(settings))
    base.to(accelerator.device, HALVES.get(str(accelerator.mixed_precision), torch.float32))
    if settings.cache:
        source = _cached(source, settings, base, accelerator)
    with (
        adapter_in(base.unet, settings),
        target_of(settings, base.unet) as target,
        _checkpointing(base.unet, target, settings.checkpointing),
    ):
        return Loop(settings, base, source, target, accelerator).run()


def _cached(source: Source, settings: TrainingSettings, base: Base, accelerator: Accelerator) -> CachedSource:
    if not isinstance(source, VideoSource):
        raise TrainingError("Only videos on disk can be cached. Leave out cache.", code="AD-T09")
    cached = CachedSource(source, Path(settings.cache), base.vae, settings)
    cached.fill(base.vae, process=accelerator.process_index, processes=accelerator.num_processes)
    accelerator.wait_for_everyone()
    return cached


def _precision(settings: TrainingSettings) -> str:
    on_cuda = torch.cuda.is_available() and settings.device != "cpu"
    if settings.precision == "fp16" and not on_cuda:
        raise TrainingError("fp16 needs a CUDA device. Set precision to bf16 or no.", code="AD-T10")
    if settings.precision == "auto":
        return "fp16" if on_cuda else "no"
    return settings.precision


@contextmanager
def _checkpointing(unet: Any, target: Target, enabled: bool) -> Iterator[None]:
    """Enable gradient checkpointing. LDM UNets only support it as an option at construction."""
    nets = (unet, target.control) if enabled else ()
    diffusers_nets: list[Any] = [net for net in nets if hasattr(net, "enable_gradient_checkpointing")]
    for network in filter(None, (target.motion, target.encoder)):
        for transformer in network.modules():
            if isinstance(transformer, TemporalTransformer):
                transformer.gradient_checkpointing = enabled
    for net in diffusers_nets:
        net.enable_gradient_checkpointing()
        net.train()  # required by older diffusers; no layer of these networks depends on it
    try:
        yield
    finally:
        for net in diffusers_nets:
            net.disable_gradient_checkpointing()
            net.eval()


def learning_rate(settings: TrainingSettings, step: int) -> float:
    """Learning rate of a step, counted from 0."""
    if step < settings.warmup:
        return settings.lr * (step + 1) / settings.warmup
    if settings.lr_schedule == "constant":
        return settings.lr
    share = (step - settings.warmup) / max(settings.steps - settings.warmup, 1)
    return settings.lr * (LAST_SHARE + (1 - LAST_SHARE) * 0.5 * (1 + math.cos(math.pi * share)))


def _optimizer(weights: list[torch.nn.Parameter], settings: TrainingSettings) -> torch.optim.Optimizer:
    kind = Muon if settings.optimizer == "muon" else torch.optim.AdamW
    return kind(
        weights,
        lr=settings.lr,
        betas=(settings.beta1, settings.beta2),
        eps=ADAM_EPS,
        weight_decay=settings.weight_decay,
    )


def _objective(
    settings: TrainingSettings, base: Base, target: Target, alphas: Tensor, differences: Callable[[], Tensor]
) -> Objective:
    weights = settings.largest_weight, settings.moving_weight
    if target.control is not None:
        return ControlObjective(base.unet, target.control, alphas, *weights, settings.hints)
    if target.encoder is not None:
        return SparseCtrlObjective(base.unet, target.motion, target.encoder, alphas, *weights, settings.hints)
    if target.steering is not None:
        return CameraObjective(base.unet, target.motion, target.steering, alphas, *weights)
    if target.image_input is not None:
        return PiaObjective(base.unet, target.motion, target.image_input, differences(), alphas, *weights)
    kind = ConsistencyObjective if settings.distill_cfg else Objective
    return kind(base.unet, target.motion, alphas, *weights)


def _teacher(settings: TrainingSettings, base: Base, alphas: Tensor) -> Teacher:
    motion = load_motion_module(Path(settings.motion)).float()
    return Teacher(base.unet, motion, alphas, settings.distill_cfg, base.texts([""]))


def _taught(groups: list[Group], teacher: Teacher | None) -> list[Group]:
    """Groups with what the teacher makes of them, outside the block in which the trained weights are in the UNet."""
    return groups if teacher is None else [teacher.extend(group) for group in groups]


def _progress(steps: range, *, is_shown: bool) -> Any:
    """A progress bar over the steps; hidden where the output is no terminal."""
    disable = None if is_shown else True
    return tqdm(steps, initial=steps.start, total=steps.stop, desc="Training", disable=disable)


class Loop:
    """A running training.

    Attributes:
        weights: the trained weights.
        ema: their moving average, if enabled.
        items, held_out: indices of the clips for training and validation.
        broken: error by name of each clip that this process could not read.
    """

    def __init__(
        self, settings: TrainingSettings, base: Base, source: Source, target: Target, accelerator: Accelerator
    ) -> None:
        self.settings = settings
        self.base = base
        self.source = source
        self.target = target
        self.accelerator = accelerator
        self.folder = Path(settings.output)
        self.items, self.held_out = split(source, settings)
        self.broken: dict[str, str] = {}
        self.records: Records | None = None  # on the main process only
        self.weights = list(target.weights.values())
        self.alphas = target.schedule.alphas_cumprod()
        differences = partial(largest_differences, source, self.items, settings, base.vae, self.skip)
        self._inputs = _objective(settings, base, target, self.alphas, differences)
        self.objective, self.optimizer = accelerator.prepare(self._inputs, _optimizer(self.weights, settings))
        self.teacher = _teacher(settings, base, self.alphas) if settings.distill_cfg else None
        self.ema = EMA(self.weights, settings.ema) if settings.ema else None
        self.states = States(self.folder, settings)

    def run(self) -> Path:
        """Resume from the last state, if any, and train all remaining steps; returns the result's path."""
        first = self.states.restore(self.target.weights, self.ema, self.optimizer, self.accelerator.scaler)
        if self.accelerator.is_main_process:
            self.records = Records(self.folder, first)
        try:
            if not first:
                self._validate(0)
            self._train(range(first, self.settings.steps))
        finally:
            if self.records:
                self.records.close()
        return self.result

    def _train(self, steps: range) -> None:
        coming = self._batches(steps)
        losses: list[Tensor] = []
        with _progress(steps, is_shown=self.accelerator.is_main_process) as progress:
            for step in progress:
                losses.append(self._step(step, coming))
                done = step + 1
                end = done == self.settings.steps
                if done % self.settings.log_every == 0 or end:
                    self._log(done, losses, progress)
                    losses = []
                if done % self.settings.save_every == 0 or end:
                    self._save(done)
                if done % self.settings.validation_every == 0 or end:
                    self._validate(done)

    def _log(self, done: int, losses: list[Tensor], progress: Any) -> None:
        loss = float(self.accelerator.reduce(torch.stack(losses).mean(), "mean"))
        if not math.isfinite(loss):
            raise TrainingError(
                f"The loss is not finite at step {done}. Lower lr or increase warmup; instead of fp16, try bf16 or no.",
                code="AD-T11",
            )
        progress.set_postfix(loss=f"{loss:.4f}")
        if self.records:
            self.records.numbers(done, {"loss": loss, "lr": learning_rate(self.settings, done - 1)})

    @property
    def result(self) -> Path:
        """Path of the result."""
        return self.folder / f"{self.settings.target}.safetensors"

    def _batches(self, steps: range) -> Iterator[list[Example]]:
        return batches(
            Examples(self.source, self.items, self.settings),
            self.settings,
            steps,
            process=self.accelerator.process_index,
            processes=self.accelerator.num_processes,
        )

    def _step(self, step: int, coming: Iterator[list[Example]]) -> Tensor:
        """Run one optimiser step; returns the mean loss of this device."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.settings, step)
        self.optimizer.zero_grad()
        total = torch.zeros((), device=self.accelerator.device)
        frames = self.settings.clip_frames
        given = [_taught(self.groups(next(coming)), self.teacher) for _ in range(self.settings.accumulation)]
        with self.target.inside(self.base.unet, frames), text_once_per_clip(self.objective, frames):
            for micro, groups in enumerate(given):
                last = micro == self.settings.accumulation - 1
                with nullcontext() if last else self.accelerator.no_sync(self.objective):
                    # Inside the same block, because gradient checkpointing reruns the UNet in the backward pass.
                    loss = self.objective(groups) / self.settings.accumulation
                    self.accelerator.backward(loss)
                total += loss.detach()
        self.accelerator.clip_grad_norm_(self.weights, self.settings.clip_norm)
        self.optimizer.step()
        if self.ema:
            self.ema.follow(step)
        return total

    def groups(self, examples: list[Example]) -> list[Group]:
        """Input of the objective: clips grouped by shape, with noise, timestep and text."""
        by_shape: dict[tuple[int, ...], list[tuple[Tensor, Draws, str, Clip]]] = defaultdict(list)
        for example in examples:
            for name, reason in example.broken:
                self.skip(name, reason)
            clip = readable(example)
            draws = Draws(self.settings.seed, example.number)
            latents = latents_of(clip, self.base.vae, draws, self.accelerator.device)
            caption = "" if draws.uniform("caption") < self.settings.caption_dropout else clip.caption
            by_shape[tuple(latents.shape)].append((latents, draws, caption, clip))
        steps, power = len(self.alphas), self.settings.timestep_power
        groups = []
        for rows in by_shape.values():
            group: Group = {
                "latents": torch.stack([latents for latents, *_ in rows]),
                "noise": torch.stack([draws.normal("noise", tuple(latents.shape)) for latents, draws, *_ in rows]),
                "timesteps": torch.tensor([draws.timestep(steps, power) for _, draws, *_ in rows]),
                "text": self.base.texts([caption for _, _, caption, _ in rows]),
            }
            device = self.accelerator.device
            given = [self._inputs.given(clip, latents, draws) for latents, draws, _, clip in rows]
            group |= {name: torch.stack([each[name].to(device) for each in given]) for name in given[0]}
            groups.append({name: tensor.to(device) for name, tensor in group.items()})
        return groups

    def skip(self, name: str, reason: str) -> None:
        """Report an unreadable clip, once."""
        if name not in self.broken:
            self.broken[name] = reason
            tqdm.write(f"Skipped: {reason}")

    def _validate(self, done: int) -> None:
        if self.records:
            with self._averaged():
                objective = self.accelerator.unwrap_model(self.objective)
                groups = held_out_groups(
                    self.base, self.source, self.held_out, self.settings, objective, self.accelerator.device, self.skip
                )
                values = timestep_errors(groups, objective, self.target, self.base.unet, self.accelerator.autocast)
                if values:
                    self.records.numbers(done, values)
                samples = (
                    write_samples(self.base.pipeline, self.target, self.settings, self.folder, done) if done else []
                )
                for number, (path, size) in enumerate(samples):
                    self.records.image(done, f"sample/{number}", path, size)
        self.accelerator.wait_for_everyone()

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Use the moving average, if enabled, in place of the weights, so that validation judges what is saved."""
        if self.ema:
            self.ema.swap()
        try:
            yield
        finally:
            if self.ema:
                self.ema.swap()

    def _save(self, done: int) -> None:
        broken = sorted(set(gather_object(sorted(self.broken))))
        if self.accelerator.is_main_process:
            self.states.save(done, self.target.weights, self.ema, self.optimizer, self.accelerator.scaler)
            with self._averaged():
                export.write(self.result, self.target, self._about(done, broken), half=self.settings.half)
        self.accelerator.wait_for_everyone()

    def _about(self, done: int, broken: list[str]) -> dict[str, Any]:
        motion = self.target.motion
        return {
            "settings": recipe(self.settings),
            "steps_done": done,
            "processes": self.accelerator.num_processes,
            "kind": motion.kind if motion else None,
            "clips": {"trained_on": len(self.items), "held_out": len(self.held_out), "broken": broken},
        }
