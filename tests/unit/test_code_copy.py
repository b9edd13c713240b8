"""The copy of the code that an order keeps: whole, by its digest, made once, and what a job then runs."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hpc import code_copy
from hpc.receipt import code_digest

START = "import sys; sys.path.insert(0, sys.argv.pop(1)); "


def run(folder: Path, words: str) -> str:
    """Python with the copy first, as slurm/common.sh starts it."""
    call = [sys.executable, "-c", START + words, str(folder)]
    environment = os.environ | {"PYTHONSAFEPATH": "1", "PYTHONNOUSERSITE": "1"}
    return subprocess.run(call, env=environment, capture_output=True, text=True, check=True).stdout.strip()


def test_the_copy_has_the_digest_that_it_is_named_by(tmp_path: Path) -> None:
    digest, folder = code_copy.keep(tmp_path)
    assert digest == code_digest()
    assert folder == tmp_path / "code" / digest[:16]
    assert run(folder, "from hpc.receipt import code_digest; print(code_digest())") == digest


def test_a_job_runs_the_copy_and_not_what_is_installed(tmp_path: Path) -> None:
    _, folder = code_copy.keep(tmp_path)
    (folder / "hpc" / "marked.py").write_text("")
    where = run(folder, "import hpc, db, hpc.marked; print(hpc.__file__, db.__file__)")
    assert where == f"{folder / 'hpc/__init__.py'} {folder / 'db/__init__.py'}"


def test_it_is_made_once_however_many_want_it_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as many:
        made = set(many.map(lambda _: code_copy.keep(tmp_path), range(8)))
    assert len(made) == 1
    assert [path.name for path in (tmp_path / "code").iterdir()] == [code_digest()[:16]]
