"""Text to 44 seconds of 48 kHz stereo on a learned transform; small: the quickstart.

    python -m train configs/crisp.py --data DIR --out runs/crisp
    python -m train configs/crisp.py:small --data DIR --out runs/crisp
    python -m sample generate --model runs/crisp --prompt "organ" --guidance-scale 1.5 --out sounds
    python -m benchmarks.evidence crisp:small

`config` is the thesis's: 300.4M parameters and T5-base (its files are needed), crops of 2^21, batch 32, a million steps
on many GPUs; it was never trained here. `small` is configs/quickstart.py, 11 minutes on two CPU cores. The last command
trains it on music made by code and lets a classifier hear what its sounds are, 4 for each of 6 instruments:

    held-out real sounds       23 of 24
    half a second, as trained  24
    prompts shuffled            4
    a second, twice as long    23
"""

import archijax as aj
from configs import quickstart
from train.config import TrainConfig
from train.dataset import DataConfig

config = TrainConfig(
    model=aj.configs.DiffusionConfig(
        unet=aj.configs.UNetConfig(
            channels=(256, 256, 512, 512, 1024, 1024),
            factors=(1, 2, 2, 2, 2, 2),
            items=(2, 2, 2, 2, 4, 4),
            attentions=(0, 0, 0, 0, 1, 1),
            cross_attentions=(1, 1, 1, 1, 1, 1),
            attention_heads=12,
        ),
        transform=aj.configs.LearnedTransformConfig(num_filters=128, window_length=128, stride=64),
        text=aj.configs.TextConfig(tokenizer="t5-base"),
        length=2**21,
        dtype="bfloat16",
        remat=True,
    ),
    data=DataConfig(length=2**21, crop="fixed"),
)

small = quickstart.config
