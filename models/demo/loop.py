"""What both trainings share: the plan, a loader process, checkpoints, a line of progress."""

from __future__ import annotations

import math
import os
import queue
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import multiprocessing

_QUEUED = 4  # batches made ahead


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how fast to train."""

    steps: int
    rate: float  # the highest learning rate
    seconds: float  # of sound in a batch
    seed: int
    start: float = 0.0  # where in the schedule the first step is, 0 to 1: to go on from a trained model
    threads: int = 1
    save_every: int = 250

    def progress(self, step: int) -> float:
        """Where in the schedule a step is, 0 to 1."""
        return self.start + (1 - self.start) * step / self.steps


def learning_rate(plan: Plan, step: int) -> float:
    """Up within the first twentieth of the steps, then down along a cosine."""
    done, warm = step / plan.steps, 0.05
    shape = done / warm if done < warm else 0.5 * (1 + math.cos(math.pi * (done - warm) / (1 - warm)))
    return plan.rate * shape + 1e-5


def feed(make: Callable[[Plan, int], Iterator[Any]], plan: Plan, first_step: int) -> Iterator[Any]:
    """The batches that `make` yields, made by another process."""
    context = multiprocessing.get_context("fork")
    waiting = context.Queue(_QUEUED)
    loader = context.Process(target=_fill, args=(waiting, make, plan, first_step), daemon=True)
    loader.start()
    try:
        for _ in range(first_step, plan.steps):
            yield _next(waiting, loader)
    finally:
        loader.terminate()
        loader.join()


def _next(waiting: Any, loader: Any) -> Any:
    while True:
        try:
            return waiting.get(timeout=10)
        except queue.Empty:
            if not loader.is_alive():
                raise SystemExit("The process that makes the batches has ended; its message is above.") from None


def _fill(waiting: Any, make: Callable[[Plan, int], Iterator[Any]], plan: Plan, first_step: int) -> None:
    os.nice(1)
    torch.set_num_threads(1)
    for batch in make(plan, first_step):
        waiting.put(batch)
    signal.pause()  # until the trainer ends us: it still takes tensors from our shared memory


def restore(checkpoint: Path, model: Any, optimiser: Any, *, start_from: Path | None) -> int:
    """Load the run's own checkpoint, else the weights to start from; return the steps already made."""
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        return int(state["step"])
    if start_from is not None:
        model.load_state_dict(torch.load(start_from, weights_only=True)["model"])
    return 0


def save(checkpoint: Path, model: Any, optimiser: Any, step: int) -> None:
    """Write a checkpoint, whole or not at all."""
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step}
    torch.save(state, checkpoint.with_suffix(".new"))
    checkpoint.with_suffix(".new").replace(checkpoint)


class Progress:
    """Says on stderr how far a training is, how well it goes and when it ends."""

    def __init__(self, name: str, plan: Plan, first_step: int) -> None:
        self._name, self._plan, self._first = name, plan, first_step
        self._began = self._said = time.monotonic()
        self._means: dict[str, float] = {}

    def update(self, step: int, parts: dict[str, Any]) -> None:
        """Count a step; speak at most every 20 s."""
        for key, part in parts.items():
            value = float(part.detach())
            if math.isnan(value):  # a batch in which nobody speaks has no frames to be right about
                continue
            self._means[key] = 0.98 * self._means.get(key, value) + 0.02 * value
        now = time.monotonic()
        if now - self._said < 20 and step < self._plan.steps:
            return
        self._said = now
        left = (now - self._began) / max(1, step - self._first) * (self._plan.steps - step)
        figures = "  ".join(f"{key} {value:.3f}" for key, value in self._means.items())
        print(f"{self._name}: step {step}/{self._plan.steps}, {left / 60:.1f} min left  {figures}", file=sys.stderr)
