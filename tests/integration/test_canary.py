"""The clip whose words are known: heard rightly by the real engine, and anything else is the machine's fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpc import canary, wiring
from hpc.config import load
from hpc.errors import MachineUnfit

ECHO = "hpc.engines.echo:EchoEngine"


@pytest.mark.speech
def test_a_sound_machine_hears_the_canarys_words_and_their_times() -> None:
    song = wiring.canary(load(None, []), "cpu")

    assert (song.heard, song.timed_words, song.device) == (canary.WORDS, len(canary.WORDS.split()), "cpu")


def test_other_words_are_the_machines_fault_and_are_said() -> None:
    with pytest.raises(MachineUnfit, match=f"The canary says '{canary.WORDS}', and this machine heard '"):
        canary.sing(ECHO, canary.options("cpu"))


def test_a_canary_that_is_not_there_is_no_song(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(canary, "CLIP", tmp_path / "nothing.flac")
    with pytest.raises(MachineUnfit, match=r"nothing\.flac cannot be read"):
        canary.sing(ECHO, canary.options("cpu"))

    (tmp_path / "nothing.flac").write_bytes(b"no sound")
    with pytest.raises(MachineUnfit, match=r"nothing\.flac cannot be decoded"):
        canary.sing(ECHO, canary.options("cpu"))
