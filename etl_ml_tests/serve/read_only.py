"""Runs a command that may write to some folders only: `python -m … FOLDER… -- COMMAND…`.

By Landlock, which needs no rights: what a container's read-only file system forbids is forbidden.
See https://docs.kernel.org/userspace-api/landlock.html for the numbers.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_VERSION_ONLY, _BENEATH = 1, 1
_NO_NEW_PRIVILEGES = 38
_WRITE_FILE = 1 << 1
# Remove (4, 5), make (6 to 12), move from folder to folder (13), truncate (14).
_WRITES = _WRITE_FILE | sum(1 << bit for bit in range(4, 15))
_libc = ctypes.CDLL(None, use_errno=True)


def is_available() -> bool:
    """Whether this kernel has Landlock with truncation, which is of Linux 6.2."""
    return int(_libc.syscall(_CREATE, None, 0, _VERSION_ONLY)) >= 3


def confine(*writable: str) -> None:
    """Forbid this process, and what it starts, to write elsewhere."""
    handled = struct.pack("Q", _WRITES)
    rules = _called(_CREATE, handled, len(handled), 0)
    for path in writable:
        folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
        allowed = _WRITES if os.path.isdir(path) else _WRITE_FILE
        _called(_ADD, rules, _BENEATH, struct.pack("=Qi", allowed, folder), 0)
    _libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    _called(_RESTRICT, rules, 0)


def _called(number: int, *arguments: object) -> int:
    found = int(_libc.syscall(number, *arguments))
    if found < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return found


if __name__ == "__main__":
    end = sys.argv.index("--")
    confine("/dev/null", *sys.argv[1:end])
    command = sys.argv[end + 1 :]
    os.execv(command[0], command)
