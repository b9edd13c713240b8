"""The preflight, by given values: which driver is new enough for which GPU, and whose fault a model is."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from db import places
from db.errors import DayscribeError
from hpc import accelerator
from hpc.accelerator import Cuda, ask_driver, count_gpus, cuda_needed, cuda_version, installed, resolve_device
from hpc.config import load
from hpc.doctor import node
from hpc.doctor.finding import Verdict
from hpc.errors import BadSetting, MachineUnfit, ModelChanged, ModelMissing
from hpc.preflight import Preflight, check_gpu, models_of
from hpc.wiring import preflights

H100, H200, B200 = ("NVIDIA H100 80GB HBM3", 9), ("NVIDIA H200", 9), ("NVIDIA B200", 10)
COMMON = Path(__file__).resolve().parents[2] / "slurm" / "common.sh"
A100, L40S, V100 = ("NVIDIA A100-SXM4-80GB", 8), ("NVIDIA L40S", 8), ("Tesla V100-SXM2-32GB", 7)


class Driver:
    """libcuda.so.1 of a made-up machine: the functions that are called, with their out-parameters."""

    def __init__(self, number: int, *devices: tuple[str, int], init: int = 0) -> None:
        self.number, self.devices, self.init = number, devices, init

    def cuInit(self, _: int) -> int:
        return self.init

    def cuDriverGetVersion(self, out: Any) -> int:
        out._obj.value = self.number
        return 0

    def cuDeviceGetCount(self, out: Any) -> int:
        out._obj.value = len(self.devices)
        return 0

    def cuDeviceGet(self, out: Any, index: int) -> int:
        out._obj.value = index
        return 0

    def cuDeviceGetName(self, out: Any, size: int, device: Any) -> int:
        out.value = self.devices[device.value][0].encode()[: size - 1]
        return 0

    def cuDeviceGetAttribute(self, out: Any, _: int, device: Any) -> int:
        out._obj.value = self.devices[device.value][1]
        return 0


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Callable[[Driver | None], None]:
    """Puts a driver in place of this machine's, or none."""

    def put(made_up: Driver | None) -> None:
        def open_library(name: str) -> Driver:
            assert name == "libcuda.so.1"
            if made_up is None:
                raise OSError("no such file")
            return made_up

        monkeypatch.setattr(ctypes, "CDLL", open_library)

    return put


def test_the_driver_says_its_cuda_and_its_gpus(driver: Callable[[Driver | None], None]) -> None:
    driver(Driver(12080, H100, H200))
    assert ask_driver() == Cuda((12, 8), (H100, H200))
    assert (count_gpus(), resolve_device("auto"), resolve_device("cpu")) == (2, "cuda", "cpu")

    driver(Driver(12080, H100, init=100))  # a driver without a GPU, or one that this process may not use
    assert ask_driver() == Cuda((0, 0), ())
    assert (count_gpus(), resolve_device("auto")) == (0, "cpu")

    driver(None)
    assert ask_driver() is None
    assert (count_gpus(), resolve_device("auto"), resolve_device("cuda")) == (0, "cpu", "cuda")


@pytest.mark.parametrize(
    ("number", "version"), [(12080, (12, 8)), (12040, (12, 4)), (11080, (11, 8)), (13000, (13, 0)), (12100, (12, 10))]
)
def test_the_drivers_number_is_a_version(number: int, version: tuple[int, int]) -> None:
    assert cuda_version(number) == version


@pytest.mark.parametrize(
    ("gpu", "ctranslate2", "needed"),
    [
        (H100, "4.8.5", (12, 8)),
        (B200, "4.6.3", (12, 8)),
        (H200, "5.0.0", (12, 8)),
        (H100, "4.6.2", (12, 4)),
        (A100, "4.8.5", (12, 0)),  # its machine code is in the wheel, and any driver of CUDA 12 runs that
        (L40S, "4.6.2", (12, 0)),
        (V100, "4.8.5", (12, 0)),
        (H100, "4.8.5+site", None),  # built by somebody, for whatever GPU
        (H100, "3.24.0", None),  # of another CUDA
        (H100, "", None),
    ],
)
def test_new_gpus_need_the_cuda_that_ctranslate2_was_built_with(
    gpu: tuple[str, int], ctranslate2: str, needed: tuple[int, int] | None
) -> None:
    assert cuda_needed(Cuda((12, 2), (gpu,)), ctranslate2) == needed


def test_of_several_gpus_the_newest_decides() -> None:
    assert cuda_needed(Cuda((12, 2), (A100, H100)), "4.8.5") == (12, 8)


