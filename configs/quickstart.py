"""Text to two seconds of sound at 16 kHz, by diffusion of codec-16k's latents. It trains in minutes on two CPU cores.

python -m train.encode configs/quickstart.py --autoencoder codec-16k --data DIR --out runs/latents
python -m train configs/quickstart.py --autoencoder codec-16k --data runs/latents --out runs/quickstart
python -m sample generate --model runs/quickstart --prompt "a soft flute playing C5" --count 4 --out sounds
"""

import archijax as aj
from configs import codec
from train.config import EmaConfig, OptimizerConfig, TrainConfig
from train.dataset import DataConfig

LENGTH = 43_008  # samples: 2.69 s, 168 frames of the codec

config = TrainConfig(
    model=aj.configs.LatentConfig(
        unet=aj.configs.UNetConfig(
            channels=(128, 160, 192),
            factors=(1, 2, 2),
            items=(2, 1, 1),
            attentions=(0, 0, 1),
            cross_attentions=(0, 0, 1),
            item="adaptive",
            positions=6,
            attention_heads=4,
            attention_features=64,
            modulation_features=256,
        ),
        text=aj.configs.TextConfig("words", features=128, num_layers=2, num_heads=4, max_length=32, pooled=True),
        sample_rate=16_000,
        channels=1,
        length=LENGTH,
        stratified=True,
        autoencoder=codec.small.model,
    ),
    data=DataConfig(sample_rate=16_000, channels=1, length=LENGTH, workers=1),
    optimizer=OptimizerConfig(learning_rate=1e-3, b1=0.9, b2=0.99, warmup_steps=200, learning_rate_schedule="cosine"),
    ema=EmaConfig(decay=0.995, start=100, every=1),
    batch_size=12,
    steps=1_750,
    log_every=100,
    checkpoint_every=875,
    keep_checkpoints=2,
    sample_prompts=("a soft flute playing C5", "a loud electric bass, E2", "vibraphone A4"),
    sample_guidance_scale=2.0,
)
