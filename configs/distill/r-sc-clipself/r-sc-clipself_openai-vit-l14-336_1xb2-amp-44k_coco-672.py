# OpenAI L/14-336 as CLIPSelf's author remembers to have trained it (issue 25 of its repository): at
# 672 px, and only "the last 6 or 12 layers", for memory and time. The rest is the 896 px preset's.
_base_ = './r-sc-clipself_openai-vit-l14-336_1xb2-amp-44k_coco-896.py'

model = dict(
    data_preprocessor=dict(image_size=672),
    # 6 is the other: --cfg-options model.student.trainable_blocks=6
    student=dict(trainable_blocks=12),
)
