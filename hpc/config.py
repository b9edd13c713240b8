"""Every setting, its default, range and help: command line over DAYSCRIBE_* over dayscribe.toml over defaults."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
)
from pydantic_settings import BaseSettings, InitSettingsSource, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from hpc.errors import BadSetting

PREFIX = "DAYSCRIBE_"
FILE_NAME = "dayscribe.toml"
# Names that begin like settings but are none: the file's own place, where PostgreSQL's programs are (db/servers.py),
# and what tests use to arm fault points.
RESERVED = frozenset(
    PREFIX + name
    for name in ("CONFIG", "PG_BINDIR", "MONITOR_DSN", "API_TOKEN_FILE", "FAULT", "FAULTS_ARMED", "FAULT_LOG")
)
COMMAND_LINE = "command line"
DEFAULT = "default"


def _empty_is_none(value: object) -> object:
    return None if value == "" else value


def _folders(value: object) -> object:
    """A search path as the shell writes one, or a list."""
    return [part for part in value.split(os.pathsep) if part] if isinstance(value, str) else value


def _without_password(dsn: str) -> str:
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


Folder = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]
Text = Annotated[str | None, BeforeValidator(_empty_is_none)]
Share = Annotated[float, Field(ge=0.001, le=0.999)]
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """A group of settings, written [name] in the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, hide_input_in_errors=True)


