"""Recordings to be heard: whole, in ranges, byte for byte or not at all, and only where it is allowed."""

from __future__ import annotations

import html
import os
import re
import shlex
import threading
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from monitor import clips, create_app, store

OFF = "Audio is switched off on this server; the setting serve.audio switches it on."


@pytest.fixture
def app(a_day: Any, heard: None) -> Flask:
    return create_app(a_day.dsn)


def path_of(a_day: Any, name: str = "hello") -> str:
    return f"/api/v1/recordings/{a_day.ids[name]}/audio"


def refused(client: FlaskClient, a_day: Any, name: str = "hello") -> str:
    """Why it cannot be heard: the route says so, the recording and its page say the same before anybody asks."""
    said = client.get(path_of(a_day, name))
    assert (said.status_code, said.mimetype) == (404, "application/problem+json")
    page = client.get(path_of(a_day, name).removeprefix("/api/v1"))
    assert (page.status_code, page.mimetype) == (404, "text/html")
    return str(said.get_json()["detail"])


def foretold(client: FlaskClient, a_day: Any, name: str = "hello") -> str | None:
    """What a recording and its page say of it before anybody asks to hear it."""
    said = client.get(path_of(a_day, name).removesuffix("/audio")).get_json()["audio"]
    page = html.unescape(client.get(f"/recordings/{a_day.ids[name]}").text)
    assert said["available"] == (said["why_not"] is None) == ("<audio" in page) == ("audio.js" in page)
    assert said["why_not"] is None or said["why_not"].rpartition(": ")[2] in page
    return None if said["why_not"] is None else str(said["why_not"])


# --- heard ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["w", "w:xz", "w:gz", "w:bz2"])
def test_a_recording_is_heard_byte_for_byte_out_of_its_archive(
    client: FlaskClient, a_day: Any, sounds: Any, mode: str
) -> None:
    sounds.keep(mode=mode)
    said = client.get(path_of(a_day))
    assert (said.status_code, said.mimetype, said.data) == (200, "audio/wav", sounds.bytes["hello"])
    assert said.headers["Accept-Ranges"] == "bytes"
    assert said.headers["Content-Disposition"] == f"inline; filename=recording-{a_day.ids['hello']}.wav"
    assert said.headers["X-Content-Type-Options"] == "nosniff"
    assert said.headers["Cache-Control"] == "no-store"
    assert client.get(f"/recordings/{a_day.ids['hello']}/audio").data == said.data
    assert client.head(path_of(a_day)).headers["Content-Length"] == str(len(said.data))
    assert foretold(client, a_day) is None


def test_the_last_of_an_archive_is_heard_too_and_each_has_its_own_bytes(
    client: FlaskClient, a_day: Any, sounds: Any
) -> None:
    sounds.bytes["quarantined"] = b"fLaC" + bytes(500)
    sounds.keep()
    said = client.get(path_of(a_day, "quarantined"))
    assert (said.mimetype, said.data) == ("audio/flac", sounds.bytes["quarantined"])
    assert client.get(path_of(a_day)).data == sounds.bytes["hello"]


def test_a_loose_file_is_heard_and_not_another_of_its_name(client: FlaskClient, a_day: Any, sounds: Any) -> None:
    sounds.keep()
    where = sounds.folder / "below"
    where.mkdir()
    (where / "hello.wav").write_bytes(sounds.bytes["hello"])
    loose = "UPDATE shards SET loose = true, paths = %s WHERE id = (SELECT shard_id FROM recordings WHERE id = %s)"
    sounds.say(loose, [b"below/other.wav", b"below/hello.wav"])
    sounds.say("UPDATE recordings SET name = %s WHERE id = %s", b"hello.wav")
    assert client.get(path_of(a_day)).data == sounds.bytes["hello"]
    (where / "hello.wav").write_bytes(sounds.bytes["hello"] + b"more")
    assert refused(*fresh(a_day)) == "It cannot be heard: its file has another size than the one that was transcribed."
    sounds.say(loose, [b"hello.wav", b"below/hello.wav"])
    assert refused(client, a_day) == "Its file cannot be told from others of its name."


