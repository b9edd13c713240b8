"""What would be made now by these settings: the engine's options, and the receipt of each stage."""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from typing import Any

from db.plans import Alignable
from hpc import images, models, receipt, registry, triage
from hpc.config import Settings
from hpc.engine_options import EngineOptions
from hpc.errors import BadSetting
from hpc.model import Run


def engine_options(settings: Settings) -> tuple[EngineOptions, list[models.Model]]:
    """What the engine is told, its models found and checked; nothing heavy is imported."""
    chosen = settings.engine.model_dump(exclude={"name"})
    options = EngineOptions(**chosen)
    if settings.engine.name == "echo":
        return options, []
    return models.resolve(options, settings.model_folders)


def run_of(settings: Settings, *, why: str) -> tuple[EngineOptions, Run]:
    """The options and the receipt of what would be made now."""
    options, found = engine_options(settings)
    run = receipt.make_run(
        options, found, engine=settings.engine.name, who=getpass.getuser(), why=why, image_digest=images.running()
    )
    return options, run


def aligning_run(settings: Settings, text: Mapping[str, Any], *, why: str) -> tuple[EngineOptions, Run]:
    """The same of timing words anew, of the texts of one run; UnknownName: this engine cannot."""
    registry.target("aligners", settings.engine.name)
    options, found = engine_options(settings)
    if not options.align or options.task != "transcribe":
        raise BadSetting("Words get times only where engine.align is on and engine.task is transcribe.")
    run = receipt.aligning_run(
        options, found, text, engine=settings.engine.name, who=getpass.getuser(), why=why,
        image_digest=images.running(),
    )  # fmt: skip
    return options, run


def alignable(settings: Settings, key: str | None) -> Alignable:
    """What can be aligned here, of the texts of the run of this key."""
    registry.target("aligners", settings.engine.name)
    options, _ = engine_options(settings)
    languages = None if settings.engine.name == "echo" else tuple(language for language, _ in options.aligner_paths)
    return Alignable(key, languages=languages)


def judging_run(*, why: str) -> Run:
    """The receipt of what would be judged anew now."""
    return receipt.judging_run(triage.key_of_rules(), who=getpass.getuser(), why=why, image_digest=images.running())


def run_or_align(settings: Settings, text: Mapping[str, Any] | None, *, why: str) -> tuple[EngineOptions, Run]:
    """Of what hears, or with `text` of what only times the words of that run's texts."""
    return run_of(settings, why=why) if text is None else aligning_run(settings, text, why=why)
