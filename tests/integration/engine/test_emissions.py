"""Many stretches of sound through a wav2vec2 model at once: each gets what it gets alone, whatever lies beside it."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import pytest

pytestmark = pytest.mark.speech
torch = pytest.importorskip("torch")

from hpc.engines.whisperx.emissions import Bound, emission, emissions  # noqa: E402

RATE = 16000
LETTERS = 32
SMALL = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128,
    "conv_dim": (32,) * 7, "vocab_size": LETTERS,
}  # fmt: skip
SECONDS = (0.05, 30.0, 0.4, 12.345, 3.0, 0.025, 21.0, 3.0, 0.02, 0.001, 7.7)  # the usual range, and below any use
WORST = 2e-5  # of a logarithm; another order of addition makes about a tenth of this


def hugging_face(**changes: Any) -> tuple[Any, str]:
    from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

    return sharp(Wav2Vec2ForCTC(Wav2Vec2Config(**SMALL | changes))), "huggingface"


def torchaudio_model(mode: str, *, norm_first: bool) -> tuple[Any, str]:
    from torchaudio.models import wav2vec2_model

    layers = [(32, 10, 5)] + [(32, 3, 2)] * 4 + [(32, 2, 2)] * 2
    model = wav2vec2_model(
        extractor_mode=mode, extractor_conv_layer_config=layers, extractor_conv_bias=norm_first, encoder_embed_dim=64,
        encoder_projection_dropout=0.1, encoder_pos_conv_kernel=128, encoder_pos_conv_groups=16, encoder_num_layers=2,
        encoder_num_heads=4, encoder_attention_dropout=0.1, encoder_ff_interm_features=128,
        encoder_ff_interm_dropout=0.1, encoder_dropout=0.1, encoder_layer_norm_first=norm_first,
        encoder_layer_drop=0.1, aux_num_out=LETTERS,
    )  # fmt: skip
    return sharp(model), "torchaudio"


def sharp(model: Any) -> Any:
    """A fresh model hears next to nothing; with larger weights its answers depend on what it hears."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1 and "conv" not in name:
                weight.normal_(0, 1 / math.sqrt(weight.shape[-1]))
    return model.eval()


MODELS: dict[str, Callable[[], tuple[Any, str]]] = {
    "HF group": lambda: hugging_face(feat_extract_norm="group"),
    "HF layer": lambda: hugging_face(feat_extract_norm="layer", conv_bias=True),
    "HF group, stable": lambda: hugging_face(feat_extract_norm="group", do_stable_layer_norm=True),
    "HF layer, stable": lambda: hugging_face(feat_extract_norm="layer", conv_bias=True, do_stable_layer_norm=True),
    "torchaudio group": lambda: torchaudio_model("group_norm", norm_first=False),
    "torchaudio layer": lambda: torchaudio_model("layer_norm", norm_first=True),
    "HF with adapter": lambda: hugging_face(add_adapter=True, output_hidden_size=64),
    "HF with attention adapters": lambda: hugging_face(do_stable_layer_norm=True, adapter_attn_dim=16),
}
KNOWN = [name for name in MODELS if "adapter" not in name]
OVER_TIME = [name for name in KNOWN if "group" in name]


@pytest.fixture(scope="module")
def models() -> Callable[[str], tuple[Any, str]]:
    made: dict[str, tuple[Any, str]] = {}

    def get(name: str) -> tuple[Any, str]:
        if name not in made:
            with torch.random.fork_rng():
                torch.manual_seed(len(made))
                made[name] = MODELS[name]()
        return made[name]

    return get


@pytest.fixture(scope="module")
def waves() -> list[Any]:
    """Sound that swells and fades, as loud as speech, so that its mean and spread differ from place to place."""
    noise = torch.Generator().manual_seed(3)
    made = []
    for number, seconds in enumerate(SECONDS):
        samples = int(seconds * RATE)
        swell = 0.02 + torch.sin(torch.arange(samples) / (900 + 300 * number)).abs() ** 3
        made.append(torch.randn(samples, generator=noise) * swell * 0.2)
    return made


@contextmanager
def rows_counted(model: Any, most: float = math.inf) -> Any:
    """How many items each forward pass of the encoder got; more padded frames than `most` are too many for memory."""
    seen: list[int] = []
    encoder = model.wav2vec2.encoder if hasattr(model, "wav2vec2") else model.encoder.transformer

    def look(_: Any, arguments: tuple[Any, ...]) -> None:
        if arguments[0].shape[0] * arguments[0].shape[1] > most:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        seen.append(arguments[0].shape[0])

    hook = encoder.register_forward_pre_hook(look)
    yield seen
    hook.remove()


def furthest(ours: list[Any], alone: list[Any]) -> float:
    assert [one.shape for one in ours] == [other.shape for other in alone]
    return max(float((one - other).abs().max()) for one, other in zip(ours, alone, strict=True))


