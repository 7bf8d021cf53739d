_base_ = './_base_/stage2-microworld.py'

model = dict(method='sc-rla')
