"""`dayscribe models`: fetches speech models, lists those of this machine, and holds them to what was locked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpc.cli.display import Column
from hpc.cli.options import App, answering

if TYPE_CHECKING:
    from hpc.models import Model


@click.group()
def command() -> None:
    """Fetch, list, verify and lock models."""


@command.command(name="list")
@answering
def list_(app: App) -> None:
    """List the models found on this machine.

    Looks in the setting `models`, in models under home, in what dayscribe ships, and in the caches of Hugging Face and
    torch. Says of each bundle whether it is complete; `models verify --bundle` also reads it.
    """
    from hpc import model_bundle
    from hpc.models import languages_of, list_models

    folders = _search_folders(app)
    there = model_bundle.states(folders)
    complete = {folder: "complete" if model_bundle.is_complete(folder) else "incomplete" for folder in there}
    rows = [
        {
            "name": model.name,
            "kind": model.kind,
            "languages": list(languages_of(model)),
            "megabytes": round(model.size / 1e6, 1),
            "locked": model.locked,
            "digest": model.digest or None,
            "revision": model.revision or None,
            "bundle": next((state for folder, state in complete.items() if model.path.is_relative_to(folder)), None),
            "path": model.path,
        }
        for model in list_models(app.settings.model_folders)
    ]
    columns = [
        Column("name"), Column("kind"), Column("languages"), Column("megabytes", "MB", right=True), Column("locked"),
        Column("digest", write=lambda digest: str(digest)[:12]), Column("bundle"), Column("path"),
    ]  # fmt: skip
    app.display.table(rows, columns, empty=f"No models in {', '.join(map(str, folders))}.")
    for said in there.values():
        app.display.say(said)


@command.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--bundle", type=click.Path(path_type=Path), metavar="FOLDER", help="Hold this copy to its bundle.json.")
@answering
def verify(app: App, names: tuple[str, ...], bundle: Path | None) -> None:
    """Read every byte of models and compare with the lock.

    Without a name all models are read. Exit code 78 says that a file is missing, changed or new; a model that was never
    locked is told and is no failure. With --bundle, every model of the bundle has to be there, and no other.
    """
    from hpc.errors import ModelChanged

    if names and bundle:
        raise click.UsageError("Say names, or --bundle: a bundle is verified as a whole.")
    rows = _held_to_bundle(app, bundle) if bundle else _held_to_locks(app, names)
    app.display.table(rows, [Column("name"), Column("verdict"), Column("said", "what")], empty="No models to verify.")
    if bad := sorted({str(row["name"]) for row in rows if not row["harmless"]}):
        raise ModelChanged(f"Not as they were {'bundled' if bundle else 'locked'}: {', '.join(bad)}.")


@command.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@answering
def lock(app: App, names: tuple[str, ...]) -> None:
    """Declare the files of models to be the right ones.

    Writes digests.json beside each model; from then on a changed file is an error.
    """
    from hpc.models import lock as write_lock

    rows = [{"name": model.name, "lock": write_lock(model)} for model in _chosen(app, names)]
    app.display.table(rows, [Column("name"), Column("lock")])


def _known_names(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    from hpc.models import whisper_names

    return [name for name in whisper_names() if name.startswith(begun)]


def _known_codes(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    from hpc.models import usual_aligners

    before, comma, last = begun.rpartition(",")
    return [before + comma + code for code in sorted(usual_aligners()) if code.startswith(last)]


@command.command()
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=_known_names)
@click.option(
    "--languages",
    metavar="CODES",
    shell_complete=_known_codes,
    help="Aligners of these languages, such as en,de, or all that there are. Else of engine.language, or en.",
)
@click.option("--no-align", is_flag=True, help="No aligners and no sentence data: words get no times.")
@click.option("--to", type=click.Path(path_type=Path), metavar="FOLDER", help="Where to. Else the first of `models`.")
@click.option("--dry-run", is_flag=True, help="Say what would be fetched, and fetch nothing.")
@answering
def fetch(
    app: App, names: tuple[str, ...], *, languages: str | None, no_align: bool, to: Path | None, dry_run: bool
) -> None:
    """Fetch models, as a bundle for nodes without a network.

    A NAME is one that faster-whisper knows (large-v3, turbo, distil-large-v3, small.en …), a Hugging Face repository
    (OWNER/NAME) or a folder; NAME@REVISION pins one. Without a name it is the setting engine.model. What is here and as
    it was locked is kept; what was interrupted goes on. HF_TOKEN and HF_ENDPOINT (a mirror) are respected.
    """
    from hpc import model_fetch, model_wishes

    engine = app.settings.engine
    usual = model_wishes.languages_of_aligners(names) or ["en" if engine.language == "auto" else engine.language]
    codes = [] if no_align or (languages is None and not engine.align) else _codes(languages, usual)
    wanted = model_wishes.wishes(names or (engine.model,), codes, aligner=engine.aligner)
    for code in model_wishes.without_aligner(codes):
        app.display.warn(f"WhisperX has no aligner for {code}: words of that language get no times.")
    folder = (to or _where_to(app)).expanduser().absolute()
    if dry_run:
        _show(app, folder, [(offer, None) for offer in model_fetch.survey(wanted, folder)], dry=True)
        return
    _show(app, folder, list(_fetched(app, wanted, folder)), dry=False)


def _fetched(app: App, wanted: list[Any], folder: Path) -> list[tuple[Any, Any]]:
    from hpc import model_fetch

    with app.display.progress("fetching", unit="MB") as bar, model_fetch.watched(folder, bar.update) as watch:
        return model_fetch.fetch(wanted, folder, on_offers=watch.expect, on_done=watch.arrived)


def _show(app: App, folder: Path, got: list[tuple[Any, Any]], *, dry: bool) -> None:
    from hpc import model_bundle

    rows = [
        {
            "name": offer.wish.name,
            "kind": offer.kind,
            "languages": list(offer.wish.languages),
            "standing": "kept" if offer.here else "to fetch" if dry else "fetched",
            "megabytes": round((model or offer).size / 1e6, 1),
            "revision": (model or offer).revision or None,
        }
        for offer, model in got
    ]
    found = folder in _search_folders(app)
    if app.as_json:
        complete = model_bundle.is_complete(folder)
        app.display.record({"folder": folder, "complete": complete, "found_here": found, "models": rows})
        return
    columns = [
        Column("name"), Column("kind"), Column("languages"), Column("standing"), Column("megabytes", "MB", right=True),
        Column("revision", write=lambda revision: str(revision)[:12]),
    ]  # fmt: skip
    app.display.table(rows, columns)
    if dry:
        app.display.say(f"Nothing was fetched. They would come into {folder}.")
        return
    app.display.say(model_bundle.states([folder])[folder])
    if found:
        app.display.say("Models are found there on this machine with nothing more to set.")
    app.display.say(
        f"Nodes without a network, and images: copy the folder as it is, name it with DAYSCRIBE_MODELS={folder} or in "
        f"dayscribe.toml, wherever it lies there, and read it once: dayscribe models verify --bundle {folder}"
    )


def _codes(said: str | None, usual: list[str]) -> list[str]:
    from hpc.models import usual_aligners

    if said is None:
        return usual
    if said.strip() == "all":
        return sorted(usual_aligners())
    return [code.strip().lower() for code in said.split(",") if code.strip()]


def _where_to(app: App) -> Path:
    from hpc.model_fetch import may_write

    folders: list[Path] = app.settings.model_folders
    return next((folder for folder in folders if may_write(folder)), folders[-1])


def _search_folders(app: App) -> tuple[Path, ...]:
    from hpc.models import search_folders

    return search_folders(app.settings.model_folders)


def _held_to_locks(app: App, names: tuple[str, ...]) -> list[dict[str, Any]]:
    from hpc.models import verify as findings_of

    rows: list[dict[str, Any]] = []
    with app.display.progress("reading", unit="models") as bar:
        for model in _chosen(app, names):
            found = findings_of(model)
            rows += [
                {"name": model.name, "verdict": one.trouble, "harmless": one.harmless, "said": str(one)}
                for one in found
            ] or [{"name": model.name, "verdict": "ok", "harmless": True, "said": str(model.path)}]
            bar.advance()
    return rows


def _held_to_bundle(app: App, folder: Path) -> list[dict[str, Any]]:
    from hpc.model_bundle import check

    rows: list[dict[str, Any]] = []
    with app.display.progress("reading", unit="findings") as bar:
        for one in check(folder.expanduser().absolute()):
            rows.append({"name": one.name, "verdict": one.verdict, "harmless": one.harmless, "said": one.said})
            bar.advance()
    return rows


def _chosen(app: App, names: tuple[str, ...]) -> list[Model]:
    from hpc.errors import ModelMissing
    from hpc.models import list_models

    models = list_models(app.settings.model_folders)
    known = {model.name for model in models}
    if missing := [name for name in names if name not in known]:
        raise ModelMissing(f"There is no model {', '.join(missing)}; `dayscribe models list` names those there are.")
    return [model for model in models if not names or model.name in names]
