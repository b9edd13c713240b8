"""Mail: plain text to a few addresses by a server that proves who it is; the password goes to it and nowhere else."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, make_msgid

from db.printable import plain
from hpc.errors import ChannelRefused, NotSaid
from hpc.message import LONGEST_TITLE, Message

PASSING = range(400, 500)  # answers that may be others later


@dataclass(frozen=True, slots=True)
class Mailer:
    """The channel `mail`."""

    host: str
    port: int
    tls: str  # starttls, tls, none
    sender: str
    to: tuple[str, ...]
    seconds: float
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    name: str = "mail"

    def send(self, message: Message) -> Sequence[str]:
        """One mail to all; who is refused alone is named, and the others have it."""
        mail = written(message, self.sender, self.to)
        with self._translated(), self._connected() as server:
            refused = server.send_message(mail, from_addr=self.sender, to_addrs=list(self.to))
        return [f"mail: {self.host} does not take mail for {address}" for address in refused]

    @contextmanager
    def _connected(self) -> Iterator[smtplib.SMTP]:
        context = ssl.create_default_context()
        if self.tls == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(self.host, self.port, timeout=self.seconds, context=context)
        else:
            server = smtplib.SMTP(self.host, self.port, timeout=self.seconds)
        try:
            if self.tls == "starttls":
                server.starttls(context=context)
            if self.user is not None:
                server.login(self.user, self.password or "")
            yield server
        finally:
            _leave(server)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """What went wrong, without the server's own sentence where that may repeat what we told it."""
        try:
            yield
        except smtplib.SMTPAuthenticationError as error:
            kind = NotSaid if error.smtp_code in PASSING else ChannelRefused
            raise kind(f"mail: {self._where} refuses the login of alert.smtp_user ({error.smtp_code}).") from None
        except smtplib.SMTPNotSupportedError:
            raise ChannelRefused(
                f"mail: {self._where} offers no TLS or no login; see alert.smtp_tls and alert.smtp_user."
            ) from None
        except smtplib.SMTPRecipientsRefused as error:
            codes = {code for code, _ in error.recipients.values()}
            kind = NotSaid if any(code in PASSING for code in codes) else ChannelRefused
            raise kind(f"mail: {self._where} takes mail for none of alert.mail_to ({_codes(codes)}).") from None
        except smtplib.SMTPResponseException as error:
            kind = NotSaid if error.smtp_code in PASSING or error.smtp_code < 0 else ChannelRefused
            raise kind(f"mail: {self._where} does not take it ({error.smtp_code}).") from None
        except ssl.SSLCertVerificationError as error:
            raise ChannelRefused(
                f"mail: {self._where} does not prove who it is: {plain(error.verify_message)}."
            ) from None
        except (OSError, smtplib.SMTPException) as error:  # SMTPServerDisconnected, time-outs, a TLS that breaks off
            raise NotSaid(f"mail: {self._where} cannot be spoken to: {type(error).__name__}.") from None

    @property
    def _where(self) -> str:
        return f"{self.host}:{self.port}"


def written(message: Message, sender: str, to: Sequence[str]) -> EmailMessage:
    """The mail as it is sent. The policy refuses a header with a line end; none gets that far."""
    mail = EmailMessage(policy=SMTP.clone(cte_type="7bit"))  # not every server takes eight
    mail["From"] = Address("dayscribe", addr_spec=sender)
    mail["To"] = [Address(addr_spec=address) for address in to]
    mail["Subject"] = plain(message.title, LONGEST_TITLE)
    mail["Date"] = formatdate(localtime=False)
    mail["Message-ID"] = make_msgid(domain=sender.rpartition("@")[2])
    mail["Auto-Submitted"] = "auto-generated"  # no out-of-office answers, please
    mail.set_content(message.text)
    return mail


def _leave(server: smtplib.SMTP) -> None:
    """What was accepted stays accepted, whatever becomes of the goodbye."""
    try:
        server.quit()
    except (OSError, smtplib.SMTPException):
        server.close()


def _codes(codes: set[int]) -> str:
    return ", ".join(map(str, sorted(codes)))
