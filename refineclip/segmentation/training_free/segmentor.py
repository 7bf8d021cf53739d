"""TextSegmentor: segmentation by words without training, on any dense CLIP encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from mmengine.structures import PixelData
from mmseg.models.data_preprocessor import SegDataPreProcessor
from mmseg.models.segmentors.base import BaseSegmentor
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from refineclip.datasets.vocabularies import as_vocabulary
from refineclip.encoders.finite import check_finite
from refineclip.encoders.text.pixel_scores import PixelScores
from refineclip.encoders.text.queries import Queries, make_queries
from refineclip.encoders.text.text_bank import TextBank
from refineclip.encoders.text.text_head import TextHead

from ..sliding_windows import Window, cut_windows, fold_windows, resize, window_boxes
from .encoder_checkpoint import rename_encoder_keys
from .test_cfg import DEFAULT_TEST_CFG, check_test_cfg


@MODELS.register_module()
class TextSegmentor(BaseSegmentor):
    """Give every pixel the text that its token resembles most; nothing is trained.

    Cosines between tokens and texts are resized to the window, averaged over windows, resized to
    the original image, and the largest wins: the protocol that SCLIP (arXiv 2312.01597) and its
    followers evaluate with. All of this is linear in the texts, so it runs over ``chunk_size``
    texts at a time and keeps the best; the result does not depend on it.

    With a class named 'background' in the vocabulary, ``background_names`` are compared with in
    its place, classes that cover little of the image are taken out (``area_thd``), and pixels whose
    softmax probability (over all texts) is below ``prob_thd`` are given to it. Without such a class
    all three have no effect.

    Args:
        backbone: Config of :class:`~refineclip.encoders.refiner_clip.RefinerCLIP`, or any module
            with its ``dense``; ``dense_mode`` and weights are chosen there, and its ``init_cfg`` is
            loaded at once.
        text: Arguments of :class:`~refineclip.encoders.text_bank.TextBank` but ``names``: the
            ``model`` and ``pretrained`` of the text tower, ``templates``, ``cache_dir``, or
            ``text_embeddings``. The tower is asked at the first image, or by
            :meth:`set_vocabulary`.
        vocabulary: C class names, synonyms separated by ``;``, or a file of them; or set later.
        synonyms: ``'max'`` (SCLIP's) or ``'mean'``, see
            :func:`~refineclip.encoders.text.queries.make_queries`.
        readable_names: Write names of data sets as one would say them: 'sky-other' as 'sky'.
        background_names: What the class 'background' looks like, in words.
        prob_thd: Probability below which a pixel is background; 0 disables it. SCLIP takes 0.1.
        logit_scale: Factor of the cosines before the softmax of ``prob_thd``; 40 is SCLIP's
            default (its VOC21 takes 65, Context60 and COCO-Object 50), CLIP itself was trained to
            100.
        area_thd: Share of the area of all classes but the background that a class has to exceed; 0
            disables it. SCLIP takes 0.1 for VOC21 (released code and configs; not in the paper).
            Keeps the scores of all classes of an image, (C, H, W).
        text_head: File of a :class:`~refineclip.encoders.text_head.TextHead`, for encoders that
            were never trained with text.
        test_cfg: ``dict(mode='slide', crop_size=224, stride=112)`` (pixels, numbers or pairs down
            and across; SCLIP's default, 336/112 is common too) or ``dict(mode='whole')``.
        chunk_size: Texts whose scores are at pixel size at the same time.
        window_batch: Windows that go through the encoder at the same time.
        keep_logits: Also return ``seg_logits``, (C, H, W) at the original size.
        data_preprocessor: Default: the encoder's own mean and std, from BGR images.
        pretrained: Only None, which mmseg's ``init_model`` passes to every segmentor.
        init_cfg: As in mmengine.

    Raises:
        ValueError: If names or settings do not fit together.
        FileNotFoundError: If a file does not exist.
    """

    align_corners = False

    def __init__(
        self,
        backbone: dict[str, Any] | nn.Module,
        text: dict[str, Any],
        vocabulary: Sequence[str] | str | Path | None = None,
        synonyms: str = 'max',
        readable_names: bool = True,
        background_names: Sequence[str] = (),
        prob_thd: float = 0.0,
        logit_scale: float = 40.0,
        area_thd: float = 0.0,
        text_head: str | Path | None = None,
        test_cfg: dict[str, Any] | None = None,
        chunk_size: int = 32,
        window_batch: int = 32,
        keep_logits: bool = False,
        data_preprocessor: dict[str, Any] | nn.Module | None = None,
        pretrained: None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.test_cfg = check_test_cfg(DEFAULT_TEST_CFG if test_cfg is None else test_cfg)
        if pretrained is not None:
            raise ValueError(f'pretrained: expected None, got {pretrained!r}; name it in backbone')
        if min(chunk_size, window_batch) < 1:
            raise ValueError(
                'chunk_size and window_batch: expected 1 or more, got '
                f'{chunk_size} and {window_batch}'
            )
        if not ('model' in text or 'text_embeddings' in text) or 'names' in text:
            raise ValueError(
                "text: expected the arguments of TextBank but names, with 'model' or "
                f"'text_embeddings', got {sorted(text)}; names are the vocabulary"
            )
        # Any: whatever has dense(), patch size, mean and std.
        encoder: Any = MODELS.build(backbone) if isinstance(backbone, dict) else backbone
        self.backbone = encoder
        if isinstance(backbone, dict) and (backbone.get('init_cfg') or {}).get('checkpoint'):
            # mmengine loads it before training only, which this model never sees.
            encoder.init_weights()
        if data_preprocessor is None:
            self.data_preprocessor = SegDataPreProcessor(
                mean=[255 * value for value in encoder.image_mean],
                std=[255 * value for value in encoder.image_std],
                bgr_to_rgb=True,
            )
        self.text_cfg = dict(text)
        self.text: TextBank | None = None
        self.text_head = None if text_head is None else TextHead.load(text_head)
        self.synonyms, self.readable_names = synonyms, readable_names
        self.background_names = tuple(background_names)
        self.set_thresholds(prob_thd, logit_scale, area_thd)
        self.chunk_size, self.window_batch = chunk_size, window_batch
        self.keep_logits = keep_logits
        self.names: tuple[str, ...] = ()
        self.queries: Queries | None = None
        if vocabulary is not None:
            self._set_names(vocabulary)

    def _set_names(self, names: Sequence[str] | str | Path, distinct: bool = True) -> None:
        names = as_vocabulary(names, distinct=distinct)
        self.queries = make_queries(
            names,
            self.synonyms,
            self.background_names,
            threshold=self.prob_thd > 0,
            readable=self.readable_names,
        )
        self.names, self.text = names, None

    def set_vocabulary(self, names: Sequence[str] | str | Path, distinct: bool = True) -> None:
        """Segment by other words from now on.

        Args:
            names: C class names, synonyms separated by ``;``, or a file of them.
            distinct: Refuse equal names; False for the classes of a data set, of which the first
                of several equal ones is predicted.

        Raises:
            ValueError: If there is no name, one is empty or appears twice, or the text side cannot
                embed them.
        """
        self._set_names(names, distinct)
        self._text_bank()

    @property
    def thresholds(self) -> dict[str, float]:
        """What :meth:`set_thresholds` takes, as it is now."""
        return dict(prob_thd=self.prob_thd, logit_scale=self.logit_scale, area_thd=self.area_thd)

    def set_thresholds(self, prob_thd: float, logit_scale: float, area_thd: float) -> None:
        """Set what decides about the background; holds for vocabularies that are set after it.

        Raises:
            ValueError: If a share or probability is not in [0, 1), or the scale is not positive.
        """
        for name, value in (('prob_thd', prob_thd), ('area_thd', area_thd)):
            if not 0 <= value < 1:
                raise ValueError(f'{name}: expected a number in [0, 1), got {value}')
        if logit_scale <= 0:
            raise ValueError(f'logit_scale: expected a positive number, got {logit_scale}')
        self.prob_thd, self.logit_scale, self.area_thd = prob_thd, logit_scale, area_thd

    def _text_bank(self) -> TextBank:
        """Embed the texts, if that has not been done since the vocabulary was set."""
        if self.queries is None:
            raise ValueError(
                'TextSegmentor: expected a vocabulary, got none; give vocabulary=[...] or call '
                'set_vocabulary'
            )
        if self.text is None:
            dim = None if self.text_head else getattr(self.backbone, 'embed_dim', None)
            self.text = TextBank(self.queries.texts, embed_dim=dim, **self.text_cfg)
        return self.text

    def extract_feat(self, inputs: Tensor) -> Tensor:
        """Dense map (B, D, h, w) of normalised images of a size that fits the patch."""
        return self.backbone.dense(inputs)

    def _forward(self, inputs: Tensor, data_samples: Any = None) -> Tensor:
        """Cosines (B, Q, h, w) between tokens and texts, images padded to the patch."""
        embeddings = self._text_bank().embeddings.to(inputs.device)
        dense = self.extract_feat(self._pad(inputs))
        if self.text_head is not None:
            return self.text_head.classify(dense.permute(0, 2, 3, 1), embeddings).permute(
                0, 3, 1, 2
            )
        return torch.einsum('bdhw,qd->bqhw', F.normalize(dense.float(), dim=1), embeddings)

    def _pad(self, images: Tensor) -> Tensor:
        """Pad to a multiple of the patch with the mean colour, right and below."""
        patch = self._patch_size
        return F.pad(images, (0, -images.shape[3] % patch, 0, -images.shape[2] % patch))

    @property
    def _patch_size(self) -> int:
        return int(getattr(self.backbone, 'visual', self.backbone).patch_size)

    def _boxes(self, size: tuple[int, int]) -> list[Window]:
        if self.test_cfg['mode'] == 'whole':
            return [(0, 0, *size)]
        return window_boxes(size, self.test_cfg['crop_size'], self.test_cfg['stride'])

    def encode_decode(self, inputs: Tensor, batch_data_samples: Any = None) -> Tensor:
        """Scaled class scores (B, C, H, W) at the size of the inputs."""
        scores = [self._scores(image, image.shape[1:], True) for image in inputs]
        return torch.stack([one.logits for one in scores if one.logits is not None])

    @torch.no_grad()
    def _scores(
        self, image: Tensor, out_size: Sequence[int], keep_logits: bool, source: object = 'an image'
    ) -> PixelScores:
        """Score one normalised image (3, H, W) at an output size.

        Raises:
            ValueError: If a score is not finite.
        """
        size = (image.shape[1], image.shape[2])
        boxes = self._boxes(size)
        # Cut per batch: all windows of a large image together would be many times the image.
        cosines = torch.cat(
            [
                self._forward(cut_windows(image, boxes[start : start + self.window_batch]))
                for start in range(0, len(boxes), self.window_batch)
            ]
        )
        check_finite(cosines, 'similarities', [source] * len(cosines))
        top, left, bottom, right = boxes[0]
        patch = self._patch_size
        extent = (-(-(bottom - top) // patch) * patch, -(-(right - left) // patch) * patch)
        assert self.queries is not None
        keep_logits |= self.area_thd > 0 and self.queries.background is not None
        scores = PixelScores(self.queries, tuple(out_size), keep_logits, image.device)
        for start in range(0, cosines.shape[1], self.chunk_size):
            chunk = cosines[:, start : start + self.chunk_size]
            folded = fold_windows(chunk, boxes, size, extent)
            pixels = resize(folded[None], (out_size[0], out_size[1]))[0]
            scores.update(pixels.mul_(self.logit_scale), start)
        return scores

    def predict(
        self, inputs: Tensor, data_samples: list[SegDataSample] | None = None
    ) -> list[SegDataSample]:
        """Segment a batch.

        Args:
            inputs: Normalised images (B, 3, H, W).
            data_samples: Their samples; predictions are at ``ori_shape``. None: at the size of the
                inputs.

        Returns:
            The samples with ``pred_sem_seg`` (1, H, W), int64 class indices, and ``seg_logits``
            (C, H, W) where they are kept.

        Raises:
            ValueError: If an image is flipped, or its scores are not finite.
        """
        samples = [SegDataSample() for _ in inputs] if data_samples is None else data_samples
        for image, sample in zip(inputs, samples, strict=True):
            meta = sample.metainfo
            if meta.get('flip'):
                raise ValueError('TextSegmentor: expected images without flip, got a flipped one')
            left, right, above, below = meta.get('img_padding_size', (0, 0, 0, 0))
            image = image[:, above : image.shape[1] - below, left : image.shape[2] - right]
            size = meta.get('ori_shape', image.shape[1:])[:2]
            source = meta.get('img_path') or 'an image'
            scores = self._scores(image, size, self.keep_logits, source)
            labels = scores.labels(self.prob_thd, self.area_thd)
            sample.pred_sem_seg = PixelData(data=labels[None])
            if self.keep_logits:
                sample.seg_logits = PixelData(data=scores.logits)
        return samples

    def loss(self, inputs: Tensor, data_samples: Any) -> dict[str, Tensor]:
        """Refuse to train.

        Raises:
            NotImplementedError: Always; refine the backbone instead.
        """
        raise NotImplementedError(
            'TextSegmentor has nothing to train; refine its backbone (configs/distill) or train '
            'CAT-Seg (configs/segmentation/cat-seg)'
        )

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        """Take checkpoints of the encoder alone as well: refined_*.pth, and stage 2's student."""
        if not prefix:
            rename_encoder_keys(state_dict, self.backbone.state_dict())
            if self.text_head is not None:  # its file is in the config
                head = self.text_head.state_dict()
                state_dict.update({f'text_head.{key}': value for key, value in head.items()})
        super()._load_from_state_dict(state_dict, prefix, *args)
