"""Conditions of prompts as the WebUI makes them: any length in chunks of 75 tokens, and emphasis.

A plain prompt of one chunk keeps the pipeline's own way, so that clips of earlier versions can be rendered again.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lib_animatediff.prompts.emphasis import Part, has_emphasis, weighted_parts
from lib_animatediff.prompts.tags import find_tag
from motion_module import ClipError

CHUNK = 75  # tokens between the first and the last one of the text encoder
_BACKTRACK = 20  # tokens: what follows the last comma moves to the next chunk as a whole, if it is not longer
_SCHEDULE = re.compile(r"(?<!\\)\[[^\[\]]*:\s*[0-9.]+\s*\]")
_ALTERNATION = re.compile(r"(?<!\\)\[[^\[\]]*\|[^\[\]]*\]")
_AND = re.compile(r"\bAND\b")


def check_grammar(prompt: str) -> None:
    """Refuse what only the WebUI understands in a prompt.

    Raises:
        ClipError: the prompt has it; the message says what to use instead.
    """
    if found := _SCHEDULE.search(prompt):
        raise ClipError(
            f"{found[0]} changes the prompt during sampling, which only the WebUI can. Remove it; for a prompt that "
            "changes during the clip, write lines such as 0: spring and 8: summer.",
            code="AD-D23",
        )
    if found := _ALTERNATION.search(prompt):
        raise ClipError(f"{found[0]} alternates at each step, which only the WebUI can. Remove it.", code="AD-D24")
    if _AND.search(prompt):
        raise ClipError("AND combines prompts in the WebUI only. Write a comma instead.", code="AD-D25")
    if tag := find_tag(prompt):
        raise ClipError(
            f"{tag} is a tag of the WebUI. Remove it, and give the file as an argument: --lora FILE:STRENGTH, or "
            "--motion-lora.",
            code="AD-D26",
        )


def is_plain(pipeline: Any, prompt: str) -> bool:
    """Whether the pipeline's own encoding has all of a prompt: it is one chunk of plain text."""
    return not has_emphasis(prompt) and len(_tokens(pipeline, prompt)) <= CHUNK


def condition(pipeline: Any, prompt: str) -> Tensor:
    """The condition of a prompt: ``1 (77 chunks) c``, in the text encoder's dtype."""
    ids, weights = chunks_of(pipeline, weighted_parts(prompt))
    encoder = pipeline.text_encoder
    given = torch.tensor(ids, device=pipeline.device)
    encoded = encoder(given)[0]
    factors = torch.tensor(weights, device=encoded.device, dtype=torch.float32)[..., None]
    weighted = encoded.float() * factors
    # The WebUI keeps the mean of each chunk, so that emphasis changes the balance and not the level.
    means = [values.mean(dim=(1, 2), keepdim=True) for values in (encoded.float(), weighted)]
    scale = torch.where(factors.eq(1).all(dim=1, keepdim=True), 1.0, means[0] / means[1])
    return (weighted * scale).to(encoded.dtype).flatten(0, 1)[None]  # type: ignore[no-any-return]


def equally_long(conditions: Sequence[Tensor]) -> list[Tensor]:
    """Conditions of one length: repeated, which changes no result, since repetitions share a token's attention."""
    length = math.lcm(*(condition.shape[1] for condition in conditions))
    return [condition.repeat(1, length // condition.shape[1], 1) for condition in conditions]


def chunks_of(pipeline: Any, parts: Sequence[Part]) -> tuple[list[list[int]], list[list[float]]]:
    """Token ids and their weights, chunk by chunk, with the first and last tokens of the text encoder."""
    comma = _tokens(pipeline, ",")[0]
    chunks: list[list[tuple[int, float]]] = [[]]
    for part in parts:
        if part.begins_chunk:
            chunks.append([])
        for token in _tokens(pipeline, part.text):
            if len(chunks[-1]) == CHUNK:
                chunks.append(_split_off(chunks[-1], comma) if token != comma else [])
            chunks[-1].append((token, part.weight))
    tokenizer = pipeline.tokenizer
    first, last = (tokenizer.bos_token_id, 1.0), (tokenizer.eos_token_id, 1.0)
    padding = (tokenizer.pad_token_id, 1.0)
    whole = [[first, *chunk, last, *[padding] * (CHUNK - len(chunk))] for chunk in chunks]
    return [[token for token, _ in chunk] for chunk in whole], [[weight for _, weight in chunk] for chunk in whole]


def _split_off(chunk: list[tuple[int, float]], comma: int) -> list[tuple[int, float]]:
    """Take what follows the last comma out of a full chunk, if that is short."""
    commas = [place for place, (token, _) in enumerate(chunk) if token == comma]
    if not commas or len(chunk) - commas[-1] - 1 > _BACKTRACK:
        return []
    tail = chunk[commas[-1] + 1 :]
    del chunk[commas[-1] + 1 :]
    return tail


def _tokens(pipeline: Any, text: str) -> list[int]:
    text = pipeline.maybe_convert_prompt(text, pipeline.tokenizer)  # embeddings of several vectors
    return list(pipeline.tokenizer(text, truncation=False, add_special_tokens=False, verbose=False).input_ids)
