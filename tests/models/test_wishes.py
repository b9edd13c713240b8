"""What names and languages stand for, before anybody is asked."""

from __future__ import annotations

from hpc import model_wishes


def test_all_languages_are_those_that_whisperx_aligns_and_the_others_are_named() -> None:
    wanted = model_wishes.wishes(["large-v3"], ["nl", "pt", "sw"])
    assert [(wish.name, wish.languages) for wish in wanted][1:3] == [
        ("jonatasgrosman/wav2vec2-large-xlsr-53-dutch", ("nl",)),
        ("jonatasgrosman/wav2vec2-large-xlsr-53-portuguese", ("pt",)),
    ]
    assert model_wishes.without_aligner(["nl", "sw"]) == ["sw"]


def test_an_aligner_by_its_name_comes_with_sentence_data_and_no_other_aligner() -> None:
    name = "jonatasgrosman/wav2vec2-large-xlsr-53-dutch"
    assert model_wishes.languages_of_aligners([name]) == ["nl"]
    assert [wish.name for wish in model_wishes.wishes([name], ["nl"])] == [name, "nltk_data"]
    assert model_wishes.languages_of_aligners([name, "large-v3"]) == []
