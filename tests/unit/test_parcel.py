"""Targets as people write them: what becomes part of a command line is checked word by word."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpc.errors import BadSetting, HostKeyRefused, MoverTrouble, TargetFull
from hpc.parcel import Target
from hpc.senders.rsync import Login, RsyncSender, _quoted
from hpc.senders.rsync.words import trouble
from hpc.stages.slot_audio import NAME_BYTES, Namer

COLLECTION = "6c54cade-bde5-45c1-bdea-f4bd71dba2cc"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/data/out/", "/data/out"),
        ("/data/{site}//x", "/data/zurich/x"),
        ("ssh://me@host.example/data", "ssh://me@host.example/data"),
        ("ssh://me@host:2222/data/{site}", "ssh://me@host:2222/data/zurich"),
        ("ssh://me@[2001:db8::1]:22/data", "ssh://me@[2001:db8::1]:22/data"),
        (f"globus://{COLLECTION}/out", f"globus://{COLLECTION}/out"),
        (f"globus://{COLLECTION.upper()}/", f"globus://{COLLECTION}/"),
    ],
)
def test_a_target_is_understood(text: str, shown: str) -> None:
    assert str(Target.parse(text, site="zurich")) == shown
    assert Target.parse(shown, site="other") == Target.parse(text, site="zurich")


@pytest.mark.parametrize(
    "text",
    [
        "", "data", "./data", "~/data", "http://host/x", "ssh://host/x", "ssh://me@host", "ssh://@host/x", "ssh://me@/x",
        "ssh://me@-oProxyCommand=x/x", "ssh://-l@host/x", "ssh://me:secret@host/x", "ssh://me@host:0/x", "ssh://me@host:x/x",
        "ssh://me@host:٣/x", "ssh://me@ho st/x", "ssh://me@host;id/x", "ssh://me@[::1;id]/x", "ssh://me@host/a/../b",
        "ssh://me@host/a\nb", "/a/../b", "/a/{date}", "/a\0b", "globus://nothing/x", f"globus://{COLLECTION}",
        f"globus://{COLLECTION}:22/x", f"globus://me@{COLLECTION}/x", "me@host:/x", "ssh://me@a@b/x",
    ],
)  # fmt: skip
def test_what_is_no_target_is_refused_without_repeating_a_secret(text: str) -> None:
    with pytest.raises(BadSetting) as refused:
        Target.parse(text, site="zurich")
    assert "secret" not in str(refused.value)


def test_every_ssh_is_strict_and_asks_nobody() -> None:
    target = Target.parse("ssh://me@[::1]:2222/x", site="z")
    words = RsyncSender(target, Login(Path("/a b/key"), Path("/c d/known")))._ssh()
    assert {"BatchMode=yes", "StrictHostKeyChecking=yes", 'UserKnownHostsFile="/c d/known"'} <= set(words)
    assert words[-2:] == ["-p", "2222"]
    assert not any("accept-new" in word for word in words)


def test_a_word_survives_rsync_s_own_splitting() -> None:
    assert [_quoted(word) for word in ("-o", "A=b", "/a b", "it's", 'say "x"')] == [
        "-o", "A=b", "'/a b'", "'it''s'", "'say \"x\"'",
    ]  # fmt: skip


SSH = Target.parse("ssh://me@host:2222/x", site="z")


@pytest.mark.parametrize(
    ("code", "said", "kind", "word"),
    [
        (11, 'write failed on "/x/a": No space left on device (28)', TargetFull, "no room left"),
        (
            255,
            "No ED25519 host key is known for host and you have requested strict checking.",
            HostKeyRefused,
            "scan -p 2222",
        ),
        (127, "bash: line 1: rsync: command not found", MoverTrouble, "rsync cannot be started"),
        (23, 'rsync: [receiver] mkstemp "/x/.a" failed: Permission denied (13)', MoverTrouble, "does not let us write"),
    ],
)
def test_what_rsync_and_ssh_complain_of_is_said_in_our_words(code: int, said: str, kind: type, word: str) -> None:
    error = trouble(code, said + "\n", SSH, None)
    assert isinstance(error, kind)
    assert word in str(error)


def test_what_another_host_says_cannot_move_the_cursor() -> None:
    assert "\x1b" not in str(trouble(12, "\x1b[2Jhello\n", SSH, None))


def test_member_names_are_short_one_level_and_each_once() -> None:
    namer = Namer()
    names = [namer(meta_id) for meta_id in ("a", "a", "a_2", "a", "x/y", "ü" * 300, "ü" * 300, "..", "")]
    assert names[:5] == ["a.opus", "a_2.opus", "a_2_2.opus", "a_3.opus", "x_y.opus"]
    assert len(set(names)) == len(names)
    assert all("/" not in name and len(name.encode()) <= NAME_BYTES + 25 for name in names)
