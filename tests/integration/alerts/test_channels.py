"""Mail and webhook against servers that misbehave: what is wrong is said, and no secret with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from db.errors import DayscribeError
from hpc import wiring
from hpc.alerts.speak import within
from hpc.channels.smtp import Mailer
from hpc.channels.webhook import Webhook
from hpc.config import load
from hpc.errors import ChannelRefused, NotSaid
from hpc.job_folder import Order
from hpc.message import Message

SAID = Message("test", "a title", "näh, a text\n")
TO = ("ada@lab.example", "grace@lab.example")


def mailer(post: Any, tls: str = "none", *, login: bool = False, password: str | None = None) -> Mailer:
    user, secret = (post.user, password or post.password) if login else (None, None)
    return Mailer("127.0.0.1", post.port, tls, "dayscribe@lab.example", TO, 20.0, user, secret)


def webhook(hook: Any, seconds: float = 20.0) -> Webhook:
    return Webhook(f"http://127.0.0.1:{hook.port}{hook.path}", seconds)


# --- mail


def test_mail_goes_in_the_clear_where_that_is_said(post: Any) -> None:
    assert mailer(post).send(SAID) == []
    [one] = post.mails
    assert (one["Subject"], one.get_content(), post.encrypted) == ("a title", "näh, a text\r\n", [False])
    assert one["Auto-Submitted"] == "auto-generated"


def test_mail_goes_under_tls_with_a_login(post: Any, tls: Any) -> None:
    post.context, post.wants_login = tls, True
    assert mailer(post, "starttls", login=True).send(SAID) == []
    assert post.encrypted == [True]


def test_a_server_without_tls_gets_neither_password_nor_mail(post: Any) -> None:
    post.wants_login = True
    with pytest.raises(ChannelRefused, match="offers no TLS"):
        mailer(post, "starttls", login=True).send(SAID)
    assert "AUTH" not in post.verbs
    assert post.mails == []


def test_a_server_that_does_not_prove_itself_gets_neither_password_nor_mail(post: Any, strange_tls: Any) -> None:
    post.context, post.wants_login = strange_tls, True
    with pytest.raises(ChannelRefused, match="does not prove who it is"):
        mailer(post, "starttls", login=True).send(SAID)
    assert "AUTH" not in post.verbs


def test_a_refused_login_does_not_repeat_what_the_server_says(post: Any, tls: Any) -> None:
    post.context, post.wants_login = tls, True
    with pytest.raises(ChannelRefused) as said:
        mailer(post, "starttls", login=True, password="wrong-but-secret").send(SAID)
    assert "refuses the login" in str(said.value)
    assert "secret" not in f"{said.value!r} {said.value.__cause__!r}"


@pytest.mark.parametrize(
    ("verb", "answer", "kind"),
    [
        ("MAIL", "451 later", NotSaid),
        ("MAIL", "550 not you", ChannelRefused),
        ("DATA", "452 full", NotSaid),
        ("DATA", "554 spam", ChannelRefused),
    ],
)
def test_what_may_work_later_is_told_from_what_never_will(
    post: Any, verb: str, answer: str, kind: type[DayscribeError]
) -> None:
    post.answers[verb] = answer
    with pytest.raises(kind, match=answer[:3]):
        mailer(post).send(SAID)


def test_one_refused_recipient_is_named_and_the_other_has_the_mail(post: Any) -> None:
    post.answers[f"RCPT {TO[0]}"] = "550 who"
    assert mailer(post).send(SAID) == [f"mail: 127.0.0.1 does not take mail for {TO[0]}"]
    assert post.envelopes == [("dayscribe@lab.example", [TO[1]])]


def test_mail_for_nobody_is_not_said(post: Any) -> None:
    for address in TO:
        post.answers[f"RCPT {address}"] = "550 who"
    with pytest.raises(ChannelRefused, match="takes mail for none"):
        mailer(post).send(SAID)
    post.answers[f"RCPT {TO[0]}"] = "450 greylisted"
    with pytest.raises(NotSaid, match="450"):
        mailer(post).send(SAID)


@pytest.mark.parametrize("verb", ["EHLO", "MAIL", "DATA"])
def test_a_server_that_hangs_up_has_not_said_it(post: Any, verb: str) -> None:
    post.closes_at = verb
    with pytest.raises(NotSaid, match="cannot be spoken to"):
        mailer(post).send(SAID)


def test_nobody_at_the_port_is_no_end(post: Any) -> None:
    nobody = Mailer("127.0.0.1", 1, "none", "dayscribe@lab.example", TO, 20.0)
    with pytest.raises(NotSaid, match="ConnectionRefusedError"):
        nobody.send(SAID)


def test_a_title_with_line_ends_stays_one_header(post: Any) -> None:
    assert mailer(post).send(Message("alert", "a\r\nBcc: eve@evil.example\r\n\r\nb", "text\n")) == []
    [one] = post.mails
    assert (one["Bcc"], one["Subject"]) == (None, "a Bcc: eve@evil.example b")
    assert post.envelopes[0][1] == list(TO)


# --- webhook


def test_a_webhook_gets_text_and_fields(hook: Any) -> None:
    assert webhook(hook).send(SAID) == []
    assert hook.requests == [("POST", hook.path)]
    assert hook.got == [
        {
            "text": "a title\n```\nnäh, a text\n```",
            "source": "dayscribe",
            "about": "test",
            "title": "a title",
            "items": [],
        }
    ]


@pytest.mark.parametrize(
    ("status", "kind"), [(503, NotSaid), (429, NotSaid), (404, ChannelRefused), (403, ChannelRefused)]
)
def test_an_answer_that_is_no_yes_says_which_it_was_and_not_where(
    hook: Any, status: int, kind: type[DayscribeError]
) -> None:
    hook.status = status
    with pytest.raises(kind) as said:
        webhook(hook).send(SAID)
    assert str(said.value) == f"webhook: 127.0.0.1 answers {status}."
    assert hook.path not in f"{said.value!r} {said.value.__cause__!r} {webhook(hook)!r}"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_webhook_that_points_elsewhere_is_not_followed(hook: Any, status: int) -> None:
    hook.status, hook.headers = status, {"Location": f"http://127.0.0.1:{hook.port}/elsewhere"}
    with pytest.raises(ChannelRefused, match=str(status)):
        webhook(hook).send(SAID)
    assert len(hook.requests) == 1


def test_a_webhook_that_hangs_up_or_is_not_there_has_not_said_it(hook: Any) -> None:
    hook.closes = True
    with pytest.raises(NotSaid, match="webhook: 127"):
        webhook(hook).send(SAID)
    with pytest.raises(NotSaid, match="cannot be reached: ConnectionRefusedError"):
        Webhook("http://127.0.0.1:1/x", 20.0).send(SAID)


def test_a_server_that_never_ends_is_left(hook: Any) -> None:
    hook.waits = True
    with pytest.raises(NotSaid, match="did not come to an end"):
        within(0.2, webhook(hook), SAID)
    hook.goes_on.set()


@pytest.mark.parametrize(
    "address", ["http://hooks.example/SECRET", "https://", "ftp://x/SECRET", "https://x/SEC RET", "https://x:99999/SECRET",
                "https://x/SECRET\u2028", ""],
)  # fmt: skip
def test_only_an_https_address_is_taken_and_none_is_repeated(address: str) -> None:
    with pytest.raises(ChannelRefused) as said:
        Webhook(address, 1.0)
    assert "SEC" not in f"{said.value!r} {said.value.__cause__!r}"


def test_a_channel_that_fails_in_its_own_way_says_nothing_of_what_it_held() -> None:
    class Odd:
        name = "odd"

        def send(self, _message: Message) -> list[str]:
            raise ValueError("the password is SECRET")

    with pytest.raises(NotSaid) as said:
        within(20.0, Odd(), SAID)
    assert str(said.value) == "odd: it could not be sent: ValueError."


# --- settings


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"mail_from": ""}, "alert.mail_from"),
        ({"smtp_user": "lab"}, "not sent in the clear"),
        ({"smtp_user": "lab", "smtp_tls": "tls"}, "DAYSCRIBE_ALERT_PASSWORD"),
        ({"mail_to": "ada@lab.example,eve@evil.example"}, "alert.mail_to"),
        ({"mail_from": "x\nBcc: eve@evil.example"}, "alert.mail_from"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    call: Any, mail: list[str], capsys: pytest.CaptureFixture[str], settings: dict[str, str], why: str
) -> None:
    words = [word for name, value in settings.items() for word in ("--set", f"alert.{name}={value}")]
    assert call(*mail, *words, "alert", "--test") == 78
    assert why in capsys.readouterr().err


def test_the_password_may_be_in_the_environment_and_is_no_setting(
    call: Any, both: Any, tls: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    post = both.post
    post.context, post.wants_login = tls, True
    monkeypatch.setenv("DAYSCRIBE_ALERT_PASSWORD", post.password)
    login = ["--set", "alert.smtp_tls=starttls", "--set", "alert.smtp_user=lab"]
    assert call(*both.settings, *login, "alert", "--test") == 0
    assert len(post.mails) == 1
    assert call(*both.settings, *login, "config", "show") == 0
    assert post.password not in capsys.readouterr().out


def test_a_secret_file_holds_one_line(
    call: Any, web: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for text in ("", "a\nb\n", "\x1b[2J", "ü"):
        (tmp_path / "webhook").write_text(text)
        assert call(*web, "alert", "--test") == 78
        assert "should hold one line" in capsys.readouterr().err
    (tmp_path / "webhook").unlink()
    assert call(*web, "alert", "--test") == 78


def test_what_transcribes_is_not_told_who_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAYSCRIBE_ALERT_PASSWORD", "SECRET")
    settings = load(assignments=["alert.smtp_host=smtp.lab.example", "alert.webhook_file=/x"])
    for kind, told in (("process", False), ("ingest", True)):
        variables = wiring._variables(settings, Order(0, "", kind, "ledger", "code", 1, 10, gpu=False))
        assert ("DAYSCRIBE_ALERT__SMTP_HOST" in variables) is told
        assert "SECRET" not in repr(variables)
