"""What noise is tested on: a small ``p`` with the WebUI's generators, and a sampler that draws from them."""

from __future__ import annotations

import importlib
from contextlib import contextmanager
from types import SimpleNamespace

import torch
from support.plans import plan_of
from support.webui_double import double
from support.webui_double.double import shared

from lib_animatediff.request.plan import ClipPlan

SHAPE = (4, 8, 8)
FRAMES = 3
LAST = 0.0016


def plan(**values) -> ClipPlan:
    return plan_of(**{"frames": FRAMES, **values})


def freeinit(**values) -> ClipPlan:
    return plan(freeinit_enable=True, **values)


class ImageRNG:
    """The WebUI's, where nothing is resized or varied."""

    def __init__(self, seeds):
        self.seeds = seeds
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.is_first = True

    def first(self):
        return self._drawn()

    def next(self):
        if self.is_first:
            self.is_first = False
            return self.first()
        return self._drawn()

    def _drawn(self):
        return torch.stack([torch.randn(SHAPE, generator=generator) for generator in self.generators])


class Sampler:
    """The WebUI's, as far as noise goes: reads p.rng and makes its tree when a run begins."""

    no_tree = False

    def __init__(self):
        self.runs = []
        self.before_run = lambda number: None

    def create_noise_sampler(self, x, sigmas, p):
        trees = [torch.Generator().manual_seed(seed) for seed in p.seeds]
        if self.no_tree:
            return None
        return lambda sigma, sigma_next: torch.stack([torch.randn(SHAPE, generator=tree) for tree in trees])

    def sample(self, p, x, conditioning, unconditional_conditioning, steps=None, image_conditioning=None):
        return self.sample_img2img(p, None, x, conditioning, unconditional_conditioning, steps, image_conditioning)

    def sample_img2img(
        self, p, x, noise, conditioning, unconditional_conditioning, steps=None, image_conditioning=None
    ):
        assert (conditioning, unconditional_conditioning, image_conditioning) == ("c", "uc", "image")
        self.before_run(len(self.runs))
        tree = self.create_noise_sampler(noise, None, p)
        run = SimpleNamespace(noise=noise.clone(), given=x, steps=steps, ancestral=p.rng.next())
        run.brownian = tree and tree(1, 0)
        run.latents = noise.cumsum(-1) / 3 + (0 if x is None else x)
        self.runs.append(run)
        noise.zero_()
        return run.latents


def setup_img2img_steps(p, steps=None):
    if steps is not None:
        return int(steps / p.denoising_strength), steps - 1
    return p.steps, int(p.denoising_strength * p.steps)


@contextmanager
def on_the_double(folder):
    """Our module of the glue, on the double of the WebUI."""
    double.begin(None)
    shared.state.begin()
    made = double.modules(folder)
    made["modules.sd_samplers_common"].setup_img2img_steps = setup_img2img_steps
    with double.in_place(made):
        yield importlib.import_module("lib_animatediff.hosts.webui.clip.noise")


def request(*, clips=1, seed=5, frames=FRAMES, **fields):
    """A p of one batch, with its rows laid out."""
    seeds = [seed + row for row in range(clips * frames)]
    plain = {"subseed_strength": 0, "is_hr_pass": False, "iteration": 0, "n_iter": 1, "steps": 20}
    subseeds = [100 + row for row in range(len(seeds))]
    p = SimpleNamespace(all_seeds=seeds, all_subseeds=subseeds, **plain)
    p.sampler, p.seed = Sampler(), seed
    vars(p).update(fields)
    return begin_batch(p)


def begin_batch(p):
    p.seeds, p.subseeds, p.rng = p.all_seeds, p.all_subseeds, ImageRNG(p.all_seeds)
    return p


def of_img2img(**fields):
    rows = fields.get("clips", 1) * FRAMES
    given = torch.randn(rows, *SHAPE, generator=torch.Generator().manual_seed(9))
    return request(init_latent=given, denoising_strength=0.5, initial_noise_multiplier=1.0, **fields)


def paint(glue, p, chosen):
    """One pass, as `p.sample` makes it."""
    noise = p.rng.next()
    is_img2img = hasattr(p, "init_latent")
    if is_img2img:
        noise *= p.initial_noise_multiplier
    glue.share_noise(p, noise, chosen)
    glue.with_freeinit(p, chosen, LAST)
    if is_img2img:
        return p.sampler.sample_img2img(p, p.init_latent, noise, "c", "uc", image_conditioning="image")
    return p.sampler.sample(p, noise, "c", "uc", image_conditioning="image")
