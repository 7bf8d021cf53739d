# Stage 1: the Refiner on a frozen encoder. Leaf configs name the encoder.
# None of these numbers is stated in the paper.
model = dict(
    type='RefinerTraining',
    data_preprocessor=dict(
        type='RegionPreprocessor',
        # CLIP's normalisation, times 255.
        mean=[122.7709383, 116.7460125, 104.0937362],
        std=[68.5005327, 66.6321579, 70.3231631],
        # 448 px as UniRefiner (same first author). Image and crop have one size, so that a crop
        # shows its region 1.4 to 2.2 times larger. Stage 2 applies the Refiner at another size.
        image_size=448,
        crop_size=448,
    ),
    encoder=dict(
        type='RefinerCLIP',
        # CLIPSelf's dense map, the one that stage 2 trains.
        dense_mode='value',
        # K = 3: best of 1, 2 and 3 in our pilot on real photos.
        refiner=dict(num_blocks=3),
    ),
    # InfoNCE with negatives from other images: best in both pilots (cosine second, negatives of
    # the same crop harmful); 8 x 8 bins, temperature .2 and 32 cells per image from there too.
    loss=dict(
        type='RefineLoss',
        kind='infonce',
        negatives='other-images',
        temperature=0.2,
        num_negatives_per_image=32,
        roi_size=8,
    ),
)
