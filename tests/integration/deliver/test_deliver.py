"""A day at a target outside: whole, verified, sent once; every host known, and every damage there found and named."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from db import faults
from hpc.parcel import Packed, Target
from hpc.senders.rsync import Login, RsyncSender

DAY = "2025-01-01"
AGAIN, SETTINGS, DATA = 75, 78, 65
MANIFEST = f"manifests/audio/{DAY}.sha256"
PARQUET = f"transcripts/audio/{DAY}.parquet"


def checked(folder: Path) -> int:
    """How many files the manifest vouches for; sha256sum itself says that they are right."""
    done = subprocess.run(
        ["sha256sum", "-c", "--strict", MANIFEST], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    return len(done.stdout.splitlines())


def leftovers(folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob("*") if path.name.startswith(".")]


def test_a_day_goes_to_a_folder_whole_and_once(lab: Any, answer: Any, target: Path, tree_of: Any) -> None:
    first = answer("--target", str(target))

    there = tree_of(target)
    parts = sorted(path for path in there if path.startswith(f"parts/audio/{DAY}/"))
    assert set(there) == {PARQUET, MANIFEST, *parts}
    results = lab.home / "results" / "audio" / DAY / "parts"
    assert {Path(path).name: there[path] for path in parts} == tree_of(results)
    assert pq.read_table(target / PARQUET).num_rows == 10
    assert checked(target) == len(there) - 1
    assert (first["state"], first["files"], leftovers(target)) == ("verified", len(there), [])

    before = {path: (target / path).stat().st_mtime_ns for path in there}
    second = answer("--target", str(target))
    assert second["state"] == "there already"
    assert {path: (target / path).stat().st_mtime_ns for path in there} == before
    [row] = lab.rows()
    assert (row["state"], row["attempt"], row["files"]) == ("verified", 1, len(there))


def test_what_is_packed_is_closed_to_others(lab: Any, answer: Any, target: Path) -> None:
    answer("--target", str(target))
    assert [(lab.home / "deliveries" / "audio" / below).stat().st_mode & 0o077 for below in ("", DAY)] == [0, 0]


def test_parts_are_links_and_a_second_target_makes_nothing_anew(
    lab: Any, answer: Any, target: Path, tmp_path: Path
) -> None:
    answer("--target", str(target), "--audio")
    made = {path: path.stat().st_mtime_ns for path in lab.packed.rglob("*") if path.is_file()}
    parts = list((lab.packed / "parts" / "audio" / DAY).iterdir())
    assert all(path.stat().st_nlink == 2 for path in parts)
    (tmp_path / "other").mkdir()

    answer("--target", str(tmp_path / "other"), "--audio")

    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert checked(tmp_path / "other") == checked(target)


def test_what_a_plan_made_of_the_day_goes_with_it_and_is_more_to_send(
    lab: Any, answer: Any, target: Path, tree_of: Any
) -> None:
    answer("--target", str(target))
    before = tree_of(target)
    made = lab.home / "results" / "audio" / DAY / "plans" / "1" / "1-1-0123456789abcdef.jsonl.gz"
    made.parent.mkdir(parents=True)
    made.write_bytes(b"made again")
    try:
        lab.do(
            "INSERT INTO plans (selection, who, run_key, receipt, recordings, seconds)"
            " VALUES ('{}', 'me', decode(repeat('00', 16), 'hex'), '{}', 0, 0)"
        )
        lab.do(
            "INSERT INTO parts (name, shard_id, epoch, run_id, sha256, size, recordings, state, plan_id)"
            " SELECT '1-1-0123456789abcdef', shard_id, 1, run_id, sha256('made again'), 10, 1, 'sealed',"
            " (SELECT max(id) FROM plans) FROM parts LIMIT 1"
        )
        made.parent.rename(made.parent.with_name(str(lab.rows("SELECT max(id) AS id FROM plans")[0]["id"])))
        assert answer("--target", str(target))["state"] == "verified"
        assert set(tree_of(target)) - set(before) == {f"parts/audio/{DAY}/{made.name}"}
    finally:
        lab.do("DELETE FROM parts WHERE plan_id IS NOT NULL")
        lab.do("DELETE FROM plans")
        shutil.rmtree(made.parent.parent)


def test_without_parts_and_as_a_dry_run(lab: Any, answer: Any, target: Path, tree_of: Any) -> None:
    told = answer("--target", str(target), "--no-parts", "--dry-run")
    assert (told["state"], tree_of(target), lab.rows()) == ("would send", {}, [])

    answer("--target", str(target), "--no-parts")
    assert set(tree_of(target)) == {PARQUET, MANIFEST}

    more = answer("--target", str(target))  # what is asked for beyond is not there already
    assert more["state"] == "verified"
    less = answer("--target", str(target), "--no-parts")
    assert less["state"] == "there already"


def test_a_day_that_grew_is_sent_anew(lab: Any, answer: Any, target: Path) -> None:
    answer("--target", str(target))
    before = (lab.packed / PARQUET).stat().st_mtime_ns
    lab.do("UPDATE days SET revision = revision + 1")
    try:
        assert answer("--target", str(target))["state"] == "verified"
    finally:
        lab.do("UPDATE days SET revision = revision - 1")
    assert (lab.packed / PARQUET).stat().st_mtime_ns > before
    assert lab.rows()[0]["attempt"] == 2


def test_an_unfinished_day_is_refused_but_for_partial(
    lab: Any, deliver: Any, answer: Any, target: Path, tree_of: Any
) -> None:
    lab.do("UPDATE days SET state = 'processing', finished = NULL")
    try:
        assert deliver("--target", str(target)) == AGAIN
        assert re.search("processing, not finished; deliver it later, or with --partial", lab.said[1])
        assert (tree_of(target), lab.rows()) == ({}, [])
        assert [answer("--target", str(target), "--partial")["state"] for _ in range(2)] == ["verified"] * 2
    finally:
        lab.do("UPDATE days SET state = 'completed_with_errors', finished = now()")


def test_what_is_damaged_at_the_target_is_found_by_again(lab: Any, answer: Any, target: Path) -> None:
    answer("--target", str(target))
    [part, *_] = sorted((target / "parts" / "audio" / DAY).iterdir())
    good, times = part.read_bytes(), part.stat()
    part.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    os.utime(part, ns=(times.st_atime_ns, times.st_mtime_ns))  # of the same size and time: only its bytes tell

    assert answer("--target", str(target))["state"] == "there already"
    told = answer("--target", str(target), "--again")

    assert re.search(rf"1 of \d files were missing or amiss there: parts/audio/{DAY}/{part.name}", told["message"])
    assert part.read_bytes() == good
    checked(target)


def test_a_part_that_is_not_what_was_recorded_is_not_sent(lab: Any, deliver: Any, target: Path, tree_of: Any) -> None:
    [part, *_] = sorted((lab.home / "results" / "audio" / DAY / "parts").iterdir())
    good = part.read_bytes()
    part.write_bytes(good + b"\0")
    try:
        assert deliver("--target", str(target)) == DATA
        assert "is not the part that the ledger recorded" in lab.said[1]
        assert tree_of(target) == {}
        assert lab.rows()[0]["state"] == "failed"
    finally:
        part.write_bytes(good)
    assert deliver("--target", str(target)) == 0, lab.said[1]


def test_over_ssh_to_a_known_host(lab: Any, host: Any, answer: Any, target: Path, tree_of: Any) -> None:
    lab.settings = host.settings()
    odd = target / "it's a $(touch pwned); `id` & folder"
    odd.mkdir()

    told = answer("--target", host.url(odd), "--audio")

    assert (told["state"], told["message"]) == ("verified", "verified there, by sha256sum too")
    assert tree_of(odd) == tree_of(lab.packed)
    assert checked(odd) == told["files"] - 1
    assert list(target.iterdir()) == [odd]
    assert answer("--target", host.url(odd), "--audio")["state"] == "there already"


def test_over_ssh_what_is_damaged_is_found_too(lab: Any, host: Any, answer: Any, target: Path) -> None:
    lab.settings = host.settings()
    answer("--target", host.url(target))
    (target / PARQUET).unlink()

    told = answer("--target", host.url(target), "--again")

    assert PARQUET in told["message"]
    checked(target)


def refused(lab: Any, deliver: Any, host: Any, target: Path, code: int, *words: str) -> str:
    assert deliver("--target", host.url(target)) == code
    assert list(target.iterdir()) == []
    assert list(lab.packed.rglob("*.parquet")) == []  # it is said before hours of work, not after
    assert lab.rows()[0]["state"] == "failed"
    told: str = lab.said[1]
    assert [word for word in words if word not in told] == [], told
    return told


def test_an_unknown_host_is_refused_with_the_commands_that_make_it_known(
    lab: Any, host: Any, deliver: Any, target: Path, tmp_path: Path
) -> None:
    nobody = tmp_path / "nobody"
    nobody.touch()
    lab.settings = host.settings() | {"deliver.known_hosts": str(nobody)}

    told = refused(lab, deliver, host, target, SETTINGS, "is not known here", f"ssh-keyscan -p {host.port} 127.0.0.1")

    assert "compare the fingerprint" in told
    assert nobody.read_bytes() == b""  # nothing is learned by itself


def test_following_these_commands_makes_it_known(
    lab: Any, host: Any, deliver: Any, target: Path, tmp_path: Path
) -> None:
    known = tmp_path / "known"
    known.touch()
    lab.settings = host.settings() | {"deliver.known_hosts": str(known)}
    told = refused(lab, deliver, host, target, SETTINGS)
    for command in re.findall("`(.*?)`", told):
        subprocess.run(command, shell=True, check=True, cwd=tmp_path, capture_output=True)

    assert deliver("--target", host.url(target)) == 0, lab.said[1]


def test_a_host_whose_key_has_changed_is_refused(
    lab: Any, host: Any, deliver: Any, target: Path, tmp_path: Path
) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True)
    known = tmp_path / "known"
    known.write_text(f"[127.0.0.1]:{host.port} {(tmp_path / 'other.pub').read_text()}")
    before = known.read_bytes()
    lab.settings = host.settings() | {"deliver.known_hosts": str(known)}

    refused(lab, deliver, host, target, SETTINGS, "is not the one that", "ask its administrators", "ssh-keygen -R")
    assert known.read_bytes() == before


def test_a_key_that_the_host_does_not_know_is_refused(
    lab: Any, host: Any, deliver: Any, target: Path, tmp_path: Path
) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "stranger"], check=True)
    lab.settings = host.settings() | {"deliver.ssh_key": str(tmp_path / "stranger")}

    refused(lab, deliver, host, target, SETTINGS, f"does not let {host.user} in", "authorized_keys")


def test_a_key_that_others_can_read_is_not_used(
    lab: Any, host: Any, deliver: Any, target: Path, tmp_path: Path
) -> None:
    shutil.copy(host.key, tmp_path / "open")
    (tmp_path / "open").chmod(0o644)
    lab.settings = host.settings() | {"deliver.ssh_key": str(tmp_path / "open")}

    refused(lab, deliver, host, target, SETTINGS, "chmod 600")


def test_a_host_that_does_not_answer_may_do_so_later(lab: Any, host: Any, deliver: Any, target: Path) -> None:
    lab.settings = host.settings()
    assert deliver("--target", f"ssh://{host.user}@127.0.0.1:1{target}") == AGAIN
    assert "127.0.0.1 cannot be reached" in lab.said[1]


def test_a_file_of_keys_whose_name_ssh_would_misread_is_refused(
    lab: Any, host: Any, deliver: Any, target: Path
) -> None:
    lab.settings = host.settings() | {"deliver.ssh_key": '/keys/a"b%h'}
    refused(lab, deliver, host, target, SETTINGS, "deliver.ssh_key names a file with quotes")


def test_a_target_that_is_not_there_or_not_ours_to_write(lab: Any, host: Any, deliver: Any, target: Path) -> None:
    lab.settings = host.settings()
    assert deliver("--target", str(target / "a" / "b")) == SETTINGS
    assert "There is no folder" in lab.said[1]
    assert deliver("--target", host.url("/proc/nothing/here")) == SETTINGS
    assert "/proc/nothing/here" in lab.said[1]


@pytest.fixture
def small() -> Iterator[Path]:
    """A file system of 24 kB; not among pytest's own folders, which nobody could clear away if we were killed."""
    with tempfile.TemporaryDirectory(prefix="dayscribe-small-", ignore_cleanup_errors=True) as folder:
        mount = ["mount", "-t", "tmpfs", "-o", "size=24k", "tmpfs", folder]
        mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
        if mounted.returncode != 0:
            pytest.skip(f"NOT TESTED: a full or read-only target. This user mounts nothing: {mounted.stderr.strip()}")
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)  # the other end of a connection may linger