@pytest.mark.parametrize("name", MODELS)
def test_each_item_of_a_mixed_batch_gets_what_it_gets_alone(models: Any, waves: list[Any], name: str) -> None:
    model, kind = models(name)
    alone = [emission(model, kind, wave, "cpu") for wave in waves]
    with rows_counted(model) as rows:
        together = emissions(model, kind, waves, "cpu", bound=Bound(1000.0))
    assert furthest(together, alone) < WORST
    short = sum(len(wave) < 400 for wave in waves)
    assert rows == ([len(waves) - short] + [1] * short if name in KNOWN else [1] * len(waves))


@pytest.mark.parametrize("name", MODELS)
def test_one_item_alone_gets_what_whisperx_computes(models: Any, waves: list[Any], name: str) -> None:
    """Word for word the lines of `whisperx.align`."""
    model, kind = models(name)
    for wave in waves:
        segment = wave[None]
        lengths = None
        if segment.shape[-1] < 400:
            lengths = torch.as_tensor([segment.shape[-1]])
            segment = torch.nn.functional.pad(segment, (0, 400 - segment.shape[-1]))
        with torch.inference_mode():
            logits = model(segment, lengths=lengths)[0] if kind == "torchaudio" else model(segment).logits
            said = torch.log_softmax(logits, dim=-1)[0]
        assert torch.equal(emission(model, kind, wave, "cpu"), said)


@pytest.mark.parametrize("name", OVER_TIME)
def test_plain_padding_would_fail_these_tests(models: Any, waves: list[Any], name: str) -> None:
    model, kind = models(name)
    long = [wave for wave in waves if len(wave) >= 400]
    padded = torch.nn.utils.rnn.pad_sequence(long, batch_first=True)
    with torch.inference_mode():
        logits = model(padded)[0] if kind == "torchaudio" else model(padded).logits
    told = torch.log_softmax(logits, dim=-1)
    alone = [emission(model, kind, wave, "cpu") for wave in long]
    plain = [told[at, : len(right)] for at, right in enumerate(alone)]
    assert furthest(plain, alone) > 1e-3 > 10 * WORST


@pytest.mark.parametrize("name", ["HF group", "torchaudio layer"])
def test_batches_hold_no_more_padded_sound_than_the_bound(models: Any, waves: list[Any], name: str) -> None:
    model, kind = models(name)
    long = [wave for wave in waves if len(wave) >= 400]
    with rows_counted(model) as rows:
        told = emissions(model, kind, long, "cpu", bound=Bound(45.0))
    assert sum(rows) == len(long) > len(rows)
    lengths = sorted((len(wave) / RATE for wave in long), reverse=True)
    starts = [sum(rows[:at]) for at in range(len(rows))]
    assert all(lengths[start] * count <= 45 or count == 1 for start, count in zip(starts, rows, strict=True))
    assert furthest(told, [emission(model, kind, wave, "cpu") for wave in long]) < WORST


@pytest.mark.parametrize("name", ["HF layer", "torchaudio group"])
def test_out_of_memory_halves_the_bound_for_good_and_changes_nothing(models: Any, waves: list[Any], name: str) -> None:
    model, kind = models(name)
    bound = Bound(1000.0)
    with rows_counted(model, most=2000) as rows:  # one of 30 s, not two
        told = emissions(model, kind, waves, "cpu", bound=bound)
        assert max(rows) > 1
        assert bound.seconds < 60
        left = bound.seconds
        emissions(model, kind, waves, "cpu", bound=bound)
    assert bound.seconds == left
    assert furthest(told, [emission(model, kind, wave, "cpu") for wave in waves]) < WORST


def test_what_does_not_fit_alone_is_an_error(models: Any, waves: list[Any]) -> None:
    model, kind = models("HF layer")
    with rows_counted(model, most=100), pytest.raises(RuntimeError, match="out of memory"):
        emissions(model, kind, waves, "cpu", bound=Bound(1000.0))


def test_a_lost_gpu_and_any_other_error_are_raised(models: Any, waves: list[Any]) -> None:
    model, kind = models("HF layer")

    def lose(*_: Any) -> None:
        raise RuntimeError("CUDA error: unspecified launch failure")

    hook = model.lm_head.register_forward_pre_hook(lose)
    bound = Bound(1000.0)
    with pytest.raises(RuntimeError, match="launch failure"):
        emissions(model, kind, waves, "cpu", bound=bound)
    hook.remove()
    assert bound.seconds == 1000.0


def test_a_model_in_training_goes_one_by_one(models: Any, waves: list[Any]) -> None:
    """Its dropout makes every answer another one; nothing can be said about a batch of it."""
    model, kind = models("HF group")
    model.train()
    try:
        with rows_counted(model) as rows:
            emissions(model, kind, waves[1:4], "cpu", bound=Bound(1000.0))
    finally:
        model.eval()
    assert rows == [1, 1, 1]


def test_nothing_in_gives_nothing_out(models: Any) -> None:
    model, kind = models("HF group")
    assert emissions(model, kind, [], "cpu", bound=Bound(1.0)) == []
