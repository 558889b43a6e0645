"""The text side of a small SD1 checkpoint: the encoder's numbers and a tokenizer in CLIP's format with few words."""

from __future__ import annotations

import json
from pathlib import Path

CONTEXT_DIM = 64
CLIP_LAYERS = 2
CLIP_HEADS = 4
CLIP_INTERMEDIATE = 128
CLIP_POSITIONS = 77

START_TOKEN = "<|startoftext|>"
END_TOKEN = "<|endoftext|>"
COMMON_WORDS = ("a", "the", "of", "in", "on", "with", "and", "photo", "picture", "cat", "dog", "red", "blue", "green")


def byte_units() -> list[str]:
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    units = {byte: chr(byte) for byte in printable}
    units.update({byte: chr(256 + number) for number, byte in enumerate(others)})
    return [units[byte] for byte in range(256)]


def merges() -> list[tuple[str, str]]:
    """They make one token of each common word, joined from its left end."""
    result: list[tuple[str, str]] = []
    for word in COMMON_WORDS:
        symbols = [*word[:-1], f"{word[-1]}</w>"]
        left = symbols[0]
        for right in symbols[1:]:
            if (left, right) not in result:
                result.append((left, right))
            left += right
    return result


def vocabulary() -> dict[str, int]:
    """Returns token -> id in CLIP's order; the end token is the largest, as the text encoder expects."""
    units = byte_units()
    tokens = [*units, *(f"{unit}</w>" for unit in units), *("".join(pair) for pair in merges())]
    return {token: number for number, token in enumerate([*tokens, START_TOKEN, END_TOKEN])}


def write_tokenizer(folder: Path) -> Path:
    """Writes a CLIP tokenizer and the text encoder's config, in the layout of a transformers model folder."""
    folder.mkdir(parents=True, exist_ok=True)
    vocab = vocabulary()
    special = {"bos_token": START_TOKEN, "eos_token": END_TOKEN, "unk_token": END_TOKEN, "pad_token": END_TOKEN}
    config = {
        "model_type": "clip_text_model",
        "vocab_size": len(vocab),
        "hidden_size": CONTEXT_DIM,
        "intermediate_size": CLIP_INTERMEDIATE,
        "projection_dim": CONTEXT_DIM,
        "num_hidden_layers": CLIP_LAYERS,
        "num_attention_heads": CLIP_HEADS,
        "max_position_embeddings": CLIP_POSITIONS,
        "bos_token_id": vocab[START_TOKEN],
        "eos_token_id": vocab[END_TOKEN],
        "pad_token_id": vocab[END_TOKEN],
    }
    tokenizer = {
        **special,
        "add_prefix_space": False,
        "do_lower_case": True,
        "errors": "replace",
        "model_max_length": CLIP_POSITIONS,
        "tokenizer_class": "CLIPTokenizer",
    }
    files = {
        "vocab.json": json.dumps(vocab, ensure_ascii=False),
        "merges.txt": "\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges()), ""]),
        "special_tokens_map.json": json.dumps(special, indent=2),
        "tokenizer_config.json": json.dumps(tokenizer, indent=2),
        "config.json": json.dumps(config, indent=2),
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder
