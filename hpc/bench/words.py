"""What a contest came to, in words and as rows for a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

Told = Mapping[str, Any]
REST = "the rest (CTranslate2's own threads)"


def about(told: Told) -> dict[str, str]:
    """Where the figures come from, in words."""
    machine, clips, options = told["machine"], told["clips"], told["options"]
    versions = [f"{name} {machine[name]}" for name in ("whisperx", "faster-whisper", "ctranslate2", "torch")
                if name in machine]  # fmt: skip
    left_out = f"; {len(clips['left_out'])} left out" if clips["left_out"] else ""
    return {
        "command": told["command"],
        "clips": f"{clips['count']} of {clips['seconds']:.0f} s ({clips['origin']}), median {clips['median_seconds']} s"
        f", longest {clips['longest_seconds']} s{left_out}; {clips['prepare_seconds']:.0f} s to prepare, in no"
        " contestant's time",
        "model": f"{options['model']}, {options['compute_type']}, on {options['device']}, beam {options['beam_size']},"
        f" chunks of {options['chunk_size']} s, {options['vad_method']},"
        f" {'with' if options['align'] else 'without'} word times",
        "machine": f"{machine['cpu']}, {machine['cores']} cores, load {machine['load']} before;"
        f" GPU: {', '.join(machine['gpu']) or 'none'}",
        "versions": ", ".join(versions),
    }


def rows(told: Told) -> list[dict[str, Any]]:
    """A row a measure: ours, theirs, and how they stand to each other."""
    sides = {name: told["contestants"][name] for name in ("dayscribe", told["against"])}
    ratios = told["ratios"]
    table: list[tuple[str, Callable[[Mapping[str, Any]], str], str | None]] = [
        ("audio seconds a second (RTFx)", lambda one: _number(one["rtfx"], 1), "speed_up"),
        ("seconds", lambda one: _number(one["wall_seconds"], 1), None),
        ("CPU seconds", lambda one: _number(one["cpu_seconds"], 1), "less_cpu"),
        ("CPU seconds of others meanwhile", lambda one: _number(one["others_cpu_seconds"], 1), None),
        ("CPU seconds stolen by the host", lambda one: _number(one["stolen_cpu_seconds"], 1), None),
        ("windows a second", lambda one: _number(one["windows_per_second"], 2), None),
        ("windows in a batch, mean", _fill, None),
        ("generate calls", lambda one: _count(one, "generate_calls"), "fewer_generate_calls"),
        ("decoder steps, one after the other", lambda one: _count(one, "steps"), "fewer_steps"),
        ("language calls", lambda one: _count(one, "language_calls"), "fewer_language_calls"),
        ("batches halved for memory", lambda one: _count(one, "halvings"), None),
        ("GPU busy", lambda one: _percent(one["gpu_busy"]), None),
        ("memory at its peak, MB", lambda one: _number(one["peak_megabytes"], 0), None),
        ("seconds to load, not counted", lambda one: _number(one["load_seconds"], 1), None),
        ("recordings that failed", lambda one: str(one["failed"]), None),
    ]  # fmt: skip
    listed = [
        {
            "measure": measure,
            **{name: write(one) for name, one in sides.items()},
            "ratio": f"{ratios[key]:.2f}×" if key and ratios[key] is not None else "",
        }
        for measure, write, key in table
    ]
    stages = {name: with_rest(one) for name, one in sides.items()}
    for stage in dict.fromkeys(stage for one in stages.values() for stage in one):
        cells = {name: _number(one[stage], 1) if stage in one else "" for name, one in stages.items()}
        listed.append({"measure": f"CPU seconds: {stage}", **cells, "ratio": ""})
    return listed


def with_rest(one: Mapping[str, Any]) -> dict[str, float]:
    """CPU seconds by stage, and what no stage accounts for; nothing where stages are not known."""
    stages: dict[str, float] = {name: spent for name, spent in one["stage_cpu_seconds"].items() if spent}
    return {**stages, REST: max(0.0, round(one["cpu_seconds"] - sum(stages.values()), 2))} if stages else {}


def verdict(told: Told) -> str:
    """One sentence on whether both heard the same."""
    found, peer = told["identity"], told["against"]
    if found["identical"] is None:
        return (
            f"Identical: not asked of {peer}, which finds speech in another way. Of its {found['words']} words"
            f" {found['word_differences']} differ"
            + (f" ({100 * found['word_error_rate']:.2f} %)." if found["word_error_rate"] is not None else ".")
        )
    same = f"{found['same']} of {found['recordings']} recordings are the same"
    delta = found["max_logprob_delta"]
    close = f"log-probabilities within {delta:.0e}" if delta else "log-probabilities equal"
    if found["identical"]:
        return f"Identical: {same}, in language, text and the times of segments and words; {close}."
    kinds = ", ".join(f"{kind} in {count}" for kind, count in found["differing"].items())
    return f"Not identical: {same}; {kinds} differ; {found['word_differences']} of {found['words']} words; {close}."


def _fill(one: Mapping[str, Any]) -> str:
    if one["mean_fill"] is None:
        return "n/a"
    return f"{one['mean_fill']:.1f} of {one['batch_size']} ({100 * one['fill_share']:.0f} %)"


def _count(one: Mapping[str, Any], name: str) -> str:
    return f"{one['counts'][name]:,}" if name in one["counts"] else "n/a"


def _number(value: float | None, digits: int) -> str:
    return "n/a" if value is None or math.isnan(value) else f"{value:,.{digits}f}"


def _percent(share: float | None) -> str:
    return "n/a" if share is None else f"{100 * share:.0f} %"
