"""The groups of settings, [name] in the file: each setting with its default, range and help."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_settings import NoDecode

from db.hiding import Hidden


def empty_is_none(value: object) -> object:
    return None if value == "" else value


def folders(value: object) -> object:
    """A search path as the shell writes one, or a list."""
    return [part for part in value.split(os.pathsep) if part] if isinstance(value, str) else value


def words(value: object) -> object:
    """Words as a shell splits them, or a list."""
    return shlex.split(value) if isinstance(value, str) else value


def without_password(dsn: str) -> str:
    """Law 7: a DSN is seen in process lists and logs, so no secret may stand in it."""
    if not dsn:
        return dsn
    import psycopg.conninfo

    try:
        parts = psycopg.conninfo.conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        # libpq's own sentence may quote the DSN, and with it a password.
        raise ValueError("libpq cannot read this; write it as postgresql://user@host/name or service=NAME") from None
    if "password" in parts or "sslpassword" in parts:
        raise ValueError("holds a password; put it in ~/.pgpass or in a libpq service file, and name only service=NAME")
    return dsn


def _pattern(pattern: str, advice: str) -> AfterValidator:
    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(advice)
        return value

    return AfterValidator(check)


def only_options(given: list[str]) -> list[str]:
    """Each word is an option of sbatch; a script or a value that stands alone would be taken for the job."""
    if strangers := [word for word in given if not re.fullmatch(r"--[a-z][a-z-]*(=.*)?", word)]:
        raise ValueError(f"write every option as --name=value; {len(strangers)} of them are not")
    return given


def address(given: str | None) -> str | None:
    """Nothing but one plain address: what is written into a mail's head must not be able to add to it."""
    if given is not None and not re.fullmatch(r"[A-Za-z0-9._%+=/!#$&'*?^`{|}~-]{1,64}@[A-Za-z0-9.-]{1,253}", given):
        raise ValueError("write an address as name@host, without anything around it")
    return given


