"""Train and judge the method on real photos with a real pretrained ViT-S/14, on a CPU.

    python benchmarks/real_pilot/run.py --data DATA --out work_dirs/real_pilot --seeds 0 1

Trains through tools/train.py and configs/pilot, measures on the validation photos, prints the bars
and writes results.json and report.md. Finished trainings are not repeated. Exit status 1 if a bar
fails. --smoke runs every step on a few photos, to see that the chain works; its numbers mean
nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bars
import numpy as np
import report
import torch
from measures import PilotEvaluation, Scores

from refineclip.distill.region_preprocessor import RegionPreprocessor
from refineclip.encoders import RefinerCLIP
from refineclip.encoders.text.text_head import TextHead
from refineclip.encoders.weights.loading import load_submodule
from refineclip.evaluation.encoders.references import TappedEncoder
from refineclip.evaluation.regions.crop_features import encode_crops

ROOT = Path(__file__).resolve().parents[2]
MODEL = 'timm/vit_small_patch14_dinov2'
SUFFIX = '_dinov2-vit-s14_coco-pilot.py'
# Run -> config, and whether it needs the Refiner of the same seed and the text head.
STAGES = {
    bars.REFINER: ('refiner', False, False),
    bars.CONTROL: ('refiner-no-crop-control', False, False),
    bars.R_SC_V: ('r-sc-v', True, False),
    bars.RLA: ('rla', False, True),
    bars.SC_RLA: ('sc-rla', False, True),
    bars.R_SC_RLA: ('r-sc-rla', True, True),
}
STAGE_1 = (bars.REFINER, bars.CONTROL)
# The form and weight of SCD before docs/search.md, which docs/real_pilot.md was measured with.
PLAIN_SCD = dict(
    normalize='none',
    detach_keys=False,
    student_temperature=0.1,
    teacher_temperature=0.1,
    loss_weight=1.0,
)


class Pilot:
    """Paths, options and timings of one run of the benchmark.

    Attributes:
        num_train: Photos of train2017 to learn from, without labels.
        num_unlabeled: Photos of unlabeled2017 to learn from.
        num_labelled: Photos of train2017 whose labels fit the text heads.
        epoch_steps: Steps of an epoch.
        epochs: Epochs of stage 2, saved one by one; None for those of the configs, whose end alone
            is saved.
    """

    num_train, num_unlabeled, num_labelled = 100, 28, 100
    epoch_steps = 16

    def __init__(self, args: argparse.Namespace) -> None:
        self.coco: Path = args.data / 'coco'
        self.weights: Path = next((args.data / 'weights').glob('vit_small_patch14_dinov2*'))
        self.text_file = args.data / 'text_embeddings' / 'openai-vit-b16_coco-panoptic-133.npy'
        self.out: Path = args.out
        self.threads: int = args.threads
        self.smoke: bool = args.smoke
        self.refiner_regions: int = args.refiner_regions
        self.plain_scd: bool = args.plain_scd
        self.epochs: int | None = 2 if args.smoke and args.epochs else args.epochs
        self.out.mkdir(parents=True, exist_ok=True)
        self.clock = self.out / 'seconds.json'
        self.seconds: dict[str, float] = (
            json.loads(self.clock.read_text()) if self.clock.exists() else {}
        )
        self.images = self.out / 'pilot_images.txt'
        self.cls_head = self.out / 'text_head.safetensors'
        self.mean_head = self.out / 'text_head_mean_token.safetensors'

    def write_image_list(self) -> None:
        """Name the training photos: the first of train2017, filled up from unlabeled2017."""
        counts = {'train2017': self.num_train, 'unlabeled2017': self.num_unlabeled}
        names = [
            path.relative_to(self.coco).as_posix()
            for split, count in counts.items()
            for path in sorted((self.coco / split).glob('*.jpg'))[:count]
        ]
        if len(names) != sum(counts.values()):
            raise ValueError(
                f'expected {self.num_train} + {self.num_unlabeled} photos in train2017 and '
                f'unlabeled2017 of {self.coco}, got {len(names)}'
            )
        self.images.write_text('\n'.join(names[: 16 if self.smoke else None]) + '\n')

    def time(self, name: str, start: float) -> None:
        """Note how long a step took; the note outlives this process, as checkpoints do."""
        self.seconds[name] = round(time.perf_counter() - start, 1)
        self.clock.write_text(json.dumps(self.seconds, indent=1) + '\n')

    def call(self, name: str, command: list[str], log: Path) -> None:
        """Run one of the project's tools in a process of its own."""
        print(f'{name}: {" ".join(command)}', flush=True)
        start = time.perf_counter()
        environment = {**os.environ, 'OMP_NUM_THREADS': str(self.threads)}
        with log.open('w') as file:
            done = subprocess.run(
                [sys.executable, *command], stdout=file, stderr=subprocess.STDOUT, env=environment
            )
        if done.returncode:
            tail = '\n'.join(log.read_text().splitlines()[-15:])
            raise RuntimeError(f'{name} failed with status {done.returncode}, see {log}:\n{tail}')
        self.time(name, start)

    def fit_heads(self) -> None:
        """Fit both text heads on the labelled training crops."""
        if self.cls_head.exists() and self.mean_head.exists():
            return
        command = [str(ROOT / 'tools/fit_text_head.py'), '--model', MODEL]
        command += ['--pretrained', str(self.weights), '--data-root', str(self.coco)]
        command += ['--text-embeddings', str(self.text_file), '--out', str(self.cls_head)]
        command += ['--mean-token-out', str(self.mean_head)]
        command += ['--limit', str(10 if self.smoke else self.num_labelled)]
        self.call('text heads', command, self.out / 'text_head.log')

    def checkpoint(self, run: str, seed: int) -> Path:
        """Train one run with one seed unless that is done; return its checkpoint."""
        config = STAGES[run][0]
        epochs = None if run in STAGE_1 else self.epochs
        folder = self.folder(config, seed, epochs)
        return self.train(
            f'{run}, seed {seed}', config, folder, lambda: self.options(run, seed), epochs
        )

    def folder(self, name: str, seed: int, epochs: int | None) -> Path:
        """The work_dir of a run."""
        length = '' if epochs is None else f'_{epochs}-epochs'
        return self.out / f'{name}{length}_seed{seed}'

    def train(
        self,
        name: str,
        config: str,
        folder: Path,
        options: Callable[[], dict[str, Any]],
        epochs: int | None = None,
    ) -> Path:
        """Train a config of configs/pilot in a folder unless that is done; return its checkpoint.

        Args:
            name: Of the run, for the log.
            config: Name of the config, without its suffix.
            folder: Its work_dir.
            options: Makes what follows --cfg-options, training first what that needs.
            epochs: Its length where every epoch is saved; None where the end alone is.
        """
        last = f'epoch_{"*" if epochs is None else epochs}.pth'
        if saved := list(folder.glob(last)):
            return saved[0]
        folder.mkdir(parents=True, exist_ok=True)
        command = [str(ROOT / 'tools/train.py'), str(ROOT / 'configs/pilot' / (config + SUFFIX))]
        command += ['--work-dir', str(folder), '--cfg-options']
        command += [f'{key}={value}' for key, value in options().items()]
        self.call(name, command, folder / 'train.log')
        return next(folder.glob(last))

    def options(self, run: str, seed: int) -> dict[str, Any]:
        """What a run lays over its config; trains the Refiner that it needs."""
        _, needs_refiner, needs_head = STAGES[run]
        encoder = 'encoder' if run in STAGE_1 else 'student'
        options = {
            'randomness.seed': seed,
            'train_dataloader.dataset.data_root': self.coco,
            'train_dataloader.dataset.ann_file': self.images,
            f'model.{encoder}.pretrained': self.weights,
            'model.cache_dir': self.out / 'cache',
        }
        if run in STAGE_1:
            options['model.max_regions_per_image'] = self.refiner_regions
        elif self.plain_scd:
            options |= {f'model.scd.{key}': value for key, value in PLAIN_SCD.items()}
        if self.smoke:
            options['train_cfg.max_epochs'] = 1
        if self.epochs is not None and run not in STAGE_1:
            options |= self.schedule(self.epochs)
        if needs_refiner:
            options['model.refiner.checkpoint'] = self.checkpoint(bars.REFINER, seed)
        if needs_head:
            options['model.text_head'] = self.cls_head
        return options

    def schedule(self, epochs: int) -> dict[str, Any]:
        """Options that stretch stage 2 and its cosine, and save every epoch."""
        steps, warmup = epochs * self.epoch_steps, 8
        return {
            'train_cfg.max_epochs': epochs,
            'param_scheduler.1.end': steps,
            'param_scheduler.1.T_max': steps - warmup,
            'default_hooks.checkpoint.interval': 1,
        }

    def encoder(self, run: str | None = None, seed: int = 0) -> RefinerCLIP:
        """Load what a run has trained; the frozen encoder without a run."""
        refiner = None
        if run in STAGE_1:
            refiner = dict(num_blocks=3, checkpoint=str(self.checkpoint(run, seed)))
        model = RefinerCLIP(MODEL, str(self.weights), dense_mode='plain', refiner=refiner)
        if run is not None and run not in STAGE_1:
            load_submodule(model, self.checkpoint(run, seed), 'student.')
        return model.eval()


