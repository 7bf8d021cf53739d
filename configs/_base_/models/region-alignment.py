# Stage 2: the student against its frozen copy and the Refiner. region-alignment_*.py name towers.
model = dict(
    type='RegionAlignment',
    # 'rla', 'sc-rla', 'r-sc-rla' or 'r-sc-v': this key alone walks through the family.
    method='r-sc-rla',
    data_preprocessor=dict(
        type='RegionPreprocessor',
        # CLIP's normalisation, times 255.
        mean=[122.7709383, 116.7460125, 104.0937362],
        std=[68.5005327, 66.6321579, 70.3231631],
        # CLIPSelf's published code: the teacher's crop is the grid cell itself, 1.5 for proposals.
        crop_enlarge=1.0,
    ),
    # CLIPSelf's dense map; all blocks train; patch and position embedding, final norm, head do not.
    student=dict(type='RefinerCLIP', dense_mode='value'),
    # CLIPSelf's published code: weight 1.
    rla=dict(type='CLIPSelfLoss', loss_weight=1.0),
    # Not stated in the paper; from docs/search.md, where the plain form stands as well. What
    # matters is loss_weight / temperature^2.
    scd=dict(
        type='SCDLoss',
        normalize='minmax',
        detach_keys=True,
        student_temperature=0.2,
        teacher_temperature=0.2,
        roi_size=8,
        loss_weight=1.0,
    ),
    # K is not stated in the paper; as trained in stage 1.
    refiner=dict(num_blocks=3),
)
