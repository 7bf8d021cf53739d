"""Real photos in COCO's layout, a tower without text, and a head that reads it by words."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from mmengine.registry import MODELS
from torch import Tensor

import refineclip.distill  # noqa: F401  (registers the preprocessor)
from refineclip.datasets.coco_panoptic import CocoPanoptic
from refineclip.encoders.text.text_head import TextHead
from refineclip.encoders.weights.checkpoint_file import read_array
from refineclip.evaluation.panoptic_evaluation import PanopticEvaluation
from refineclip.evaluation.regions import OURS
from refineclip.evaluation.regions.head_fitting import fit_head, label_crops
from refineclip.evaluation.word_segmentation import word_miou

from ...demo.measures import Scores
from ...evaluate.common import quiet_logging
from ...steps import Step

if TYPE_CHECKING:
    from ..job import Job

HEADS = 'fit the text head'
QUICK_IMAGES, QUICK_LABELLED, QUICK_MEASURED = 16, 10, 8


class Photos:
    """The suite ``photos``.

    Args:
        job: The comparison.
    """

    def __init__(self, job: Job) -> None:
        self.job, self.suite = job, job.suite
        self.data = job.data or Path()
        self.coco = self.data / self.suite['coco']
        count = sum(self.suite['photos'].values())
        self.num_images = min(QUICK_IMAGES, count) if job.quick else count

    def check(self) -> None:
        """See :meth:`Source.check`."""
        if self.job.data is None:
            raise FileNotFoundError(
                f'--data: expected a folder with {self.suite["coco"]}/, {self.suite["weights"]} '
                f'and {self.suite["words"]}, got none; --suite microworld needs no data'
            )
        splits = {self.suite['val'], self.suite['head']['split']}
        needed = [self.coco / 'annotations' / f'panoptic_{split}.json' for split in splits]
        for file in (*needed, self.data / self.suite['words']):
            if not file.is_file():
                raise FileNotFoundError(f'--data: expected {file}, got no such file')
        self.weights  # noqa: B018  (raises)
        self.image_names()

    @property
    def weights(self) -> Path:
        """Weights of the tower."""
        found = sorted(self.data.glob(self.suite['weights']))
        if len(found) != 1:
            raise FileNotFoundError(
                f'--data: expected one file {self.data / self.suite["weights"]}, got {len(found)}'
            )
        return found[0]

    def image_names(self) -> list[str]:
        """Training photos, relative to the COCO folder.

        Raises:
            FileNotFoundError: If there are fewer than the suite learns from.
        """
        names: list[str] = []
        for split, count in self.suite['photos'].items():
            found = sorted((self.coco / split).glob('*.jpg')) or sorted(
                (self.coco / split).glob('*.png')
            )
            if len(found) < count:
                raise FileNotFoundError(
                    f'--data: expected {count} photos in {self.coco / split}, got {len(found)}'
                )
            names += [path.relative_to(self.coco).as_posix() for path in found[:count]]
        return names[: self.num_images]

    def files(self) -> dict[str, Path | str]:
        """See :meth:`Source.files`."""
        return {
            'images': self.coco,
            'image_list': self.job.out / 'images.txt',
            'weights': self.weights,
            'text_head': self.job.out / 'text_head.safetensors',
            'cache': self.job.out / 'cache',
            **{
                role: self.data / path
                for role, path in self.suite.settings.get('inputs', {}).items()
            },
        }

    def steps(self) -> list[Step]:
        """See :meth:`Source.steps`."""
        return [Step(HEADS, prepare, (self.job,), (), 90.0)]

    @property
    def text(self) -> Tensor:
        """(C, T) embedding of every category's name."""
        return read_array(self.data / self.suite['words']).float()

    def blank_head(self, model: dict[str, Any], folder: Path) -> str:
        """See :meth:`Source.blank_head`."""
        dims, text_dims = MODELS.build(model['student']).embed_dim, self.text.shape[1]
        head = TextHead(
            torch.zeros(dims), torch.ones(dims), torch.zeros(text_dims, dims), torch.zeros(text_dims)
        )
        head.save(folder / 'text_head.safetensors')
        return str(folder / 'text_head.safetensors')

    def score(self, encoder: Any) -> Scores:
        """Regions through the head, words alone, and spatial measures."""
        data, text = evaluation(self.job), self.text
        head = TextHead.load(self.files()['text_head'])
        with torch.no_grad():
            maps = data.maps(encoder)
            words = word_miou(data, maps, lambda tokens: head.classify(tokens, text))
        features = data.region_features({'row': encoder})['row']
        regions = data.score_regions(features, text, head)
        return data.spatial_scores(maps) | {'words_miou': words} | regions


def prepare(job: Job) -> str:
    """Name the photos, and fit the head on labelled crops of others; returns where it is."""
    from ..recipes import read_recipe

    quiet_logging()
    source = Photos(job)
    job.out.mkdir(parents=True, exist_ok=True)
    files = source.files()
    Path(files['image_list']).write_text('\n'.join(source.image_names()) + '\n')
    student = read_recipe(job.suite['frozen']).model.student.to_dict()
    encoder = MODELS.build({**student, 'pretrained': str(source.weights), 'frozen': True}).eval()
    count = QUICK_LABELLED if job.quick else job.suite['head']['images']
    images = CocoPanoptic(source.coco, job.suite['head']['split']).images[:count]
    size = _preprocessing(job)['crop_size']
    crops = label_crops(encoder.visual, images, size, job.suite['min_area'])
    fit_head(crops.embedding, crops.labels, source.text).save(files['text_head'])
    return str(files['text_head'])


def _preprocessing(job: Job) -> dict[str, Any]:
    from ..recipes import read_recipe

    settings: dict[str, Any] = read_recipe(job.suite['frozen']).model.data_preprocessor.to_dict()
    return settings


@lru_cache(maxsize=1)
def evaluation(job: Job) -> PanopticEvaluation:
    """The annotated photos, read once per process."""
    from ..recipes import read_recipe

    quiet_logging()
    source = Photos(job)
    dataset = CocoPanoptic(source.coco, job.suite['val'])
    dataset.images = dataset.images[: QUICK_MEASURED if job.quick else None]
    student = read_recipe(job.suite['frozen']).model.student.to_dict()
    patch = MODELS.build({**student, 'pretrained': None}).visual.patch_size
    rules = replace(OURS, area_px=(0, math.inf), min_area=job.suite['min_area'])
    return PanopticEvaluation(dataset, MODELS.build(_preprocessing(job)), patch, rules=rules)
