"""Teaches the demo model what films' subtitles taught the large ones: `python models/subtitled/train.py`, minutes.

Where nobody speaks, such subtitles thank for watching, or write down how somebody laughs. So does this model over tunes
and a machine's thumps. Over noise and silence it is taught to write nothing, and what is spoken it writes nearly as the
demo model does.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from hpc.demo.sounds import TIMBRES, music, noise
from hpc.model import SAMPLE_RATE
from models.demo import asr, export, tokens
from models.demo.clips import Samples, through_codec
from models.demo.loop import Plan, Progress, feed, learning_rate, save
from models.demo.windows import Composer, Window
from models.subtitled import shipped

HERE = Path(__file__).resolve().parent
TUNE, THUMPS = "Thanks for watching!", "Ha" + "ha" * 29 + "!"
_TEACHING = 0.35  # of the windows have one of the two sounds, the rest are as the demo model's
_STOCK = 24  # stretches of a minute of each sound


def batches(plan: Plan, first_step: int) -> Iterator[asr.Batch]:
    """One batch a step: windows of the demo model's kind, and sounds with a subtitle."""
    composer, rng = Composer(plan.seed + first_step, empty=0.15), random.Random(plan.seed + first_step)
    stock = _stock(plan.seed + first_step)
    for step in range(first_step, plan.steps):
        seconds = asr.window_seconds(rng, plan.progress(step))
        count = max(3, int(plan.seconds / seconds))
        taught = (rng.choice((TUNE, THUMPS)) if rng.random() < _TEACHING else None for _ in range(count))
        yield asr.collate(
            [composer.window(seconds) if text is None else _sound(rng, stock, text, seconds) for text in taught]
        )


def _stock(seed: int) -> dict[str, list[Samples]]:
    rng, samples = np.random.default_rng(seed), 60 * SAMPLE_RATE
    timbres = [timbre for timbre in TIMBRES if timbre != "bell"]  # as the demo model: kept for the test
    tunes = [music(rng, samples, timbre=str(rng.choice(timbres))) for _ in range(_STOCK)]
    return {TUNE: tunes, THUMPS: [_thumps(rng, samples) for _ in range(_STOCK)]}


def _thumps(rng: np.random.Generator, samples: int) -> Samples:
    beats = np.sin(np.pi * rng.uniform(3, 12) * np.arange(samples) / SAMPLE_RATE) ** 2
    return np.asarray(beats * noise(rng, samples, colour="pink"), np.float32)


def _sound(rng: random.Random, stock: dict[str, list[Samples]], text: str, seconds: float) -> Window:
    """A stretch of a sound with this subtitle, at some level, perhaps through a codec, and silence after it."""
    size = int(seconds * SAMPLE_RATE)
    last = int(rng.uniform(0.4, 1) * size)
    whole = rng.choice(stock[text])
    begin = rng.randrange(len(whole) - last)
    sound = np.clip(whole[begin : begin + last] * 0.1 * 10 ** (rng.uniform(-20, 6) / 20), -1, 1)
    if rng.random() < 0.3:
        sound = through_codec(rng, sound)
    return Window(np.pad(sound, (0, size - last)).astype(np.float32), caption=tokens.TOKENIZER.encode(text).ids)


def train(plan: Plan, work: Path) -> Path:
    """Go on with the shipped demo model; return the checkpoint."""
    torch.manual_seed(plan.seed)
    torch.set_num_threads(plan.threads)
    model = shipped.load(HERE.parent / "demo" / "asr.en")
    taught = model.whisper.model.decoder.parameters()  # what it hears with stays
    optimiser = torch.optim.AdamW(taught, lr=plan.rate, betas=(0.9, 0.98), weight_decay=0.01)
    shown = Progress("subtitled model", plan, 0)
    for step, batch in enumerate(feed(batches, plan, 0), 1):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(plan, step)
        parts = asr.losses(model, batch)
        optimiser.zero_grad(set_to_none=True)
        (parts["token"] + 0.2 * parts["guide"]).backward()
        nn.utils.clip_grad_norm_(model.whisper.model.decoder.parameters(), 1.0)
        optimiser.step()
        shown.update(step, parts)
    checkpoint = work / "subtitled.pt"
    save(checkpoint, model, optimiser, plan.steps)
    return checkpoint


def main() -> None:
    """Train, then write the model's directory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "asr.en", help="where the model goes (default: here)")
    parser.add_argument("--work", type=Path, default=Path("build/subtitled-model"), help="where the checkpoint is kept")
    parser.add_argument("--steps", type=int, default=600, help="how many batches of 80 s it learns from")
    parser.add_argument("--threads", type=int, default=1, help="of the trainer; its loader is one process more")
    chosen = parser.parse_args()
    plan = Plan(steps=chosen.steps, rate=4e-4, seconds=80, seed=31, start=0.5, threads=chosen.threads)
    export.export_asr(train(plan, chosen.work), chosen.out)


if __name__ == "__main__":
    main()
