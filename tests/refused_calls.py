"""A program for which the kernel refuses some system calls, as a container's profile or an old kernel does.

python refused_calls.py ERRNO NUMBER[,NUMBER…] PROGRAM [ARGUMENT]…
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, FILTER = 38, 22, 2
LOAD_NUMBER, IF_EQUAL, RETURN = 0x20, 0x15, 0x06  # steps of a classic BPF program
ALLOW, REFUSE = 0x7FFF0000, 0x00050000
CANNOT = 77


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_void_p))


def refuse(numbers: list[int], error: int) -> bool:
    """Have these system calls give `error` in this process and all it starts; False where that cannot be had."""
    steps = [(LOAD_NUMBER, 0, 0, 0)]
    for number in numbers:
        steps += [(IF_EQUAL, 0, 1, number), (RETURN, 0, 0, REFUSE | error)]
    raw = b"".join(struct.pack("<HBBI", *step) for step in (*steps, (RETURN, 0, 0, ALLOW)))
    held = ctypes.create_string_buffer(raw, len(raw))
    program = _Program(len(raw) // 8, ctypes.addressof(held))
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    return bool(library.prctl(PR_SET_SECCOMP, FILTER, ctypes.byref(program)) == 0)


if __name__ == "__main__":
    if not refuse([int(number) for number in sys.argv[2].split(",")], int(sys.argv[1])):
        sys.exit(CANNOT)
    os.execv(sys.argv[3], sys.argv[3:])
