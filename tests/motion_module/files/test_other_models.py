"""What is no motion module is called what it is, in one line, whether it is inspected or loaded."""

from __future__ import annotations

import io
import json
import random
import struct
import time
import zipfile

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file
from support.matrix import every_once
from support.motion_files import in_whole_unet, random_motion_state
from support.motion_states import FORMATS

from motion_module import MotionFileError, inspect_motion_file, load_motion_module

WIDTHS = (32,) * 4
MOTION = random_motion_state("v3", WIDTHS)
SITE = "down_blocks.0.motion_modules.0.temporal_transformer"
ATTENTION = f"{SITE}.transformer_blocks.0.attention_blocks.0"
LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
LDM = "model.diffusion_model.input_blocks"
SPATIAL = "down_blocks.0.attentions.0.transformer_blocks.0"


def told(path):
    """The one line, which inspecting and loading agree on."""
    info = inspect_motion_file(path)
    with pytest.raises(MotionFileError) as caught:
        load_motion_module(path)
    message = str(caught.value)
    assert message == info.problem
    assert info.kind is None
    assert "\n" not in message
    assert len(message) < 500
    return message, info.what


def shaped(name, *shape):
    return {name: torch.zeros(shape)}


def weights(*names):
    return {name: torch.zeros(4, 4) for name in names}


def pair(name, parts=("down", "up")):
    return weights(*map(name.format, parts))


WEIGHTS = {  # what it is called: an excerpt of its state dict
    "a SparseCtrl encoder for scribbles": MOTION | weights("controlnet_cond_embedding.conv_in.weight"),
    "a SparseCtrl encoder for images": MOTION | weights("module.controlnet_cond_embedding.weight"),
    "a SparseCtrl encoder": MOTION | weights("controlnet_down_blocks.0.weight"),
    "a CameraCtrl model": weights("encoder.encoder_conv_in.weight", f"{ATTENTION}.processor.qkv_merge.weight"),
    "MotionCtrl weights": MOTION | weights(f"{SITE}.transformer_blocks.0.cc_projection.weight"),
    "an AnimateLCM-I2V model": MOTION | weights("img_encoder.conv_in.weight"),
    "a motion LoRA": pair(f"{ATTENTION}.processor.to_q_lora.{{}}.weight"),
    "a motion LoRA ": pair(f"{ATTENTION}.to_q".replace(".", "_") + ".lora_{}.weight"),
    "a motion LoRA  ": pair("unet.down_blocks.0.motion_modules.0.transformer_blocks.0.attn1.to_q.lora_{}.weight", "AB"),
    "FancyVideo weights": in_whole_unet(MOTION) | weights("fps_embedding.linear.weight"),
    "a PIA model": in_whole_unet(MOTION) | shaped("conv_in.weight", 32, 9, 3, 3),
    "a motion module for Stable Diffusion 2": in_whole_unet(MOTION) | shaped(f"{SPATIAL}.attn2.to_k.weight", 32, 1024),
    "an image LoRA (or the v3 domain adapter)": pair(f"unet.{SPATIAL}.attn1.processor.to_q_lora.{{}}.weight"),
    "an image LoRA": weights("lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight"),
    "an image LoRA ": weights("unet.down_blocks.0.attentions.0.proj_in.lora_A.weight"),
    "an image LoRA  ": weights("lora_unet_down_blocks_0_attentions_0_proj_in.hada_w1_a"),
    "an IP-Adapter": weights("image_proj.proj.weight", "ip_adapter.1.to_k_ip.weight"),
    "a ControlNet": weights("control_model.input_hint_block.0.weight"),
    "a ControlNet ": weights("controlnet_cond_embedding.conv_in.weight", "down_blocks.0.resnets.0.conv1.weight"),
    "a T2I adapter": weights("body.0.block1.weight"),
    "a Stable Video Diffusion model": weights(f"{LDM}.1.0.time_stack.in_layers.0.weight", f"{LDM}.0.0.weight"),
    "a ModelScope video model": weights("down_blocks.0.temp_convs.0.conv1.0.weight"),
    "an SDXL image checkpoint": weights("conditioner.embedders.1.model.ln_final.weight", f"{LDM}.0.0.weight"),
    "a Stable Diffusion 2 image checkpoint": weights(f"{LDM}.0.0.weight")
    | shaped(f"{LDM}.1.1.transformer_blocks.0.attn2.to_k.weight", 32, 1024),
    "a Flux or Stable Diffusion 3 checkpoint": weights("double_blocks.0.img_attn.proj.weight"),
    "a Flux or Stable Diffusion 3 checkpoint ": weights("model.diffusion_model.joint_blocks.0.x_block.attn.weight"),
    "an image checkpoint": weights(f"{LDM}.0.0.weight", "first_stage_model.quant.weight"),
    "an image checkpoint ": weights("down_blocks.0.resnets.0.conv1.weight", "conv_in.weight"),
    "a VAE": weights("encoder.conv_in.weight", "decoder.conv_in.weight"),
    "a VAE ": weights("encoder.conv_in.weight", "encoder.down_blocks.0.resnets.0.conv1.weight"),
    "a text encoder": weights("text_model.encoder.layers.0.mlp.fc1.weight"),
    "a textual inversion embedding": shaped("emb_params", 2, 768),
    "an upscaler": weights("conv_first.weight"),
    "the state of a training run": weights("optimizer.exp_avg.0"),
    "a file without weights": {},
    "weights of an unknown model": weights("layer.weight"),
    "a motion module for another base model": random_motion_state("v3", (32, 32)),
    "an incomplete motion module": {key: tensor for key, tensor in MOTION.items() if "up_blocks" not in key},
}


