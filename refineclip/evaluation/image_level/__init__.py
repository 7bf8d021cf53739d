"""What refinement costs at image level: zero-shot classification and retrieval."""

from .embeddings import ImageEmbeddings, ImageTransform, embed_images, library_transform
from .hook import ImageLevelHook
from .retrieval import embed_captions, retrieval_recall
from .zero_shot import zero_shot_accuracy

__all__ = [
    'ImageEmbeddings',
    'ImageLevelHook',
    'ImageTransform',
    'embed_captions',
    'embed_images',
    'library_transform',
    'retrieval_recall',
    'zero_shot_accuracy',
]
