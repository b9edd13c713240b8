"""`dayscribe models`: which speech models are on this machine, and whether they are still what was locked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hpc.cli.display import Column
from hpc.cli.options import App, answering

if TYPE_CHECKING:
    from hpc.models import Model


@click.group()
def command() -> None:
    """List, verify and lock the models of this machine."""


@command.command(name="list")
@answering
def list_(app: App) -> None:
    """List the models found on this machine.

    Looks in the setting `models`, in what dayscribe ships, and in the caches of Hugging Face and torch.
    """
    from hpc.models import list_models, search_folders

    folders = search_folders(app.settings.models)
    rows = [
        {
            "name": model.name,
            "kind": model.kind,
            "megabytes": round(model.size / 1e6, 1),
            "locked": model.locked,
            "digest": model.digest or None,
            "path": model.path,
        }
        for model in list_models(app.settings.models)
    ]
    columns = [
        Column("name"), Column("kind"), Column("megabytes", "MB", right=True), Column("locked"),
        Column("digest", write=lambda digest: str(digest)[:12]), Column("path"),
    ]  # fmt: skip
    app.display.table(rows, columns, empty=f"No models in {', '.join(map(str, folders))}.")


@command.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@answering
def verify(app: App, names: tuple[str, ...]) -> None:
    """Read every byte of models and compare with the lock.

    Without a name all models are read. Exit code 78 says that a file is missing, changed or new; a model that was never
    locked is told and is no failure.
    """
    from hpc.errors import ModelChanged
    from hpc.models import verify as findings_of

    rows = []
    with app.display.progress("reading", unit="models") as bar:
        for model in _chosen(app, names):
            found = findings_of(model)
            rows += [
                {"name": model.name, "verdict": one.trouble, "harmless": one.harmless, "said": str(one)}
                for one in found
            ] or [{"name": model.name, "verdict": "ok", "harmless": True, "said": str(model.path)}]
            bar.advance()
    app.display.table(rows, [Column("name"), Column("verdict"), Column("said", "what")], empty="No models to verify.")
    if bad := sorted({str(row["name"]) for row in rows if not row["harmless"]}):
        raise ModelChanged(f"Not as they were locked: {', '.join(bad)}.")


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


def _chosen(app: App, names: tuple[str, ...]) -> list[Model]:
    from hpc.errors import ModelMissing
    from hpc.models import list_models

    models = list_models(app.settings.models)
    known = {model.name for model in models}
    if missing := [name for name in names if name not in known]:
        raise ModelMissing(f"There is no model {', '.join(missing)}; `dayscribe models list` names those there are.")
    return [model for model in models if not names or model.name in names]
