"""Word times of many recordings at once: exactly those that unmodified `whisperx.align` gives for each alone."""

from __future__ import annotations

import math
import random
import string
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hpc.demo.speech import TRAINED_VOICES, Speaker
from hpc.engine_options import EngineOptions
from hpc.model import SAMPLE_RATE
from hpc.models import resolve

pytestmark = pytest.mark.speech
torch = pytest.importorskip("torch")

import whisperx  # noqa: E402
from whisperx import alignment  # noqa: E402

from hpc.engines.whisperx import sentences  # noqa: E402
from hpc.engines.whisperx.aligning import Aligners  # noqa: E402
from hpc.engines.whisperx.placing import Heard, Placer  # noqa: E402

EXACT = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
TEXTS = (
    " unit seven copy north street. today monday may twenty three. station nine channel two please report over.",
    " yes unit four red road. friday morning 700.",
    " one two three four. stop. june thirty one.",
)


@pytest.fixture(scope="module")
def demo() -> EngineOptions:
    return resolve(EngineOptions(model="demo/asr.en", aligner="demo/aligner", device="cpu"))[0]


@pytest.fixture(scope="module")
def aligners(demo: EngineOptions) -> Iterator[Aligners]:
    import nltk

    before = list(nltk.data.path), alignment.nltk_load
    yield Aligners(dict(demo.aligner_paths), "cpu", demo.sentences_path)
    nltk.data.path[:], alignment.nltk_load = before


class Given(Aligners):
    """Aligners as the test made them, by language."""

    def __init__(self, sentences_path: str, known: dict[str, tuple[Any, dict[str, Any]]]) -> None:
        super().__init__({}, "cpu", sentences_path)
        self._known = known

    def load(self, language: str) -> Any:
        return self._known.get(language)


@pytest.fixture(scope="module")
def spoken() -> list[Heard]:
    """Recordings of one and of several chunks, of 1 to 20 seconds, cut as WhisperX cuts them."""
    speaker = Speaker()
    clips = [(text, speaker.say(text, voice=TRAINED_VOICES[7 * at]).pcm) for at, text in enumerate(TEXTS)]
    clips += [(" stop.", speaker.say("stop", voice=TRAINED_VOICES[3]).pcm)]
    alone = [heard([(text, pcm)]) for text, pcm in clips]
    return [*alone, heard(clips), heard(clips[::-1] * 2)]


def heard(clips: list[tuple[str, NDArray[np.int16]]]) -> Heard:
    segments, start = [], 0.0
    for text, pcm in clips:
        end = round(start + len(pcm) / SAMPLE_RATE, 3)
        segments.append({"text": text, "start": start, "end": end, "avg_logprob": -0.25 - len(segments) / 7})
        start = end
    sound = np.concatenate([pcm for _, pcm in clips]).astype(np.float32) / np.float32(32768)
    return Heard(segments, "en", sound)


def plain(answer: Any) -> Any:
    """With plain numbers, so that what is not a number equals itself, and -0.0 is not 0.0."""
    if isinstance(answer, dict):
        return {name: plain(value) for name, value in answer.items()}
    if isinstance(answer, list):
        return [plain(value) for value in answer]
    return answer if answer is None or isinstance(answer, str) else repr(float(answer))


def each(aligners: Aligners, items: list[Heard]) -> list[Any]:
    return [plain(aligners.align(item.segments, item.language, item.sound)) for item in items]


