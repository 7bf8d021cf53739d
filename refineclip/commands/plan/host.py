"""Count a training step of a detector or segmentor, for ``python -m refineclip plan``.

What such a model computes depends on what it proposes, samples and suppresses, so it cannot be run
without values: one image goes through it here, with random weights, and is counted on the way.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from mmengine.config import ConfigDict
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from refineclip.distill.cost import count_parameters, without_weights
from refineclip.encoders.text.prompt_encoding import ends_at_text

if TYPE_CHECKING:
    from mmengine.config import Config

NUM_OBJECTS = 7  # of an image: 860,001 boxes on 118,287 images of COCO train2017


def host_cost(config: Config) -> dict[str, Any]:
    """FLOPs per image and parameters of a detector or segmentor.

    Args:
        config: Its training config, with ``image_size`` or ``crop_size`` (height, width) in pixels.

    Returns:
        ``image_size``, ``flops_per_image`` (``forward``, ``backward``) and ``parameters``
        (``trainable``, ``frozen``).

    Raises:
        ValueError: The config holds neither size.
    """
    size = config.get('crop_size') or config.get('image_size')
    if size is None:
        raise ValueError(
            'expected crop_size or image_size in the config of a detector or segmentor, got '
            'neither; add --cfg-options image_size=(640,640)'
        )
    model = build_host(config)
    batch = model.data_preprocessor(_batch(model, tuple(size)), training=True)
    # The kernel that is plain matrix products: the counter knows no formula of the CPU's fused one.
    with sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as forward:
            loss, _ = model.parse_losses(model(**batch, mode='loss'))
        with FlopCounterMode(display=False) as backward:
            loss.backward()
    trainable, frozen = count_parameters(model)
    return dict(
        image_size=list(size),
        flops_per_image=dict(
            forward=float(forward.get_total_flops()), backward=float(backward.get_total_flops())
        ),
        parameters=dict(trainable=trainable, frozen=frozen),
    )


def build_host(config: Config) -> Any:
    """Build the model of a config with random weights, for one process on a CPU."""
    cfg = ConfigDict(without_weights(config.model.to_dict()))
    classifier = cfg.get('roi_head', {}).get('bbox_head', {}).get('classifier')
    if classifier is not None:
        classifier['text'] = dict(text_embeddings=_random_text(classifier, cfg['backbone']))
    with DefaultScope.overwrite_default_scope(config.default_scope):
        model = revert_sync_batchnorm(MODELS.build(cfg))
    if hasattr(model, 'set_vocabulary') and not getattr(model, 'vocabulary', True):
        # A training data set that brings its words through a hook.
        model.set_vocabulary([f'class {index}' for index in range(num_classes(config))])
    text = getattr(model, 'text_encoder', None)
    if text is not None and not ends_at_text(text.text):
        # All positions are computed whatever the words, and SigLIP's tokenizer needs a download.
        text.tokenizer = partial(_first_words, context_length=text.text.context_length)
    return model.train()


def _first_words(prompts: list[str], context_length: int) -> Tensor:
    """Stand in for a tokenizer: the first word of the vocabulary everywhere."""
    return torch.zeros(len(prompts), context_length, dtype=torch.long)


def _random_text(classifier: dict[str, Any], backbone: dict[str, Any]) -> Tensor:
    """One row for each class and the background, of the width of the backbone's text space."""
    from refineclip.datasets.ov_splits import get_split
    from refineclip.datasets.vocabularies import as_vocabulary

    names = classifier.get('names')
    classes = as_vocabulary(names) if names else get_split(classifier['split']).classes
    width = MODELS.build(backbone).embed_dim
    background = 0 if classifier.get('learn_background') else 1
    return torch.randn(len(classes) + background, width)


def num_classes(config: Config) -> int:
    """Classes of the training data set, by the metainfo of its class."""
    from mmengine.registry import DATASETS

    with DATASETS.switch_scope_and_registry(config.default_scope) as registry:
        dataset: Any = registry.get(config.train_dataloader.dataset.type)
    return len(dataset.METAINFO['classes'])


def _batch(model: nn.Module, size: tuple[int, int]) -> dict[str, Any]:
    """One noise image with its annotation: boxes for a detector, labels for a segmentor."""
    from mmengine.structures import InstanceData, PixelData

    generator = torch.Generator().manual_seed(0)
    height, width = size
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)
    meta = dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0), img_id=0)
    if hasattr(model, 'roi_head') or hasattr(model, 'bbox_head'):
        from mmdet.structures import DetDataSample
        from mmdet.structures.mask import BitmapMasks

        corners = torch.rand(NUM_OBJECTS, 2, 2, generator=generator).sort(dim=1).values
        boxes = corners.flatten(1) * torch.tensor([width, height] * 2)
        labels = torch.full((NUM_OBJECTS,), _base_label(model))
        masks = BitmapMasks(torch.ones(NUM_OBJECTS, height, width).byte().numpy(), height, width)
        sample: Any = DetDataSample(metainfo=meta)
        sample.gt_instances = InstanceData(bboxes=boxes, labels=labels, masks=masks)
    else:
        from mmseg.structures import SegDataSample

        sample = SegDataSample(metainfo=meta)
        sample.gt_sem_seg = PixelData(data=torch.zeros(1, height, width, dtype=torch.long))
    return dict(inputs=[image], data_samples=[sample])


def _base_label(model: Any) -> int:
    """A class that training may show."""
    classifier = getattr(
        getattr(getattr(model, 'roi_head', None), 'bbox_head', None), 'classifier', None
    )
    return 0 if classifier is None else int(classifier.is_base.nonzero()[0])
