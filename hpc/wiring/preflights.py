"""What a worker looks at before it leases anything: the driver, and the clip whose words are known."""

from __future__ import annotations

from hpc import canary as canaries
from hpc import models, registry
from hpc.accelerator import ask_driver, installed, resolve_device
from hpc.canary import Song
from hpc.config import Settings
from hpc.errors import BadSetting, MachineUnfit
from hpc.preflight import Preflight, check_gpu


def canary(settings: Settings, device: str, *, engine: str = "whisperx") -> Song:
    """The clip whose words are known, transcribed here with the model that we ship."""
    ready, _ = models.resolve(canaries.options(device), settings.model_folders)
    return canaries.sing(registry.target("engines", engine), ready)


def preflight(settings: Settings, *, hears: bool = True) -> Preflight:
    """What is looked at before a worker of these settings leases anything. Of itself only where it costs most not to:
    on a GPU, whose driver may be too old for it without a word. Who only aligns does not hear, and sings no canary."""
    name, device = settings.engine.name, resolve_device(settings.engine.device)
    on_gpu = device == "cuda" and name.startswith("whisperx")
    if settings.worker.preflight == "never" or (settings.worker.preflight == "auto" and not on_gpu):
        return Preflight()

    def check() -> None:
        check_gpu(ask_driver(), ctranslate2=installed("ctranslate2"), torch=installed("torch"))

    def sing() -> None:
        try:
            canary(settings, device, engine=name)
        except BadSetting as error:  # its settings are our own, so it is the machine that they do not suit
            if not on_gpu or not installed("torch"):
                raise
            raise MachineUnfit(f"The canary was not transcribed on {device}: {error}") from error

    return Preflight(*([check] if on_gpu else []), *([sing] if hears else []))
