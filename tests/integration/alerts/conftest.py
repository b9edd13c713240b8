"""A mail server and a webhook on loopback that misbehave on demand, with a certificate of their own."""

from __future__ import annotations

import base64
import email
import email.policy
import ipaddress
import json
import socketserver
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass
class MailState:
    """What a mail server of the tests does, and what it got."""

    context: ssl.SSLContext | None = None  # offers STARTTLS
    wants_login: bool = False
    answers: dict[str, str] = field(default_factory=dict)  # verb, or "RCPT address" → another answer than yes
    closes_at: str = ""  # verb
    waits_at: str = ""  # verb: no answer until `goes_on`
    goes_on: threading.Event = field(default_factory=threading.Event)
    port: int = 0
    user: str = "lab"
    password: str = "correct-horse-battery"
    mails: list[EmailMessage] = field(default_factory=list)
    envelopes: list[tuple[str, list[str]]] = field(default_factory=list)
    verbs: list[str] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)  # of each mail


class _MailTalk(socketserver.StreamRequestHandler):
    """The part of SMTP that smtplib speaks."""

    def handle(self) -> None:
        state: MailState = self.server.state  # type: ignore[attr-defined]
        sender, to, safe, known = "", list[str](), False, not state.wants_login
        self._say("220 sink")
        while line := self.rfile.readline(4096).decode("ascii", "replace").strip():
            verb = line.split(" ")[0].upper()
            state.verbs.append(verb)
            if state.closes_at == verb:
                return
            if state.waits_at == verb:
                state.goes_on.wait(60)
                return
            if verb in ("EHLO", "HELO"):
                offers = (["STARTTLS"] if state.context and not safe else []) + ["AUTH PLAIN"] * state.wants_login
                for one in ["250-sink", *(f"250-{offer}" for offer in offers), "250 SIZE 1000000"]:
                    self._say(one)
            elif verb == "STARTTLS" and state.context:
                self._say("220 go on")
                for one in (self.rfile, self.wfile):
                    one.close()
                try:
                    self.request = state.context.wrap_socket(self.request, server_side=True)
                except OSError:  # the client does not trust us
                    return
                self.rfile, self.wfile, safe = self.request.makefile("rb"), self.request.makefile("wb", 0), True
            elif verb == "AUTH":
                said = base64.b64decode(line.split(" ")[2]).decode()
                known = said == f"\0{state.user}\0{state.password}"
                self._say("235 welcome" if known else f"535 no {said!r} here")  # a server that repeats what it is told
            elif verb == "MAIL":
                sender, to = line.partition("<")[2].partition(">")[0], []
                self._say(state.answers.get(verb) or ("250 ok" if known else "530 who are you"))
            elif verb == "RCPT":
                address = line.partition("<")[2].partition(">")[0]
                answer = state.answers.get(f"RCPT {address}", "250 ok")
                to += [address] if answer.startswith("250") else []
                self._say(answer)
            elif verb == "DATA":
                self._say("354 go on")
                lines = []
                while (data := self.rfile.readline(4096)) not in (b".\r\n", b""):
                    lines.append(data.removeprefix(b".") if data.startswith(b"..") else data)
                answer = state.answers.get(verb, "250 ok")
                if answer.startswith("250"):
                    parsed = email.message_from_bytes(b"".join(lines), policy=email.policy.default)
                    assert isinstance(parsed, EmailMessage)
                    state.mails.append(parsed)
                    state.envelopes.append((sender, to))
                    state.encrypted.append(safe)
                self._say(answer)
            elif verb == "QUIT":
                self._say("221 bye")
                return
            else:
                self._say("250 ok" if verb == "RSET" else "502 no")

    def finish(self) -> None:
        for one in (self.rfile, self.wfile, self.request):  # under TLS they are not those the server made
            with suppress(OSError):
                one.close()

    def _say(self, line: str) -> None:
        self.wfile.write(line.encode() + b"\r\n")


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that breaks off is what many tests are about."""


@dataclass
class HookState:
    """What the webhook of the tests answers, and what it got."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    waits: bool = False
    closes: bool = False
    goes_on: threading.Event = field(default_factory=threading.Event)
    port: int = 0
    path: str = "/services/T000/B000/sEcReTsEcReT"
    got: list[dict[str, Any]] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)


