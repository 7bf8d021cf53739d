"""``python -m benchmarks chaos``: what holds when machines fail and inputs are hostile."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from .verdicts import Outcome, Verdict

PARTS = ('kills', 'truncations', 'full-disk', 'inputs', 'canaries')
_HEAD = ('part', 'kind', 'tried', *(verdict.value for verdict in Verdict))
_SHOWN = 300  # characters of a fault


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog='python -m benchmarks chaos', description=__doc__)
    parser.add_argument('--kills', type=int, default=40, help='trainings that are killed')
    parser.add_argument('--inputs', type=int, default=1000, help='hostile inputs')
    parser.add_argument('--truncations', type=int, default=200, help='files cut, and disks full')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--only', nargs='+', choices=PARTS, default=PARTS, metavar='PART')
    parser.add_argument('--kinds', nargs='+', help='kinds of inputs, or toys that are killed')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write every outcome')
    return parser.parse_args(argv)


def parts(args: argparse.Namespace, folder: Path) -> dict[str, Callable[[], Iterator[Outcome]]]:
    """The parts that were asked for; each imports what it needs when it runs."""
    from .canaries import run_canaries
    from .inputs import KINDS, run_inputs
    from .kills import TOYS, run_kills
    from .truncations import run_full_disk, run_truncations

    kinds = [kind for kind in KINDS if kind in (args.kinds or KINDS)]
    toys = [toy for toy in TOYS if toy in (args.kinds or TOYS)]
    disks = max(1, args.kills // 5)

    def full_disk() -> Iterator[Outcome]:
        yield from run_full_disk(folder / 'full', args.truncations // 4, args.seed)
        yield from run_kills(folder / 'full_runs', disks, args.seed, toys, full_disk=True)

    every = {
        'kills': lambda: run_kills(folder / 'kills', args.kills, args.seed, toys),
        'truncations': lambda: run_truncations(folder / 'cut', args.truncations, args.seed),
        'full-disk': full_disk,
        'inputs': lambda: run_inputs(folder / 'inputs', args.inputs, args.seed, kinds),
        'canaries': lambda: run_canaries(folder / 'canaries'),
    }
    return {part: run for part, run in every.items() if part in args.only}


def table(found: dict[str, list[Outcome]]) -> str:
    """Markdown: a row for each kind."""
    rows = [_HEAD, ('---',) * len(_HEAD)]
    for part, outcomes in found.items():
        for kind in dict.fromkeys(outcome.kind for outcome in outcomes):
            counts = Counter(one.verdict for one in outcomes if one.kind == kind)
            cells = (str(counts[verdict]) for verdict in Verdict)
            rows.append((part, kind, str(counts.total()), *cells))
    total = Counter(one.verdict for outcomes in found.values() for one in outcomes)
    rows.append(('all', '', str(total.total()), *(str(total[verdict]) for verdict in Verdict)))
    return ''.join(f'| {" | ".join(row)} |\n' for row in rows)


def faults(outcomes: Iterable[Outcome]) -> str:
    """A line for each outcome that fails the campaign."""
    return ''.join(
        f'{one.verdict.value}: {one.kind}, {one.name}: {one.detail[:_SHOWN]}\n'
        for one in outcomes
        if one.bad
    )


def run_parts(args: argparse.Namespace) -> dict[str, list[Outcome]]:
    """Run the parts that were asked for; faults and times go to the standard error."""
    found: dict[str, list[Outcome]] = {}
    with tempfile.TemporaryDirectory(prefix='chaos-') as name:
        for part, run in parts(args, Path(name)).items():
            started = time.monotonic()
            (Path(name) / part).mkdir(exist_ok=True)
            found[part] = []
            for outcome in run():
                found[part].append(outcome)
                sys.stderr.write(faults([outcome]))
            seconds = time.monotonic() - started
            sys.stderr.write(f'{part}: {len(found[part])} in {seconds:.0f} s\n')
    return found


def main(argv: Sequence[str]) -> int:
    """Run the campaign; 1 if anything crashed, was silently wrong, or a resumed run differed."""
    import torch

    args = parse_args(argv)
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)  # each refusal has its own
    try:
        found = run_parts(args)
    finally:
        logging.disable(logging.NOTSET)
    sys.stdout.write(table(found))
    every = [one for outcomes in found.values() for one in outcomes]
    if args.json is not None:
        records = [
            dict(
                part=part,
                kind=one.kind,
                name=one.name,
                verdict=one.verdict.value,
                detail=one.detail,
            )
            for part, outcomes in found.items()
            for one in outcomes
        ]
        args.json.write_text(json.dumps(records, indent=1) + '\n')
    return int(any(one.bad for one in every))
