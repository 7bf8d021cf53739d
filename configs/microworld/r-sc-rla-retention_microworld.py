# R-SC-RLA with an image-level term: image embeddings stay near those of the frozen CLIP.
_base_ = './r-sc-rla_microworld.py'

# Weight 1, that of RLA; not tuned, and not in the paper.
model = dict(retention=dict(type='RetentionLoss', loss_weight=1.0))
