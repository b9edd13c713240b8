"""A Whisper with random weights and large-v3's vocabulary: `python -m models.random.whisper FOLDER` writes one.

It needs no download and no training, has any size, and says a nonsense that hangs on every part of its input: on the
sound, on the language, on each word before. So it shows whether two ways of running it are one, and how fast they are.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from ctranslate2.specs import WhisperSpec
from faster_whisper.tokenizer import Tokenizer
from numpy.typing import NDArray

from hpc.errors import BadSetting
from hpc.model import SAMPLE_RATE
from hpc.model_lock import Kind, describe, lock
from models.random import tokens

QUANTIZATIONS = ("float32", "float16", "bfloat16", "int8", "int8_float32", "int8_float16", "int8_bfloat16")
_FRAMES, _PLACES = 1500, 448  # of encoder and decoder, as in every Whisper

# The model lives by these proportions; they were found by trying, at widths from 128 to 1280. Per coordinate:
_FRAMED = 0.4  # what a frame's place brings into the encoder, beside its sound
_EMBEDDED, _PLACED = 0.8, 0.9  # what a token and its place bring into the decoder
_SAID = {"self": 0.6, "cross": 1.6, "forward": 0.8}  # what all layers of one kind add to it
_FOCUS = 2.0  # of queries and keys: attention looks at some places, not at the mean of all
_SHARPNESS = 5.0  # of the scores: a few tokens are likely each time, as in a trained model
_RISE = 3.0  # how far the end's score rises in the wanted number of tokens
_LANGUAGES_LAST = 6.0  # how far the languages' scores fall behind after the first place


def build(
    folder: Path,
    *,
    width: int = 128,
    encoder_layers: int = 2,
    decoder_layers: int = 2,
    heads: int = 4,
    mels: int = 128,
    seed: int = 0,
    mean_tokens: int = 50,
    quantization: str = "float32",
) -> Path:
    """Write the files that `whisperx.load_model` reads, and lock them. The same arguments give the same bytes."""
    if width % heads:
        raise BadSetting(f"The width is {width}; it is a multiple of the heads, of which there are {heads}.")
    spec = WhisperSpec(encoder_layers, heads, decoder_layers, heads)
    draw = _Draw(np.random.default_rng(seed), np.float16 if quantization == "float16" else np.float32)
    _encoder(spec.encoder, draw, width, mels)
    _decoder(spec.decoder, draw, width, mean_tokens)
    tokenizer = tokens.build()
    _configure(spec.config, tokenizer, decoder_layers, heads)
    spec.register_vocabulary([tokenizer.id_to_token(token) for token in range(tokens.SIZE)])
    spec.validate()
    spec.optimize(quantization)
    folder.mkdir(parents=True, exist_ok=True)
    spec.save(str(folder))
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    features = {"feature_size": mels, "sampling_rate": SAMPLE_RATE, "hop_length": 160, "chunk_length": 30, "n_fft": 400}
    (folder / "preprocessor_config.json").write_text(json.dumps(features, indent=1) + "\n")
    lock(describe(folder.name, folder, Kind.ASR))
    return folder


class _Draw:
    """Random weights, each made in the type in which it is kept: large-v3's are 3 GB in half precision."""

    def __init__(self, generator: np.random.Generator, dtype: type[np.floating[Any]]) -> None:
        self._generator, self._dtype = generator, dtype

    def normal(self, *shape: int, std: float) -> NDArray[Any]:
        drawn = self._generator.standard_normal(shape, np.float32)
        drawn *= std
        return self.kept(drawn)

    def kept(self, weights: NDArray[Any]) -> NDArray[Any]:
        return weights.astype(self._dtype, copy=False)

    def directions(self, width: int, count: int) -> NDArray[np.float32]:
        """Unit vectors at right angles to each other, as rows."""
        return np.linalg.qr(self._generator.standard_normal((width, count)))[0].T.astype(np.float32)

    def signs(self, width: int) -> NDArray[np.float32]:
        """As many 1 as -1."""
        return self._generator.permutation(np.resize(np.array([1, -1], np.float32), width))

    def linear(self, spec: Any, *stds: float, size: int, inputs: int) -> None:
        """One or several layers of one size as one, as CTranslate2 fuses queries, keys and values."""
        spec.weight = np.concatenate([self.normal(size, inputs, std=std / math.sqrt(inputs)) for std in stds])
        spec.bias = self.normal(size * len(stds), std=0.02)

    def norm(self, spec: Any, width: int) -> None:
        spec.gamma, spec.beta = self.kept(np.ones(width)), self.normal(width, std=0.02)

    def attention(self, spec: Any, width: int, share: float) -> None:
        """`share` is what it adds to each coordinate, given that the mean of what it looks at is half as strong."""
        *inner, outer = spec.linear
        stds = (_FOCUS, _FOCUS, 1.0)
        for layer, some in zip(inner, (stds,) if len(inner) == 1 else (stds[:1], stds[1:]), strict=True):
            self.linear(layer, *some, size=width, inputs=width)
        self.linear(outer, 2 * share, size=width, inputs=width)
        self.norm(spec.layer_norm, width)

    def forward(self, spec: Any, width: int, share: float) -> None:
        self.linear(spec.linear_0, 1.0, size=4 * width, inputs=width)
        self.linear(spec.linear_1, 1.5 * share, size=width, inputs=4 * width)  # GELU leaves two thirds
        spec.linear_1.weight -= spec.linear_1.weight.mean(axis=1, keepdims=True)  # and a mean, which would say the same
        self.norm(spec.layer_norm, width)