@contextmanager
def tables_counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The texts of the segments for which WhisperX itself was asked."""
    asked: list[str] = []
    real = Placer._upstream

    def look(self: Placer, segment: Any, *rest: Any) -> Any:
        asked.append(segment["text"])
        return real(self, segment, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Placer, "_upstream", look)
        yield asked


@pytest.mark.parametrize("batched", [False, True])
def test_real_speech_gets_the_words_and_times_that_each_recording_gets_alone(
    aligners: Aligners, spoken: list[Heard], batched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = each(aligners, spoken)
    assert all(alone), "every one of them is aligned"
    assert sum(len(segment["words"]) for item in alone for segment in item) > 100
    placer = Placer(aligners, batched=batched)
    with tables_counted(monkeypatch) as asked:
        assert plain(placer.place(spoken)) == alone
        assert plain(placer.place(spoken[::-1])) == alone[::-1]
        assert [plain(placer.place([item])) for item in spoken] == [[one] for one in alone]
    assert asked == [], "ordinary speech needs no tables"


# --- random models ----------------------------------------------------------------------------------------------------


def random_models() -> dict[str, tuple[Any, str]]:
    from torchaudio.models import wav2vec2_model
    from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

    def hugging_face(**changes: Any) -> tuple[Any, str]:
        return Wav2Vec2ForCTC(Wav2Vec2Config(
            hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128, conv_dim=(32,) * 7,
            vocab_size=len(DICTIONARY), **changes,
        )), "huggingface"  # fmt: skip

    def torchaudio(mode: str) -> tuple[Any, str]:
        layers = [(32, 10, 5)] + [(32, 3, 2)] * 4 + [(32, 2, 2)] * 2
        first = mode == "layer_norm"
        return wav2vec2_model(mode, layers, first, 64, 0.1, 128, 16, 2, 4, 0.1, 128, 0.1, 0.1, first, 0.1,
                              len(DICTIONARY)), "torchaudio"  # fmt: skip

    return {
        "xa": hugging_face(feat_extract_norm="group"),
        "xb": hugging_face(feat_extract_norm="layer", conv_bias=True),
        "xc": hugging_face(feat_extract_norm="layer", conv_bias=True, do_stable_layer_norm=True),
        "xd": torchaudio("group_norm"),
        "xe": torchaudio("layer_norm"),
    }


DICTIONARY = {"<pad>": 0, "|": 1, "'": 2} | {letter: at for at, letter in enumerate(string.ascii_lowercase, 3)}


@pytest.fixture(scope="module")
def random_aligners(demo: EngineOptions, aligners: Aligners) -> Given:
    known = {}
    with torch.random.fork_rng():
        torch.manual_seed(11)
        for language, (model, kind) in random_models().items():
            with torch.no_grad():
                for name, weight in model.named_parameters():
                    if weight.ndim > 1 and "conv" not in name:
                        weight.normal_(0, 1 / math.sqrt(weight.shape[-1]))
            known[language] = (model.eval(), {"language": language, "dictionary": DICTIONARY, "type": kind})
    return Given(demo.sentences_path, known)


def babble(seed: int, language: str, seconds: float) -> Heard:
    """Swelling noise, in chunks of up to 30 seconds, with about as many letters a second as people say."""
    chance, noise = random.Random(seed), np.random.default_rng(seed)
    samples = int(seconds * SAMPLE_RATE)
    swell = 0.02 + np.abs(np.sin(np.arange(samples) / (1200 + 300 * (seed % 9)))) ** 3
    segments, start = [], 0.0
    while start < seconds:
        end = round(min(seconds, start + chance.uniform(3, 30)), 3)
        words = ["".join(chance.choices(string.ascii_letters + "'", k=chance.randint(1, 11))) for _ in
                 range(max(1, int(1.8 * (end - start))))]  # fmt: skip
        text = " " + " ".join(word + chance.choice(("", "", "", ",", ".", "?")) for word in words)
        segments.append({"text": text, "start": start, "end": end, "avg_logprob": -chance.random()})
        start = end
    return Heard(segments, language, (noise.normal(0, 0.2, samples) * swell).astype(np.float32))


@pytest.mark.parametrize("batched", [False, True])
def test_random_models_of_every_class_place_mixed_lengths_as_each_recording_alone(
    random_aligners: Given, batched: bool
) -> None:
    lengths = (0.05, 30.0, 0.3, 13.0, 41.0, 5.0, 1.0)
    items = [
        babble(10 * at + number, language, seconds)
        for at, language in enumerate(random_aligners._known)
        for number, seconds in enumerate(lengths)
    ]
    random.Random(5).shuffle(items)  # the languages come mixed
    alone = each(random_aligners, items)
    placed = Placer(random_aligners, batched=batched).place(items)
    assert sum(one is not None and any(segment["words"] for segment in one) for one in alone) > len(items) / 2
    assert plain(placed) == alone


def test_a_language_without_an_aligner_gets_none_and_costs_the_others_nothing(
    aligners: Aligners, spoken: list[Heard]
) -> None:
    stranger = Heard(spoken[0].segments, "xx", spoken[0].sound)
    placed = Placer(aligners, batched=True).place([spoken[1], stranger, spoken[2]])
    assert plain(placed) == [*each(aligners, spoken[1:2]), None, *each(aligners, spoken[2:3])]
    assert Placer(aligners, batched=True).place([]) == []


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("spoil", ["start", "text", "end"])
def test_a_recording_that_cannot_be_aligned_fails_alone(
    aligners: Aligners, spoken: list[Heard], batched: bool, spoil: str, caplog: pytest.LogCaptureFixture
) -> None:
    broken = {"start": math.nan, "text": None, "end": math.inf}[spoil]
    bad = Heard([spoken[1].segments[0] | {spoil: broken}], "en", spoken[1].sound)
    assert plain(Placer(aligners, batched=batched).place([spoken[0], bad, spoken[2]])) == [
        *each(aligners, spoken[:1]),
        None,
        *each(aligners, spoken[2:3]),
    ]
    assert [record.message for record in caplog.records if "not aligned" in record.message]
    assert "unit four" not in caplog.text


class Failing(torch.nn.Module):
    """A model that fails for one wave's length, in a batch and alone."""

    def __init__(self, model: Any, samples: int, message: str) -> None:
        super().__init__()
        self.model, self.samples, self.message = model, samples, message

    def forward(self, wave: Any) -> Any:
        if wave.shape[-1] == self.samples:
            raise RuntimeError(self.message)
        return self.model(wave)


