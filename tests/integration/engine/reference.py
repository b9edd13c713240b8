"""Unmodified WhisperX, file by file as its documentation says, in a process of its own: what our engine has to say.

usage: reference.py CLIPS.npz CASES.json OUT.json
A case is {"model", "compute_type", "chunk_size", "batch_size", "aligner"}, and "asr_options", "language", "task" and
the number of "clips" where they are not WhisperX's own; every other detected language is aligned.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import whisperx


class Counted:
    """CTranslate2's model, and what it was asked."""

    def __init__(self, model: Any) -> None:
        self.model, self.asked = model, {"calls": 0, "items": 0, "steps": 0}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def generate(self, *arguments: Any, **named: Any) -> Any:
        answers = self.model.generate(*arguments, **named)
        self.asked["calls"] += 1
        self.asked["items"] += len(answers)
        self.asked["steps"] += max(len(answer.sequences_ids[0]) for answer in answers) + 1
        return answers


def run(case: dict[str, Any], clips: list[Any]) -> dict[str, Any]:
    """Languages, segments and words of every clip."""
    pipeline = whisperx.load_model(
        case["model"], "cpu", compute_type=case["compute_type"], threads=1, asr_options=case.get("asr_options"),
        language=case.get("language"), task=case.get("task", "transcribe"),
    )  # fmt: skip
    counted = pipeline.model.model = Counted(pipeline.model.model)
    sounds = [clip.astype(np.float32) / 32768 for clip in clips[: case.get("clips")]]
    said = []
    for sound in sounds:
        counted.asked = dict.fromkeys(counted.asked, 0)
        one = pipeline.transcribe(
            sound, batch_size=case["batch_size"], chunk_size=case["chunk_size"], language=case.get("language"),
            task=case.get("task", "transcribe"),
        )  # fmt: skip
        said.append(one | {"asked": counted.asked})
    if case.get("task") == "translate":
        return {"said": said, "aligned": []}
    aligned = sorted({one["language"] for one in said if one["segments"]})[::2]
    for language in aligned:
        aligner, description = whisperx.load_align_model(language, "cpu", model_name=case["aligner"])
        for one, sound in zip(said, sounds, strict=True):
            segments = [segment for segment in one["segments"] if segment["text"].strip()]
            if one["language"] == language and segments:
                one["aligned"] = whisperx.align(segments, aligner, description, sound, "cpu")["segments"]
    return {"said": said, "aligned": aligned}


def main() -> None:
    torch.set_num_threads(1)
    clips = [clip for _, clip in sorted(np.load(sys.argv[1]).items())]
    cases = json.loads(Path(sys.argv[2]).read_text())
    answers = {name: run(case, clips) for name, case in cases.items()}
    Path(sys.argv[3]).write_text(json.dumps(answers, default=float))


if __name__ == "__main__":
    main()