@pytest.mark.parametrize(
    ("cuda", "ctranslate2", "words"),
    [
        (None, "4.8.5", ["no NVIDIA driver", "slurm.gres", "engine.device to cpu"]),
        (Cuda((12, 8), ()), "4.8.5", ["no GPU that we may use", "--nv"]),
        (
            Cuda((12, 4), (H100,)), "4.8.5",
            ["can do CUDA 12.4", "CTranslate2 4.8.5 wants CUDA 12.8 (driver 570 or newer)", H100[0], "newer driver"],
        ),
        (Cuda((12, 2), (H200,)), "4.6.2", ["CUDA 12.4 (driver 550 or newer)"]),
        (Cuda((11, 8), (A100,)), "4.8.5", ["CUDA 12.0 (driver 525 or newer)"]),
    ],
)  # fmt: skip
def test_a_gpu_that_cannot_do_it_is_the_machines_fault_and_the_sentence_says_what_to_do(
    cuda: Cuda | None, ctranslate2: str, words: list[str]
) -> None:
    with pytest.raises(MachineUnfit) as caught:
        check_gpu(cuda, ctranslate2=ctranslate2, torch="2.8.0")

    assert caught.value.exit_code == 75
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("cuda", "ctranslate2"),
    [
        (Cuda((12, 8), (H100,)), "4.8.5"),
        (Cuda((13, 0), (B200,)), "4.8.5"),
        (Cuda((12, 4), (H100,)), "4.6.2"),
        (Cuda((12, 2), (A100,)), "4.8.5"),
        (Cuda((12, 4), (H100,)), "4.8.5+site"),
    ],
)
def test_a_driver_that_is_new_enough_is_passed_to_the_canary(cuda: Cuda, ctranslate2: str) -> None:
    check_gpu(cuda, ctranslate2=ctranslate2, torch="2.8.0")


def test_a_torch_without_cuda_is_what_was_installed_and_no_nodes_fault() -> None:
    with pytest.raises(BadSetting, match=r"2\.8\.0\+cpu has no CUDA"):
        check_gpu(Cuda((12, 8), (H100,)), ctranslate2="4.8.5", torch="2.8.0+cpu")


def test_a_version_is_known_without_importing_anything() -> None:
    assert installed("numpy").count(".") >= 2
    assert installed("no-such-package") == ""


def test_it_looks_once_in_a_process_and_again_only_if_it_found_fault() -> None:
    seen: list[str] = []

    def look() -> None:
        seen.append("look")
        if len(seen) == 1:
            raise MachineUnfit("not yet")

    preflight = Preflight(look, lambda: seen.append("listen"))
    with pytest.raises(MachineUnfit):
        preflight()
    assert seen == ["look"]  # what would take long is not begun
    for _ in range(3):
        preflight()
    assert seen == ["look", "look", "listen"]


@pytest.mark.parametrize(
    ("engine", "preflight", "gpu", "looks"),
    [
        ("whisperx", "auto", True, ["driver", "canary"]),
        ("whisperx_per_file", "auto", True, ["driver", "canary"]),
        ("whisperx", "auto", False, []),
        ("echo", "auto", True, []),
        ("whisperx", "always", False, ["canary"]),
        ("whisperx", "never", True, []),
    ],
)
def test_a_gpu_is_looked_at_by_itself_and_a_cpu_when_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, engine: str, preflight: str, gpu: bool, looks: list[str]
) -> None:
    seen: list[str] = []
    cuda = Cuda((12, 8), (H100,)) if gpu else None
    monkeypatch.setattr(accelerator, "ask_driver", lambda: cuda)
    monkeypatch.setattr(preflights, "ask_driver", lambda: cuda)
    monkeypatch.setattr(preflights, "check_gpu", lambda *_, **__: seen.append("driver"))

    def canary(_: object, device: str, *, engine: str) -> None:
        assert (device, engine) == ("cuda" if gpu else "cpu", settings.engine.name)
        seen.append("canary")

    monkeypatch.setattr(preflights, "canary", canary)
    settings = load(None, [f"engine.name={engine}", f"worker.preflight={preflight}"])

    preflights.preflight(settings)()

    assert seen == looks


def test_what_the_canarys_engine_refuses_on_a_gpu_is_the_machines_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its settings are ours, so nobody has to change theirs."""

    def refuse(*_: object, **__: object) -> None:
        raise BadSetting("torch finds no GPU it can use here")

    monkeypatch.setattr(accelerator, "ask_driver", lambda: Cuda((12, 8), (H100,)))
    monkeypatch.setattr(preflights, "check_gpu", lambda *_, **__: None)
    monkeypatch.setattr(preflights, "installed", lambda _: "2.8.0")
    monkeypatch.setattr(preflights, "canary", refuse)
    with pytest.raises(MachineUnfit, match="not transcribed on cuda: torch finds no GPU"):
        preflights.preflight(load(None, []))()

    monkeypatch.setattr(preflights, "installed", lambda _: "")  # nobody has installed what speech needs
    with pytest.raises(BadSetting):
        preflights.preflight(load(None, []))()


# Whose fault a model is.


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder that the kernel's table of mounts calls a network file system."""
    table = tmp_path / "mountinfo"
    (tmp_path / "shared").mkdir()
    table.write_text(f"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 22 0:41 / {tmp_path}/shared rw - nfs4 server:/x rw\n")
    monkeypatch.setattr(places, "MOUNTS", table)
    return tmp_path / "shared"


