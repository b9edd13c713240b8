"""What Globus says, in our words: its errors as ours, and a task's document as progress."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from globus_sdk import AuthAPIError, GlobusAPIError, NetworkError, TransferAPIError
from globus_sdk.login_flows import CommandLineLoginFlowEOFError
from globus_sdk.token_storage import TokenValidationError
from globus_sdk.token_storage.validating_token_storage import UnmetScopeRequirementsError

from db.states import TransferState
from hpc.errors import MoverTrouble, NeedsConsent, NeedsLogin, NoAnswer, SourceMissing, SubmissionUnknown
from hpc.model import Progress

LOGIN = "dayscribe globus login"
CHECK = "dayscribe globus check"
FULL = frozenset({"QUOTA_EXCEEDED", "NO_SPACE", "NO_SPACE_LEFT", "ENOSPC", "DISK_FULL", "EDQUOT"})
LOGIN_LOST = frozenset({"CREDENTIAL_EXPIRED", "CREDENTIALS_EXPIRED", "AUTH", "AUTHENTICATION_FAILED", "INACTIVE"})
CONSENT_LOST = frozenset({"CONSENT_REQUIRED", "CONSENTREQUIRED"})
STOPPED = frozenset({"CANCELED", "CANCELLED", "CANCELED_BY_USER", "CANCELED_BY_ADMIN"})


class CollectionUnknown(MoverTrouble):
    """Globus knows no such collection."""


class TaskUnknown(MoverTrouble):
    """Globus no longer knows this task."""


@contextmanager
def understood(what: str) -> Iterator[None]:
    """Raises what the SDK raises as one of our errors; `what` was asked for, as a sentence names it."""
    try:
        yield
    except NetworkError as error:
        raise NoAnswer(f"Globus does not answer ({what}: {type(error).__name__})") from error
    except UnmetScopeRequirementsError as error:
        raise NeedsConsent(f"Globus wants a consent that was not given yet ({what}); run: {LOGIN}") from error
    except (TokenValidationError, CommandLineLoginFlowEOFError) as error:
        raise NeedsLogin(f"Globus wants a login ({what}); run: {LOGIN}") from error
    except GlobusAPIError as error:
        raise _ours(error, what) from error
    except (ValueError, KeyError, TypeError) as error:  # a proxy's page, or whatever else is no answer
        raise NoAnswer(f"Globus is answered for by something else ({what}: {type(error).__name__})") from error


def _ours(error: GlobusAPIError, what: str) -> Exception:  # noqa: PLR0911 - one line for each kind of answer
    said = _said(error)
    if isinstance(error, TransferAPIError | AuthAPIError) and error.info.consent_required:
        return NeedsConsent(f"Globus wants a consent for a collection ({what}); run: {LOGIN}")
    if error.http_status == 401 or (isinstance(error, AuthAPIError) and error.http_status in (400, 403)):
        return NeedsLogin(f"Globus refuses our login ({what}: {said}); run: {LOGIN}")
    if error.http_status in (408, 429) or error.http_status >= 500:
        if "NotFound" in (error.code or ""):
            return SourceMissing(f"{what}: {said}")
        if "Permission" in (error.code or ""):
            return MoverTrouble(f"Globus may not do it ({what}: {said})")
        return NoAnswer(f"Globus cannot answer now ({what}: {said})")
    if error.http_status == 409:
        return NoAnswer(f"Globus cannot do it now ({what}: {said})")
    if error.http_status == 404:
        if "Task" in (error.code or ""):
            return TaskUnknown(f"Globus knows no such task ({what})")
        return SourceMissing(f"{what}: {said}") if "Endpoint" not in (error.code or "") else _no_collection(what, said)
    if error.http_status == 400 and "submission_id" in said.lower():
        return SubmissionUnknown(f"Globus does not know the submission ({what}: {said})")
    return MoverTrouble(f"Globus refuses ({what}: {said}); look closer with: {CHECK}")


def _no_collection(what: str, said: str) -> MoverTrouble:
    return CollectionUnknown(f"Globus has no such collection ({what}: {said}); see: dayscribe sites show")


def _said(error: GlobusAPIError) -> str:
    words = "; ".join(error.messages) or _oauth_says(error) or "without a word"
    return f"{error.http_status} {error.code or ''} {words}"[:300].replace("\n", " ")


def _oauth_says(error: GlobusAPIError) -> str:
    """Of a login the SDK passes on only the status; the reason is in the answer itself."""
    said = error.raw_json
    return str(said.get("error_description") or said.get("error") or "") if isinstance(said, dict) else ""


def progress(task: Mapping[str, Any]) -> Progress:
    """What a task's document says."""
    state, message = _state(task)
    return Progress(state, message, int(task.get("bytes_transferred") or 0), int(task.get("files_transferred") or 0))


def _state(task: Mapping[str, Any]) -> tuple[TransferState, str]:  # noqa: PLR0911 - one line for each kind of end
    status, nice = str(task.get("status")), str(task.get("nice_status") or "").upper()
    told = str(task.get("nice_status_short_description") or "") or nice
    if status == "SUCCEEDED":
        return TransferState.SUCCEEDED, ""
    if status == "INACTIVE" or (status == "ACTIVE" and nice in LOGIN_LOST):
        return TransferState.NEEDS_LOGIN, f"Globus wants a login to go on ({told or status}); run: {LOGIN}"
    if status == "ACTIVE":
        if nice in CONSENT_LOST:
            return TransferState.NEEDS_CONSENT, f"Globus wants a consent to go on; run: {LOGIN}"
        if task.get("is_paused"):
            return TransferState.PAUSED, f"an administrator of a collection has paused it: {told or 'no reason given'}"
        trouble = (
            f"Globus goes on trying: {told}" if task.get("is_ok") is False or nice not in ("", "OK", "QUEUED") else ""
        )
        return TransferState.ACTIVE, trouble
    fatal = task.get("fatal_error") or {}
    code = str(fatal.get("code") or nice).upper()
    reason = str(fatal.get("description") or told or code or status)
    if code in FULL:
        return TransferState.OVER_QUOTA, f"the destination is full: {reason}"
    if code == "EXPIRED":
        return TransferState.EXPIRED, f"it was not done by its deadline: {told if told != code else reason}"
    if code in STOPPED:
        return TransferState.CANCELLED, f"it was cancelled: {reason}"
    return TransferState.FAILED, f"Globus gave it up: {code}: {reason}" if code and code != reason else reason
