"""A secret in a file that nobody but its owner can read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from db.errors import NeedsConfiguration

SHORTEST = 16  # characters; a token that can be guessed is none


def read(path: Path) -> str:
    """The token in the file, without the line's end; NeedsConfiguration when others could read it too."""
    try:
        with path.open(encoding="ascii") as file:
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_IMODE(mode) & 0o077:
                raise NeedsConfiguration(f"{path} can be read by others: chmod 600 {path}, and make a new token.")
            token = file.read(4097).strip()
    except OSError as error:
        raise NeedsConfiguration(f"The token file {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise NeedsConfiguration(f"The token file {path} holds more than plain ASCII text.") from error
    if not SHORTEST <= len(token) <= 4096 or not token.isprintable() or " " in token:
        raise NeedsConfiguration(
            f"{path} does not hold a token of at least {SHORTEST} characters on one line;"
            f" make one: (umask 077; openssl rand -hex 32 > {path})"
        )
    return token