def ended(error: DayscribeError, *named: Path) -> DayscribeError:
    with pytest.raises(DayscribeError) as caught, models_of("gpu7", named):
        raise error
    return caught.value


@pytest.mark.parametrize("error", [ModelMissing("The model 'x' is not here."), ModelChanged("Model 'x' was changed.")])
def test_a_folder_of_models_that_this_node_has_not_is_the_nodes_fault(error: DayscribeError, shared: Path) -> None:
    said = ended(error, shared, shared / "nowhere")

    assert type(said) is MachineUnfit
    assert f"There is no {shared}/nowhere on gpu7: is its file system mounted there? {error}" == str(said)


def test_a_copy_on_the_nodes_own_disk_that_is_not_as_locked_is_the_nodes_fault(shared: Path, tmp_path: Path) -> None:
    said = ended(ModelChanged("The model 'x' is not as it was locked."), tmp_path)

    assert type(said) is MachineUnfit
    assert str(said) == f"The model 'x' is not as it was locked. (on gpu7, whose own disk holds {tmp_path})"


def test_what_every_node_finds_alike_waits_for_a_person(shared: Path, tmp_path: Path) -> None:
    changed, missing = ModelChanged("changed"), ModelMissing("no such name")

    assert ended(changed, shared) is changed
    assert ended(missing, shared) is missing
    assert ended(missing, tmp_path) is missing  # a name that is found nowhere is most often a wrong name
    assert ended(changed) is changed
    assert {changed.exit_code, missing.exit_code} == {78}


# Compiled kernels: where job scripts keep them, and what the doctor says of it.


def kind_of_gpu(about: Path) -> str:
    """What slurm/common.sh makes of the driver's files."""
    said = ["bash", "-c", 'source "$1"; kind_of_gpu "$2"', "-", COMMON, about]
    return subprocess.run(said, check=True, capture_output=True, text=True, timeout=60).stdout


@pytest.mark.parametrize(
    ("version", "models", "name"),
    [
        ("NVIDIA UNIX x86_64 Kernel Module  570.86.15  Thu Jan 23 23:31:42 UTC 2025", ["NVIDIA A100-SXM4-80GB"] * 4,
         "570.86.15-NVIDIA-A100-SXM4-80GB"),
        ("NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (builder@host)",
         ["NVIDIA H200", "NVIDIA H100 80GB HBM3"], "580.65.06-NVIDIA-H100-80GB-HBM3+NVIDIA-H200"),
        ("NVIDIA UNIX x86_64 Kernel Module  570.86.15  Thu Jan 23", ["../../etc; rm $x"], "570.86.15-..-..-etc-rm-x"),
        ("something else", [], "any"),
    ],
)  # fmt: skip
def test_nodes_with_the_same_driver_and_gpu_keep_their_kernels_together(
    tmp_path: Path, version: str, models: list[str], name: str
) -> None:
    about = tmp_path / "nvidia"
    for number, model in enumerate(models):
        (about / "gpus" / f"0000:0{number}:00.0").mkdir(parents=True)
        (about / "gpus" / f"0000:0{number}:00.0" / "information").write_text(f"Model: \t\t {model}\nIRQ:   \t 42\n")
    about.mkdir(exist_ok=True)
    (about / "version").write_text(f"NVRM version: {version}\nGCC version:  gcc\n")

    assert kind_of_gpu(about) == f"{name}\n"


def test_a_node_without_the_driver_has_a_name_for_it_too(tmp_path: Path) -> None:
    assert kind_of_gpu(tmp_path / "nowhere") == "any\n"


def test_the_doctor_says_where_kernels_are_kept_and_how_many(tmp_path: Path) -> None:
    found = node.kernels({"HOME": str(tmp_path), "CUDA_CACHE_PATH": "/dev/shm", "CUDA_CACHE_MAXSIZE": str(4 << 30)})

    assert (found.verdict, found.found) == (Verdict.OK, "/dev/shm, at most 4.0 GiB")


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({"CUDA_CACHE_DISABLE": "1"}, "CUDA_CACHE_DISABLE is 1"),
        ({"HOME": "/proc"}, "/proc/.nv/ComputeCache: "),
        ({"CUDA_CACHE_PATH": "/cache/nv"}, "/cache/nv"),
        ({"CUDA_CACHE_PATH": "/dev/shm/job/nv", "SLURM_TMPDIR": "/dev/shm/job"}, "/dev/shm/job/nv"),
    ],
)
def test_a_place_where_they_do_not_last_is_worth_advice(environment: dict[str, str], found: str) -> None:
    finding = node.kernels(environment)

    assert (finding.verdict, finding.found.startswith(found), bool(finding.mend)) == (Verdict.ADVICE, True, True)