@pytest.mark.parametrize("batched", [False, True])
def test_a_recording_on_which_the_model_fails_fails_alone_and_a_gpus_trouble_is_raised(
    demo: EngineOptions, aligners: Aligners, spoken: list[Heard], batched: bool
) -> None:
    model, description = aligners.load("en")
    samples = len(spoken[1].sound)
    items, good = spoken[:3], each(aligners, spoken[:3])
    sick = Given(demo.sentences_path, {"en": (Failing(model, samples, "bad kernel"), description)})
    assert plain(Placer(sick, batched=batched).place(items)) == [good[0], None, good[2]] == each(sick, items)
    for message in ("CUDA error: launch failure", "CUDA out of memory"):  # the machine's trouble, never a recording's
        lost = Given(demo.sentences_path, {"en": (Failing(model, samples, message), description)})
        with pytest.raises(RuntimeError, match=message):
            Placer(lost, batched=batched).place(items)


def test_a_batch_that_fails_is_tried_one_by_one(
    aligners: Aligners, spoken: list[Heard], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = aligners.load("en")

    def refuse(_: Any, arguments: tuple[Any, ...]) -> None:
        if len(arguments[0]) > 1:
            raise ValueError("not so many")

    hook = model.lm_head.register_forward_pre_hook(refuse)
    try:
        placed = Placer(aligners, batched=True).place(spoken)
    finally:
        hook.remove()
    assert plain(placed) == each(aligners, spoken)


def test_whisperx_itself_is_left_as_it_is(aligners: Aligners, spoken: list[Heard]) -> None:
    before = dict(vars(alignment))
    Placer(aligners, batched=True).place(spoken[:2])
    assert dict(vars(alignment)) == before


# --- sentences --------------------------------------------------------------------------------------------------------

WORD = st.one_of(
    st.sampled_from(["hello", "a", "I", "it's", "today", "Mr.", "U.S.", "e.g.", "extraordinarily,", "no", "yes"]),
    st.sampled_from(["42", "3.5", "$7", "10%", "naïve", "straße", "你好", "привет", "שלום", "İstanbul", "ß", "ﬁn"]),
    st.sampled_from(["|", "a|b", "<pad>", "...", "—", "\u200b", "🙂", "\n", "x\ty", "\u00a0", "", "\ud800", "\x00"]),
    st.text(string.ascii_letters + "'", min_size=1, max_size=14),
    st.text(max_size=4),
)
PLAIN = st.text(string.ascii_letters + "'", min_size=1, max_size=14)
STOP = st.sampled_from(["", "", "", ",", ".", ".", "?", "!", "...", "。", '."'])
GAP = st.sampled_from([" ", " ", " ", " ", "  ", "   ", "\n", " \n"])


@st.composite
def text(draw: st.DrawFn, word: st.SearchStrategy[str] = WORD, gap: st.SearchStrategy[str] = GAP) -> str:
    parts = draw(st.lists(st.tuples(word, STOP, gap), min_size=1, max_size=14))
    return draw(st.sampled_from(["", " ", " ", " ", "  ", "\n"])) + "".join(map("".join, parts))


SAID = st.one_of(text(), text(PLAIN, st.just(" ")), text(PLAIN, st.just(" ")))


@st.composite
def recording(draw: st.DrawFn) -> tuple[list[dict[str, Any]], float]:
    """Segments that may lie past the end, be shorter than their text, or have no probability."""
    segments, start = [], draw(st.sampled_from([0.0, 0.031, 7.123]))
    for said in draw(st.lists(SAID, min_size=1, max_size=3)):
        length = draw(st.one_of(st.floats(0.01, 1.0), st.floats(1.0, 12.0)))
        segment: dict[str, Any] = {"text": said, "start": round(start, 3), "end": round(start + length, 3)}
        logprob = draw(st.sampled_from([None, -0.25, -0.5, -0.75, -1, math.nan, np.float64(-0.3)]))
        segments.append(segment if logprob is None else segment | {"avg_logprob": logprob})
        start += length + draw(st.sampled_from([0.0, 0.5]))
    return segments, start * draw(st.sampled_from([1.0, 1.0, 1.2, 0.7]))


class Noise:
    """A model whose answer to a wave is noise, always the same for the same length; `steps` makes many ties."""

    training = False

    def __init__(self, letters: int, seed: int, sharpness: float, *, steps: bool) -> None:
        self.letters, self.seed, self.sharpness, self.steps = letters, seed, sharpness, steps

    def __call__(self, wave: Any) -> Any:
        samples = wave.shape[-1]
        noise = torch.Generator().manual_seed(self.seed + samples)
        logits = torch.randn(1, (samples - 80) // 320, self.letters, generator=noise) * self.sharpness
        return types.SimpleNamespace(logits=logits.round() if self.steps else logits)


@st.composite
def noise_and_description(draw: st.DrawFn) -> tuple[Noise, dict[str, Any]]:
    letters = [*string.ascii_lowercase, "'", *draw(st.sampled_from([["|"], []]))]
    codes = draw(st.permutations([*letters, draw(st.sampled_from(["[pad]", "<pad>", "-"]))]))
    noise = Noise(
        len(codes), draw(st.integers(0, 2**30)), draw(st.sampled_from([0.2, 2.0, 8.0])), steps=draw(st.booleans())
    )
    language = draw(st.sampled_from(["en", "en", "en", "de", "ru", "ja"]))
    dictionary = {letter: code for code, letter in enumerate(codes)}
    return noise, {"language": language, "dictionary": dictionary, "type": "huggingface"}


@settings(EXACT, max_examples=400)
@given(noise_and_description(), recording(), st.booleans())
def test_whatever_is_said_and_heard_the_answer_is_whisperxs(
    demo: EngineOptions, aligners: Aligners, aligner: Any, said: Any, batched: bool
) -> None:
    segments, seconds = said
    language = aligner[1]["language"]
    known = Given(demo.sentences_path, {language: aligner})
    item = Heard(segments, language, np.zeros(int(min(seconds, 60.0) * SAMPLE_RATE), np.float32))
    assert plain(Placer(known, batched=batched).place([item, item])) == each(known, [item, item])


@settings(EXACT, max_examples=600)
@given(noise_and_description(), SAID, st.floats(0.1, 20.0), st.sampled_from([0.0, 0.031, 3.999, 36000.007]))
def test_a_segment_placed_without_tables_is_what_whisperx_says_of_it(
    aligners: Aligners, aligner: Any, said: str, seconds: float, start: float
) -> None:
    """Word for word, before anything is judged: also where whisperx.align gives nonsense."""
    noise, description = aligner
    segment = {"text": said, "start": start, "end": round(start + seconds, 3), "avg_logprob": -0.125}
    sound = torch.zeros(1).expand(37000 * SAMPLE_RATE)  # ten hours of one number
    first, last = int(segment["start"] * SAMPLE_RATE), int(segment["end"] * SAMPLE_RATE)
    emission = torch.log_softmax(noise(sound[None, first:last]).logits, dim=-1)[0]
    placed = sentences.place(segment, emission, description)
    if placed is not None:
        assert plain(placed) == plain(whisperx.align([segment], noise, description, sound, "cpu")["segments"])


@pytest.mark.parametrize(
    "said",
    [
        " Today is monday. It's 42 degrees, isn't it? Extraordinarily hot: 3.5 more than yesterday!",
        "naïve  straße 你好, привет. And so on...",
        "a",
        " I. ",
    ],
)
def test_ordinary_segments_are_placed_without_tables(aligners: Aligners, said: str) -> None:
    description = {"language": "en", "dictionary": DICTIONARY, "type": "huggingface"}
    noise = Noise(len(DICTIONARY), 5, 2.0, steps=False)
    sound = np.zeros(12 * SAMPLE_RATE, np.float32)
    segment = {"text": said, "start": 0.5, "end": 11.25, "avg_logprob": -0.125}
    emission = torch.log_softmax(noise(torch.zeros(1, int(10.75 * SAMPLE_RATE))).logits, dim=-1)[0]
    placed = sentences.place(segment, emission, description)
    assert plain(placed) == plain(whisperx.align([segment], noise, description, sound, "cpu")["segments"])


UNUSUAL: dict[str, Callable[[dict[str, Any], dict[str, Any]], None]] = {
    "a language without spaces": lambda _, description: description.update(language="ja"),
    "nothing that can be placed": lambda segment, _: segment.update(text="   "),
    "more letters than frames": lambda segment, _: segment.update(text="no" * 400),
    "a letter that is two in lower case": lambda segment, _: segment.update(text=" İstanbul is far."),
    "half a character": lambda segment, _: segment.update(text=" one \ud800 two"),
    "no probability": lambda segment, _: segment.update(avg_logprob=math.nan),
    "a word that begins before the text does": lambda segment, _: segment.update(text="\none two"),
    "two sentences at one time": lambda segment, _: segment.update(text=" one. two.", end=0.001),
    "no time": lambda segment, _: segment.update(end=segment["start"]),
}


@pytest.mark.parametrize("why", UNUSUAL)
def test_what_is_unusual_is_left_to_whisperx(aligners: Aligners, why: str) -> None:
    description = {"language": "en", "dictionary": DICTIONARY, "type": "huggingface"}
    segment = {"text": " one two.", "start": 0.0, "end": 4.0, "avg_logprob": -0.1}
    emission = torch.log_softmax(Noise(len(DICTIONARY), 1, 2.0, steps=False)(torch.zeros(1, 64000)).logits, -1)[0]
    assert sentences.place(segment, emission, description) is not None
    UNUSUAL[why](segment, description)
    assert sentences.place(segment, emission, description) is None
