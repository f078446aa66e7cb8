"""What this process holds, as Linux tells it."""

import contextlib
import ctypes
from pathlib import Path


def resident(field):
    """Bytes of a field of the process's status, as "VmRSS" (now) and "VmHWM" (at its peak)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return 1024 * int(line.split()[1])
    raise OSError(f"no {field} in /proc/self/status")


def private():
    """Bytes that are this process's alone: what it wrote, in memory or swapped out.

    The resident set has pages of files besides (libraries), which the system drops under pressure
    and reads again at will: it moves by megabytes where the program does nothing.
    """
    return resident("RssAnon") + resident("VmSwap")


def trim():
    """Give back to the system what the C library's heap holds free, where that can be done."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


class _Mallinfo2(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
        "fordblks", "keepcost")]  # fmt: skip


def in_use():
    """Bytes that the C library's heap has given out: arrays, without the gaps between them.

    Python's small objects live elsewhere. NaN where the library cannot tell.
    """
    try:
        tell = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError, TypeError):
        return float("nan")
    tell.restype = _Mallinfo2
    told = tell()
    return told.uordblks + told.hblkhd
