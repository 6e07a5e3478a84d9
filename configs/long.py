"""small"""

import archijax as aj
from configs import autoencoder, autoencoder_wave
from train.config import EmaConfig, OptimizerConfig, TrainConfig
from train.dataset import DataConfig

config = TrainConfig(
    model=aj.LatentConfig(
        unet=aj.UNetConfig(
            channels=(128, 256, 512, 512, 1024, 1024),
            factors=(1, 2, 2, 2, 2, 2),
            items=(2, 2, 2, 4, 8, 8),
            attentions=(0, 0, 1, 1, 1, 1),
            cross_attentions=(1, 1, 1, 1, 1, 1),
            attention_heads=12,
        ),
        text=aj.TextConfig(tokenizer="t5-base"),
        length=2**21,
        dtype="bfloat16",
        autoencoder=autoencoder.config.model,
    ),
    data=DataConfig(length=2**21, crop="fixed"),
)

small = TrainConfig(
    model=aj.LatentConfig(
        unet=aj.UNetConfig(
            channels=(256, 256),
            factors=(1, 2),
            items=(1, 1),
            attentions=(0, 1),
            cross_attentions=(0, 1),
            attention_heads=4,
            attention_features=32,
            modulation_features=128,
        ),
        text=aj.TextConfig(features=64, num_layers=2, num_heads=4, max_length=48, pooled=True),
        sample_rate=4_000,
        channels=1,
        length=2**13,
        # The latents' root mean square is 0.17.
        schedule_shift=0.2,
        autoencoder=autoencoder_wave.config.model,
    ),
    data=DataConfig(sample_rate=4_000, channels=1, length=2**13, crop="fixed", normalize=-14.0, workers=2),
    optimizer=OptimizerConfig(learning_rate=2e-3, warmup_steps=200, schedule="cosine"),
    ema=EmaConfig(decay=0.999, start=100, every=1),
    batch_size=16,
    steps=4_000,
    log_every=100,
    checkpoint_every=1_000,
    keep_checkpoints=2,
    sample_prompts=("guitar", "organ", "bell", "bass", "drums", "pad"),
    sample_guidance=1.5,
)
