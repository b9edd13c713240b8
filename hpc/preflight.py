"""Before a worker leases anything: does this machine transcribe, and rightly? What it lacks no recording pays for.

    there is work ─► GPU and driver ─► the canary's words ─► leases, and the real model

None of it was tried on a GPU yet: what one does is played in tests.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from db.places import network_mount
from hpc.accelerator import Cuda, cuda_needed, driver_of
from hpc.errors import BadSetting, MachineUnfit, ModelChanged, ModelMissing


class Preflight:
    """What is looked at once in a process, when there is work for it (law 5); MachineUnfit says what is wanting."""

    def __init__(self, *looks: Callable[[], object]) -> None:
        self._looks, self._good, self._seconds = looks, not looks, 0.0

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self._seconds

    def __call__(self) -> None:
        if not self._good:
            began = time.monotonic()
            for look in self._looks:
                look()
            self._good, self._seconds = True, time.monotonic() - began


def check_gpu(cuda: Cuda | None, *, ctranslate2: str, torch: str) -> None:
    """By what the driver says and what is installed, which takes no time. An old driver may give empty transcripts and
    no error; that is for the canary to hear, where this cannot tell."""
    if torch.endswith("+cpu"):
        raise BadSetting(
            f"torch {torch} has no CUDA in it: install what requirements/ locks, or set engine.device to cpu."
        )
    if cuda is None or not cuda.devices:
        found = "no NVIDIA driver" if cuda is None else "an NVIDIA driver, and no GPU that we may use"
        raise MachineUnfit(
            f"This machine has {found}: ask the scheduler for a GPU (slurm.gres; in a container --nv), or set"
            " engine.device to cpu."
        )
    needed = cuda_needed(cuda, ctranslate2)
    if needed is not None and cuda.version < needed:
        raise MachineUnfit(
            f"The NVIDIA driver of this machine can do CUDA {cuda.version[0]}.{cuda.version[1]}, and CTranslate2"
            f" {ctranslate2} wants {driver_of(needed)} for {cuda.names}: with an older one it fails, or hears nothing."
            " Ask the administrators for a newer driver, or choose other nodes (slurm.constraint)."
        )


@contextmanager
def models_of(node: str, named: Sequence[Path]) -> Iterator[None]:
    """In a job: a model that this node alone lacks is the node's fault (75), what every node would find waits for a
    person (78). Nobody has leased anything yet, so neither charges a recording. `named` are the folders of models in
    the settings."""
    try:
        yield
    except (ModelMissing, ModelChanged) as error:
        absent = [folder for folder in named if not folder.exists()]
        if absent:
            raise MachineUnfit(
                f"There is no {absent[0]} on {node}: is its file system mounted there? {error}"
            ) from error
        own = [folder for folder in named if network_mount(folder.resolve()) is None]
        if own and isinstance(error, ModelChanged):
            raise MachineUnfit(f"{error} (on {node}, whose own disk holds {own[0]})") from error
        raise