Word = Annotated[str, _pattern(r"[A-Za-z0-9_.:,=&|\[\]*@+-]*", "letters, digits and ._:,= without spaces")]
Bind = Annotated[
    str,
    _pattern(
        r"/[^\s:,'\"\\]*(:/[^\s:,'\"\\]*(:r[ow])?)?", "write /source or /source:/destination, and :rw to write there"
    ),
]
Folder = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]
Text = Annotated[str | None, BeforeValidator(empty_is_none)]
Share = Annotated[float, Field(ge=0.001, le=0.999)]
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """A group of settings, written [name] in the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, hide_input_in_errors=True)


class LedgerSettings(Section):
    """Where the ledger is and how we log in."""

    dsn: Annotated[str, AfterValidator(without_password)] = Field(
        default="",
        description="How libpq finds the ledger; empty: PGSERVICE or PGHOST if set, else our own server under home.",
    )
    role_prefix: Annotated[
        str, _pattern("[a-z_][a-z0-9_]{0,39}", "use lower-case letters, digits and _, at most 40, not a digit first")
    ] = Field(default="dayscribe", description="What the ledger's roles begin with.")
    single_role: bool = Field(default=False, description="The lab has one database login; all roles are that one.")
    require_tls: bool = Field(default=True, description="Refuse a ledger on another machine that offers no TLS.")

    @property
    def conninfo(self) -> str | None:
        """What libpq is given ("" lets it read its own environment); None when we run our own server."""
        if self.dsn or os.environ.get("PGSERVICE") or os.environ.get("PGHOST") or os.environ.get("PGHOSTADDR"):
            return self.dsn
        return None


class EngineSettings(Section):
    """How speech is recognised, in WhisperX's words."""

    name: Annotated[str, _pattern("[a-z][a-z0-9_]*", "name an engine, such as whisperx")] = Field(
        default="whisperx", description="Which engine transcribes."
    )
    model: Annotated[str, Field(min_length=1)] = Field(default="large-v3", description="A model's name, or its folder.")
    language: Annotated[str, _pattern("auto|[a-z]{2,3}", "say auto, or a language code such as de")] = Field(
        default="auto", description="A language code, or auto to find out for each recording."
    )
    task: Literal["transcribe", "translate"] = Field(
        default="transcribe", description="Keep the language, or turn it into English."
    )
    batch_size: Annotated[int, Field(ge=1, le=4096)] = Field(
        default=32, description="Chunks that the model sees at once, of as many recordings as it takes."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto: a GPU where there is one.")
    compute_type: Literal[
        "default",
        "auto",
        "int8",
        "int8_float32",
        "int8_float16",
        "int8_bfloat16",
        "int16",
        "float16",
        "bfloat16",
        "float32",
    ] = Field(default="default", description="The model's arithmetic; default: float16 on a GPU, int8 on a CPU.")
    beam_size: Annotated[int, Field(ge=1, le=100)] = Field(default=5, description="Width of the search.")
    vad_method: Literal["pyannote", "silero"] = Field(default="pyannote", description="What finds the speech.")
    vad_onset: Share = Field(default=0.5, description="Speech begins above this probability.")
    vad_offset: Share = Field(default=0.363, description="Speech ends below this probability.")
    chunk_size: Annotated[int, Field(ge=1, le=30)] = Field(default=30, description="Longest chunk in seconds.")
    hotwords: Text = Field(default=None, description="Words to expect, as a hint to the model.")
    initial_prompt: Text = Field(default=None, description="Text the model takes for what was said before.")
    align: bool = Field(default=True, description="Find the time of every word.")
    aligner: Text = Field(
        default=None, description="An alignment model's name or folder; empty: the language's usual one."
    )
    detect_on: Literal["start", "speech"] = Field(
        default="start",
        description="Where the language is heard: at the recording's start, as WhisperX does, or in its first chunk.",
    )
    second_decode: bool = Field(
        default=False, description="Decode chunks that repeat themselves once more, without repetition."
    )
    no_speech_threshold: Annotated[float | None, Field(gt=0, le=1)] = Field(
        default=None, description="Drop chunks that are more likely no speech than this; empty: keep all, as WhisperX."
    )
    threads: Annotated[int, Field(ge=0, le=1024)] = Field(
        default=0, description="CPU threads of the engine; 0: as many as it may use."
    )
    generations: Annotated[int, Field(ge=0, le=16)] = Field(
        default=0, description="Batches in the model at once; 0: two on a GPU, one a thread on a CPU."
    )


class WorkerSettings(Section):
    """How much one worker takes on, and what it refuses."""

    leases: Annotated[int, Field(ge=1, le=64)] = Field(default=2, description="Shards held at once.")
    lease_seconds: Annotated[int, Field(ge=1)] = Field(
        default=120, description="A lease not renewed for so long is lost."
    )
    decoders: Count = Field(default=2, description="Child processes that decode audio.")
    held_recordings: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Most recordings that the engine holds at once; 0: 16 times engine.batch_size."
    )
    held_seconds: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="Most seconds of audio that it holds at once; 0: enough for eight full batches."
    )
    stop_patience_seconds: Annotated[float, Field(ge=0)] = Field(
        default=60.0, description="After a stop, how long the engine may finish what it holds."
    )
    part_recordings: Count = Field(default=200, description="A part is published after so many recordings …")
    part_seconds: Seconds = Field(default=60.0, description="… or after so many seconds.")
    max_attempts: Count = Field(
        default=10, description="A shard tried so often without anything recorded is set aside."
    )
    max_member_mb: Count = Field(default=512, description="Largest file inside an archive, MB.")
    max_archive_gb: Count = Field(default=64, description="Most an archive may unpack to, GB.")
    max_members: Count = Field(default=200_000, description="Most members of an archive.")
    max_hours: Annotated[float, Field(gt=0)] = Field(default=4.0, description="Longest recording, hours.")
    decode_seconds: Seconds = Field(default=120.0, description="Longest that one recording may take to decode.")
    decode_memory_mb: Annotated[int, Field(ge=256)] = Field(default=2048, description="Most memory of a decoder, MB.")
    engine_hang_seconds: Seconds = Field(default=1800.0, description="An engine silent for so long is ended.")
    preflight: Literal["auto", "always", "never"] = Field(
        default="auto", description="Transcribe a clip whose words are known before leasing anything; auto: on a GPU."
    )
    database_wait_seconds: Annotated[float, Field(ge=0)] = Field(
        default=600.0, description="How long a worker waits for an absent ledger before it goes on without."
    )


