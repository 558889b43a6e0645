"""Files of control models: they compute what their publishers' code does, and other files are refused by name."""

from __future__ import annotations

import pickle

import pytest
import torch
from support import hosts
from support.control_files import controlnet_state, literal_controlnet, literal_t2i, t2i_state, write
from support.control_networks import ENDS
from support.matrix import in_matrix
from support.motion_files import SMALL_WIDTHS

from lib_animatediff.engine.components.control import ControlInputs
from lib_animatediff.hosts.diffusers.control.files import read_control_file
from lib_animatediff.hosts.diffusers.control.networks import load_network, needs_grey
from motion_module import AnimateDiffError

ROWS = 4
BOUND = 1e-5


@pytest.fixture(autouse=True)
def _without_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def state(unets):
    return controlnet_state(unets["ldm", 4])


def hints(rows=2, colours=3):
    return torch.rand(rows, colours, 64, 64, generator=torch.Generator().manual_seed(1))


def loaded(path, unet):
    file = read_control_file(path)
    file.check_fits(unet.config)
    return load_network(file, unet)


def inputs(given, own):
    return ControlInputs(own, given["x"], given["t"], given["context"])


def diffusers_files(unets, state, tmp_path):
    """The same ControlNet as diffusers writes it."""
    from diffusers import ControlNetModel

    network = loaded(write(tmp_path / "made.safetensors", state), unets["diffusers", 4])._network
    assert isinstance(network, ControlNetModel)
    network.save_pretrained(tmp_path / "folder")
    return tmp_path / "folder"


@pytest.mark.parametrize("form", ["a.safetensors", "b.pth", "c.ckpt", "folder", "diffusers file"])
def test_a_controlnet_computes_what_ldms_blocks_do(unets, state, tmp_path, form):
    unet, given = unets["diffusers", 4], hosts.inputs(ROWS)
    if form == "folder":
        path = diffusers_files(unets, state, tmp_path)
    elif form == "diffusers file":
        path = diffusers_files(unets, state, tmp_path) / "diffusion_pytorch_model.safetensors"
    else:
        path = write(tmp_path / form, state, "control_model." if form == "c.ckpt" else "")
    network = loaded(path, unet)
    assert not needs_grey(network)
    skips, middle = literal_controlnet(unets["ldm", 4], state, given, hints().repeat(2, 1, 1, 1))
    got = network(inputs(given, hints()))
    assert len(got.skips) == len(skips) == 12
    for one, other in zip((*got.skips, got.middle), (*skips, middle), strict=True):
        assert (one - other).abs().max() <= BOUND * other.abs().max()
    assert got.down == {}


@pytest.mark.parametrize(("colours", "suffix"), [(3, "pth"), in_matrix(1, "safetensors")])
def test_a_t2i_adapter_computes_what_is_written_out(unets, tmp_path, colours, suffix):
    own = t2i_state(SMALL_WIDTHS, colours)
    network = loaded(write(tmp_path / f"t2i.{suffix}", own), unets["diffusers", 4])
    assert needs_grey(network) == (colours == 1)
    shown = hints(colours=colours)
    got = network(inputs(hosts.inputs(ROWS), shown))
    assert (got.skips, got.middle) == ((), None)
    assert list(got.down) == list(ENDS)
    for one, other in zip(got.down.values(), literal_t2i(own, shown), strict=True):
        assert (one - other.repeat(2, 1, 1, 1)).abs().max() <= BOUND


def test_a_t2i_adapter_runs_once_for_the_same_hints(unets, tmp_path):
    network = loaded(write(tmp_path / "t2i.pth", t2i_state(SMALL_WIDTHS)), unets["diffusers", 4])
    ran, shown = [], hints()
    with network._network.register_forward_pre_hook(lambda *_args: ran.append(1)):
        for _ in range(3):
            network(inputs(hosts.inputs(ROWS), shown))
        network(inputs(hosts.inputs(ROWS), shown.clone()))
    assert len(ran) == 2


@pytest.mark.parametrize("kind", ["light_adapter", "full_adapter"])
def test_a_t2i_adapter_as_diffusers_writes_it(unets, tmp_path, kind):
    from diffusers import T2IAdapter

    torch.manual_seed(0)
    channels = [32, 64, 128] if kind == "light_adapter" else list(SMALL_WIDTHS)
    wanted = T2IAdapter(3, channels, num_res_blocks=2, adapter_type=kind).eval()
    wanted.save_pretrained(tmp_path / "folder")
    for path in (tmp_path / "folder", tmp_path / "folder" / "diffusion_pytorch_model.safetensors"):
        got = loaded(path, unets["diffusers", 4])(inputs(hosts.inputs(2), hints()))
        assert all(torch.equal(*pair) for pair in zip(got.down.values(), wanted(hints()), strict=True))


def without(state, part):
    return {name: weight for name, weight in state.items() if part not in name}


def wide(state):
    """For conditions of another width, as those of Stable Diffusion 2."""
    return {
        name: torch.zeros(len(weight), 96) if "attn2.to_k" in name or "attn2.to_v" in name else weight
        for name, weight in state.items()
    }


@pytest.mark.parametrize(
    ("make", "code", "words"),
    [
        (lambda state: {"a.motion_modules.0.weight": torch.ones(1), **state}, "AD-H20", "a SparseCtrl encoder"),
        (lambda state: {"lora_controlnet": torch.ones(1), **state}, "AD-H20", "a Control-LoRA"),
        (lambda state: {"task_embedding": torch.ones(1), **state}, "AD-H20", "a union ControlNet"),
        (lambda _state: {"lllite_unet_input.down.0.weight": torch.ones(1)}, "AD-H20", "a ControlLLLite"),
        (lambda _state: {"ip_adapter.1.to_k_ip.weight": torch.ones(1)}, "AD-H20", "an IP-Adapter"),
        (lambda _state: {"nothing": torch.ones(1)}, "AD-H20", "a file of another kind"),
        (lambda state: without(state, "zero_convs.5"), "AD-H23", "controlnet_down_blocks.5"),
        (wide, "AD-H22", "conditions of 96 numbers"),
        (lambda _state: t2i_state((32, 64, 128, 256)), "AD-H22", "32, 64, 128, 256 channels"),
        (lambda _state: t2i_state(SMALL_WIDTHS, colours=12), "AD-H24", "for SDXL"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_other_files_are_refused_by_name(unets, state, tmp_path, make, code, words):
    path = write(tmp_path / "file.safetensors", make(state))
    with pytest.raises(AnimateDiffError) as caught:
        loaded(path, unets["diffusers", 4])
    assert caught.value.code == code
    assert words in str(caught.value)


def test_shuffle_folders_and_missing_files_are_refused(unets, state, tmp_path):
    unet = unets["diffusers", 4]
    (tmp_path / "empty").mkdir()
    shuffle = write(tmp_path / "control_v11e_sd15_shuffle.safetensors", state)
    for path, code in ((shuffle, "AD-H20"), (tmp_path / "none.pth", "AD-H19"), (tmp_path / "empty", "AD-H21")):
        with pytest.raises(AnimateDiffError) as caught:
            loaded(path, unet)
        assert caught.value.code == code


def test_no_code_of_a_file_runs(unets, tmp_path, state, capsys):
    class Evil:
        def __reduce__(self):
            return (print, ("it ran",))

    path = tmp_path / "evil.pth"
    torch.save({**state, "evil": Evil()}, path)
    loaded(path, unets["diffusers", 4])  # its weights alone
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(AnimateDiffError):
        loaded(path, unets["diffusers", 4])
    assert "it ran" not in capsys.readouterr().out
