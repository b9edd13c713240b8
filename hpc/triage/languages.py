"""Language codes as platforms write them, made comparable with Whisper's."""

from __future__ import annotations

import re

_CODE = re.compile(r"[a-z]{2,3}(?![a-z])")
# ISO 639-2 and 639-3 → what Whisper says, where the first two letters are not the answer.
_PAIRS = (
    "afr:af amh:am ara:ar arb:ar asm:as aze:az bak:ba bel:be ben:bn bod:bo tib:bo bos:bs bre:br bul:bg cat:ca "
    "ces:cs cze:cs cmn:zh cym:cy wel:cy dan:da deu:de ger:de ell:el gre:el eng:en est:et eus:eu baq:eu fao:fo "
    "fas:fa per:fa pes:fa fil:tl fin:fi fra:fr fre:fr glg:gl guj:gu hat:ht hau:ha haw:haw heb:he hin:hi hrv:hr "
    "hun:hu hye:hy arm:hy ind:id isl:is ice:is ita:it jav:jw jpn:ja kan:kn kat:ka geo:ka kaz:kk khm:km kor:ko "
    "lao:lo lat:la lav:lv lin:ln lit:lt ltz:lb mal:ml mar:mr mkd:mk mac:mk mlg:mg mlt:mt mon:mn mri:mi mao:mi "
    "msa:ms may:ms zsm:ms mya:my bur:my nep:ne nld:nl dut:nl nno:nn nob:no nor:no oci:oc pan:pa pol:pl por:pt "
    "pus:ps ron:ro rum:ro rus:ru san:sa sin:si slk:sk slo:sk slv:sl sna:sn snd:sd som:so spa:es sqi:sq alb:sq "
    "srp:sr sun:su swa:sw swh:sw swe:sv tam:ta tat:tt tel:te tgk:tg tgl:tl tha:th tuk:tk tur:tr ukr:uk urd:ur "
    "uzb:uz vie:vi yid:yi yor:yo yue:yue zho:zh chi:zh"
)
_LONG = dict(pair.split(":") for pair in _PAIRS.split())
# Written alike, or one the other's other name: no recording is suspect for being called the one and not the other.
_SAME = {
    "nb": "no", "nn": "no", "yue": "zh", "cn": "zh", "iw": "he", "in": "id", "ms": "id", "ji": "yi", "jv": "jw",
    "fil": "tl", "bs": "hr", "sr": "hr", "sh": "hr", "mo": "ro", "gsw": "de",
}  # fmt: skip
_NONE = frozenset({"un", "und", "unk", "zxx", "mul", "mis", "na", "nan", "non", "nul"})  # not known, or none at all


def code(said: str | None) -> str | None:
    """Whisper's code for "eng-US", "zh-Hans", "DE", '["eng-US"]'; None where no single language is told."""
    found = {_one(each) for each in _parts(said or "")} - {None}
    return found.pop() if len(found) == 1 else None


def _parts(said: str) -> list[str]:
    """Of a list, each; the region after the dash is no language."""
    return [part.strip(" \t\"'[]{}").lower() for part in said[:200].split(",")]


def _one(said: str) -> str | None:
    match = _CODE.match(said)
    if match is None or match[0] in _NONE:
        return None
    short = _LONG.get(match[0], match[0])
    return _SAME.get(short, short)
