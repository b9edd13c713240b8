"""What alerts are made with: the channels that the settings name, their secrets from files, and a round's parts."""

from __future__ import annotations

import os
import stat
from datetime import timedelta
from functools import partial
from pathlib import Path

from db import alerts, sites, transfers
from db.amiss import Kind, Limits, found
from db.session import Session
from hpc.alerts.away import Away
from hpc.alerts.speak import Room, Speaker
from hpc.channels.smtp import Mailer
from hpc.channels.webhook import Webhook
from hpc.config import Settings
from hpc.errors import BadSetting
from hpc.ports import Channel
from hpc.wiring import movers

PASSWORD = "DAYSCRIBE_ALERT_PASSWORD"  # noqa: S105 - the name of the variable, for who has no file; jobs are not told it
LONGEST_SECRET = 4096


def channels(settings: Settings, *, needed: bool = True) -> list[Channel]:
    """The ways in which people are told; BadSetting when one is `needed` and there is none."""
    made: list[Channel] = []
    if settings.alert.smtp_host:
        made.append(_mailer(settings))
    if settings.alert.webhook_file is not None:
        made.append(Webhook(_secret(settings.alert.webhook_file, "alert.webhook_file"), settings.alert.seconds))
    if needed and not made:
        raise BadSetting("Nobody would be told: set alert.smtp_host, or alert.webhook_file (docs/how-to/alerts.md).")
    return made


def speaker(settings: Settings, session: Session, made: list[Channel]) -> Speaker:
    """What a round works with."""
    return Speaker(session, made, limits(settings), settings.alert.seconds, partial(room, settings, session))


def limits(settings: Settings) -> Limits:
    """From when on something is amiss."""
    wanted = settings.alert
    return Limits(
        timedelta(minutes=wanted.tick_minutes),
        timedelta(hours=wanted.silent_hours),
        timedelta(minutes=wanted.lapsed_minutes),
    )


def away(settings: Settings, made: list[Channel]) -> Away:
    """Who remembers that the ledger is away."""
    wanted = settings.alert
    return Away(settings.home / "alerts", made, wanted.seconds, timedelta(minutes=wanted.ledger_minutes))


def _mailer(settings: Settings) -> Mailer:
    wanted = settings.alert
    if wanted.mail_from is None or not wanted.mail_to:
        raise BadSetting("alert.smtp_host wants alert.mail_from and alert.mail_to as well.")
    password = None
    if wanted.smtp_user is not None:
        if wanted.smtp_tls == "none":
            raise BadSetting("alert.smtp_user: a password is not sent in the clear; set alert.smtp_tls.")
        file = wanted.smtp_password_file
        password = os.environ.get(PASSWORD) if file is None else _secret(file, "alert.smtp_password_file")
        if not password or not _plain(password):
            raise BadSetting(f"alert.smtp_user wants a password in ASCII: alert.smtp_password_file, or {PASSWORD}.")
    return Mailer(
        wanted.smtp_host, wanted.smtp_port, wanted.smtp_tls, wanted.mail_from, tuple(wanted.mail_to), wanted.seconds,
        wanted.smtp_user, password,
    )  # fmt: skip


def _secret(path: Path, name: str) -> str:
    """The one line of a file that is its owner's alone."""
    try:
        with path.open(encoding="utf-8") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise BadSetting(f"{name}: {path} holds a secret and is open to others: chmod 600 {path}")
            text = file.read(LONGEST_SECRET + 1).removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise BadSetting(f"{name}: {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError:
        raise BadSetting(f"{name}: {path} holds more than text.") from None
    if not text.strip() or len(text) > LONGEST_SECRET or not _plain(text):
        raise BadSetting(f"{name}: {path} should hold one line of ASCII and nothing else.")
    return text


def _plain(text: str) -> bool:
    return text.isascii() and text.isprintable()


def room(settings: Settings, session: Session) -> Room:
    """Whether the first day that waits to be fetched fits. Disk and quota are asked only where the folder is seen."""
    row = session(alerts.wants_room, attempts=settings.transfer.attempts)
    if row is None:
        return Room(known=True)
    rules = settings.transfer
    files = session(transfers.wanted, row["id"], "archives", limit=rules.files_at_once, attempts=rules.attempts)
    size = sum(one["size"] or 0 for one in files)
    there = movers.room(settings, session, session(sites.get, row["site"]))
    seen = there.folder.is_dir()
    why = there.lacks(size, len(files)) if seen else there.over_budget(size, len(files))
    if why is None:
        return Room(known=seen)
    told = f"{row['site']} {row['date']} is not fetched: {why}; see transfer.budget_gb and transfer.keep_days"
    return Room(known=True, lack=found(Kind.NO_ROOM, str(there.folder), told, "dayscribe config show"))
