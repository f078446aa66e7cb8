"""What this process holds, as Linux tells it.

Looking must not grow what is looked at: in a soak these functions run every second. So a file is
read as bytes by its name, because ``pathlib`` interns every part of a path, and the C library is
loaded once, because ``ctypes`` makes a class for each time.
"""

import ctypes


class _Mallinfo2(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
        "fordblks", "keepcost")]  # fmt: skip


def _function(name, result):
    """A function of the C library; None where it has none of that name."""
    try:
        found = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return None
    found.restype = result
    return found


_malloc_trim = _function("malloc_trim", ctypes.c_int)
_mallinfo2 = _function("mallinfo2", _Mallinfo2)


def resident(field):
    """Bytes of a field of the process's status, as "VmRSS" (now) and "VmHWM" (at its peak)."""
    with open("/proc/self/status", "rb") as file:
        _, found, rest = file.read().partition(b"\n" + field.encode() + b":")
    if not found:
        raise OSError(f"no {field} in /proc/self/status")
    return 1024 * int(rest.split(maxsplit=1)[0])


def private():
    """Bytes that are this process's alone: what it wrote, in memory or swapped out.

    The resident set has pages of files besides (libraries), which the system drops under pressure
    and reads again at will: it moves by megabytes where the program does nothing.
    """
    return resident("RssAnon") + resident("VmSwap")


def trim():
    """Give back to the system what the C library's heap holds free, where that can be done."""
    if _malloc_trim is not None:
        _malloc_trim(0)


def in_use():
    """Bytes that the C library's heap has given out: arrays, without the gaps between them.

    Python's small objects live elsewhere. NaN where the library cannot tell.
    """
    if _mallinfo2 is None:
        return float("nan")
    told = _mallinfo2()
    return told.uordblks + told.hblkhd
