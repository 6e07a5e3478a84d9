"""Text to sound in minutes on two CPU cores.

    python -m train configs/quickstart.py --data DIR --out runs/quickstart
    python -m sample generate --model runs/quickstart --prompt "organ" --guidance-scale 1.5 --count 4 --out sounds

Half a second of mono sound at 4 kHz: small enough to learn in thousands of steps, and timbres still differ. 3.2M
parameters, 11 minutes on two CPU cores. On music made by code
(`python -m benchmarks.evidence crisp:small`) 24 of 24 sounds were heard as what their prompt names at guidance 1.5
(shuffled prompts: 4). The sound is still noisy; guidance above 2 distorts this model.
"""

import archijax as aj
from train.config import EmaConfig, OptimizerConfig, TrainConfig
from train.dataset import DataConfig

config = TrainConfig(
    model=aj.configs.DiffusionConfig(
        unet=aj.configs.UNetConfig(
            channels=(256, 256),
            factors=(1, 2),
            items=(1, 1),
            attentions=(0, 1),
            cross_attentions=(0, 1),
            attention_heads=4,
            attention_features=32,
            modulation_features=128,
        ),
        sample_rate=4_000,
        channels=1,
        length=2048,
        # Windows of 64 ms: the partials of a note are different filters.
        transform=aj.configs.LearnedTransformConfig(num_filters=256, window_length=256, stride=128),
        text=aj.configs.TextConfig(features=64, num_layers=2, num_heads=4, max_length=96, pooled=True),
        schedule_shift=0.2,
    ),
    data=DataConfig(sample_rate=4_000, channels=1, length=2048, normalize=-14.0, workers=2),
    optimizer=OptimizerConfig(learning_rate=2e-3, warmup_steps=200, learning_rate_schedule="cosine"),
    ema=EmaConfig(decay=0.999, start=100, every=1),
    batch_size=32,
    steps=5_000,
    log_every=100,
    checkpoint_every=1_250,
    keep_checkpoints=2,
    sample_prompts=("guitar", "organ", "bell", "bass", "drums", "pad"),
    sample_guidance_scale=1.5,
)
