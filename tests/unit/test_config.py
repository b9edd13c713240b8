"""Settings: who overrides whom, where each value came from, and what is said of a wrong one."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pydantic
import pytest

from hpc.config import RESERVED, Settings, describe, environment, load, names
from hpc.errors import BadSetting


@pytest.fixture(autouse=True)
def empty_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No DAYSCRIBE_* and no libpq names in the environment, and no settings file in reach."""
    for name in list(os.environ):
        if name.upper().startswith(("DAYSCRIBE_", "PG", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "person"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def written(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "dayscribe.toml"
    file.write_text(text)
    return file


def origin(settings: Settings, name: str) -> str:
    return next(setting.origin for setting in describe(settings) if setting.name == name)


def complaint(config: Path | None = None, assignments: tuple[str, ...] = ()) -> str:
    with pytest.raises(BadSetting) as caught:
        load(config, assignments)
    assert caught.value.exit_code == 78
    return str(caught.value)


def test_without_any_word_of_the_user_every_setting_has_its_default(empty_machine: Path) -> None:
    settings = load()

    assert {setting.origin for setting in describe(settings)} == {"default"}
    assert settings.home == empty_machine / "person/.local/share/dayscribe"
    assert settings.results_folder == settings.home / "results"
    assert (settings.engine.model, settings.engine.vad_offset) == ("large-v3", 0.363)
    assert settings.ledger.conninfo is None


def test_the_command_line_goes_over_the_environment_over_the_file_over_the_defaults(
    empty_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(empty_machine, "[engine]\nmodel = 'file'\nlanguage = 'de'\nbeam_size = 2\n[serve]\nport = 1\n")
    monkeypatch.setenv("DAYSCRIBE_ENGINE__MODEL", "environment")
    monkeypatch.setenv("DAYSCRIBE_ENGINE__LANGUAGE", "fr")

    settings = load(file, ["engine.model=line"])

    assert (settings.engine.model, settings.engine.language, settings.engine.beam_size) == ("line", "fr", 2)
    assert settings.engine.batch_size == 32
    assert origin(settings, "engine.model") == "command line"
    assert origin(settings, "engine.language") == "environment DAYSCRIBE_ENGINE__LANGUAGE"
    assert origin(settings, "engine.beam_size") == str(file)
    assert origin(settings, "engine.batch_size") == "default"


def test_the_file_is_found_by_option_then_environment_then_here_then_the_persons_own(
    empty_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(empty_machine / "person/.config/dayscribe", "serve.port = 1")
    assert load().serve.port == 1
    written(empty_machine / "here", "serve.port = 2")
    assert load().serve.port == 2
    monkeypatch.setenv("DAYSCRIBE_CONFIG", str(written(empty_machine / "there", "serve.port = 3")))
    assert load().serve.port == 3
    assert load(written(empty_machine / "elsewhere", "serve.port = 4")).serve.port == 4


def test_a_path_in_a_file_counts_from_that_file_and_on_the_command_line_from_here(empty_machine: Path) -> None:
    file = written(empty_machine / "lab", "home = 'var'\nresults = '~/out'\nmodels = ['m', '/n']")

    settings = load(file)

    assert settings.home == empty_machine / "lab/var"
    assert settings.results_folder == empty_machine / "person/out"
    assert settings.models == [empty_machine / "lab/m", Path("/n")]
    assert load(file, ["home=var"]).home == empty_machine / "here/var"


def test_a_search_path_is_written_as_the_shell_writes_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAYSCRIBE_MODELS", "/a:/b")

    assert load().models == [Path("/a"), Path("/b")]


def test_an_empty_word_means_none_and_an_empty_variable_means_nothing_was_said(
    empty_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(empty_machine, "results = '/r'\nengine.hotwords = 'Zürich'")
    monkeypatch.setenv("DAYSCRIBE_RESULTS", "")

    assert load(file).results == Path("/r")
    assert origin(load(file), "results") == str(file)
    settings = load(file, ["engine.hotwords=", "results="])
    assert settings.engine.hotwords is None
    assert settings.results is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[engine]\nmodle = 'x'", "engine.modle is not a setting; did you mean engine.model?"),
        ("[enginee]\nmodel = 'x'", "enginee.model is not a setting; did you mean engine.model?"),
        ("port = 1", "port is not a setting; did you mean serve.port?"),
        ("engine = 'whisperx'", "engine is not a setting"),
        ("zzzzzz = 1", "zzzzzz is not a setting; `dayscribe config show` lists them all."),
    ],
)
def test_a_misspelt_name_in_the_file_is_told_with_the_file_and_the_nearest_name(
    empty_machine: Path, text: str, said: str
) -> None:
    file = written(empty_machine, text)

    assert complaint(file).startswith(f"{file}: {said}")


@pytest.mark.parametrize("name", ["DAYSCRIBE_ENGINE__MODLE", "DAYSCRIBE_ENGINE_MODEL", "dayscribe_engine_model"])
def test_a_misspelt_variable_is_told_with_the_nearest_one(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "x")

    assert complaint() == f"environment: {name} is not a setting; did you mean DAYSCRIBE_ENGINE__MODEL?"


def test_a_misspelt_name_on_the_command_line_is_told(empty_machine: Path) -> None:
    assert complaint(None, ("worker.leasees=3",)).endswith(
        "worker.leasees is not a setting; did you mean worker.leases?"
    )
    assert "KEY=VALUE" in complaint(None, ("engine.model",))


def test_the_names_that_are_no_settings_are_let_through(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in RESERVED - {"DAYSCRIBE_CONFIG"}:
        monkeypatch.setenv(name, "x")

    assert load().serve.port == 8642


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("engine.vad_onset=1.5", "engine.vad_onset (command line): Input should be less than or equal to 0.999"),
        ("engine.beam_size=many", "engine.beam_size (command line): Input should be a valid integer"),
        ("engine.task=summarise", "engine.task (command line): Input should be 'transcribe' or 'translate'"),
        ("engine.language=German", "engine.language (command line): say auto, or a language code such as de"),
        ("engine.device=tpu", "engine.device (command line): Input should be 'auto', 'cpu' or 'cuda'"),
        ("engine.chunk_size=31", "engine.chunk_size (command line): Input should be less than or equal to 30"),
        ("worker.leases=0", "worker.leases (command line): Input should be greater than or equal to 1"),
        ("serve.port=70000", "serve.port (command line): Input should be less than or equal to 65535"),
        ("ledger.role_prefix=x; drop", "ledger.role_prefix (command line): use lower-case letters"),
    ],
)
def test_a_value_out_of_range_is_told_with_its_name_and_origin(assignment: str, said: str) -> None:
    assert complaint(None, (assignment,)).startswith(said)


def test_every_wrong_value_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAYSCRIBE_SERVE__PORT", "-1")

    lines = complaint(None, ("engine.beam_size=0",)).splitlines()

    assert [line.partition(":")[0] for line in lines] == [
        "engine.beam_size (command line)",
        "serve.port (environment DAYSCRIBE_SERVE__PORT)",
    ]


@pytest.mark.parametrize(
    "dsn",
    ["postgresql://me:hush-hush@host/name", "host=h password=hush-hush", "postgresql://h/n?sslpassword=hush-hush"],
)
def test_a_dsn_with_a_password_is_refused_without_repeating_it(monkeypatch: pytest.MonkeyPatch, dsn: str) -> None:
    monkeypatch.setenv("DAYSCRIBE_LEDGER__DSN", dsn)

    said = complaint()

    assert "service" in said
    assert "ledger.dsn (environment DAYSCRIBE_LEDGER__DSN)" in said
    assert "hush" not in said


def test_a_dsn_that_libpq_cannot_read_is_refused_without_repeating_it() -> None:
    assert "hush" not in complaint(None, ("ledger.dsn=postgresql://me:hush-hush@[host/name",))


def test_the_ledger_is_where_the_dsn_or_libpqs_own_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(None, ["ledger.dsn=service=lab"]).ledger.conninfo == "service=lab"
    monkeypatch.setenv("PGSERVICE", "lab")
    assert load().ledger.conninfo == ""


@pytest.mark.parametrize("text", ["home = \n", "[engine\n", "home = 'a'\nhome = 'b'\n"])
def test_a_file_that_is_no_toml_is_told_with_the_line(empty_machine: Path, text: str) -> None:
    file = written(empty_machine, text)

    assert re.match(rf"The settings file {file} is not valid TOML: .*line \d", complaint(file))


def test_a_named_file_that_is_not_there_is_an_error(empty_machine: Path) -> None:
    assert complaint(empty_machine / "none.toml").endswith("cannot be read: No such file or directory.")


def test_settings_cannot_be_changed() -> None:
    settings = load()

    with pytest.raises(pydantic.ValidationError):
        settings.serve.port = 1  # type: ignore[misc]
    with pytest.raises(pydantic.ValidationError):
        settings.home = Path("/")  # type: ignore[misc]


def test_every_setting_has_a_sentence_of_help() -> None:
    described = describe(load())

    assert [setting.name for setting in described] == names()
    assert [setting.name for setting in described if not re.search(r"\w.*[.…]$", setting.help)] == []


GIVEN = [
    "home=/lab/day scribe",
    "results=/lab/out: of all",
    "models=/a:/b c",
    "shared=true",
    "login_nodes=login* 'gate 1' \"it's\"",
    "ledger.dsn=service=lab",
    "ledger.require_tls=false",
    "engine.align=false",
    "engine.vad_onset=0.1",
    'engine.hotwords= Zürich, "Bahnhof" $HOME\n`id` ',
    "engine.batch_size=7",
    "schedule.ledger_on_nodes=no",
    "schedule.grace_seconds=0.25",
    "slurm.gres=",
    "slurm.options='--comment=two words' --reservation=lab --x=$(id)",
    "slurm.modules=cuda/12.8 gcc",
    "slurm.requeue=0",
]


def test_a_job_that_gets_the_settings_as_variables_runs_with_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    ordered = load(None, GIVEN)

    variables = environment(ordered)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert load().model_dump() == ordered.model_dump()
    assert environment(load()) == variables
    assert ordered.slurm.options == ["--comment=two words", "--reservation=lab", "--x=$(id)"]


def test_only_what_is_not_the_default_becomes_a_variable(empty_machine: Path) -> None:
    home = {"DAYSCRIBE_HOME": str(empty_machine / "person/.local/share/dayscribe")}

    assert environment(load()) == home
    assert environment(load(None, ["engine.beam_size=5", "slurm.options=", "shared=false"])) == home
    given = load(None, ["engine.beam_size=6", "shared=yes", "models=/a:/b", "engine.align=0"])
    assert environment(given) == home | {
        "DAYSCRIBE_MODELS": "/a:/b",
        "DAYSCRIBE_ENGINE__BEAM_SIZE": "6",
        "DAYSCRIBE_ENGINE__ALIGN": "false",
        "DAYSCRIBE_SHARED": "true",
    }
    assert set(environment(load(None, GIVEN))) == {
        "DAYSCRIBE_" + text.partition("=")[0].upper().replace(".", "__") for text in GIVEN
    }


@pytest.mark.parametrize("word", ["/tmp/other.sh", "-p", "--", "--Partition=x", "x=--y", "12", "--a\n--b", "--=x"])
def test_a_word_for_sbatch_that_is_no_option_is_refused_and_not_repeated(word: str) -> None:
    """sbatch would take it for the job's script."""
    said = complaint(None, (f"slurm.options=--exclusive {shlex.quote(word)}",))

    assert said == "slurm.options (command line): write every option as --name=value; 1 of them are not"


def test_the_options_for_sbatch_are_words_as_a_shell_splits_them(empty_machine: Path) -> None:
    assert load(None, ["slurm.options=--exclusive '--comment=a b'"]).slurm.options == ["--exclusive", "--comment=a b"]
    file = written(empty_machine, "[slurm]\noptions = ['--comment=a b', '--mail-type=FAIL']")
    assert load(file).slurm.options == ["--comment=a b", "--mail-type=FAIL"]