def test_a_full_target_says_so_and_shows_no_manifest(lab: Any, host: Any, deliver: Any, small: Path) -> None:
    lab.settings = host.settings()
    for to in (str(small), host.url(small)):
        assert deliver("--target", to, "--audio") == AGAIN, lab.said[1]
        assert "has no room left" in lab.said[1]
        assert not (small / MANIFEST).exists()


def test_a_read_only_target_says_so(lab: Any, host: Any, deliver: Any, small: Path) -> None:
    lab.settings = host.settings()
    subprocess.run(["mount", "-o", "remount,ro", small], check=True)
    for to in (str(small), host.url(small)):
        assert deliver("--target", to) == SETTINGS
        assert "Read-only file system" in lab.said[1]


def test_the_manifest_of_an_earlier_delivery_goes_before_its_files_do(tmp_path: Path, target: Path) -> None:
    """Else whoever sees it takes half of the new files for the whole of the old."""
    here = tmp_path / "here"
    for root, text in ((here, b"new"), (target, b"old")):
        (root / MANIFEST).parent.mkdir(parents=True)
        (root / MANIFEST).write_bytes(text)
    (target / "manifests" / "audio" / "2025-01-02.sha256").write_bytes(b"another day's")
    (target / "parts").mkdir()
    manifest = Packed(MANIFEST, 3, hashlib.sha256(b"new").hexdigest())

    assert RsyncSender(Target("folder", str(target)), Login()).withdraw(here, manifest)

    assert [path.name for path in (target / "manifests" / "audio").iterdir()] == ["2025-01-02.sha256"]
    assert (target / "parts").is_dir()


