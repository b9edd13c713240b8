"""How files come here, as data of the ledger: what makes no sense is refused before anything is moved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpc.errors import BadSetting
from hpc.route import Route

ONE, OTHER = "3f2504e0-4f89-41d3-9a0c-0305e82c3301", "3F2504E0-4F89-41D3-9A0C-0305E82C3302"


def test_a_route_is_what_its_data_says() -> None:
    data = {
        "how": "globus", "collection": ONE, "destination": OTHER, "destination_folder": "/staging", "staging": "/here",
        "data_access": [ONE],
    }  # fmt: skip
    assert Route.of(data).as_dict() == data
    assert Route.of({}).as_dict() == {}


@pytest.mark.parametrize(
    "data, says",
    [
        ({"how": "pigeon"}, "not by 'pigeon'"),
        ({"how": "globus", "collection": ONE}, "name both"),
        ({"how": "globus", "collection": "x", "destination": ONE}, "no id of a Globus collection"),
        ({"how": "globus", "collection": ONE.replace("-", ""), "destination": ONE}, "no id"),
        ({"how": "globus", "collection": ONE, "destination": OTHER, "data_access": ["; rm"]}, "no id"),
        ({"how": "copy", "staging": "here"}, "no absolute folder"),
        ({"how": "copy", "staging": "/a/../b"}, "no absolute folder"),
        ({"how": "copy", "staging": "/a\nb"}, "no absolute folder"),
        ({"how": "copy", "destination_folder": "/a/.."}, "no absolute folder"),
        ({"how": "copy", "secret": "x"}, "has no secret"),
    ],
)
def test_what_makes_no_sense_is_refused(data: dict[str, Any], says: str) -> None:
    with pytest.raises(BadSetting) as told:
        Route.of(data)
    assert says in str(told.value)


def test_staging_is_where_it_is_said_and_else_where_it_always_is() -> None:
    usual = Path("/usual")
    assert Route.of({}).staging_folder(usual) == usual
    assert Route.of({"how": "copy", "staging": "/mine"}).staging_folder(usual) == Path("/mine")
    assert Route.of({"how": "copy", "staging": "/mine"}).destination_path(usual) == "/mine"
    there = Route.of({"how": "copy", "staging": "/mine", "destination_folder": "/theirs"})
    assert there.destination_path(usual) == "/theirs"


def test_only_a_route_moves_anything() -> None:
    assert not Route().moves
    assert Route.of({"how": "link"}).moves


NO_IDS = [
    "", "my collection", ONE[:-1], ONE + "0", "{" + ONE + "}", "urn:uuid:" + ONE, ONE + "\n", " " + ONE, "../" + ONE,
    "-" * 36, ONE[:-1] + "g", "\uff13" + ONE[1:], "\u0663" + ONE[1:],
]  # fmt: skip


@pytest.mark.parametrize("text", NO_IDS)
@pytest.mark.parametrize("name", ["collection", "destination", "data_access"])
def test_what_is_no_id_of_a_collection_is_refused_and_shown_in_one_line(name: str, text: str) -> None:
    data = {"how": "globus", "collection": ONE, "destination": OTHER}
    with pytest.raises(BadSetting, match="no id of a Globus collection") as told:
        Route.of(data | {name: [text] if name == "data_access" else text})
    assert repr(text) in str(told.value)
    assert "\n" not in str(told.value)


NO_FOLDERS = [
    "", "./scratch", "~", "~/scratch", " /scratch", "C:\\scratch", "/..", "/../etc", "/a/../../etc", "/a\0/x", "/a\n",
]  # fmt: skip


@pytest.mark.parametrize("folder", NO_FOLDERS)
@pytest.mark.parametrize("name", ["staging", "destination_folder"])
def test_a_folder_that_leads_elsewhere_is_refused_and_shown_in_one_line(name: str, folder: str) -> None:
    with pytest.raises(BadSetting, match="no absolute folder") as told:
        Route.of({"how": "copy", name: folder})
    assert repr(folder) in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("folder", ["/", "/a b/…/ü", "/..a", "/a..", "/.../b", "/-rf", "/$HOME/{site}"])
def test_a_folder_may_be_called_anything_else(folder: str) -> None:
    assert Route.of({"how": "copy", "staging": folder}).staging == folder


@pytest.mark.parametrize("how", ["Globus", "globus ", "link\n", None, 5, ["link"]])
def test_a_way_that_nobody_knows_is_refused(how: object) -> None:
    with pytest.raises(BadSetting, match="link, copy, globus or not at all"):
        Route.of({"how": how})


@pytest.mark.parametrize(
    "said",
    [{"staging": 5}, {"destination_folder": ["/a"]}, {"collection": 5}, {"data_access": 5}, {"data_access": [5]}],
)
def test_what_is_no_text_is_refused_like_all_else_that_makes_no_sense(said: dict[str, Any]) -> None:
    with pytest.raises(BadSetting):
        Route.of({"how": "globus", "collection": ONE, "destination": OTHER} | said)
