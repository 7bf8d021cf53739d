# Alignment + SCD against the frozen CLIP.
_base_ = ['./_base_/region-alignment_microworld.py']

model = dict(method='sc-rla')
