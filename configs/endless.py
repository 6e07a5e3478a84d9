"""Endless sound of one kind; small, at 4 kHz.

    python -m train configs/endless.py --data DIR --out runs/endless
    python -m sample generate --model runs/endless --seconds 600 --num-steps 96 --out sounds

The model has a second of mono sound in 16 splits, each with its own noise level. Generation advances by one split of 64
ms at a time, so that the memory on the device does not grow with the sound. The model was not trained here, and its
sound not judged.
"""

import archijax as aj
from configs import crisp
from train.config import TrainConfig
from train.dataset import DataConfig

config = TrainConfig(
    model=aj.configs.AutoregressiveConfig(
        unet=aj.configs.UNetConfig(
            channels=(256, 256),
            factors=(1, 2),
            items=(1, 1),
            attentions=(0, 1),
            attention_heads=4,
            attention_features=32,
        ),
        sample_rate=4_000,
        channels=1,
        length=2**12,
        transform=aj.configs.LearnedTransformConfig(num_filters=128, window_length=128, stride=64),
    ),
    data=DataConfig(sample_rate=4_000, channels=1, length=2**12, normalize=-14.0, workers=2),
    optimizer=crisp.small.optimizer,
    ema=crisp.small.ema,
    batch_size=16,
    steps=4_000,
    log_every=100,
    checkpoint_every=1_000,
    keep_checkpoints=2,
    sample_steps=96,
)
