"""Synonyms: a class lights up the same places whatever it is called."""

from .name_texts import NameTexts, build_texts
from .synonym_alignment import SynonymAlignment
from .synonym_loss import SynonymLoss, refine_scores

__all__ = ['NameTexts', 'SynonymAlignment', 'SynonymLoss', 'build_texts', 'refine_scores']