def make_preprocessor(size: int = 224) -> RegionPreprocessor:
    """Squash images and crops to a square, as the pilot's configs do."""
    return RegionPreprocessor(
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        image_size=size,
        crop_size=size,
        image_resize='squash',
        crop_resize='squash',
    )


def frozen_scores(pilot: Pilot, evaluation: PilotEvaluation) -> dict[str, Scores]:
    """Score the frozen encoder: layers 12 and 10, crops against regions of interest."""
    model, preprocess = pilot.encoder(), make_preprocessor()
    visual, head = model.visual, TextHead.load(pilot.cls_head)

    start = time.perf_counter()
    crops = encode_crops(visual, evaluation.dataset.images, preprocess)
    pilot.time('validation crops', start)
    maps = evaluation.maps(model)
    scores = {bars.FROZEN: evaluation.spatial_scores(maps) | evaluation.box_scores(maps, head)}
    tapped = evaluation.maps(TappedEncoder(visual, 9))
    scores[bars.LAYER_10] = evaluation.spatial_scores(tapped)
    mean_head = TextHead.load(pilot.mean_head)
    return scores | evaluation.crop_scores(crops, maps, head, mean_head)


def run_all(
    pilot: Pilot, seeds: list[int]
) -> tuple[dict[str, Scores], dict[str, list[Scores]], list[float]]:
    """Train and score everything.

    Returns:
        Scores of what is not trained, scores of each run by seed, and the cosine between RoI and
        crop tokens before stage 1 of each seed.
    """
    pilot.write_image_list()
    pilot.fit_heads()
    text = torch.from_numpy(np.load(pilot.text_file)).float()
    photos = slice(12 if pilot.smoke else None)
    evaluation = PilotEvaluation(pilot.coco, text, make_preprocessor(), photos=photos)
    fixed = frozen_scores(pilot, evaluation)
    head = TextHead.load(pilot.cls_head)
    trained: dict[str, list[Scores]] = {run: [] for run in STAGES}
    cosines = []
    for seed in seeds:
        for run in STAGES:
            model = pilot.encoder(run, seed)
            start = time.perf_counter()
            maps = evaluation.maps(model)
            scores = evaluation.spatial_scores(maps) | evaluation.box_scores(maps, head)
            trained[run].append(scores)
            pilot.time(f'measures of {run}, seed {seed}', start)
            print(run, seed, {k: round(v.value, 4) for k, v in scores.items()}, flush=True)
        state = torch.load(pilot.checkpoint(bars.REFINER, seed), weights_only=False)['state_dict']
        cosines.append(float(state['initial_cosine']))
    return fixed, trained, cosines


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--data', type=Path, required=True, help='folder with coco/ and weights/')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/real_pilot'))
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1])
    parser.add_argument('--threads', type=int, default=2, help='CPU threads')
    parser.add_argument(
        '--refiner-regions', type=int, default=4, help='regions per photo and step of stage 1'
    )
    parser.add_argument(
        '--plain-scd', action='store_true', help='SCD as it was before docs/search.md'
    )
    parser.add_argument(
        '--epochs', type=int, help='epochs of stage 2, 16 steps each (default: 3, of the configs)'
    )
    parser.add_argument('--smoke', action='store_true', help='a few photos, one epoch')
    args = parser.parse_args(argv)
    need_data(parser, args.data)
    return args


