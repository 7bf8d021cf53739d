# Alignment + SCD against the Refiner.
_base_ = ['./_base_/stage2-pilot.py']

model = dict(
    method='r-sc-rla',
    refiner=dict(num_blocks=3, checkpoint='work_dirs/refiner.pth'),
    # Only its feature statistics are used (tools/fit_text_head.py): no label reaches the student.
    text_head='work_dirs/text_head.safetensors',
)
