"""How the model that subtitles taught is made: the demo model comes back from its file, and captions are taught."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hpc.errors import BadSetting
from models.demo import asr, tokens
from models.demo.loop import Plan
from models.subtitled import shipped, train

SHIPPED = Path(__file__).parents[3] / "models" / "demo" / "asr.en"
PLAN = Plan(steps=1, rate=0.0, seconds=80, seed=7, start=0.9)


def test_the_shipped_model_comes_back_from_its_file_and_knows_the_next_word() -> None:
    [batch] = asr.batches(PLAN, 0)
    with torch.no_grad():
        right = float(asr.losses(shipped.load(SHIPPED), batch)["tokens right"])
    assert right > 0.9


def test_a_file_of_another_form_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"\x07" + (SHIPPED / "model.bin").read_bytes()[1:])
    with pytest.raises(BadSetting, match="form 7; this reads 6"):
        shipped.load(tmp_path)


def test_tunes_and_thumps_are_taught_with_their_captions_and_speech_with_what_was_said() -> None:
    [batch] = train.batches(PLAN, 0)
    taught = {tokens.TOKENIZER.decode([one for one in row if one >= 0]) for row in batch.labels.tolist()}
    captions = {train.TUNE, train.THUMPS}
    assert taught & captions
    assert any(text.endswith(".") for text in taught - captions)
