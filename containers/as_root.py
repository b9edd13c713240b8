"""Runs a command as a root that has every capability: in a user namespace where each user is itself.

    python3 as_root.py COMMAND...

Apptainer gives the scripts of a recipe all capabilities there are, which a root that lacks one (in many containers and
virtual machines) cannot do. An ordinary user needs none of this: `apptainer build --fakeroot` does the like.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path

NEW_USER_AND_MOUNT_NAMESPACE = 0x10000000 | 0x00020000
DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG
EVERYONE_IS_HIMSELF = "0 0 65536\n"


def main() -> int:
    if not sys.argv[1:]:
        print((__doc__ or "").strip(), file=sys.stderr)
        return 64
    ready, go = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        enter_and_run(ready[1], go[0])
    os.close(ready[1])
    if os.read(ready[0], 1):
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{child}/{name}").write_text(EVERYONE_IS_HIMSELF, encoding="ascii")
        os.write(go[1], b"x")
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code if code >= 0 else 128 - code


def enter_and_run(ready: int, go: int) -> None:
    """In the child: only the parent, which stays outside, may say who is who inside."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(DIE_WITH_PARENT, signal.SIGKILL)
    if libc.unshare(NEW_USER_AND_MOUNT_NAMESPACE):
        why = os.strerror(ctypes.get_errno())
        print(f"as_root.py: no user namespace can be made here ({why}); inside a chroot none ever can", file=sys.stderr)
        os._exit(71)
    os.write(ready, b"x")
    os.read(go, 1)
    try:
        os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - running what it is told is its task
    except OSError as error:
        print(f"as_root.py: {sys.argv[1]}: {error.strerror}", file=sys.stderr)
        os._exit(127)


if __name__ == "__main__":
    sys.exit(main())
