"""Whether there is a GPU, asked of the driver itself: importing torch for that would take half a minute."""

from __future__ import annotations

import ctypes


def count_gpus() -> int:
    """The GPUs this process may use; CUDA_VISIBLE_DEVICES is respected."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def resolve_device(asked: str) -> str:
    """What "auto" means here."""
    return ("cuda" if count_gpus() else "cpu") if asked == "auto" else asked
