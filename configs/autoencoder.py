"""small"""

import archijax as aj
from train.config import EmaConfig, OptimizerConfig, TrainConfig
from train.dataset import DataConfig

config = TrainConfig(
    model=aj.DiffusionAEConfig(
        unet=aj.UNetConfig(
            channels=(256, 512, 512, 512, 1024, 1024, 1024),
            factors=(1, 2, 2, 2, 2, 2, 2),
            items=(1, 2, 2, 2, 2, 2, 2),
        ),
        transform=aj.LearnedTransformConfig(num_filters=128, window_length=128, stride=64),
        encoder=aj.EncoderConfig(
            coder=aj.CoderConfig(channels=512, multipliers=(1, 1), factors=(4,), num_blocks=(12,)),
            bottleneck=aj.BottleneckConfig(kinds=("tanh",), channels=32),
        ),
        dtype="bfloat16",
    ),
)

small = TrainConfig(
    model=aj.DiffusionAEConfig(
        unet=aj.UNetConfig(channels=(256, 256, 256), factors=(1, 2, 4), items=(1, 1, 1), modulation_features=128),
        transform=aj.LearnedTransformConfig(num_filters=256, window_length=256, stride=128),
        length=2**15,
        schedule_shift=0.2,
        encoder=aj.EncoderConfig(
            coder=aj.CoderConfig(channels=128, multipliers=(1, 2), factors=(4,), num_blocks=(2,)),
            kind="mel",
            n_fft=2048,
            bottleneck=aj.BottleneckConfig(kinds=("tanh", "noise"), channels=16, sigma=0.1),
        ),
    ),
    data=DataConfig(length=2**15, normalize=-14.0, workers=2),
    optimizer=OptimizerConfig(learning_rate=2e-3, warmup_steps=200, schedule="cosine"),
    ema=EmaConfig(decay=0.999, start=100, every=1),
    batch_size=8,
    steps=2_400,
    log_every=100,
    checkpoint_every=600,
    keep_checkpoints=2,
    sample_prompts=("", "", ""),
)