class ServeSettings(Section):
    """Where the dashboard and the API listen, and what they show."""

    host: Annotated[str, Field(min_length=1)] = Field(
        default="127.0.0.1", description="Address to listen on; or unix:PATH, a socket that its group may open."
    )
    port: Annotated[int, Field(ge=0, le=65535)] = Field(default=8642, description="Port to listen on; 0: any free one.")
    proxy: Annotated[list[str], NoDecode, BeforeValidator(words)] = Field(
        default=[], description="Addresses from which a reverse proxy asks, unix for the socket; only it is believed."
    )
    proxy_user: Text = Field(
        default=None, description="The header in which the proxy names whom it let in; empty: the token is asked for."
    )
    proxy_hops: Annotated[int, Field(ge=1, le=8)] = Field(default=1, description="How many proxies stand in a row.")
    names: Annotated[list[str], NoDecode, BeforeValidator(words)] = Field(
        default=[], description="The host names under which readers ask the proxy."
    )
    per_minute: Annotated[int, Field(ge=0, lt=10**9)] = Field(
        default=3000, description="How often one client may ask in a minute; 0: as often as it likes."
    )
    hide: Annotated[list[Hidden], NoDecode, BeforeValidator(words)] = Field(
        default=[], description="What the dashboard and the API show to nobody: texts, authors."
    )
    gpu_hour_price: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=0.0, description="What an hour of a GPU costs, for the cluster's page; 0: no cost is told."
    )
    currency: Annotated[str, _pattern("[A-Z]{3}", "three capital letters, such as CHF")] = Field(
        default="CHF", description="The currency of that price."
    )
    audio: bool = Field(
        default=False, description="Whoever may see the dashboard may hear recordings whose audio is kept."
    )
    audio_mb: Annotated[int, Field(ge=1, le=1024)] = Field(
        default=64, description="Larger recordings cannot be heard, MB; a few times as much memory is taken."
    )


class ScheduleSettings(Section):
    """What a tick of the master scheduler takes on, and when it gives up."""

    ledger_on_nodes: bool = Field(
        default=True, description="Jobs reach the ledger; else they work from a file and the tick records for them."
    )
    discover: bool = Field(default=False, description="Add the days that a site's source shows by itself.")
    ingest_seconds: Seconds = Field(default=3.0, description="How long a tick records parts before it orders a job.")
    list_seconds: Annotated[float, Field(ge=0)] = Field(
        default=3.0, description="How long a tick lists days before it orders a job; 0: jobs alone list them."
    )
    grace_seconds: Seconds = Field(
        default=120.0, description="An order whose answer was lost is looked for this long before it is given again."
    )
    vanish_seconds: Seconds = Field(
        default=900.0, description="A job that nobody knows any more is over after so long without a sign of it."
    )
    plan_lease_seconds: Seconds = Field(
        default=3600.0, description="How long the shards of a job without a ledger stay its own after the last tick."
    )
    attempts: Count = Field(
        default=5, description="After so many jobs in a row that recorded nothing, a day is set aside."
    )
    backoff_seconds: Seconds = Field(
        default=60.0, description="Pause after a job that recorded nothing; it doubles each time."
    )
    node_failures: Count = Field(default=2, description="A node that failed so often is left out for a while …")
    node_rest_minutes: Seconds = Field(default=360.0, description="… and that is how long.")
    stop_before_seconds: Seconds = Field(
        default=120.0, description="So long before its time is up, a task finishes what its engine holds and leaves."
    )


class ContainersSettings(Section):
    """In which images jobs run; containers/README.md tells how they are built."""

    audio: Annotated[Folder | None, BeforeValidator(empty_is_none)] = Field(
        default=None, description="Image of the jobs that transcribe; empty: the environment that ordered them."
    )
    utils: Annotated[Folder | None, BeforeValidator(empty_is_none)] = Field(
        default=None, description="Image of the master and of the jobs without a GPU; empty: as above."
    )
    runtime: Annotated[str, _pattern(r"[\w./-]*", "the name or path of apptainer or singularity")] = Field(
        default="", description="What runs images; empty: apptainer, or else singularity."
    )
    binds: Annotated[list[Bind], NoDecode, BeforeValidator(words)] = Field(
        default_factory=list, description="More folders that images see: /source[:/destination[:rw]]."
    )
    scratch: Annotated[Folder | None, BeforeValidator(empty_is_none)] = Field(
        default=None,
        description="Node-local folder for a job's temporary files; empty: SLURM_TMPDIR, TMPDIR or the node's own.",
    )


