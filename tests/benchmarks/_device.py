"""What the benchmarks that run on a device share: the option, clocks, peaks of memory."""

import sys
import time
from pathlib import Path

import torch

from tests.benchmarks._memory import resident


def add(parser):
    """Let a parser know --device."""
    parser.add_argument("--device", default="cpu", metavar="NAME",
                        help="of torch, as cuda (default: cpu)")  # fmt: skip


def check(device):
    """Leave the program with one line if there is no such device."""
    try:
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch without CUDA
        why = str(error).partition("\n")[0]
        print(f"error: --device: expected a device that torch has here; got {device!r} ({why})",
              file=sys.stderr)  # fmt: skip
        raise SystemExit(2) from None


def is_cuda(device):
    """Whether it has clocks and an allocator of its own."""
    return torch.device(device).type == "cuda"


def waited(device):
    """Wait for what was started on the device, then read the clock."""
    if is_cuda(device):
        torch.cuda.synchronize(device)
    return time.perf_counter()


def seconds(run, device, times=1):
    """Time of a call of ``run()``, of so many: of the device's own clock where it has one."""
    if is_cuda(device):
        with torch.cuda.device(device):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize()
            begin.record()
            for _ in range(times):
                run()
            end.record()
            torch.cuda.synchronize()
        return begin.elapsed_time(end) / 1e3 / times
    begun = time.perf_counter()
    for _ in range(times):
        run()
    return (time.perf_counter() - begun) / times


def growth(run, device):
    """Bytes by which memory grows at its peak in ``run()``.

    Of the allocator on a GPU, else of the resident set, which wants a process of its own.
    """
    if is_cuda(device):
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        held = torch.cuda.memory_allocated(device)
        run()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - held
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    held = resident("VmRSS")
    run()
    return resident("VmHWM") - held