class _HookTalk(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        state: HookState = self.server.state  # type: ignore[attr-defined]
        state.requests.append((self.command, self.path))
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if state.waits:
            state.goes_on.wait(60)
            return
        if state.closes:
            return
        if state.status < 300:
            state.got.append(json.loads(body))
        self.send_response(state.status)
        for name, value in state.headers.items():
            self.send_header(name, value)
        self.end_headers()

    do_GET = do_POST

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Of 127.0.0.1, signed by itself; the file to trust, and the file with the key as well."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sink")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("certificate")
    trusted, whole = folder / "trusted.pem", folder / "whole.pem"
    pem = made.public_bytes(serialization.Encoding.PEM)
    trusted.write_bytes(pem)
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    whole.write_bytes(private + pem)
    return trusted, whole


@pytest.fixture
def tls(certificate: tuple[Path, Path], trusted: None) -> ssl.SSLContext:
    """What a server proves itself by, to whom its certificate is trusted."""
    return _context(certificate)


@pytest.fixture
def strange_tls(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    """The same where nobody trusts it."""
    return _context(certificate)


def _context(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(certificate[1])
    return made


@pytest.fixture
def trusted(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """That certificate is trusted, as a lab's own authority is."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))


def _serve(server: Any, state: Any) -> Iterator[Any]:
    server.state, state.port = state, server.server_address[1]
    running = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    running.start()
    try:
        yield state
    finally:
        state.goes_on.set()
        server.shutdown()
        server.server_close()
        running.join()


@pytest.fixture
def post() -> Iterator[MailState]:
    """A mail server on loopback."""
    yield from _serve(_Server(("127.0.0.1", 0), _MailTalk), MailState())


@pytest.fixture
def hook() -> Iterator[HookState]:
    """A webhook on loopback."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _HookTalk)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    yield from _serve(server, HookState())


@pytest.fixture
def mail(post: MailState) -> list[str]:
    """The settings that send mail to it, in the clear."""
    return [
        *("--set", "alert.smtp_host=127.0.0.1", "--set", f"alert.smtp_port={post.port}"),
        *("--set", "alert.smtp_tls=none", "--set", "alert.seconds=20"),
        *("--set", "alert.mail_from=dayscribe@lab.example", "--set", "alert.mail_to=ada@lab.example grace@lab.example"),
    ]


@pytest.fixture
def web(hook: HookState, tmp_path: Path) -> list[str]:
    """The settings that post to it."""
    file = tmp_path / "webhook"
    file.write_text(f"http://127.0.0.1:{hook.port}{hook.path}\n")
    file.chmod(0o600)
    return ["--set", f"alert.webhook_file={file}", "--set", "alert.seconds=20"]


@dataclass(frozen=True)
class Both:
    """Both ways, and the settings that use them."""

    post: MailState
    hook: HookState
    settings: list[str]

    @property
    def counts(self) -> tuple[int, int]:
        return len(self.post.mails), len(self.hook.got)


@pytest.fixture
def both(post: MailState, hook: HookState, mail: list[str], web: list[str]) -> Both:
    return Both(post, hook, [*mail, *web])


@pytest.fixture
def command(dsn: str, tmp_path: Path, undisturbed: None) -> Callable[..., list[str]]:
    """The words that start it in a process of its own."""
    program = str(Path(sys.executable).with_name("dayscribe"))
    where = ["--set", f"ledger.dsn={dsn}", "--set", f"home={tmp_path / 'home'}"]
    return lambda *words: [program, *where, *words]