class SlurmSettings(Section):
    """What is asked of SLURM; `dayscribe slurm render` shows the words."""

    partition: Word = Field(default="", description="Partition of the GPU jobs; empty: the cluster's default.")
    account: Word = Field(default="", description="Account that pays.")
    qos: Word = Field(default="", description="Quality of service.")
    gres: Annotated[Word, BeforeValidator(lambda said: said or "none")] = Field(
        default="gpu:1", description="What a GPU job needs, as --gres takes it; none: no GPU."
    )
    constraint: Word = Field(default="", description="Features that nodes must have.")
    cpus: Count = Field(default=8, description="CPUs of a GPU job.")
    memory_gb: Count = Field(default=32, description="Memory of a GPU job, GB.")
    cpu_partition: Word = Field(default="", description="Partition of the jobs without a GPU.")
    cpu_memory_gb: Count = Field(default=4, description="Memory of a job without a GPU, GB.")
    options: Annotated[list[str], NoDecode, BeforeValidator(words), AfterValidator(only_options)] = Field(
        default_factory=list, description="More words for sbatch, such as --reservation=NAME."
    )
    modules: Annotated[str, _pattern(r"[\w./ -]*", "names of modules, with spaces between")] = Field(
        default="", description="Modules that job scripts load."
    )
    requeue: bool = Field(default=True, description="Let SLURM start a job again after preemption or a node's failure.")
    minutes_least: Count = Field(default=15, description="Shortest time limit of a job.")
    minutes_most: Count = Field(default=240, description="Longest time limit; short jobs fit into gaps of the queue.")
    task_minutes: Count = Field(default=60, description="How long a task should work, once its speed is measured.")
    first_tasks: Count = Field(default=4, description="Tasks of a day as long as no speed is measured.")
    tasks_per_day: Count = Field(default=16, description="Most tasks of a day.")
    at_once: Count = Field(default=4, description="Tasks of a day that run at once.")
    most_tasks: Count = Field(default=64, description="Most tasks of a site that wait or run.")
    plan_tasks: Count = Field(default=8, description="Most tasks of plans that wait or run; days come first.")
    max_array: Count = Field(default=1000, description="The cluster's MaxArraySize, less one.")
    every_seconds: Count = Field(default=120, description="Pause between the ticks of the job that submits itself.")
    command_seconds: Seconds = Field(default=60.0, description="How long a command of SLURM may take to answer.")

    @property
    def asks_for_gpu(self) -> bool:
        return self.gres not in ("", "none")


class TransferSettings(Section):
    """How a day's files come here, and how much of them at once."""

    staging: Annotated[Folder | None, BeforeValidator(empty_is_none)] = Field(
        default=None, description="Where files that come from elsewhere are put; empty: staging under home."
    )
    budget_gb: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="Most that staged files may take up, GB; 0: what the file system has."
    )
    budget_files: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Most files that may be staged; 0: what the file system has."
    )
    quota_command: Annotated[list[str], NoDecode, BeforeValidator(words)] = Field(
        default_factory=list,
        description="A program that prints how many bytes and how many files the project may still write.",
    )
    reserve_gb: Annotated[float, Field(ge=0)] = Field(default=1.0, description="Room that is left free, GB.")
    attempts: Count = Field(default=5, description="Transfers that end without a file before its day has failed.")
    backoff_seconds: Seconds = Field(
        default=120.0, description="Pause before what did not come is fetched again; it doubles each time."
    )
    deadline_hours: Seconds = Field(default=24.0, description="How long a transfer may take.")
    encrypt: bool = Field(default=True, description="Encrypt what is moved.")
    files_at_once: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=5_000, description="Most files of one transfer."
    )
    verify_seconds: Seconds = Field(
        default=5.0, description="How long a tick reads arrived files to verify them, before it orders a job."
    )
    empty_again_hours: Seconds = Field(
        default=6.0, description="A source that shows nothing for a day is asked again after so long, to confirm it."
    )
    relist_days: Annotated[float, Field(ge=0)] = Field(
        default=14.0, description="How many days after its date a day is listed again, for what comes late."
    )
    relist_hours: Seconds = Field(default=12.0, description="Pause between these listings.")
    keep_days: Annotated[float, Field(ge=0)] = Field(
        default=30.0, description="Days for which a finished day's staged archives are kept; their source has them."
    )


