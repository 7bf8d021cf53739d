# Alignment + SCD against the frozen encoder.
_base_ = ['./_base_/stage2-pilot.py']

model = dict(
    method='sc-rla',
    # Only its feature statistics are used (tools/fit_text_head.py): no label reaches the student.
    text_head='work_dirs/text_head.safetensors',
)
