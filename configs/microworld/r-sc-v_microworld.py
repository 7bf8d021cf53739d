# SCD against the Refiner alone: no crop, no language.
_base_ = ['./_base_/region-alignment_microworld.py']

model = dict(method='r-sc-v')
