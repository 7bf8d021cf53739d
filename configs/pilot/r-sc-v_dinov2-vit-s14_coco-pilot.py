# R-SC-V: SCD against the Refiner alone, no alignment, no crop.
_base_ = ['./_base_/stage2-pilot.py']

model = dict(
    method='r-sc-v',
    refiner=dict(num_blocks=3, checkpoint='work_dirs/refiner.pth'),
)
