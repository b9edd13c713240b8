"""Re-creates the demo model from nothing: `python models/demo/train.py` trains both networks and exports them."""

from __future__ import annotations

import argparse
from pathlib import Path

from models.demo import align, asr, export
from models.demo.loop import Plan

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Train what is not trained yet, then write the model directories."""
    arguments = _parser().parse_args()
    threads = arguments.threads
    asr_plan = Plan(steps=12_000, rate=1.3e-3, seconds=80, seed=11, threads=threads)
    if arguments.from_checkpoint:
        asr_plan = Plan(steps=2_000, rate=8e-4, seconds=80, seed=12, start=0.5, threads=threads)
    if arguments.steps:
        asr_plan = Plan(
            steps=arguments.steps,
            rate=asr_plan.rate,
            seconds=80,
            seed=asr_plan.seed,
            start=asr_plan.start,
            threads=threads,
        )
    if "asr" in arguments.only:
        checkpoint = asr.train(asr_plan, arguments.work, arguments.from_checkpoint)
        export.export_asr(checkpoint, arguments.out / "asr.en")
    if "aligner" in arguments.only:
        plan = Plan(steps=arguments.steps or 1_500, rate=1.5e-3, seconds=80, seed=21, threads=threads)
        export.export_aligner(align.train(plan, arguments.work, None), arguments.out / "aligner")
    export.export_splitter(arguments.out / "nltk_data")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE, help="where the model directories go (default: here)")
    parser.add_argument("--work", type=Path, default=Path("build/demo-model"), help="where checkpoints are kept")
    parser.add_argument("--only", nargs="+", choices=("asr", "aligner"), default=("asr", "aligner"))
    parser.add_argument("--from-checkpoint", type=Path, help="go on from this asr.pt, with a shorter plan")
    parser.add_argument("--steps", type=int, help="another number of steps, to try things out")
    parser.add_argument("--threads", type=int, default=1, help="of the trainer; its loader is one process more")
    return parser


if __name__ == "__main__":
    main()
