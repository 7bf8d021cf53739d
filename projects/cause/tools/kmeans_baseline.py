"""Plain k-means on the frozen features, through the data and the metric of a stage-3 config.

    python projects/cause/tools/kmeans_baseline.py CONFIG [--checkpoint STAGE2] [--seeds 0 1 2]

Without a checkpoint k-means sees the encoder's tokens: what a head has to beat. With one it sees
the embeddings of that head, which separates the head's merit from that of the cluster probe.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner, set_random_seed
from sklearn.cluster import KMeans
from torch import Tensor

from refineclip.commands.config_options import add_config_options, override
from refineclip.datasets.loader_settings import settle_workers

sys.path.append(str(Path(__file__).resolve().parents[3]))


@torch.no_grad()
def gather(model: Any, loader: Any, seed: int, per_image: int) -> Tensor:
    """Random embeddings (M, E) of all images of a loader, ``per_image`` of each."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for batch in loader:
        data = model.data_preprocessor(batch)
        tokens = model.training_tokens(data['inputs'], data['img_path'], data['crop_box'])
        points = model.embed(tokens)
        for one in points:
            parts.append(one[torch.randperm(len(one), generator=generator)[:per_image]])
    return torch.cat(parts)


@torch.no_grad()
def evaluate(
    model: Any, loader: Any, centres: list[Tensor], evaluators: list[Evaluator]
) -> list[dict[str, float]]:
    """Score several sets of centres (num_clusters, E), each with its own evaluator, in one pass."""
    for batch in loader:
        images = model.data_preprocessor(batch)['inputs']
        tokens, grid = model.tokens(images)
        for one, evaluator in zip(centres, evaluators, strict=True):
            model.set_centres(one)
            scores = model.cluster_scores(tokens, grid, (images.shape[2], images.shape[3]))
            samples = [{'clusters': found} for found in scores.argmax(dim=1).cpu()]
            evaluator.process(data_samples=samples, data_batch=batch)
    return [evaluator.evaluate(len(loader.dataset)) for evaluator in evaluators]


def run(cfg: Config, checkpoint: str | None, seeds: list[int], per_image: int) -> list[dict]:
    """Fit k-means on the training images and score it on the test images, once per seed."""
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    settings = {**cfg.model, 'checkpoint': checkpoint}
    if checkpoint is None:
        settings['head'] = None
    model = MODELS.build(settings)
    model.init_weights()
    model.eval()
    set_random_seed(0)
    train = Runner.build_dataloader({**cfg.train_dataloader, 'drop_last': False}, seed=0)
    test = Runner.build_dataloader(cfg.test_dataloader, seed=0)
    points = gather(model, train, 0, per_image).numpy()
    fits = [KMeans(len(model.centres), n_init=1, random_state=seed).fit(points) for seed in seeds]
    centres = [torch.from_numpy(fit.cluster_centers_) for fit in fits]
    return evaluate(model, test, centres, [Evaluator(cfg.test_evaluator) for _ in seeds])


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, run, and print one line per seed and the mean."""
    parser = argparse.ArgumentParser(description='k-means baseline of a stage-3 config.')
    parser.add_argument('config', type=Path)
    parser.add_argument('--checkpoint', help='stage-2 checkpoint: cluster its embeddings')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2, 3, 4])
    parser.add_argument(
        '--per-image', type=int, default=64, help='tokens of a crop that are fitted'
    )
    add_config_options(parser, 'test_dataloader.num_workers=0')
    args = parser.parse_args(argv)
    cfg = Config.fromfile(args.config)
    override(cfg, args.cfg_options)
    settle_workers(cfg)
    results = run(cfg, args.checkpoint, args.seeds, args.per_image)
    for seed, result in zip(args.seeds, results, strict=True):
        sys.stdout.write(f'seed {seed}: {result}\n')
    for name in results[0]:
        values = [result[name] for result in results]
        sys.stdout.write(f'{name}: {np.mean(values):.2f} +- {np.std(values):.2f}\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