def test_while_more_is_on_its_way_there_is_no_manifest(
    lab: Any, deliver: Any, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert deliver("--target", str(target)) == 0, lab.said[1]
    monkeypatch.setattr(faults, "_seen", {})
    monkeypatch.setenv("DAYSCRIBE_FAULTS_ARMED", "yes")
    monkeypatch.setenv("DAYSCRIBE_FAULT", "deliver.files_sent:1:raise")
    assert deliver("--target", str(target), "--audio") == 1
    assert not (target / MANIFEST).exists()
    monkeypatch.delenv("DAYSCRIBE_FAULT")

    assert deliver("--target", str(target), "--audio") == 0, lab.said[1]
    assert "audio.tar" in (target / MANIFEST).read_text()
    checked(target)


def test_two_sites_do_not_write_audio_into_the_same_folders(lab: Any, deliver: Any, answer: Any, target: Path) -> None:
    answer("--target", str(target), "--audio")
    lab.do(
        "WITH s AS (INSERT INTO sites (name, location) VALUES ('other', '/x') RETURNING id) INSERT INTO days"
        f" (site_id, date, state, finished, summary) SELECT id, '{DAY}', 'completed', now(), '{{}}' FROM s"
    )
    try:
        assert deliver("--site", "other", "--target", str(target), "--audio") == SETTINGS
        assert "{site} in the target" in lab.said[1]
    finally:
        lab.do("DELETE FROM days WHERE site_id = (SELECT id FROM sites WHERE name = 'other')")
        lab.do("DELETE FROM sites WHERE name = 'other'")


def test_the_site_s_name_goes_into_the_target_and_the_target_into_the_settings(
    lab: Any, answer: Any, target: Path
) -> None:
    (target / "audio").mkdir()
    lab.settings = {"deliver.to": str(target / "{site}")}
    assert answer()["target"] == str(target / "audio")
    checked(target / "audio")


def test_without_a_target_or_with_globus_it_says_what_is_missing(lab: Any, deliver: Any) -> None:
    assert deliver() == SETTINGS
    assert "--target TARGET, or the setting deliver.to" in lab.said[1]
    assert deliver("--target", "globus://6c54cade-bde5-45c1-bdea-f4bd71dba2cc/out") == SETTINGS


def test_another_delivery_of_the_day_at_work_is_not_disturbed(lab: Any, deliver: Any, target: Path) -> None:
    from hpc.packing import alone

    with alone(lab.packed.parent):
        assert deliver("--target", str(target)) == AGAIN
    assert "is at work here" in lab.said[1]
    assert lab.rows() == []


def test_the_log_and_the_ledger_hold_no_secret(lab: Any, deliver: Any, target: Path) -> None:
    assert deliver("--target", f"ssh://me:hunter2@host{target}") == SETTINGS
    assert "hunter2" not in "".join(lab.said)
    assert json.dumps(lab.rows(), default=str) == "[]"
