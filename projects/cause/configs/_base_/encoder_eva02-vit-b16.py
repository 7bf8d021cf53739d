# EVA-02-CLIP B/16, the dense map that CLIPSelf and this project use. Any checkpoint of this project
# goes into `encoder.init_cfg`; all three stages must name the same one.
encoder = dict(
    type='RefinerCLIP',
    model='EVA02-B-16',
    pretrained='merged2b_s8b_b131k',
    dense_mode='value',
)
preprocessor = dict(
    type='ImgDataPreprocessor',
    # CLIP's normalisation, times 255.
    mean=[122.7709383, 116.7460125, 104.0937362],
    std=[68.5005327, 66.6321579, 70.3231631],
)
