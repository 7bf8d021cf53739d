"""``roi_align_forward`` and ``roi_align_backward`` of mmcv's extension."""

from __future__ import annotations

from torch import Tensor
from torchvision.ops import roi_align

from .gradients import computable, gradients

AVERAGE = 1  # mmcv's number for pool_mode='avg'; 0 is 'max'


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Average the samples of each bin of each region.

    Args:
        input: Maps (B, C, H, W).
        rois: Regions (R, 5): index of the map, then xyxy in pixels of the image.
        output: Filled with (R, C, aligned_height, aligned_width).
        argmax_y: Of pool_mode 0; not touched.
        argmax_x: Of pool_mode 0; not touched.
        aligned_height: Bins down.
        aligned_width: Bins across.
        spatial_scale: Map pixels per image pixel.
        sampling_ratio: Samples per bin and side; 0 takes as many as the bin has pixels.
        pool_mode: 1 averages.
        aligned: Whether coordinates are moved by half a pixel, as they should be.

    Raises:
        NotImplementedError: If ``pool_mode`` is 0, which takes the largest sample.
    """
    refuse_max(pool_mode)
    size = (aligned_height, aligned_width)
    pooled = roi_align(
        computable(input), computable(rois), size, spatial_scale, sampling_ratio, aligned
    )
    output.copy_(pooled)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fill ``grad_input`` (B, C, H, W) from ``grad_output`` (R, C, h, w); see the forward pass."""
    refuse_max(pool_mode)
    size = (aligned_height, aligned_width)

    def forward(maps: Tensor) -> Tensor:
        return roi_align(maps, computable(rois), size, spatial_scale, sampling_ratio, aligned)

    # Samples are weighted sums, so the gradient is the same at all maps, the empty one included.
    grad_input.copy_(gradients(forward, [grad_input], grad_output)[0])


def refuse_max(pool_mode: int) -> None:
    """Raise for the mode that torchvision does not have."""
    if pool_mode != AVERAGE:
        raise NotImplementedError(
            "expected pool_mode='avg', got 'max', which torchvision's RoIAlign does not have; "
            'compile mmcv for it: `python -m refineclip doctor` says how'
        )