class DeliverSettings(Section):
    """Where `dayscribe deliver` sends days, and as what."""

    to: str = Field(default="", description="Where to, as --target says it; {site} becomes the site's name.")
    ssh_key: Annotated[Folder | None, BeforeValidator(empty_is_none)] = Field(
        default=None, description="The private key for ssh:// targets; empty: as ssh itself finds one."
    )
    known_hosts: Annotated[Folder | None, BeforeValidator(empty_is_none)] = Field(
        default=None, description="The hosts whose keys are trusted; empty: ssh's own files."
    )
    connect_seconds: Seconds = Field(default=30.0, description="How long a host may take to answer.")
    collection: Text = Field(
        default=None, description="The Globus collection that has the folder deliveries of home, for globus:// targets."
    )
    collection_folder: Text = Field(
        default=None, description="That folder, as the collection names it; empty: as this cluster does."
    )
    bitrate_kbit: Annotated[int, Field(ge=6, le=256)] = Field(default=32, description="Of Opus audio, kbit/s.")


class GlobusSettings(Section):
    """Who we are at Globus; `dayscribe globus check` shows what is still missing."""

    client_id: Text = Field(default=None, description="The application's id, as registered at Globus.")
    secret_file: Annotated[Folder | None, BeforeValidator(empty_is_none)] = Field(
        default=None, description="File with the secret of a service account, mode 0600; empty: a person logs in."
    )
    tokens: Annotated[Folder | None, BeforeValidator(empty_is_none)] = Field(
        default=None, description="Folder of the logins, one 0600 file a user; empty: globus under home."
    )
    seconds: Seconds = Field(default=30.0, description="How long Globus may take to answer.")
    data_access: Annotated[list[Word], NoDecode, BeforeValidator(words)] = Field(
        default_factory=list,
        description="Mapped collections that no site names, such as those of deliveries: each wants a consent.",
    )


class AlertSettings(Section):
    """Who is told when something is amiss, by which way, and from when on it is."""

    smtp_host: Word = Field(default="", description="The server that takes mail; empty: no mail is sent.")
    smtp_port: Annotated[int, Field(ge=1, le=65535)] = Field(default=587, description="Its port.")
    smtp_tls: Literal["starttls", "tls", "none"] = Field(
        default="starttls", description="How it is spoken to; none: in the clear, and then without a password."
    )
    smtp_user: Text = Field(default=None, description="Who logs in there; empty: nobody does.")
    smtp_password_file: Annotated[Folder | None, BeforeValidator(empty_is_none)] = Field(
        default=None, description="File with the password, mode 0600; empty: DAYSCRIBE_ALERT_PASSWORD has it."
    )
    mail_from: Annotated[Text, AfterValidator(address)] = Field(default=None, description="The sender's address.")
    mail_to: Annotated[list[Annotated[str, AfterValidator(address)]], NoDecode, BeforeValidator(words)] = Field(
        default_factory=list, description="The addresses that are told."
    )
    webhook_file: Annotated[Folder | None, BeforeValidator(empty_is_none)] = Field(
        default=None, description="File with the address of a webhook, mode 0600: whoever knows it may speak there."
    )
    seconds: Seconds = Field(default=30.0, description="How long a server may take to answer.")
    tick_minutes: Seconds = Field(default=30.0, description="Nobody has ticked for so long.")
    silent_hours: Seconds = Field(default=24.0, description="Work is open, and nothing was recorded for so long.")
    lapsed_minutes: Seconds = Field(default=60.0, description="A lease ran out so long ago, and nobody took it over.")
    ledger_minutes: Annotated[float, Field(ge=0)] = Field(
        default=10.0, description="The ledger could not be asked for so long."
    )
