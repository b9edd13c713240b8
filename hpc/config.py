"""Every setting, its default, range and help: command line over DAYSCRIBE_* over dayscribe.toml over defaults."""

from __future__ import annotations

import difflib
import os
import shlex
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, Field, PrivateAttr, SecretStr, ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from hpc.errors import BadSetting
from hpc.sections import (
    AlertSettings,
    ContainersSettings,
    DeliverSettings,
    EngineSettings,
    Folder,
    GlobusSettings,
    LedgerSettings,
    ScheduleSettings,
    Section,
    ServeSettings,
    SlurmSettings,
    TransferSettings,
    WorkerSettings,
    empty_is_none,
    folders,
    words,
)

PREFIX = "DAYSCRIBE_"
FILE_NAME = "dayscribe.toml"
# Names that begin like settings but are none: the file's own place, where PostgreSQL's programs are (db/servers.py),
# what job scripts are told (slurm/common.sh), and what tests use to arm fault points.
RESERVED = frozenset(
    PREFIX + name
    for name in (
        "CONFIG", "PG_BINDIR", "MONITOR_DSN", "API_TOKEN_FILE", "SITE", "SCRIPTS", "PYTHON", "CODE", "JOB", "EXCHANGE",
        "IMAGE_SHA256", "STAGED", "INSIDE", "FAULT", "FAULTS_ARMED", "FAULT_LOG", "JOB_FAULT", "GLOBUS_SECRET",
        "ALERT_PASSWORD",
    )
)  # fmt: skip
COMMAND_LINE = "command line"
DEFAULT = "default"


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
    results: Annotated[Folder | None, BeforeValidator(empty_is_none)] = Field(
        default=None, description="Where parts and Parquet files are published; empty: results under home."
    )
    models: Annotated[list[Folder], NoDecode, BeforeValidator(folders)] = Field(
        default_factory=list, description="Folders in which to look for models."
    )
    ledger: LedgerSettings = LedgerSettings()
    engine: EngineSettings = EngineSettings()
    worker: WorkerSettings = WorkerSettings()
    serve: ServeSettings = ServeSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    slurm: SlurmSettings = SlurmSettings()
    containers: ContainersSettings = ContainersSettings()
    transfer: TransferSettings = TransferSettings()
    globus: GlobusSettings = GlobusSettings()
    deliver: DeliverSettings = DeliverSettings()
    alert: AlertSettings = AlertSettings()
    shared: bool = Field(
        default=False, description="A project group works here: new files are its own to write, and nobody else's."
    )
    purged: Annotated[list[Folder], NoDecode, BeforeValidator(folders)] = Field(
        default_factory=list, description="Folders that the cluster empties by itself, such as its scratch."
    )
    login_nodes: Annotated[list[str], NoDecode, BeforeValidator(words)] = Field(
        default_factory=list, description="Names of hosts (login* is one) on which nothing long is started."
    )

    @property
    def results_folder(self) -> Path:
        return self.results or self.home / "results"

    @property
    def model_folders(self) -> list[Path]:
        """Where models are looked for before anywhere else; `models fetch` puts them there."""
        return [*self.models, self.home / "models"]

    @property
    def staging_folder(self) -> Path:
        return self.transfer.staging or self.home / "staging"

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


def environment(settings: Settings) -> dict[str, str]:
    """The settings that are not the default, as variables: what a job is given, to run with the settings of its order.
    No secret is a setting, and one that became one would stay behind."""
    given = {name: value for name, value, _ in _walk(settings) if value != _DEFAULTS.get(name)}
    return {_variable(name): _in_words(value) for name, value in given.items() if not isinstance(value, SecretStr)}


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


def _in_words(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        paths = any(isinstance(item, Path) for item in value)
        return os.pathsep.join(map(str, value)) if paths else shlex.join(value)
    return "" if value is None else str(value)


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


_DEFAULTS = {name: value for name, value, _ in _walk(Settings.model_construct()) if name != "home"}
