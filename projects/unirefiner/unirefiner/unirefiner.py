"""UniRefiner: tokens that belong nowhere move to a border, the others to what close-ups show.

Paper: UniRefiner, CVPR 2026, arXiv 2605.19622. Written from its description and from facts of its
published code.
"""

from __future__ import annotations

from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from refineclip.distill.distillation_model import DistillationModel, select_regions
from refineclip.distill.region_batch import RegionBatch
from refineclip.distill.region_preprocessor import RegionPreprocessor, check_preprocessing
from refineclip.distill.roi_ops import pool_tokens
from refineclip.encoders.refiner_clip import RefinerCLIP

from .lora import LoRA
from .spurious_tokens import RULES, highest_cosine, most_similar, split_tokens, stays_below


class BorderedMap(nn.Module):
    """The projected tokens of an image and of its border, as one map; called with other weights."""

    def __init__(self, encoder: RefinerCLIP) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor, border: int) -> Tensor:
        """Map images (B, 3, H, W) to (B, D, h + 2 border, w + 2 border), L2-normalised."""
        visual = self.encoder.visual
        tokens, grid = visual.embed(images, border)
        tokens = visual.run_dense(tokens, grid, 0, self.encoder.dense_mode)
        return F.normalize(visual.to_map(visual.project(tokens), grid, border=0).float(), dim=1)


