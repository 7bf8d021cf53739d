"""The drawn world of this package as a segmentation data set of mmseg."""

from __future__ import annotations

from typing import Any, ClassVar

from mmengine.registry import DATASETS
from mmseg.datasets import BaseSegDataset

from refineclip.datasets.microworld.coco_layout import SEMANTIC_CLASSES
from refineclip.datasets.microworld.vocabulary import NOVEL_NAMES


@DATASETS.register_module()
class MicroworldSegDataset(BaseSegDataset):
    """Semantic maps that ``python -m refineclip microworld`` writes. Drawn images, no photographs.

    Args:
        base_only: Take the base classes only; the novel ones are ignored, and their names are not
            in the vocabulary.
        img_suffix: End of the image files' names.
        metainfo: As in mmseg; may name other classes.
        **kwargs: Those of mmseg's ``BaseSegDataset``.
    """

    METAINFO: ClassVar[dict] = dict(classes=SEMANTIC_CLASSES)

    def __init__(
        self,
        base_only: bool = False,
        img_suffix: str = '.png',
        metainfo: dict | None = None,
        **kwargs: Any,
    ) -> None:
        if base_only:
            base = tuple(name for name in SEMANTIC_CLASSES if name not in NOVEL_NAMES)
            metainfo = {'classes': base, **(metainfo or {})}
        super().__init__(img_suffix=img_suffix, metainfo=metainfo, **kwargs)