def fresh(a_day: Any) -> tuple[FlaskClient, Any]:
    """A server that has read nothing yet."""
    return create_app(a_day.dsn).test_client(), a_day


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ("bytes=0-99", slice(0, 100)), ("bytes=1000-", slice(1000, None)), ("bytes=-10", slice(-10, None)),
        ("bytes=5-9999999", slice(5, None)),
    ],
)  # fmt: skip
def test_a_range_is_what_was_asked_for(client: FlaskClient, a_day: Any, sounds: Any, asked: str, wanted: slice) -> None:
    sounds.keep()
    whole = sounds.bytes["hello"]
    said = client.get(path_of(a_day), headers={"Range": asked})
    first, end, _ = wanted.indices(len(whole))
    assert (said.status_code, said.data, said.content_length) == (206, whole[wanted], end - first)
    assert said.headers["Content-Range"] == f"bytes {first}-{end - 1}/{len(whole)}"


@pytest.mark.parametrize("asked", ["x=1", "x=0-9", "bytes=5-1", "bytes", "bytes=", "bytes=a-b", "bytes=0-1,4-9"])
def test_what_is_no_range_of_bytes_is_answered_with_all_of_them(
    client: FlaskClient, a_day: Any, sounds: Any, asked: str
) -> None:
    sounds.keep()
    said = client.get(path_of(a_day), headers={"Range": asked})
    assert (said.status_code, said.data, said.headers["Accept-Ranges"]) == (200, sounds.bytes["hello"], "bytes")


def test_a_range_that_is_not_there_is_refused_and_one_of_other_bytes_is_not_pieced_together(
    client: FlaskClient, a_day: Any, sounds: Any
) -> None:
    sounds.keep()
    size = len(sounds.bytes["hello"])
    for path, kind in (
        (path_of(a_day), "application/problem+json"),
        (f"/recordings/{a_day.ids['hello']}/audio", "text/html"),
    ):
        beyond = client.get(path, headers={"Range": f"bytes={size}-"})
        assert (beyond.status_code, beyond.mimetype) == (416, kind)
        assert beyond.headers["Content-Range"] == f"bytes */{size}"
    same = client.get(path_of(a_day)).headers["ETag"]
    assert client.get(path_of(a_day), headers={"Range": "bytes=0-9", "If-Range": same}).status_code == 206
    assert client.get(path_of(a_day), headers={"Range": "bytes=0-9", "If-Range": '"other"'}).status_code == 200


def test_what_was_read_once_is_not_read_again_until_its_file_goes(
    app: Flask, client: FlaskClient, a_day: Any, sounds: Any
) -> None:
    archive = sounds.keep()
    assert client.get(path_of(a_day)).status_code == 200
    app.extensions["clips"]._reader = ("false",)
    assert client.get(path_of(a_day)).data == sounds.bytes["hello"]
    archive.unlink()
    assert "No such file" in refused(client, a_day)


# --- not heard --------------------------------------------------------------------------------------------------------


def test_nobody_hears_anything_unless_it_is_switched_on(no_server_settings: None, a_day: Any, sounds: Any) -> None:
    sounds.keep()
    client, _ = fresh(a_day)
    assert refused(client, a_day) == foretold(client, a_day) == OFF