def _encoder(spec: Any, draw: _Draw, width: int, mels: int) -> None:
    for conv, inputs in ((spec.conv1, mels), (spec.conv2, width)):
        weight = draw.normal(width, inputs, 3, std=2 / math.sqrt(inputs))
        conv.weight = weight - weight.mean(axis=(1, 2), keepdims=True)  # hears differences, not loudness
        conv.bias = draw.normal(width, std=0.02)
    spec.position_encodings.encodings = draw.normal(_FRAMES, width, std=_FRAMED)
    share = 1 / math.sqrt(2 * len(spec.layer))
    for layer in spec.layer:
        draw.attention(layer.self_attention, width, share)
        draw.forward(layer.ffn, width, share)
    draw.norm(spec.layer_norm, width)


def _decoder(spec: Any, draw: _Draw, width: int, mean_tokens: int) -> None:
    """Words, places, and two directions that only the end and the languages are scored along.

    As in Whisper the tokens' embeddings are their scores' weights too. Half of the signs in between are turned, else
    each token would ask for itself again. Along `rising` places climb to the end; along `first` all but the first are
    far from the languages, which are asked for at the first place only.
    """
    signs = draw.signs(width)
    rising, first = draw.directions(width, 2)
    words = draw.normal(tokens.SIZE, width, std=_EMBEDDED).astype(np.float32)
    for direction in (signs * rising, signs * first):
        words -= np.outer(words @ direction, direction)
    length = _EMBEDDED * math.sqrt(width)  # of a row
    languages = list(tokens.LANGUAGE_IDS)
    words[tokens.END] = length * signs * rising
    words[languages] += length * signs * first
    words[tokens.NO_SPEECH] *= 4  # so that its probability is now about 0, now about 1
    words[tokens.NO_TIMES : tokens.SIZE] = 0  # never said, as in a model that was asked for no times
    spread = math.sqrt(_EMBEDDED**2 + _PLACED**2 + sum(share**2 for share in _SAID.values()))  # of the last layer's sum
    places = draw.normal(_PLACES, width, std=_PLACED).astype(np.float32)
    for direction in (rising, first):
        places -= np.outer(places @ direction, direction)
    places += np.outer(np.arange(_PLACES) * (_RISE * spread / mean_tokens), rising)
    places[1:] -= _LANGUAGES_LAST * spread * first
    spec.embeddings.weight = spec.projection.weight = draw.kept(words)
    spec.position_encodings.encodings = draw.kept(places)
    for layer in spec.layer:
        shares = {kind: share / math.sqrt(len(spec.layer)) for kind, share in _SAID.items()}
        draw.attention(layer.self_attention, width, shares["self"])
        draw.attention(layer.attention, width, shares["cross"])
        draw.forward(layer.ffn, width, shares["forward"])
    spec.layer_norm.gamma = draw.kept(signs * np.float32(_SHARPNESS / length))
    spec.layer_norm.beta = draw.kept(np.zeros(width))


def _configure(config: Any, tokenizer: Any, layers: int, heads: int) -> None:
    """What is never said, as OpenAI's own rules have it, and where things are."""
    spoken = Tokenizer(tokenizer, multilingual=True, task="transcribe", language="en")
    never = (tokens.START, *range(tokens.TRANSLATE, tokens.NO_TIMES))
    config.suppress_ids = sorted({*spoken.non_speech_tokens, *never})
    config.suppress_ids_begin = [tokens.SPACE, tokens.END]
    config.lang_ids = list(tokens.LANGUAGE_IDS)
    config.alignment_heads = [[layers - 1, head] for head in range(heads)]


def main() -> None:
    """Build one model from the command line."""
    arguments = vars(_parser().parse_args())
    print(build(arguments.pop("folder"), **arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m models.random.whisper",
        description="Write a Whisper with random weights and large-v3's vocabulary, for tests and benchmarks.",
        epilog="large-v3's shape: --width 1280 --heads 20 --encoder-layers 32 --decoder-layers 32 "
        "--quantization float16 (3 GB)",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="where the model is written")
    parser.add_argument("--width", type=int, default=128, help="of every layer; a multiple of the heads")
    parser.add_argument("--encoder-layers", type=int, default=2, help="layers that hear")
    parser.add_argument("--decoder-layers", type=int, default=2, help="layers that write")
    parser.add_argument("--heads", type=int, default=4, help="of each attention")
    parser.add_argument("--mels", type=int, default=128, help="frequency bands: 128 as large-v3, 80 as older ones")
    parser.add_argument("--seed", type=int, default=0, help="another number gives another model")
    parser.add_argument("--mean-tokens", type=int, default=50, help="about how long the text of a window is")
    parser.add_argument("--quantization", choices=QUANTIZATIONS, default="float32", help="how weights are stored")
    return parser


if __name__ == "__main__":
    main()