@MODELS.register_module()
class UniRefiner(DistillationModel):
    """Fine-tune low-rank updates of a tower so that its border takes what is spurious.

    The student sees the image with its border, the frozen teacher sees crops, each beside a strip
    of another image. Student tokens, pooled at a crop's box to its grid, are held to the token of
    the teacher's whole image that the teacher's crop token resembles most, if that crop token looks
    like neither the strip, nor the other image, nor a register. The SCD term holds them to the
    correlations of the crop through the student itself, with a wider border and without gradient.

    Deviations: tokens whose attention is overrun (the paper's third kind) are not looked for;
    contrasts are taken in the joint embedding space, after norm and head.

    Args:
        student: Config of a :class:`RefinerCLIP` with ``dense_mode='border-plain'`` or
            ``'border-value'``. Teacher and start of the student are the same weights.
        contrast: Config of :class:`ContrastiveRegisterLoss`.
        scd: Config of :class:`SCDLoss`; weight 0.4, after 10 % of the training, min-max rows at
            temperature 0.2 with keys detached, as published. None leaves it out.
        lora: ``rank`` and ``alpha`` of :class:`LoRA`.
        area_range: Regions used as crops, as shares of the image area; .25-.5 as published.
        max_regions_per_image: Random draw of crops per image; 3 as published.
        fp_gp_threshold: Cosine to unrelated tokens from which a teacher token is spurious; 0.5, the
            published default.
        register_threshold: The same to the student's registers; 0.6, the published default.
        threshold_rule: ``'cosine'``, as published, or ``'deviations'``: thresholds count standard
            deviations above the mean of a crop's tokens. For small towers, whose tokens are so
            alike that hardly one stays below the published cosines (``clean_share`` in the log).
        strip: Width of the strip beside a crop, as a share of the crop's; the published code has a
            ratio of 0.35, what it is a share of is inferred.
        match_image_tokens: Learn from the tokens of the teacher's whole image that crop tokens
            resemble most, the published default; False learns from the crop tokens themselves.
        scd_border: Border, in patches, of the SCD term's target; 4 as published.
        data_preprocessor: Config of :class:`RegionPreprocessor`, crops squashed to a square.

    Raises:
        ValueError: If the student's mode has no border, it recomputes blocks (``with_cp``) or has a
            Refiner, the rule is unknown, or crops are not squashed to a square.
    """

    def __init__(
        self,
        student: dict,
        contrast: dict,
        scd: dict | None = None,
        lora: dict | None = None,
        area_range: tuple[float, float] = (0.25, 0.5),
        max_regions_per_image: int | None = 3,
        fp_gp_threshold: float = 0.5,
        register_threshold: float = 0.6,
        threshold_rule: str = 'cosine',
        strip: float = 0.35,
        match_image_tokens: bool = True,
        scd_border: int = 4,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg=init_cfg)
        _check_student(student)
        self.student = MODELS.build({**student, 'frozen': False, 'trainable_blocks': 0})
        self.teacher = MODELS.build({**student, 'frozen': True})
        self.teacher.visual.load_state_dict(self.student.visual.state_dict())
        self.border = self.student.visual.border
        if self.border < 1:
            raise ValueError(
                "student.dense_mode: expected 'border-plain' or 'border-value', got "
                f'{self.student.dense_mode!r}'
            )
        self.lora = LoRA(self.student, **(lora or {}))
        self.contrast = MODELS.build(contrast)
        self.scd = None if scd is None else MODELS.build(scd)
        self.area_range = area_range
        self.max_regions_per_image = max_regions_per_image
        self.fp_gp_threshold = fp_gp_threshold
        self.register_threshold = register_threshold
        if threshold_rule not in RULES:
            raise ValueError(f'threshold_rule: expected one of {RULES}, got {threshold_rule!r}')
        self.threshold_rule = threshold_rule
        self.strip = strip
        self.match_image_tokens = match_image_tokens
        self.scd_border = scd_border
        if isinstance(self.data_preprocessor, RegionPreprocessor):
            check_preprocessing(self.data_preprocessor, self.student.visual)
            _check_crops(self.data_preprocessor)
        # The student's own matrices follow the updates when somebody looks at them.
        self._behind = False
        self.student.register_state_dict_pre_hook(self._before_state_dict)

    def dense(self, images: Tensor) -> Tensor:
        """The student's map (B, D, h, w), its border left out."""
        self._catch_up()
        return self.student.dense(images)

    def select(self, batch: RegionBatch) -> dict[str, Tensor]:
        """The crops of this step, and all images."""
        crops = select_regions(batch, self.area_range, self.max_regions_per_image)
        return {'crops': crops, 'images': torch.arange(len(batch), device=crops.device)}

    def loss(
        self, batch: RegionBatch, chosen: dict[str, Tensor], counts: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """``loss_nce``, ``loss_register``, ``loss_apart`` and ``loss_scd``; two shares to watch."""
        self._behind = True
        rows = chosen['crops']
        boxes, owner = batch.boxes[rows], batch.boxes[rows, 0].long()
        weights = self.lora.merged(self.teacher)
        image, registers = self._split(self._student_map(batch.images, self.border, weights))
        crops = self._crops(batch, rows)
        side = crops.shape[-1] // self.student.visual.patch_size
        student = F.normalize(pool_tokens(image, boxes, side), dim=-1)
        tokens = image.flatten(2).transpose(1, 2)
        target, clean, spurious, others = self._teach(batch, crops, owner, registers.detach())
        count = counts['crops']
        with torch.autocast(tokens.device.type, enabled=False):  # losses are not for half
            losses = {
                'loss_nce': self.contrast.of_crops(student, target, clean, others, count),
                'loss_register': self.contrast.of_registers(registers[owner], spurious, count),
                'loss_apart': self.contrast.apart(tokens, registers, counts['images']),
            }
        if self.scd is not None:
            losses |= self._scd_loss(student, crops, weights, count)
        if len(rows):
            losses['clean_share'] = clean.float().mean()
            losses['region_crop_cosine'] = (student.detach() * target).sum(dim=-1).mean()
        return losses

    def _student_map(self, images: Tensor, border: int, weights: dict[str, Tensor]) -> Tensor:
        named = {f'encoder.{name}': matrix for name, matrix in weights.items()}
        return functional_call(BorderedMap(self.student), named, (images, border))

    def _split(self, bordered: Tensor) -> tuple[Tensor, Tensor]:
        """Image map (B, D, h, w) and register tokens (B, Q, D) of a map with the border."""
        inside = torch.zeros(bordered.shape[2:], dtype=torch.bool, device=bordered.device)
        inside[self.border : -self.border, self.border : -self.border] = True
        registers = bordered[:, :, ~inside].transpose(1, 2)
        return bordered[..., self.border : -self.border, self.border : -self.border], registers

    @staticmethod
    def _crops(batch: RegionBatch, rows: Tensor) -> Tensor:
        if batch.cut_crops is None:
            raise ValueError('expected a batch of a RegionPreprocessor, got one without pictures')
        return batch.cut_crops(rows.tolist())

    @torch.no_grad()
    def _teach(
        self, batch: RegionBatch, crops: Tensor, owner: Tensor, registers: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Targets (R, L, D), which of them are clean (R, L), spurious tokens, and image tokens."""
        teacher = BorderedMap(self.teacher)
        images = teacher(batch.images, 0).flatten(2).transpose(1, 2)  # (B, N, D)
        columns = crops.shape[-1] // self.student.visual.patch_size
        if len(crops) == 0:
            nothing = images.new_zeros(0, columns**2, images.shape[-1])
            return nothing, nothing[..., 0].bool(), nothing, images[:0]
        other = (owner + 1) % len(batch)  # with one image in the batch, that image itself
        strip = max(1, round(self.strip * columns)) * self.student.visual.patch_size
        seen = teacher(torch.cat([crops, batch.whole[other][..., :strip]], dim=-1), 0)
        foreground, background = (
            part.flatten(2).transpose(1, 2) for part in (seen[..., :columns], seen[..., columns:])
        )
        limit = (self.fp_gp_threshold, self.threshold_rule)
        clean, spurious = split_tokens(foreground, images[other], background, *limit)
        matched = most_similar(foreground, images[owner])
        to_registers = highest_cosine(matched, registers[owner])
        clean &= stays_below(to_registers, self.register_threshold, self.threshold_rule)
        target = matched if self.match_image_tokens else foreground
        return target, clean, most_similar(spurious, images[owner]), images[owner]

    def _scd_loss(
        self, student: Tensor, crops: Tensor, weights: dict[str, Tensor], count: Tensor
    ) -> dict[str, Tensor]:
        assert self.scd is not None
        if not self.scd.started:
            return self.scd.logged(None, student.device)
        target = student.detach()
        if len(crops):
            with torch.no_grad():
                seen = self._student_map(crops, self.scd_border, weights)
            inner = slice(self.scd_border, seen.shape[-1] - self.scd_border)
            target = seen[..., inner, inner].flatten(2).transpose(1, 2)
        return self.scd.logged(self.scd(student, target, avg_factor=count), student.device)

    def _catch_up(self) -> None:
        if self._behind:
            self.lora.write_into(self.student, self.teacher)
            self._behind = False

    def _before_state_dict(self, *_: Any) -> None:
        self._catch_up()


def _check_student(student: dict) -> None:
    if student.get('refiner') is not None:
        raise ValueError('student: expected one without a Refiner, got refiner=dict(...)')
    if student.get('with_cp'):
        raise ValueError(
            'student.with_cp: expected False, because the low-rank updates are not there when '
            'blocks are computed again; got True'
        )


def _check_crops(preprocessor: RegionPreprocessor) -> None:
    height, width = preprocessor.crop_size
    if preprocessor.crop_resize != 'squash' or preprocessor.crop_enlarge != 1 or height != width:
        raise ValueError(
            "data_preprocessor: expected crop_resize='squash', crop_enlarge=1 and a square "
            'crop_size, so that a crop shows its box and nothing else; got '
            f'{preprocessor.crop_resize!r}, {preprocessor.crop_enlarge} and {(height, width)}'
        )