def test_why_a_recording_is_not_kept_is_told_before_anybody_asks(
    client: FlaskClient, a_day: Any, sounds: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = sounds.keep()
    assert (
        refused(client, a_day, "unsealed")
        == foretold(client, a_day, "unsealed")
        == "Its archive is not read to its end yet."
    )
    assert refused(client, a_day, "silence") == foretold(client, a_day, "silence") == "It holds no bytes."
    monkeypatch.setenv(clips.MEGABYTES, "0")
    small, _ = fresh(a_day)
    assert refused(small, a_day) == foretold(small, a_day) == "It is larger than 0 MB (setting serve.audio_mb)."
    archive.unlink()
    assert (
        refused(client, a_day)
        == foretold(client, a_day)
        == "This machine cannot read 00_00: No such file or directory."
    )
    sounds.say(
        "INSERT INTO files (day_id, path, kind, state, since, seen)"
        " SELECT day_id, '00_00', 'archive', 'removed', 1, 1 FROM recordings WHERE id = %s"
    )
    assert "not kept here any more" in refused(client, a_day)
    assert "not kept here any more" in (foretold(client, a_day) or "")
    assert client.get("/api/v1/recordings/999999/audio").status_code == 404


@pytest.mark.parametrize("how", ["other", "shorter", "flipped", "cut", "page", "gone"])
def test_bytes_that_are_not_those_that_were_transcribed_are_never_sent(
    client: FlaskClient, a_day: Any, sounds: Any, how: str
) -> None:
    archive = sounds.keep(mode="w")
    tone, written = sounds.bytes["hello"], archive.read_bytes()
    middle = len(tone) // 2
    assert written[512:].startswith(tone)
    if how in ("flipped", "cut"):
        turned = bytes([written[middle] ^ 1])
        archive.write_bytes(written[:middle] + (turned + written[middle + 1 :] if how == "flipped" else b""))
    elif how == "page":
        archive.write_text("<html>come back later</html>")
    else:
        others = {"other": {"hello": tone[:44] + tone[:43:-1]}, "shorter": {"hello": tone[:-2]}, "gone": {}}
        type(sounds)(a_day, others[how]).keep()
        sounds.say("UPDATE recordings SET size = %s, sha256 = sha256(%s) WHERE id = %s", len(tone), tone)
    assert refused(client, a_day).startswith("It cannot be heard: ")
    assert len(client.get(path_of(a_day), headers={"Range": "bytes=0-"}).data) < 1000


def test_what_is_no_audio_is_not_sent_even_if_it_is_what_was_there(
    client: FlaskClient, a_day: Any, sounds: Any
) -> None:
    sounds.keep()
    assert refused(client, a_day, "hostile") == "It cannot be heard: it is an HTML page, not audio."
    sounds.say("UPDATE recordings SET failure_class = 'not_audio' WHERE id = %s", one="quarantined")
    said = "It was set aside as not_audio: there is nothing to be heard."
    assert refused(client, a_day, "quarantined") == foretold(client, a_day, "quarantined") == said


@pytest.mark.parametrize("trap", ["link", "folder", "up", "absolute", "fifo", "directory", "nul"])
def test_no_path_leads_out_of_the_days_folder_and_nothing_is_waited_for(
    client: FlaskClient, a_day: Any, sounds: Any, tmp_path: Path, trap: str
) -> None:
    real = sounds.keep()
    outside = tmp_path / "outside"
    outside.mkdir()
    real.rename(outside / "00_00")
    assert (outside / "00_00").stat().st_size
    path = b"00_00"
    if trap == "link":
        real.symlink_to(outside / "00_00")
    elif trap == "folder":
        (sounds.folder / "in").symlink_to(outside)
        path = b"in/00_00"
    elif trap == "up":
        path = b"../../outside/00_00"
    elif trap == "absolute":
        path = bytes(outside / "00_00")
    elif trap == "fifo":
        os.mkfifo(real)
    elif trap == "directory":
        real.mkdir()
    else:
        path = b"00_00\0"
    sounds.say("UPDATE shards SET paths = ARRAY[%s] WHERE id = (SELECT shard_id FROM recordings WHERE id = %s)", path)
    said = refused(client, a_day)
    assert said.startswith("This machine cannot read ")
    assert (foretold(client, a_day) or "").startswith("This machine cannot read ")
    assert str(tmp_path) not in said or trap == "absolute"


# --- while it is read -------------------------------------------------------------------------------------------------


def test_while_an_archive_is_read_its_question_keeps_nobody_from_the_ledger(
    app: Flask, a_day: Any, sounds: Any, tmp_path: Path
) -> None:
    sounds.keep()
    begun, go = tmp_path / "begun", tmp_path / "go"
    for fifo in (begun, go):
        os.mkfifo(fifo)
    program = f"echo > {shlex.quote(str(begun))}; read x < {shlex.quote(str(go))}; exit 65"
    app.extensions["clips"]._reader = ("sh", "-c", program)
    answers: list[int] = []
    asking = threading.Thread(target=lambda: answers.append(app.test_client().get(path_of(a_day)).status_code))
    asking.start()
    begun.read_text()  # returns when the reader is at work
    turns = app.extensions["ledger"]._turns._value
    go.write_text("\n")
    asking.join()
    assert (turns, answers) == (store.AT_ONCE, [404])


def test_only_a_few_archives_are_read_at_once_and_the_rest_is_asked_to_come_back(
    app: Flask, client: FlaskClient, a_day: Any, sounds: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sounds.keep()
    monkeypatch.setattr(clips, "PATIENCE", 0.01)
    turns = app.extensions["clips"]._turns
    for _ in range(clips.AT_ONCE):
        assert turns.acquire(blocking=False)
    busy = client.get(path_of(a_day))
    assert (busy.status_code, busy.headers["Retry-After"]) == (503, "5")
    turns.release()
    assert client.get(path_of(a_day)).status_code == 200
    assert turns.acquire(blocking=False), "the turn was given back"


@pytest.mark.parametrize("program", ["sleep 600", "kill -9 $$", "echo text/html; cat TONE", "exit 1", "true"])
def test_a_reader_that_hangs_dies_or_lies_is_not_believed(
    app: Flask, a_day: Any, sounds: Any, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    tone = sounds.keep().with_name("tone")
    tone.write_bytes(sounds.bytes["hello"])
    monkeypatch.setattr(clips, "SECONDS", 2.0)
    app.extensions["clips"]._reader = ("sh", "-c", program.replace("TONE", shlex.quote(str(tone))))
    said = app.test_client().get(path_of(a_day))
    status = 503 if program.startswith("sleep") else 404
    assert (said.status_code, said.mimetype) == (status, "application/problem+json")


def test_a_reader_is_told_no_secret_and_gets_no_file_but_the_one(
    app: Flask, client: FlaskClient, a_day: Any, sounds: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sounds.keep()
    monkeypatch.setenv("PGPASSWORD", "sesame")
    app.extensions["clips"]._reader = ("sh", "-c", "/usr/bin/env >&2; ls /proc/self/fd >&2; exit 65")
    told = refused(client, a_day)
    assert "OMP_NUM_THREADS=1" in told
    assert "sesame" not in told
    assert "DAYSCRIBE" not in told
    assert told.rstrip(".").split()[-4:] == ["0", "1", "2", "3"], "the last is the folder that ls reads"


def test_how_a_reader_failed_is_logged_without_a_name(
    app: Flask, client: FlaskClient, a_day: Any, sounds: Any, caplog: pytest.LogCaptureFixture
) -> None:
    sounds.keep()
    program = "echo Traceback >&2; echo 'ModuleNotFoundError: No module named sesame' >&2; exit 1"
    app.extensions["clips"]._reader = ("sh", "-c", program)
    assert "the server's log shows how" in refused(client, a_day)
    assert "the reader of audio ended with 1: ModuleNotFoundError" in caplog.text
    assert "sesame" not in caplog.text


def test_the_newest_are_kept_and_no_more_than_a_server_can_hold(
    app: Flask, client: FlaskClient, a_day: Any, sounds: Any
) -> None:
    tone = sounds.bytes["hello"]
    names = ("hello", "hostile", "silence", "quarantined")
    sounds.bytes = {name: tone + bytes([number]) for number, name in enumerate(names)}
    sounds.keep()
    ears = app.extensions["clips"]
    ears._most = len(tone) + 1
    for name in names:
        assert client.get(path_of(a_day, name)).data == sounds.bytes[name]
    assert [clip.data for clip in ears._kept.values()] == [sounds.bytes[name] for name in names[-clips.KEPT_CLIPS :]]


# --- the page ---------------------------------------------------------------------------------------------------------


def test_each_segment_and_each_word_leads_to_its_second(client: FlaskClient, a_day: Any, sounds: Any) -> None:
    sounds.keep()
    page = client.get(f"/recordings/{a_day.ids['hello']}").text
    assert f'href="/recordings/{a_day.ids["hello"]}/audio#t=0.00" data-second="0.00"' in page
    assert re.findall(r'class="word[^>]*data-second="([\d.]+)"', page) == ["0.00", "1.00", "2.00"]
    assert re.search(r'<audio id="audio" controls preload="none" src="/recordings/\d+/audio"', page)
    assert 'audio#t=1.50" aria-label' in client.get(f"/recordings/{a_day.ids['hello']}?t=1.5").text
    sounds.say("UPDATE days SET staged = NULL WHERE id = (SELECT day_id FROM recordings WHERE id = %s)")
    assert "data-second" not in client.get(f"/recordings/{a_day.ids['hello']}").text
