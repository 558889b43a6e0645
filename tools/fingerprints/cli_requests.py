"""The requests of the command line: words for `animate`, beside those that all have in common."""

from __future__ import annotations

import shlex

COMMON = "--checkpoint pocket --seed 3 --steps 2 --frames 4"  # a request's own words come later, and win

# Files that `cli_host` writes, by their names in the folder that it works in.
SMALL, CONFIG, EMBEDDING = "small.safetensors", "config", "lilacs.safetensors"
PAN, LILAC, ADAPTER = "pan.safetensors", "lilac.safetensors", "adapter.safetensors"
MASK = "mask.png"
KINDS = ("v1", "v2", "v3", "lcm")
FILTERS = ("butterworth", "gaussian", "box", "ideal")
FORMATS = ("gif", "webp", "apng", "mp4", "webm", "avif", "frames", "txt")

_SMALL = f"--checkpoint {SMALL} --config {CONFIG} --width 64 --height 64 --cfg 7 --prompt 'a red cat'"
_LONG = "--frames 12 --context-length 6 --steps 3"
_ZERO = "--motion text2video-zero --steps 6 --zero-x 64 --zero-y -40"
_FREEINIT = "--freeinit-enable --freeinit-iters 2"


def _prompt(*lines: str) -> str:
    return shlex.join(["--prompt", "\n".join(lines)])


_TRAVEL = _prompt("a disc", "0: red", "3: blue")
_TRAVEL_FAR = _prompt("a disc", "0: red", "5: blue", "-1: green", "moving right") + f" {_LONG}"

REQUESTS: dict[str, str] = {
    # What there is without any setting
    "plain": "",
    "words, seed and guidance": "--prompt 'a blue cross' --negative-prompt red --seed 41 --cfg 5",
    "one frame": "--frames 1",
    "another size": "--width 96 --height 64",
    **{f"small checkpoint, {kind}": f"{_SMALL} --motion mm_small_{kind}.safetensors" for kind in KINDS},
    "embedding": f"--embedding {EMBEDDING} --prompt 'a lilacs disc'",
    # Windows
    **{f"windows {kind}": f"{_LONG} --context-kind {kind}" for kind in ("uniform", "looped", "static", "batched")},
    "windows stride 2": f"{_LONG} --stride 2",
    "windows overlap": f"{_LONG} --overlap 4 --fusion overlap-linear",
    "windows flat": f"{_LONG} --fusion flat",
    **{f"closed loop {kind}": f"{_LONG} --frames 11 --closed-loop {kind}" for kind in ("R-P", "R+P", "A")},
    "reverse": "--reverse",
    "windows on the small checkpoint, v1": f"{_SMALL} --motion mm_small_v1.safetensors {_LONG}",
    "views": f"{_LONG} --views",
    "views static, stride 2": f"{_LONG} --views --context-kind static --stride 2",
    # Prompts that travel
    **{f"travel {how}": f"{_TRAVEL} --travel-interpolation {how}" for how in ("slerp", "linear", "step")},
    **{f"travel {how}": f"{_TRAVEL} --travel-easing {how}" for how in ("ease-in", "ease-out", "ease-in-out")},
    "travel with hold": f"{_TRAVEL} --travel-hold 0.4",
    "travel of the negative prompt": shlex.join(["--negative-prompt", "0: red\n3: green"]),
    "travel of both prompts": f"{_TRAVEL} --negative-prompt '0: green' --travel-easing ease-in",
    "travel by ranges and parts": _prompt("a disc", "0-1: red", "50% hold: blue", "-1 ease-in: green", "on white"),
    "travel in windows": _TRAVEL_FAR,
    "travel in a closed loop": f"{_TRAVEL_FAR} --closed-loop A",
    "travel that stands": _prompt("a disc", "0: red"),
    # Amounts
    "scale": "--scale 1.5",
    "scale by frame": "--scale '1, 1.3, 1.6'",
    "scale by keys": "--scale '0: 1, 3: 2'",
    "effect": "--effect 0.5",
    "effect by keys": "--effect '0: 1, 3: 0'",
    "no effect": "--effect 0",
    "scale by steps": "--scale-steps '0%: 1, 60%: 1.5' --steps 4",
    "effect by steps": "--effect-steps '0%: 1, 60%: 0.5' --steps 4",
    "effect begins and ends": "--effect-start 0.3 --effect-end 0.8 --steps 4",
    "blocks": "--blocks 'up.1 effect 0.5, mid scale 1.2, down.0.1 scale 1.3'",
    **{f"mask of {what}": f"--motion-mask {MASK} --scale 1.5 --mask-of {what}" for what in ("effect", "scale", "both")},
    "amounts in windows": f"{_LONG} --scale '0: 1, 11: 2' --effect '0: 1, 11: 0.5'",
    "amounts in views": f"{_LONG} --views --scale '0: 1, 11: 2' --motion-mask {MASK}",
    # LoRAs
    "motion LoRA": f"--motion-lora {PAN}:0.8",
    "domain adapter": f"--motion-lora {ADAPTER}:0.5",
    "style LoRA": f"--lora {LILAC}:0.7",
    "all LoRAs": f"--motion-lora {PAN}:-1.5 --motion-lora {ADAPTER} --lora {LILAC}",
    # Noise
    "noise freenoise": f"{_LONG} --noise freenoise",
    "noise shared": "--noise shared --noise-share 0.4",
    "noise shared, euler-a": "--noise shared --sampler euler-a",
    "noise constant": "--noise constant",
    "seeds of frames": "--frame-seeds '5, 90'",
    "seeds of frames, freenoise": f"{_LONG} --noise freenoise --frame-seeds 7",
    # FreeInit
    **{f"FreeInit {kind}": f"{_FREEINIT} --freeinit-filter {kind}" for kind in FILTERS},
    "FreeInit coarse": "--freeinit-enable --freeinit-coarse --steps 4 --freeinit-ds 0.4 --freeinit-dt 0.3",
    "FreeInit, shared noise, windows": f"{_LONG} {_FREEINIT} --noise shared",
    # Text2Video-Zero
    "zero": _ZERO,
    **{f"zero {sampler}": f"{_ZERO} --sampler {sampler}" for sampler in ("euler", "euler-a", "dpm++2m")},
    "zero in chunks": f"{_ZERO} --frames 9 --context-length 4",
    "zero smoothed": f"{_ZERO} --steps 12 --motion-mask {MASK} --zero-smoothing 0.6",
    "zero travels": f"{_ZERO} {_TRAVEL} --noise constant",
    "zero, few steps": "--motion text2video-zero --steps 1",
    # Posters
    "poster": "--poster",
    "poster of a travel": f"{_TRAVEL_FAR} --poster --frame-seeds 70",
    "poster of zero": f"{_ZERO} --poster",
    # Samplers and formats
    **{f"sampler {sampler}": f"--sampler {sampler} --steps 4" for sampler in ("ddim", "euler", "euler-a", "dpm++2m")},
    **{f"format {name}": f"--format {name}" for name in FORMATS},
    "many formats": "--format gif --format webp --format mp4 --format frames --fps 12.5 --loop-count 2 --reverse",
    "contact sheet": "--contact-sheet sheet.png --fps 7.3",
}
