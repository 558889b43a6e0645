"""How long the parts of a request take before they are measured."""

from __future__ import annotations

from types import SimpleNamespace

import torch


def test_before_it_is_measured_a_small_unet_is_taken_for_faster(webui):
    time_of = webui.module("hooks.progress.tasks")._time_of
    small, usual = (
        SimpleNamespace(parameters=lambda n=n: [torch.empty(n, device="meta")]) for n in (1_000_000, 860_000_000)
    )
    assert time_of(usual) == 1.0
    assert 0.05 < time_of(small) < 0.2
    assert time_of(None) == 1.0
