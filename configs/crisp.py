"""small"""

import archijax as aj
from configs import quickstart
from train.config import TrainConfig
from train.dataset import DataConfig

config = TrainConfig(
    model=aj.DiffusionConfig(
        unet=aj.UNetConfig(
            channels=(256, 256, 512, 512, 1024, 1024),
            factors=(1, 2, 2, 2, 2, 2),
            items=(2, 2, 2, 2, 4, 4),
            attentions=(0, 0, 0, 0, 1, 1),
            cross_attentions=(1, 1, 1, 1, 1, 1),
            attention_heads=12,
        ),
        transform=aj.LearnedTransformConfig(num_filters=128, window_length=128, stride=64),
        text=aj.TextConfig(tokenizer="t5-base"),
        length=2**21,
        dtype="bfloat16",
        remat=True,
    ),
    data=DataConfig(length=2**21, crop="fixed"),
)

small = quickstart.config
