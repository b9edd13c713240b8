"""The GPUs here and what their driver can do, as it says itself: importing torch to ask takes half a minute."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

Version = tuple[int, int]

# The CUDA that CTranslate2's wheels are built with, since a version. Their machine code goes up to compute capability
# 8.6 (the fat binaries of 4.6.2, 4.6.3, 4.8.5 were read); newer GPUs get PTX, which the driver compiles, and only one
# of at least that CUDA can. From 4.6.3 on it is 12.8 (CTranslate2's issue 1978); before that, by its changelog, 12.4.
_BUILT_WITH: tuple[tuple[tuple[int, int, int], Version], ...] = (((4, 6, 3), (12, 8)), ((4, 0, 0), (12, 4)))
_ANY_12: Version = (12, 0)  # machine code runs with any driver of the same major CUDA
_WITHOUT_MACHINE_CODE = 9  # compute capability (Hopper) from which on there is only PTX
# The first branch of the driver with a CUDA; `nvidia-smi` shows both.
_BRANCHES: Mapping[Version, str] = {(12, 0): "525", (12, 4): "550", (12, 8): "570"}


@dataclass(frozen=True, slots=True)
class Cuda:
    """What the NVIDIA driver says."""

    version: Version  # the newest CUDA that it can do
    devices: tuple[tuple[str, int], ...]  # name, major compute capability

    @property
    def names(self) -> str:
        return ", ".join(sorted({name for name, _ in self.devices}))


def ask_driver() -> Cuda | None:
    """None where there is no driver. CUDA_VISIBLE_DEVICES is respected."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    number = ctypes.c_int()
    if driver.cuInit(0) != 0 or driver.cuDriverGetVersion(ctypes.byref(number)) != 0:
        return Cuda((0, 0), ())
    found = cuda_version(number.value)
    driver.cuDeviceGetCount(ctypes.byref(number))
    devices = []
    for index in range(number.value):
        name, device, capability = ctypes.create_string_buffer(100), ctypes.c_int(), ctypes.c_int()
        driver.cuDeviceGet(ctypes.byref(device), index)
        driver.cuDeviceGetName(name, len(name), device)
        driver.cuDeviceGetAttribute(ctypes.byref(capability), 75, device)  # COMPUTE_CAPABILITY_MAJOR
        devices.append((name.value.decode(errors="replace"), capability.value))
    return Cuda(found, tuple(devices))


def cuda_version(number: int) -> Version:
    """12080, as the driver says it, is CUDA 12.8."""
    return number // 1000, number % 1000 // 10


def count_gpus() -> int:
    """The GPUs this process may use."""
    cuda = ask_driver()
    return 0 if cuda is None else len(cuda.devices)


def resolve_device(asked: str) -> str:
    """What "auto" means here."""
    return ("cuda" if count_gpus() else "cpu") if asked == "auto" else asked


def installed(package: str) -> str:
    """Its version, as its installer wrote it down; "" where there is none. Nothing is imported."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def cuda_needed(cuda: Cuda, ctranslate2: str) -> Version | None:
    """The CUDA that the driver must be able to do for these GPUs; None where nobody can say.

    A version with a suffix (4.8.5+site) is somebody's own build, whose machine code may be for any GPU."""
    newest = max((capability for _, capability in cuda.devices), default=0)
    found = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", ctranslate2)
    if found is None:
        return None
    number = (int(found[1]), int(found[2]), int(found[3]))
    built_with = next((built_with for since, built_with in _BUILT_WITH if number >= since), None)
    return built_with if newest >= _WITHOUT_MACHINE_CODE or built_with is None else _ANY_12


def driver_of(cuda: Version) -> str:
    """The first driver that can do it, in words."""
    branch = _BRANCHES.get(cuda)
    return f"CUDA {cuda[0]}.{cuda[1]}" + (f" (driver {branch} or newer)" if branch else "")