@pytest.mark.parametrize(("what", "written"), every_once(WEIGHTS, FORMATS))
def test_other_weights_are_called_by_their_name(tmp_path, what, written):
    FORMATS[written](WEIGHTS[what], tmp_path / "file.bin")
    message, name = told(tmp_path / "file.bin")
    assert name == what.strip()
    assert message.startswith("file.bin ")
    if what.strip() in ("a motion module for another base model", "an incomplete motion module"):
        return
    assert what.strip() in message or "contains no" in message
    if what.strip() != "a file without weights":
        assert "motion module" in message.replace("not a motion module", "", 1)  # says what to choose instead


def test_names_of_any_length_are_searched_in_no_time(tmp_path):
    """A pattern with a gap in it takes the square of a line's length: minutes, for this file."""
    save_file({"motion_modules." * 40_000 + "x": torch.zeros(1)}, tmp_path / "mm.safetensors")
    began = time.process_time()
    assert told(tmp_path / "mm.safetensors")[1] == "weights of an unknown model"
    assert time.process_time() - began < 10


@pytest.mark.parametrize(
    ("payload", "what"),
    [
        ({"string_to_param": {"*": torch.zeros(2, 768)}, "step": 1}, "a textual inversion embedding"),  # the WebUI's
        ([torch.zeros(2)], "a file without weights"),
    ],
)
def test_other_pickled_objects_are_called_by_their_name(tmp_path, payload, what):
    torch.save(payload, tmp_path / "x.pt")
    assert told(tmp_path / "x.pt")[1] == what