def need_data(parser: argparse.ArgumentParser, data: Path) -> None:
    """End with the parser's error unless the folder has what the pilot reads."""
    if not (data / 'coco').is_dir():
        parser.error(f'expected a folder with coco/, weights/ and text_embeddings/, got {data}')


def main() -> int:
    """Run, report, and tell by the exit status whether the bars hold."""
    args = parse_args()
    torch.set_num_threads(args.threads)
    pilot = Pilot(args)
    fixed, trained, cosines = run_all(pilot, args.seeds)
    results = report.collect(fixed, trained, args.seeds)
    results |= {
        'initial_cosine': cosines,
        'seconds': pilot.seconds,
        'environment': report.environment(args.threads),
        'command': f'python benchmarks/real_pilot/run.py --data DATA --seeds '
        f'{" ".join(map(str, args.seeds))} --threads {args.threads} '
        f'--refiner-regions {args.refiner_regions}'
        + ' --plain-scd' * args.plain_scd
        + (f' --epochs {args.epochs}' if args.epochs else '')
        + ' --smoke' * args.smoke,
    }
    (args.out / 'results.json').write_text(json.dumps(results, indent=1) + '\n')
    (args.out / 'report.md').write_text(report.markdown(results))
    print(report.bar_table(results))
    passed = [v['passed'] for v in results['bars'] if v['enforced']]
    print(f'{sum(passed)} of {len(passed)} enforced thresholds hold')
    return 0 if all(passed) else 1


if __name__ == '__main__':
    sys.exit(main())
