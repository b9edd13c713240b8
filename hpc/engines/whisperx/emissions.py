"""What an aligner hears in each frame of many stretches of sound, computed together and equal to one at a time."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence
from torchaudio.models import Wav2Vec2Model
from torchaudio.models.wav2vec2.components import SelfAttention
from transformers import Wav2Vec2ForCTC
from whisperx.audio import SAMPLE_RATE

from hpc.engines.whisperx.offline import is_out_of_memory

SHORTEST = 400  # samples; WhisperX pads what is shorter


@dataclass
class Bound:
    """How much sound, padding included, goes through the model at once; half of it after each lack of memory."""

    seconds: float


@dataclass(frozen=True)
class _Parts:
    """A wav2vec2 model taken apart: convolutions, then an encoder that is told how long each item is."""

    convolutions: Sequence[Any]  # modules with .conv; a call takes and gives [item, channel, time]
    alone: int  # how many of them are for one item at a time, since they normalise over time
    encode: Callable[[Any, Any], Any]  # [item, frame, channel] and lengths (None: all are full) to logits


def emissions(model: Any, kind: str, waves: Sequence[Any], device: str, *, bound: Bound) -> list[Any]:
    """`emission` of each wave, to within the rounding of another order of addition.

    Padding alone would change results: the usual English aligner normalises over the whole of its input, and
    attention looks everywhere. So the layers that normalise over time see each wave as it is, and the encoder gets
    a mask. A model of another make than is known here goes wave by wave.
    """
    parts = _take_apart(model, kind)
    heard: dict[int, Any] = {}
    if parts is not None:
        left = [at for at, wave in enumerate(waves) if wave.shape[-1] >= SHORTEST]
        left.sort(key=lambda at: waves[at].shape[-1], reverse=True)  # batches of similar length
        while left:
            batch = _as_many_as_fit(parts, [waves[at] for at in left], device, bound)
            heard.update(zip(left, batch, strict=False))
            del left[: len(batch)]
    return [heard[at] if at in heard else emission(model, kind, wave, device) for at, wave in enumerate(waves)]


def emission(model: Any, kind: str, wave: Any, device: str) -> Any:
    """What `whisperx.align` computes for a segment: [frame, letter], as logarithms of probabilities."""
    lengths = None
    if wave.shape[-1] < SHORTEST:
        lengths = torch.as_tensor([wave.shape[-1]]).to(device)
        wave = pad(wave, (0, SHORTEST - wave.shape[-1]))
    with torch.inference_mode():
        if kind == "torchaudio":
            logits, _ = model(wave[None].to(device), lengths=lengths)
        elif kind == "huggingface":
            logits = model(wave[None].to(device)).logits
        else:
            raise NotImplementedError(f"Align model of type {kind} not supported.")
        told: Any = torch.log_softmax(logits, dim=-1)[0].cpu()
        return told


def _as_many_as_fit(parts: _Parts, waves: Sequence[Any], device: str, bound: Bound) -> list[Any]:
    """The emissions of the first of these, the longest comes first."""
    longest = waves[0].shape[-1] / SAMPLE_RATE
    while True:
        count = max(1, min(len(waves), int(bound.seconds / longest)))
        try:
            return _together(parts, waves[:count], device)
        except Exception as error:
            if count == 1 or not is_out_of_memory(error):
                raise
            bound.seconds = count * longest / 2
        gc.collect()  # out here, where the error no longer holds on to what did not fit
        torch.cuda.empty_cache()


def _take_apart(model: Any, kind: str) -> _Parts | None:
    """None for whatever is not one of the two classes as they are known here."""
    if model.training:
        return None
    if kind == "huggingface" and type(model) is Wav2Vec2ForCTC:
        return _hugging_face(model)
    if kind == "torchaudio" and type(model) is Wav2Vec2Model and model.aux is not None:
        return _torchaudio(model)
    return None


def _hugging_face(model: Any) -> _Parts | None:
    config = model.config
    adapted = config.add_adapter or getattr(config, "adapter_attn_dim", None) is not None
    if adapted or config._attn_implementation not in ("sdpa", "eager"):
        return None

    def encode(features: Any, lengths: Any) -> Any:
        hidden, _ = model.wav2vec2.feature_projection(features)
        mask = None if lengths is None else torch.arange(hidden.shape[1], device=hidden.device) < lengths[:, None]
        return model.lm_head(model.wav2vec2.encoder(hidden, attention_mask=mask).last_hidden_state)

    layers = list(model.wav2vec2.feature_extractor.conv_layers)
    return _Parts(layers, _alone(layers), encode)


def _torchaudio(model: Any) -> _Parts | None:
    if any(type(layer.attention) is not SelfAttention for layer in model.encoder.transformer.layers):
        return None
    layers = list(model.feature_extractor.conv_layers)
    calls = [_Convolution(layer) for layer in layers]
    return _Parts(calls, _alone(layers), lambda features, lengths: model.aux(model.encoder(features, lengths)))


@dataclass(frozen=True)
class _Convolution:
    """One of torchaudio's, which want and give lengths, in the form of Hugging Face's."""

    layer: Any

    @property
    def conv(self) -> Any:
        return self.layer.conv

    def __call__(self, sound: Any) -> Any:
        return self.layer(sound, None)[0]


def _alone(layers: Sequence[Any]) -> int:
    """Up to the last layer with a norm over time. A norm over channels knows no neighbours, as no convolution pads."""
    over_time = [isinstance(getattr(layer, "layer_norm", None), torch.nn.GroupNorm) for layer in layers]
    return len(layers) - over_time[::-1].index(True) if any(over_time) else 0


def _together(parts: _Parts, waves: Sequence[Any], device: str) -> list[Any]:
    with torch.inference_mode():
        told, lengths = _logits(parts, waves, device)
        told = torch.log_softmax(told, dim=-1).cpu()
        return [told[at, :length].clone() for at, length in enumerate(lengths)]


def _logits(parts: _Parts, waves: Sequence[Any], device: str) -> tuple[Any, list[int]]:
    begun = [wave.to(device)[None, None] for wave in waves]
    for layer in parts.convolutions[: parts.alone]:
        begun = [layer(sound) for sound in begun]
    lengths = [sound.shape[-1] for sound in begun]
    sounds = pad_sequence([sound[0].T for sound in begun], batch_first=True).transpose(1, 2).contiguous()
    del begun
    for layer in parts.convolutions[parts.alone :]:
        sounds = layer(sounds)
        kernel, stride = layer.conv.kernel_size[0], layer.conv.stride[0]
        lengths = [(length - kernel) // stride + 1 for length in lengths]
    full = len(set(lengths)) == 1
    return parts.encode(sounds.transpose(1, 2), None if full else torch.tensor(lengths, device=device)), lengths
