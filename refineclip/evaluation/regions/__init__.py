"""Ground-truth regions named by class texts: pooled boxes and masks, and crops."""

from .accuracy import RegionAccuracy, region_accuracy
from .agreement import RegionAgreement, region_agreement
from .class_texts import ClassTexts, class_texts
from .crop_features import CropFeatures, encode_crops
from .pooling import RegionFeatures
from .rules import CLIPSELF, OURS, PROTOCOLS, RegionRules, region_rules
from .synonym_swap import SynonymSwap

__all__ = [
    'CLIPSELF',
    'OURS',
    'PROTOCOLS',
    'ClassTexts',
    'CropFeatures',
    'RegionAccuracy',
    'RegionAgreement',
    'RegionFeatures',
    'RegionRules',
    'SynonymSwap',
    'class_texts',
    'encode_crops',
    'region_accuracy',
    'region_agreement',
    'region_rules',
]