class LedgerSettings(Section):
    """Where the ledger is and how we log in."""

    dsn: Annotated[str, AfterValidator(_without_password)] = Field(
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
        default=16, description="Chunks that the model sees at once."
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
    threads: Count = Field(default=1, description="CPU threads of the engine.")


class WorkerSettings(Section):
    """How much one worker takes on, and what it refuses."""

    leases: Annotated[int, Field(ge=1, le=64)] = Field(default=2, description="Shards held at once.")
    lease_seconds: Annotated[int, Field(ge=1)] = Field(
        default=120, description="A lease not renewed for so long is lost."
    )
    decoders: Count = Field(default=2, description="Child processes that decode audio.")
    batch_recordings: Count = Field(default=32, description="Most recordings in a batch.")
    batch_seconds: Seconds = Field(default=600.0, description="Most seconds of audio in a batch.")
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
    database_wait_seconds: Annotated[float, Field(ge=0)] = Field(
        default=600.0, description="How long a worker waits for an absent ledger before it goes on without."
    )


class ServeSettings(Section):
    """Where the API listens."""

    host: Annotated[str, Field(min_length=1)] = Field(default="127.0.0.1", description="Address to listen on.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(default=8642, description="Port to listen on; 0: any free one.")


def _default_home() -> Path:
    share = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(share) / "dayscribe"


class Settings(BaseSettings):
    """All settings; load() makes them and knows where each came from."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        validate_default=True,
        hide_input_in_errors=True,
    )
    in_file: ClassVar[Mapping[str, Any]] = {}
    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    home: Folder = Field(default_factory=_default_home, description="Where dayscribe keeps what is its own.")
    results: Annotated[Folder | None, BeforeValidator(_empty_is_none)] = Field(
        default=None, description="Where parts and Parquet files are published; empty: results under home."
    )
    models: Annotated[list[Folder], NoDecode, BeforeValidator(_folders)] = Field(
        default_factory=list, description="Folders in which to look for models."
    )
    ledger: LedgerSettings = LedgerSettings()
    engine: EngineSettings = EngineSettings()
    worker: WorkerSettings = WorkerSettings()
    serve: ServeSettings = ServeSettings()

    @property
    def results_folder(self) -> Path:
        return self.results or self.home / "results"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the name is the library's
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, InitSettingsSource(settings_cls, init_kwargs=dict(cls.in_file))


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as `dayscribe config show` prints it."""

    name: str
    value: Any
    origin: str
    help: str


def load(config: Path | None = None, assignments: Sequence[str] = ()) -> Settings:
    """The settings of this call; `assignments` are the command line's KEY=VALUE."""
    file = _find_file(config)
    in_file = _read_file(file) if file else {}
    on_line = dict(_assignment(text) for text in assignments)
    in_environment = {_dotted(name): name for name in os.environ if name.upper().startswith(PREFIX)}
    problems = [
        *_unknown(on_line, where="--set"),
        *_unknown(_leaves(in_file), where=str(file)),
        *_unknown_variables(in_environment.values()),
    ]
    if problems:
        raise BadSetting("\n".join(problems))

    class Located(Settings):
        pass

    Located.in_file = in_file
    origins = {name: str(file) for name in _leaves(in_file)}
    origins |= {name: f"environment {variable}" for name, variable in in_environment.items() if os.environ[variable]}
    origins |= dict.fromkeys(on_line, COMMAND_LINE)
    try:
        settings = Located(**_nested(on_line))
    except ValidationError as error:
        raise BadSetting("\n".join(_complaints(error, origins))) from None
    settings._origins.update(origins)
    return settings


def describe(settings: Settings) -> list[Setting]:
    """Every setting with its value, where that came from and what it is for; secrets are masked."""
    origins = settings._origins
    return [
        Setting(name, _shown(value), origins.get(name, DEFAULT), help_text)
        for name, value, help_text in _walk(settings)
    ]


def names() -> list[str]:
    """Every setting's dotted name."""
    found: list[str] = []
    for name, field in Settings.model_fields.items():
        kind = field.annotation
        inner = kind.model_fields if isinstance(kind, type) and issubclass(kind, Section) else None
        found += [name] if inner is None else [f"{name}.{key}" for key in inner]
    return found


def _walk(model: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, Section):
            yield from _walk(value, f"{name}.")
        else:
            yield prefix + name, value, field.description or ""


def _shown(value: Any) -> Any:
    return "********" if isinstance(value, SecretStr) else value


def _find_file(config: Path | None) -> Path | None:
    if named := config or os.environ.get("DAYSCRIBE_CONFIG"):
        return Path(named).expanduser()
    user = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "dayscribe" / FILE_NAME
    return next((file for file in (Path.cwd() / FILE_NAME, user) if file.exists()), None)


def _read_file(file: Path) -> dict[str, Any]:
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadSetting(f"The settings file {file} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSetting(f"The settings file {file} is not valid TOML: {error}.") from error
    # A path in a file means the same from whatever folder the command is started in.
    for name in ("home", "results"):
        if isinstance(data.get(name), str) and data[name]:
            data[name] = str(file.parent / Path(data[name]).expanduser())
    if isinstance(data.get("models"), list):
        data["models"] = [str(file.parent / Path(str(folder)).expanduser()) for folder in data["models"]]
    return data


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise BadSetting("--set wants KEY=VALUE, such as engine.model=small.")
    return name.strip(), value


def _dotted(variable: str) -> str:
    return variable.upper().removeprefix(PREFIX).lower().replace("__", ".")


def _variable(name: str) -> str:
    return PREFIX + name.upper().replace(".", "__")


def _leaves(data: Mapping[str, Any], prefix: str = "") -> list[str]:
    found: list[str] = []
    for key, value in data.items():
        found += _leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) and not prefix else [f"{prefix}{key}"]
    return found


def _nested(flat: Mapping[str, str]) -> dict[str, Any]:
    whole: dict[str, Any] = {}
    for name, value in flat.items():
        section, dot, key = name.partition(".")
        if dot:
            whole.setdefault(section, {})[key] = value
        else:
            whole[section] = value
    return whole


def _unknown(given: Iterable[str], *, where: str) -> Iterator[str]:
    known = names()
    for name in given:
        if name not in known:
            yield f"{where}: {name} is not a setting{_nearest(name, known)}"


def _unknown_variables(variables: Iterable[str]) -> Iterator[str]:
    known = [_variable(name) for name in names()]
    for variable in variables:
        if variable.upper() not in known and variable.upper() not in RESERVED:
            yield f"environment: {variable} is not a setting{_nearest(variable.upper(), known)}"


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    close = close or [one for one in known if one.rpartition(".")[2] == name.rpartition(".")[2]][:1]
    return f"; did you mean {close[0]}?" if close else "; `dayscribe config show` lists them all."


def _complaints(error: ValidationError, origins: Mapping[str, str]) -> Iterator[str]:
    """One line a wrong value: which setting, where it was found, what is wrong. Never the value: it may be a secret."""
    for one in error.errors(include_url=False, include_input=False, include_context=False):
        name = ".".join(str(part) for part in one["loc"][:2])
        name = name if name in names() else name.partition(".")[0]
        yield f"{name} ({origins.get(name, DEFAULT)}): {one['msg'].removeprefix('Value error, ')}"
