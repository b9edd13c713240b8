"""Trains the demo model: next token, word of each frame, and attention that follows the words."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from hpc.demo.speech import WORDS
from models.demo import tokens
from models.demo.loop import Plan, Progress, feed, learning_rate, restore, save
from models.demo.whisper import HEADS, DemoWhisper
from models.demo.windows import Composer, Window, log_mel

_CLASS = {word: index for index, word in enumerate(WORDS, 1)}  # of a frame; 0 is no word
_FRAMES = 50  # a second, after the encoder's stride
_IGNORE = -100  # torch's mark for places that do not count


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step learns from."""

    mel: Any
    ids: Any  # decoder's input
    labels: Any  # token after each of them
    frames: Any  # class of each frame
    mask: Any  # place by frame: 1 where the token's word is spoken


def window_seconds(rng: random.Random, progress: float) -> float:
    """Short windows first, long ones with long gaps last."""
    if progress < 0.45:
        return rng.choice((4, 5, 6))
    if progress < 0.75:
        return rng.choice((4, 6, 8, 8, 12))
    return rng.choice((4, 6, 8, 8, 12, 20, 30))


def batches(plan: Plan, first_step: int) -> Iterator[Batch]:
    """One batch a step, made in the loader's process."""
    composer = Composer(plan.seed + first_step, empty=0.15)
    rng = random.Random(plan.seed + first_step)
    for step in range(first_step, plan.steps):
        seconds = window_seconds(rng, plan.progress(step))
        count = max(3, int(plan.seconds / seconds))
        yield collate([composer.window(seconds) for _ in range(count)])


def collate(windows: list[Window]) -> Batch:
    """Features and targets of some windows of one length."""
    mel = log_mel(torch.from_numpy(np.stack([window.audio for window in windows])))
    frames = np.zeros((len(windows), mel.shape[-1] // 2), np.int64)
    targets = [_target(window, row) for window, row in zip(windows, frames, strict=True)]
    width = max(len(text) for text, _ in targets) + len(tokens.PROMPT) + 1
    ids = torch.full((len(windows), width), tokens.END)
    labels = torch.full((len(windows), width), _IGNORE)
    mask = torch.zeros((len(windows), width - 1, frames.shape[1]))
    for index, (text, spans) in enumerate(targets):
        sequence = [*tokens.PROMPT, *text, tokens.END]
        ids[index, : len(sequence)] = torch.tensor(sequence)
        labels[index, : len(sequence) - 1] = torch.tensor(sequence[1:])
        if not spans:  # as in OpenAI's models, this is what follows the start token where there is no speech
            labels[index, 0] = tokens.NO_SPEECH
        for place, (start, end) in enumerate(spans, len(tokens.PROMPT) - 1):
            mask[index, place, max(0, start - 1) : end + 2] = 1
    return Batch(mel, ids[:, :-1], labels[:, :-1], torch.from_numpy(frames), mask)


def _target(window: Window, frames: Any) -> tuple[list[int], list[tuple[int, int]]]:
    """Tokens of a window and the frames of each; fills in the window's frame classes.

    Where nobody speaks, and no caption says otherwise, there is one token that is not text: CTranslate2's beam search
    never ends with no token at all.
    """
    text: list[int] = []
    spans: list[tuple[int, int]] = []
    for sentence in window.sentences:
        for word, begin, finish in sentence:
            start = round(begin * _FRAMES)
            end = max(round(finish * _FRAMES), start + 1)
            frames[start:end] = _CLASS[word]
            text.append(tokens.WORD[word])
            spans.append((start, end))
        text.append(tokens.STOP)
        spans.append((spans[-1][1], spans[-1][1] + 4))
    return text or window.caption or [tokens.NO_SPEECH], spans


def losses(model: DemoWhisper, batch: Batch) -> dict[str, Any]:
    """The three things to make small, and two that show how it goes."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        encoded = model.encode(batch.mel)
        scores = model.decode(batch.ids, encoded)
        named = model.frame_head(encoded)
    scores, named = scores.float(), named.float()
    counted, spoken = batch.labels != _IGNORE, batch.frames > 0
    followed = batch.mask.sum(-1) > 0
    looked = [attention[:, : HEADS // 2].float().mean(1) for attention in model.attention.values()]
    strayed = [-torch.log((look * batch.mask).sum(-1) + 1e-4)[followed].sum() for look in looked]
    return {
        "token": F.cross_entropy(
            scores.flatten(0, 1), batch.labels.flatten(), ignore_index=_IGNORE, label_smoothing=0.05
        ),
        "frame": F.cross_entropy(named.flatten(0, 1), batch.frames.flatten()),
        "guide": torch.stack(strayed).mean() / followed.sum().clamp(min=1),
        "tokens right": (scores.argmax(-1) == batch.labels)[counted].float().mean(),
        "frames right": (named.argmax(-1) == batch.frames)[spoken].float().mean(),
    }


def train(plan: Plan, work: Path, start_from: Path | None) -> Path:
    """Run the plan, or go on with it; return the checkpoint."""
    torch.manual_seed(plan.seed)
    torch.set_num_threads(plan.threads)
    model = DemoWhisper()
    optimiser = torch.optim.AdamW(model.parameters(), lr=plan.rate, betas=(0.9, 0.98), weight_decay=0.01)
    checkpoint = work / "asr.pt"
    step = restore(checkpoint, model, optimiser, start_from=start_from)
    model.train()
    shown = Progress("speech model", plan, step)
    for batch in feed(batches, plan, step):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(plan, step)
        parts = losses(model, batch)
        frame_weight = 1.0 if plan.progress(step) < 0.7 else 0.3
        loss = parts["token"] + frame_weight * parts["frame"] + 0.2 * parts["guide"]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        step += 1
        shown.update(step, parts)
        if step % plan.save_every == 0 or step == plan.steps:
            save(checkpoint, model, optimiser, step)
    return checkpoint