def zip_of(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1672131\n"
BYTES = {  # content, what it is called, telling words
    "empty": (b"", "an empty file", "is empty"),
    "page": (b"\n  <!DOCTYPE html>\n<html><body>404</body></html>", "a web page", "web page"),
    "page in capitals": (b"<HTML><HEAD>", "a web page", "web page"),
    "long page": (b"<html>" + "é".encode() * 4096, "a web page", "web page"),
    "long page, shifted": (b"<html> " + "é".encode() * 4096, "a web page", "web page"),
    "page with a byte order mark": (b"\xef\xbb\xbf<!doctype html>", "a web page", "web page"),
    "LFS pointer": (POINTER, "a Git LFS pointer", "1.7 GB"),
    "JSON": (json.dumps({"error": "log in"}).encode(), "a JSON file", "JSON"),
    "text": (b"Access denied. Log in first.", "a text file", 'begins with "Access denied. Log in first."'),
    "zeros": (bytes(4096), "not a weights file", "Download it again"),
    "random": (random.Random(0).randbytes(4096), "not a weights file", "Download it again"),
    "GGUF": (b"GGUF" + bytes(64), "a GGUF file", "safetensors"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(64), "a 7z archive", "Unpack it"),
    "RAR": (b"Rar!\x1a\x07" + bytes(64), "a RAR archive", "Unpack it"),
    "gzip": (b"\x1f\x8b" + bytes(64), "a gzip archive", "Unpack it"),
    "PNG": (b"\x89PNG\r\n\x1a\n" + bytes(64), "an image", "Choose a weights file"),
    "JPEG": (b"\xff\xd8\xff\xe0" + bytes(64), "an image", "Choose a weights file"),
    "GIF": (b"GIF89a" + bytes(64), "a GIF", "Choose a weights file"),
    "PDF": (b"%PDF-1.7" + bytes(64), "a PDF", "Choose a weights file"),
    "Keras": (b"\x89HDF\r\n" + bytes(64), "a Keras or HDF5 file", "Choose a weights file"),
    "zip of something else": (zip_of(readme="hello"), "a zip archive", "Unpack it"),
    "beginning of a zip": (b"PK\x03\x04" + bytes(100), "an incomplete weights file", "interrupted"),
    "pickle of something else": (b"\x80\x04}\x8c\nstate_dict}s.", "a pickle without weights", "not written by torch"),
    "beginning of safetensors": (save(MOTION)[:1000], "an incomplete weights file", "interrupted"),
    "safetensors with a hole": (
        struct.pack("<Q", 64) + b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}'.ljust(64) + bytes(35),
        "an incomplete weights file",
        "interrupted",
    ),
}


@pytest.mark.parametrize("name", BYTES)
def test_what_is_no_weights_file_is_called_by_its_name(tmp_path, name):
    content, what, words = BYTES[name]
    (tmp_path / "mm.ckpt").write_bytes(content)
    message, named = told(tmp_path / "mm.ckpt")
    assert named == what
    assert words in message
    assert message.startswith("mm.ckpt ")


@pytest.mark.parametrize(
    ("name", "words"), [("missing.ckpt", "Check the path"), (".", "is a folder. Choose the weights file inside")]
)
def test_a_path_without_a_file_is_told_so(tmp_path, name, words):
    assert words in told(tmp_path / name)[0]


@pytest.mark.parametrize("written", FORMATS)
@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_a_part_of_a_file_is_refused(tmp_path, written, share):
    path = tmp_path / "mm.ckpt"
    FORMATS[written](MOTION, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert "Download it again" in told(path)[0]


@settings(deadline=None, max_examples=60)
@given(
    head=st.sampled_from(
        [b"", b"PK\x03\x04", LEGACY_MAGIC, struct.pack("<Q", 40), b"<", b"\x80\x02", b"{", b"\xef\xbb"]
    ),
    tail=st.binary(max_size=200),
)
@example(head=LEGACY_MAGIC, tail=b"P")  # torch's reason has several lines
def test_any_bytes_at_all_are_refused_in_one_line(tmp_path_factory, head, tail):
    path = tmp_path_factory.getbasetemp() / "any.ckpt"
    path.write_bytes(head + tail)
    told(path)


@settings(deadline=None, max_examples=60)
@given(
    names=st.dictionaries(st.text(max_size=40), st.lists(st.integers(0, 2), max_size=4), max_size=4),
    motion=st.booleans(),
)
def test_weights_of_any_names_are_refused_in_one_line(tmp_path_factory, names, motion):
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    state = {name: torch.zeros(shape) for name, shape in names.items() if name != "__metadata__"}
    save_file({**state, **(weights(f"{SITE}.proj_in.weight") if motion else {})}, path)
    told(path)
