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
        unet=aj.UNetConfig(channels=(256, 256), factors=(1, 2), items=(1, 2), modulation_features=128),
        # Windows of 64 ms: the partials of a note are different filters.
        transform=aj.LearnedTransformConfig(num_filters=256, window_length=256, stride=128),
        sample_rate=4_000,
        channels=1,
        length=4096,
        schedule_shift=0.2,
        encoder=aj.EncoderConfig(
            coder=aj.CoderConfig(channels=128, multipliers=(1, 2), factors=(4,), num_blocks=(2,)),
            kind="mel",
            n_fft=256,
            hop_length=64,
            mel_channels=40,
            # Noise, so that latents that are nearly right sound nearly right.
            bottleneck=aj.BottleneckConfig(kinds=("tanh", "noise"), channels=32, sigma=0.1),
        ),
    ),
    data=DataConfig(sample_rate=4_000, channels=1, length=4096, normalize=-14.0, workers=2),
    optimizer=OptimizerConfig(learning_rate=2e-3, warmup_steps=200, schedule="cosine"),
    ema=EmaConfig(decay=0.999, start=100, every=1),
    batch_size=16,
    steps=4_000,
    log_every=100,
    checkpoint_every=1_000,
    keep_checkpoints=2,
    sample_prompts=("", "", ""),
    sample_steps=15,
)
