"""The pipeline's branches of the tree in db/errors.py.

TryAgain (75)             BadData (65)                  NeedsConfiguration (78)
  EngineLost                ArchiveDamaged                ModelMissing
  Interrupted               QuarantinedRecordings         ModelChanged
  MachineUnfit              SourceMissing                 UnknownName
  NoAnswer                  AudioGone                     BadSetting
  InFlight
  NotVerified
  TargetFull                                              ChannelRefused
  NotSaid                                                 SubmitRefused
                                                          OnLoginNode
                                                          MoverTrouble
                                                            NeedsLogin
                                                            NeedsConsent
                                                            SubmissionUnknown
                                                            HostKeyRefused
"""

from __future__ import annotations

from db.errors import BadData, NeedsConfiguration, TryAgain


class EngineLost(TryAgain):
    """The engine's process ended again and again before it took any work."""


class Interrupted(TryAgain):
    """Stopped on request; what was finished is kept, run the same command again."""


class ArchiveDamaged(BadData):
    """The archive is damaged; nothing of it becomes visible."""


class QuarantinedRecordings(BadData):
    """Some recordings could not be transcribed; `dayscribe show` names them."""


class SourceMissing(BadData):
    """The source has nothing for this day."""


class AudioGone(BadData):
    """The day's audio is no longer staged."""


class ModelMissing(NeedsConfiguration):
    """A model is not on this machine."""


class ModelChanged(NeedsConfiguration):
    """A model's files are not the ones that were locked."""


class UnknownName(NeedsConfiguration):
    """No such engine, source or site."""


class BadSetting(NeedsConfiguration):
    """A setting is missing, misspelt or wrong."""


class MachineUnfit(TryAgain):
    """This machine lacks what the job asked for; another may have it."""


class NoAnswer(TryAgain):
    """A service (the job scheduler, a mover) does not answer; what was asked of it may be done or not."""


class InFlight(TryAgain):
    """A mover has it; run the same command later, and it goes on from there."""


class NotVerified(TryAgain):
    """What is at the target is not what was sent."""


class TargetFull(TryAgain):
    """The target has no room left."""


class NotSaid(TryAgain):
    """A message could not be sent; it is sent again next time."""


class ChannelRefused(NeedsConfiguration):
    """A message will not be taken until a person changes something; it is sent again next time."""


class MoverTrouble(NeedsConfiguration):
    """The service that moves files refuses, and will go on refusing until a person changes something."""


class NeedsLogin(MoverTrouble):
    """The service that moves files wants a login."""


class SubmissionUnknown(MoverTrouble):
    """The service that moves files does not know this submission any more, and never took it."""


class HostKeyRefused(MoverTrouble):
    """The target's host key is not known here, or is another than the one that is."""


class NeedsConsent(MoverTrouble):
    """The service that moves files wants a consent that its owner has not given."""


class SubmitRefused(NeedsConfiguration):
    """The job scheduler does not take the job."""

    def __init__(self, message: str | None = None, *, limit: bool = False) -> None:
        super().__init__(message)
        self.limit = limit  # fewer tasks may be taken


class OnLoginNode(NeedsConfiguration):
    """This host is declared a login node: nothing long is started here."""


def kind_of(error: Exception) -> str:
    """The error's class name in the ledger's spelling: ArchiveDamaged → archive_damaged."""
    name = type(error).__name__
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")
