"""Trains the aligner: a Wav2Vec2 network that names the letter of each frame, from the known times of the words."""

from __future__ import annotations

import math
import random
import string
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

from hpc.model import SAMPLE_RATE
from models.demo.loop import Plan, Progress, feed, learning_rate, restore, save
from models.demo.windows import Composer, Window

LETTERS = {letter: index for index, letter in enumerate(("<pad>", "<unk>", "|", ".", "'", *string.ascii_lowercase))}
WIDTH, LAYERS = 128, 2
_BLANK_WEIGHT = 0.4  # most frames are blank
_KERNEL, _STRIDE = 400, 160  # of the first layer, in samples; the second takes every other frame


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step learns from."""

    audio: Any
    letters: Any  # of each frame


def build() -> Any:
    """The network, its first layer a bank of filters spaced as the ear hears."""
    model = Wav2Vec2ForCTC(_config())
    low, high = (2595 * math.log10(1 + edge / 700) for edge in (60, 7600))  # in mel
    mel = np.linspace(low, high, 80)
    time = (np.arange(_KERNEL) - (_KERNEL - 1) / 2) / SAMPLE_RATE
    waves = [2 * np.pi * frequency * time for frequency in 700 * (10 ** (mel / 2595) - 1)]
    filters = np.stack([sign * wave(x) for x in waves for wave in (np.cos, np.sin) for sign in (1, -1)])
    filters = filters * np.hanning(_KERNEL)
    filters /= np.linalg.norm(filters, axis=1, keepdims=True)
    with torch.no_grad():
        model.wav2vec2.feature_extractor.conv_layers[0].conv.weight.copy_(torch.from_numpy(filters)[:, None].float())
    return model


def _config() -> Any:
    still = dict.fromkeys(
        ("hidden_dropout", "activation_dropout", "attention_dropout", "feat_proj_dropout", "final_dropout"), 0.0
    )
    return Wav2Vec2Config(
        vocab_size=len(LETTERS),
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        intermediate_size=4 * WIDTH,
        layerdrop=0.0,
        feat_extract_norm="group",  # makes the level of the sound not matter: whisperx does not normalise it
        conv_dim=[320, WIDTH],
        conv_stride=[_STRIDE, 2],
        conv_kernel=[_KERNEL, 2],
        conv_bias=False,
        num_conv_pos_embeddings=31,
        num_conv_pos_embedding_groups=8,
        do_stable_layer_norm=True,
        apply_spec_augment=False,
        mask_time_prob=0.0,
        mask_feature_prob=0.0,
        pad_token_id=LETTERS["<pad>"],
        bos_token_id=None,
        eos_token_id=None,
        ctc_loss_reduction="mean",
        **still,
    )


def batches(plan: Plan, first_step: int) -> Iterator[Batch]:
    """One batch a step, made in the loader's process."""
    composer = Composer(plan.seed + first_step, empty=0.03)
    rng = random.Random(plan.seed + first_step)
    for step in range(first_step, plan.steps):
        seconds = rng.choice((3, 4, 6, 8) if plan.progress(step) < 0.7 else (4, 8, 15, 30))
        windows = [composer.window(seconds) for _ in range(max(2, int(plan.seconds / seconds)))]
        audio = np.stack([window.audio for window in windows])
        letters = np.stack([letters_of(window) for window in windows])
        yield Batch(torch.from_numpy(audio), torch.from_numpy(letters))


def letters_of(window: Window) -> Any:
    """The letter of each frame: a word's letters spread over it, "|" where it ends, "." where the sentence ends."""
    count = ((len(window.audio) - _KERNEL) // _STRIDE - 1) // 2 + 1
    row = np.zeros(count, np.int64)

    def put(frame: int, letter: str) -> None:
        if 0 <= frame < count:
            row[frame] = LETTERS[letter]

    for number, sentence in enumerate(window.sentences, 1):
        for place, (word, begin, finish) in enumerate(sentence, 1):
            start, end = _frame(begin), _frame(finish)
            if place < len(sentence) and _frame(sentence[place][1]) <= end:
                end -= 1  # the next word starts here: the bar goes before it
            for index, letter in enumerate(word):
                put(min(start + (end - start) * index // len(word), end - 1), letter)
            put(end, "|" if place < len(sentence) else ".")
        if number < len(window.sentences):
            put(end + 1, "|")
    return row


def _frame(seconds: float) -> int:
    return round((seconds - 0.0175) / 0.02)  # frames are 20 ms, the first is centred at 17.5 ms


def losses(model: Any, batch: Batch) -> dict[str, Any]:
    """Cross entropy by frame. It gives the sharp, blank-rich output of CTC, with boundaries that are exact."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = model(batch.audio).logits
    scores = scores.float()
    weights = torch.ones(len(LETTERS))
    weights[0] = _BLANK_WEIGHT
    spoken = batch.letters > 0
    return {
        "letter": F.cross_entropy(scores.flatten(0, 1), batch.letters.flatten(), weight=weights),
        "letters right": (scores.argmax(-1) == batch.letters)[spoken].float().mean(),
    }


def train(plan: Plan, work: Path, start_from: Path | None) -> Path:
    """Run the plan, or go on with it; return the checkpoint."""
    torch.manual_seed(plan.seed)
    torch.set_num_threads(plan.threads)
    model = build()
    optimiser = torch.optim.AdamW(model.parameters(), lr=plan.rate, betas=(0.9, 0.98), weight_decay=0.01)
    checkpoint = work / "aligner.pt"
    step = restore(checkpoint, model, optimiser, start_from=start_from)
    model.train()
    shown = Progress("aligner", plan, step)
    for batch in feed(batches, plan, step):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(plan, step)
        parts = losses(model, batch)
        optimiser.zero_grad(set_to_none=True)
        parts["letter"].backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        step += 1
        shown.update(step, parts)
        if step % plan.save_every == 0 or step == plan.steps:
            save(checkpoint, model, optimiser, step)
    return checkpoint
