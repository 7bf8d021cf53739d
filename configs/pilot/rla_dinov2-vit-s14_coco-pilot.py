# Alignment alone: region features against the frozen embedding of their crops.
_base_ = ['./_base_/stage2-pilot.py']

model = dict(
    method='rla',
    # Only its feature statistics are used (tools/fit_text_head.py): no label reaches the student.
    text_head='work_dirs/text_head.safetensors',
)
