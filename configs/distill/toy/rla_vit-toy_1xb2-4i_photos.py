_base_ = './r-sc-rla_vit-toy_1xb2-4i_photos.py'

model = dict(method='rla')
