"""The doctor before images: the runtime and how it starts one, the files and digests, folders, scratch."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from hpc.doctor import containers, runtime
from hpc.doctor.containers import Image, Scratch
from hpc.doctor.finding import Finding, Verdict
from hpc.doctor.runtime import Host

ROOT = Path(__file__).resolve().parents[2]
APPTAINER = Host(runtime="/usr/bin/apptainer", version="apptainer version 1.4.5", max_userns="9000")
FUSE = replace(APPTAINER, squashfuse=True, fuse="open")
GIB = 1024**3


def said(finding: Finding) -> str:
    return f"{finding.verdict}: {finding.found}. {finding.mend}".strip()


@pytest.mark.parametrize(
    ("version", "verdict"),
    [
        ("apptainer version 1.4.5", Verdict.OK),
        ("apptainer version 1.2.0-rc.1", Verdict.OK),
        ("apptainer version 1.1.9", Verdict.ADVICE),
        ("singularity-ce version 4.1.2-jammy", Verdict.OK),
        ("singularity-ce version 3.11.5", Verdict.ADVICE),
        ("singularity version 3.8.7", Verdict.ADVICE),
        ("", Verdict.ADVICE),
    ],
)
def test_a_runtime_that_is_too_old_to_build_is_worth_advice(version: str, verdict: Verdict) -> None:
    finding = runtime.runtime(replace(APPTAINER, version=version), wanted="", modules="")

    assert finding.verdict is verdict
    assert version in finding.found
    assert ("To build them here Apptainer 1.2 or SingularityCE 4 is needed" in finding.mend) == (
        verdict is Verdict.ADVICE
    )


def test_no_runtime_is_wanting_unless_a_module_may_bring_it() -> None:
    bare = runtime.runtime(Host(), wanted="", modules="")
    by_module = runtime.runtime(Host(), wanted="/opt/x/apptainer", modules="apptainer")

    assert said(bare).startswith("wanting: no apptainer or singularity here. Name it in containers.runtime")
    assert said(by_module).startswith("advice: no /opt/x/apptainer here. Nothing, if slurm.modules (apptainer)")
    assert [one.what for one in runtime.findings(Host(), wanted="", modules="", sif=True)] == ["container runtime"]


@pytest.mark.parametrize(
    ("host", "sif", "sentence"),
    [
        (replace(APPTAINER, root=True), True, "ok: as root: the kernel mounts them."),
        (replace(APPTAINER, setuid=True, max_userns="0"), True, "ok: setuid starter: the kernel mounts them."),
        (FUSE, True, "ok: in a user namespace, mounted by squashfuse."),
        (APPTAINER, False, "ok: in a user namespace, a folder needs no mount."),
        (
            replace(FUSE, fuse="closed"), True,
            "wanting: squashfuse is here, and /dev/fuse is closed: every start fails. Ask the administrators to open"
            " /dev/fuse (mode 0666), or for the setuid package of Apptainer.",
        ),
        (replace(FUSE, fuse="closed"), False, "ok: in a user namespace, a folder needs no mount."),
        (
            APPTAINER, True,
            "advice: no setuid starter, no squashfuse: unpacked into a temporary folder at every start. Each start"
            " costs seconds and gigabytes: ask the administrators for FUSE (squashfuse and /dev/fuse) or the runtime's"
            " setuid package, or build the images as folders: containers/build_containers.sh --sandbox.",
        ),
        (
            replace(FUSE, fuse="absent", version="singularity-ce version 4.1.2"), True,
            "advice: no setuid starter, /dev/fuse is absent: unpacked into a temporary folder at every start. ",
        ),
        (
            replace(FUSE, max_userns="0"), True,
            "wanting: no setuid starter, and user namespaces are closed (user.max_user_namespaces is 0). No image can",
        ),
        (replace(FUSE, userns_clone="0"), False, "wanting: no setuid starter, and user namespaces are closed (kernel."),
        (replace(FUSE, restrict_userns="1"), True, "wanting: no setuid starter, and user namespaces are closed (AppA"),
        (replace(FUSE, restrict_userns="1", profile=True), True, "ok: in a user namespace, mounted by squashfuse."),
    ],
)  # fmt: skip
def test_how_an_image_starts_is_told_and_what_it_costs(host: Host, sif: bool, sentence: str) -> None:
    assert said(runtime.start(host, sif=sif)).startswith(sentence)


def test_a_slow_start_is_worth_advice() -> None:
    assert (runtime.took(0.4).verdict, runtime.took(0.4).found) == (Verdict.OK, "0.4 s")
    assert runtime.took(41.0).verdict is Verdict.ADVICE


def test_settings_of_the_runtime_that_a_person_brings_are_named_without_their_values() -> None:
    environment = {
        "APPTAINER_BIND": "/hush", "SINGULARITYENV_TOKEN": "hush", "APPTAINER_CACHEDIR": "/c",
        "SINGULARITY_TMPDIR": "/t", "PATH": "/bin",
    }  # fmt: skip
    finding = runtime.variables(environment)

    assert (finding.verdict, finding.found) == (Verdict.ADVICE, "APPTAINER_BIND, SINGULARITYENV_TOKEN")
    assert "their scripts drop these" in finding.mend
    assert "hush" not in str(finding)
    assert runtime.variables({"APPTAINER_CACHEDIR": "/c"}).verdict is Verdict.OK


def _host(tmp_path: Path, runtime_script: str, **environment: str) -> Host:
    program = tmp_path / "apptainer"
    program.write_text(f"#!/bin/bash\n{runtime_script}\n")
    program.chmod(0o755)
    done = subprocess.run(
        ["/bin/bash", ROOT / "slurm" / "host.sh"], env={"PATH": f"{tmp_path}:/usr/bin:/bin"} | environment,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return runtime.read(done.stdout)


def test_the_host_script_says_what_the_runtime_here_is_and_can(tmp_path: Path) -> None:
    starter = tmp_path / "lib" / "apptainer" / "bin" / "starter-suid"
    starter.parent.mkdir(parents=True)
    starter.touch()
    starter.chmod(0o4755)
    config = tmp_path / "apptainer.conf"
    config.write_text("allow setuid = yes\n")
    says = (
        'case $1 in --version) echo "apptainer version 1.3.0" ;;'
        f" buildcfg) echo LIBEXECDIR={tmp_path}/lib; echo APPTAINER_CONF_FILE={config} ;; esac"
    )
    host = _host(tmp_path, says)
    assert (host.runtime, host.kind, host.number) == (str(tmp_path / "apptainer"), "apptainer", (1, 3))
    assert (host.setuid, host.squashfuse) == (True, False)
    assert host.fuse in {"open", "closed", "absent"}

    starter.chmod(0o755)
    assert not _host(tmp_path, says).setuid
    starter.chmod(0o4755)
    config.write_text("allow setuid = no\n")
    (tmp_path / "squashfuse").write_text("#!/bin/sh\n")
    (tmp_path / "squashfuse").chmod(0o755)
    host = _host(tmp_path, says)
    assert (host.setuid, host.squashfuse) == (False, True)


def test_the_host_script_looks_for_the_runtime_that_the_settings_name(tmp_path: Path) -> None:
    assert _host(tmp_path, "true", DAYSCRIBE_CONTAINERS__RUNTIME="no-such-program").runtime == ""


def _image(tmp_path: Path, content: bytes = b"image", recorded: bytes = b"image") -> Path:
    path = tmp_path / "audio.sif"
    path.write_bytes(content)
    (tmp_path / "images.sha256").write_text(f"{hashlib.sha256(recorded).hexdigest()}  audio.sif\n")
    return path


def _hash(path: Path, size: int) -> str | None:
    return containers.hash_file(path, lambda _: None)


def _findings(path: Path, *, shared: bool = False, read: bool = True) -> list[Finding]:
    hashed = _hash if read else lambda _path, _size: None
    found = containers.look(path, runtime="", hashed=hashed)
    return list(containers.image("audio", found, shared=shared, ours="1.0"))


def test_an_image_with_its_recorded_digest_is_good(tmp_path: Path) -> None:
    [finding] = _findings(_image(tmp_path))

    digest = hashlib.sha256(b"image").hexdigest()[:12]
    assert said(finding) == f"ok: {tmp_path}/audio.sif, 0 MiB, sha256 {digest}… as recorded."


def test_an_image_that_was_not_read_is_not_said_to_be_right(tmp_path: Path) -> None:
    [finding] = _findings(_image(tmp_path), read=False)

    assert finding.verdict is Verdict.OK
    assert finding.found.endswith("not read now: --read-images")


def test_an_image_that_has_changed_is_wanting(tmp_path: Path) -> None:
    [finding] = _findings(_image(tmp_path, content=b"other"))

    assert finding.verdict is Verdict.WANTING
    assert finding.mend.startswith("The file has changed since it was built")


def test_an_image_that_is_not_there_or_has_no_digest_is_wanting(tmp_path: Path) -> None:
    path = _image(tmp_path)
    (tmp_path / "images.sha256").unlink()
    [without] = _findings(path)
    path.unlink()
    [absent] = _findings(path)

    assert (without.verdict, absent.verdict) == (Verdict.WANTING, Verdict.WANTING)
    assert "has no digest of audio.sif" in without.mend
    assert absent.found == f"no {path}"
    assert "build it with containers/build_containers.sh" in absent.mend


def test_a_folder_is_an_image_without_a_digest(tmp_path: Path) -> None:
    (tmp_path / "audio").mkdir()

    [finding] = _findings(tmp_path / "audio")

    assert (finding.verdict, finding.found) == (Verdict.OK, f"{tmp_path}/audio, a folder, which has no digest")


def test_an_image_that_the_group_cannot_read_is_wanting_where_a_group_works(tmp_path: Path) -> None:
    path = _image(tmp_path)
    path.chmod(0o600)

    assert [one.verdict for one in _findings(path)] == [Verdict.OK]
    [finding] = _findings(path, shared=True)
    assert (finding.verdict, finding.mend) == (Verdict.WANTING, f"chmod g+rX {path}")


@pytest.mark.parametrize(("version", "verdict"), [("1.0", Verdict.OK), ("0.9", Verdict.ADVICE)])
def test_another_version_of_ours_inside_is_worth_advice(version: str, verdict: Verdict) -> None:
    [_, finding] = containers.image("audio", Image(Path("/i/a.sif"), version=version), shared=False, ours="1.0")

    assert (finding.what, finding.verdict, finding.found) == ("dayscribe in the audio image", verdict, version)


@pytest.mark.parametrize(
    ("prints", "labels"),
    [
        ('{"data": {"attributes": {"labels": {"dayscribe.version": "1.0"}}}}', {"dayscribe.version": "1.0"}),
        ("[]", {}),
        ("no json", {}),
    ],
)
def test_labels_are_read_from_the_runtime_and_nonsense_is_none(
    tmp_path: Path, prints: str, labels: dict[str, str]
) -> None:
    program = tmp_path / "apptainer"
    program.write_text(f"#!/bin/sh\necho '{prints}'\n")
    program.chmod(0o755)

    assert containers.inspect(str(program), Path("x.sif")) == labels
    assert containers.inspect(str(tmp_path / "absent"), Path("x.sif")) == {}


def test_an_image_without_packages_wants_them_bound() -> None:
    bound = containers.packages("audio", ["/data", "/venv/site-packages:/opt/packages:ro"])
    without = containers.packages("audio", ["/data", "/opt/packages"])

    assert bound.verdict is Verdict.OK
    assert (without.verdict, without.found) == (
        Verdict.WANTING, "not inside, and nothing is bound to /opt/packages",
    )  # fmt: skip


def test_a_bind_or_a_models_folder_that_is_not_here_is_wanting(tmp_path: Path) -> None:
    good = containers.binds([f"{tmp_path}:/opt/packages:ro"], models=[tmp_path])
    bad = containers.binds(["/no/such:/x", str(tmp_path)], models=[Path("/no/models")])

    assert (good.verdict, good.found) == (Verdict.OK, "1 of containers.binds")
    assert (bad.verdict, bad.found) == (Verdict.WANTING, "no /no/such, no /no/models")


@pytest.mark.parametrize("name", ["/data/a:b", "/data/a,b"])
def test_a_folder_whose_name_the_runtime_would_split_is_wanting(name: str) -> None:
    finding = containers.names({"home": Path("/home/x"), "results": Path(name)})

    assert said(finding) == f"wanting: results is {name}. Choose another folder for results."
    assert containers.names({"home": Path("/home/x")}).verdict is Verdict.OK


def test_a_model_that_only_a_cache_of_the_person_has_is_wanting_for_an_image() -> None:
    cached = Path("/home/x/.cache/huggingface/hub/m")

    finding = containers.models_seen([Path("/models/large"), cached], [Path("/models")])

    assert (finding.verdict, finding.found) == (Verdict.WANTING, str(cached))
    assert containers.models_seen([Path("/models/large")], [Path("/models")]).verdict is Verdict.OK


GOOD = Scratch(Path("/local"), writable=True, free=11 * GIB)


@pytest.mark.parametrize(
    ("found", "on_node", "verdict", "sentence"),
    [
        (GOOD, True, Verdict.OK, "/local, 11.0 GiB free"),
        (replace(GOOD, free=9 * GIB), True, Verdict.WANTING, "/local, 9.0 GiB free"),
        (replace(GOOD, free=9 * GIB), False, Verdict.ADVICE, "/local, 9.0 GiB free"),
        (replace(GOOD, writable=False), True, Verdict.WANTING, "/local cannot be written"),
        (replace(GOOD, network="nfs4"), True, Verdict.ADVICE, "/local, 11.0 GiB free, on nfs4"),
    ],
)
def test_scratch_is_writable_roomy_and_local(found: Scratch, on_node: bool, verdict: Verdict, sentence: str) -> None:
    finding = containers.scratch(found, here_it_counts=on_node)

    assert (finding.verdict, finding.found) == (verdict, sentence)
    assert ("Nodes may differ" in finding.mend) == (not on_node)


def test_scratch_is_chosen_as_a_job_script_chooses_it(tmp_path: Path) -> None:
    environment = {"SLURM_TMPDIR": "/s", "TMPDIR": "/t"}

    assert containers.scratch_of(tmp_path, environment) == tmp_path
    assert containers.scratch_of(None, environment) == Path("/s")
    assert containers.scratch_of(None, {"TMPDIR": "/t"}) == Path("/t")
    assert containers.look_at_scratch(tmp_path / "new").writable
