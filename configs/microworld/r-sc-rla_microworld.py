# Alignment + SCD against the Refiner.
_base_ = ['./_base_/region-alignment_microworld.py']

model = dict(method='r-sc-rla')
