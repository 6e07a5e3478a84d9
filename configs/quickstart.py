"""Text to sound in minutes on two CPU cores: what `make demo` trains.

    python -m train configs/quickstart.py --data DIR --out runs/quickstart
    python -m sample generate --model runs/quickstart --prompt "organ" --count 4 --out sounds

Half a second of mono sound at 8 kHz.
"""

import archijax as aj
from train.config import EmaConfig, OptimizerConfig, TrainConfig
from train.dataset import DataConfig

config = TrainConfig(
    model=aj.DiffusionConfig(
        unet=aj.UNetConfig(
            channels=(512, 384),
            factors=(1, 2),
            items=(1, 1),
            attentions=(0, 1),
            cross_attentions=(0, 1),
            attention_heads=4,
            attention_features=32,
            modulation_features=128,
        ),
        sample_rate=8_000,
        channels=1,
        length=4096,
        # Windows of 64 ms: the notes of a chord are different filters.
        transform=aj.LearnedTransformConfig(num_filters=512, window_length=512, stride=256),
        text=aj.TextConfig(features=64, max_length=48, pooled=True),
        schedule_shift=0.2,
    ),
    data=DataConfig(sample_rate=8_000, channels=1, length=4096, normalize=-14.0, workers=2),
    optimizer=OptimizerConfig(learning_rate=2e-3, warmup_steps=200, schedule="cosine"),
    ema=EmaConfig(decay=0.999, start=100, every=1),
    batch_size=16,
    steps=6_000,
    log_every=100,
    checkpoint_every=1_500,
    keep_checkpoints=2,
    sample_prompts=("guitar", "organ", "bell", "bass", "drums", "pad"),
    sample_guidance=3.0,
)
