"""What a ControlNet of Forge or reForge adds follows the rows, by the ways in which both merge it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

LEVELS = {0.0: 10.0, 0.5: 5.0, 1.0: 0.0}  # the noise level of a share of the steps


@pytest.fixture
def integrated(webui):
    return webui.module("compat.integrated_controlnet")


class OfForge:
    """As `ControlNet` of Forge: its own outputs, those of the unit before it, and a dtype, all by place."""

    def __init__(self, before: Any = None) -> None:
        self.before = before

    def pre_run(self, _model: Any, level_of: Any) -> float:
        return level_of(0.5)

    def get_control(self, x: torch.Tensor, _levels: torch.Tensor, *_more: Any) -> Any:
        outputs = [torch.ones(len(x), 2, 4, 4), torch.ones(len(x), 2, 2, 2)]
        return self.control_merge(None, outputs, self.before, torch.float32)

    def control_merge(self, inputs: Any, outputs: Any, before: Any, _dtype: Any) -> dict[str, list[torch.Tensor]]:
        assert inputs is None
        assert before is None  # what the unit before it adds has its own weights
        return {"input": [], "middle": [outputs[1]], "output": [outputs[0]]}


class OfReforge(OfForge):
    """As `ControlNet` of reForge, whose dtype is a keyword."""

    def get_control(self, x: torch.Tensor, _levels: torch.Tensor, *_more: Any) -> Any:
        outputs = {"middle": [torch.ones(len(x), 2, 2, 2)], "output": [torch.ones(len(x), 2, 4, 4)]}
        return self.control_merge(outputs, self.before, output_dtype=None)

    def control_merge(self, outputs: Any, before: Any, output_dtype: Any) -> Any:  # type: ignore[override]
        assert before is None
        assert output_dtype is None
        return {name: list(listed) for name, listed in outputs.items()}


def added(control: Any, level: float = 7.0, rows: int = 4) -> Any:
    control.pre_run(None, LEVELS.__getitem__)
    return control.get_control(torch.zeros(rows, 4, 4, 4), torch.full((rows,), level), {}, 2)


@pytest.mark.parametrize("kind", [OfForge, OfReforge])
def test_each_row_of_cond_and_uncond_has_the_weight_of_its_frame(integrated, kind):
    control = kind()
    integrated.RowWeights(torch.tensor([1.0, 0.25]).view(-1, 1, 1, 1), ()).weigh(control)
    for outputs in added(control).values():
        for output in outputs:
            assert output.mean(dim=(1, 2, 3)).tolist() == [1, 0.25, 1, 0.25]


@pytest.mark.parametrize("kind", [OfForge, OfReforge])
def test_a_unit_acts_between_the_levels_of_its_steps(integrated, kind):
    control = kind()
    integrated.RowWeights(torch.ones(2, 1, 1, 1), [(0.0, 0.5), (0.5, 1.0)]).weigh(control)
    assert added(control, level=7.0)["middle"][0].mean(dim=(1, 2, 3)).tolist() == [1, 0, 1, 0]
    assert added(control, level=3.0)["middle"][0].mean(dim=(1, 2, 3)).tolist() == [0, 1, 0, 1]
    assert added(control, level=5.0)["middle"][0].mean(dim=(1, 2, 3)).tolist() == [1, 1, 1, 1]  # both ends count


def test_a_mask_has_the_size_of_each_output(integrated):
    control, mask = OfForge(), torch.zeros(1, 1, 8, 8)
    mask[..., :4] = 1
    integrated.RowWeights(mask, ()).weigh(control)
    found = added(control, rows=2)
    for output in (found["middle"][0], found["output"][0]):
        half = output.shape[3] // 2
        assert (output[..., :half] == 1).all()
        assert (output[..., half:] == 0).all()


@pytest.mark.parametrize("kind", [OfForge, OfReforge])
def test_the_unit_before_it_keeps_its_own_weight(integrated, kind):
    before = {"input": [torch.full((4, 2, 1, 1), 3.0)], "middle": [None], "output": [torch.full((4, 2, 4, 4), 5.0)]}
    control = kind(before)
    integrated.RowWeights(torch.zeros(2, 1, 1, 1), ()).weigh(control)
    found = added(control)
    assert (found["input"][0] == 3).all()
    assert (found["middle"][0] == 0).all()
    assert (found["output"][0] == 5).all()


@dataclass
class Unit:
    enabled: bool = True
    model: str = "canny"
    module: str = "none"
    image: Any = None
    mask_image: Any = None
    input_mode: str = "simple"
    batch_image_dir: str = ""
    batch_mask_dir: str = ""
    use_preview_as_input: bool = True
    save_detected_map: bool = True


@dataclass
class NeosUnit:
    """Of Forge Neo, whose units have one image."""

    image: Any = "own"
    use_preview_as_input: bool = True
    save_detected_map: bool = True


def test_a_unit_without_input_modes_has_one_image(integrated):
    host = integrated.IntegratedUnit(0, 3, NeosUnit())
    assert (host.has_image, host.folder, host.gallery, host.count) == (True, "", [], 1)
    assert integrated.with_frames(host) == NeosUnit(None, use_preview_as_input=False, save_detected_map=False)


def test_a_unit_with_frames_shows_no_maps_and_reads_ours(integrated, monkeypatch):
    offered = SimpleNamespace(resize_mode_from_value=lambda value: f"as {value}")
    monkeypatch.setitem(sys.modules, "lib_controlnet.external_code", offered)
    host = integrated.IntegratedUnit(0, 3, Unit(image="own", input_mode="batch", batch_image_dir="in"))
    assert host.folder == "in"
    unit = integrated.with_frames(host)
    assert (unit.image, unit.input_mode, unit.save_detected_map, unit.use_preview_as_input) == (
        None,
        "simple",
        False,
        False,
    )
    unit.resize_mode = 1
    read = {id(unit): lambda: [("a", None), ("b", "mask")]}
    original = lambda *_args: "its own"  # noqa: E731
    assert integrated.read_images(read, original, "p", unit, "preprocessor", 8, 8) == (
        [["a", None], ["b", "mask"]],
        "as 1",
    )
    assert integrated.read_images(read, original, "p", Unit(), "preprocessor", 8, 8) == "its own"


def test_a_pass_weighs_what_was_patched_and_leaves_the_script_as_it_was(integrated):
    control, unit = OfForge(), Unit()
    unet = SimpleNamespace(controlnet_linked_list=None)
    seen: list[Any] = []

    class Model:
        def process_before_every_sampling(self, _p: Any, hints: torch.Tensor, masks: Any) -> None:
            seen.append((len(hints), masks))

    class Script:
        def title(self) -> str:
            return "ControlNet"

        def process_unit_before_every_sampling(self, p: Any, _unit: Any, params: Any) -> None:
            unet.controlnet_linked_list = control
            params.model.process_before_every_sampling(p, torch.zeros(6, 3, 8, 8), None)

    script, params = Script(), SimpleNamespace(model=Model())
    p = SimpleNamespace(
        scripts=SimpleNamespace(alwayson_scripts=[script]),
        sd_model=SimpleNamespace(forge_objects=SimpleNamespace(unet=unet)),
    )
    weights = {id(unit): integrated.RowWeights(torch.zeros(2, 1, 1, 1), ())}
    with integrated.in_passes(p, weights, [id(unit)]):
        script.process_unit_before_every_sampling(p, unit, params)
    assert seen == [(1, None)]  # one row stands for equal ones
    assert (added(control)["middle"][0] == 0).all()
    assert not vars(script)
    assert not vars(params.model)


@pytest.mark.parametrize(("masks", "wanted"), [(3, [2, 0]), (1, [0, 0])])
def test_masks_of_a_units_own_folder_follow_its_images(webui, integrated, tmp_path, masks, wanted):
    for number in range(masks):
        Image.new("RGB", (8, 8), (number,) * 3).save(tmp_path / f"{number}.png")
    sources, control = webui.module("clip.control.sources"), webui.module("clip.control.integrated")
    host = integrated.IntegratedUnit(0, 3, Unit(batch_mask_dir=str(tmp_path)))
    images = [Image.new("RGB", (8, 8))] * 2
    unit = sources.UnitFrames(host, (1.0, 1.0), lambda: images, 2, image_order=(2, 0))
    assert [int(mask[0, 0, 0]) for _, mask in control._reader(unit)()] == wanted
