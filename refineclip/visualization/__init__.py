"""Figures of dense maps, and a report to put them in; matplotlib's object API throughout.

Maps are ``Mapping[model, Sequence[Tensor]]``, one (D, h, w) or (1, D, h, w) per image, as
``PanopticEvaluation.maps`` returns them. Images are (H, W, 3) uint8, PIL, or tensors (3, H, W) in
uint8 or in [0, 1]; ``denormalize(images, encoder.image_mean, encoder.image_std)`` brings
normalised ones back. Every ``*_figure`` returns a matplotlib ``Figure``; ``save_figure`` writes it.

- ``pca_figure(images, maps, shared=True, bases=None, caption=None)``
- ``affinity_figure(images, maps, points, shared_range=True, caption=None, source=None)``
- ``tsne_figure(features, labels, class_names, max_classes=12, seed=0, caption=None)``, features
  from ``pool_objects(maps, boxes=None, masks=None)`` or ``PanopticEvaluation.region_features``
- ``refining_curve(encoder, images, score, counts, choices, num_draws, seed)`` -> ``RefiningCurve``,
  ``refining_curve_figure(curve, titles=None, caption=None)``
- ``feature_strip_figure(images, maps, basis=None, caption=None)``; ``FeatureStripHook(images,
  interval=100, num_images=3, image_size=None)`` draws it while a stage trains
- ``name_pixels(dense, text, size, head=None, owner=None, prob_thd=0)``,
  ``segmentation_figure(images, labels, names)``
- ``front_figure(rows, titles, caption='', rival=None, paths=None)``
- ``metric_figure(rows, titles=None, caption='')``, ``read_scalars(path)``,
  ``training_curves_figure(runs, keys, caption='')``
- ``write_report(path, title, sections, lead=())`` of :mod:`refineclip.visualization.report`, with
  its ``Section(title, blocks)``, ``Paragraph(text)``, ``Table(columns, rows, caption, align)``,
  ``Figure(figure, alt, caption)`` and ``Folded(title, blocks)``

Only ``tsne_figure`` needs scikit-learn.
"""

from .affinity_maps import affinity, affinity_figure, cosine_colours, cosine_limits
from .context_curve import RefiningCurve, refining_curve
from .context_curve_figure import refining_curve_figure
from .feature_strip import FeatureStripHook, feature_strip_figure, find_images
from .front_plot import front_figure
from .metric_plot import metric_figure
from .object_scatter import pool_objects, tsne_figure
from .pca_maps import PcaBasis, fit_pca, pca_figure
from .pictures import denormalize, encode_pictures, fit_picture, to_picture
from .report import write_report
from .segmentation_maps import name_pixels, naming_caption, segmentation_figure, text_cosines
from .style import save_figure
from .training_curves import read_scalars, training_curves_figure

__all__ = [
    'FeatureStripHook',
    'PcaBasis',
    'RefiningCurve',
    'affinity',
    'affinity_figure',
    'cosine_colours',
    'cosine_limits',
    'denormalize',
    'encode_pictures',
    'feature_strip_figure',
    'find_images',
    'fit_pca',
    'fit_picture',
    'front_figure',
    'metric_figure',
    'name_pixels',
    'naming_caption',
    'pca_figure',
    'pool_objects',
    'read_scalars',
    'refining_curve',
    'refining_curve_figure',
    'save_figure',
    'segmentation_figure',
    'text_cosines',
    'to_picture',
    'training_curves_figure',
    'tsne_figure',
    'write_report',
]
