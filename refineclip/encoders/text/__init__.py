"""Class names as embeddings: prompts, text towers, banks of rows, and a head for towers without."""

from .embedder import TextEmbedder, load_text_embeddings, save_text_embeddings
from .name_files import read_names
from .templates import TEMPLATES, get_templates
from .text_bank import TextBank
from .text_head import TextHead

__all__ = [
    'TEMPLATES',
    'TextBank',
    'TextEmbedder',
    'TextHead',
    'get_templates',
    'load_text_embeddings',
    'read_names',
    'save_text_embeddings',
]
