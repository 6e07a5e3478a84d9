"""Text to minutes of sound, by diffusion of an autoencoder's latents; small: 4 kHz, in minutes on two CPU cores.

    python -m train configs/long.py --autoencoder AUTOENCODER --data DIR --out runs/long
    python -m train.encode configs/long.py:small --autoencoder AUTOENCODER --data DIR --out runs/latents
    python -m train configs/long.py:small --autoencoder AUTOENCODER --data runs/latents --out runs/long
    python -m sample generate --model runs/long --prompt "organ" --guidance-scale 1.5 --seconds 180 --out music
    python -m benchmarks.evidence long:small

`config` follows the thesis: 562.6M parameters, T5-base and the autoencoder of configs/diffusion_autoencoder.py, crops
of 2^21 stereo samples with prompts that end with "i of n", batch 32, a million steps on many GPUs. It was never trained
here. `small` has 2.8M parameters and two seconds of latents of configs/autoencoder_wave.py. 4000 steps took 25 minutes
on busy cores and 27 minutes of CPU time, which is about 14 minutes on two idle cores. The last command trains the
autoencoder and `small` on synthetic music. A classifier then names the instruments of generated sounds, 4 for each of 6
instruments. The table shows how many answers are right:

    held-out real sounds              23 of 24
    training length, 2 s              23
    shuffled prompts                   4
    twice that length, 4 s            23

Generating three minutes of 48 kHz stereo with nets of these sizes took 1.0 GB of memory.
"""

import archijax as aj
from configs import autoencoder_wave, diffusion_autoencoder
from train.config import EmaConfig, OptimizerConfig, TrainConfig
from train.dataset import DataConfig

config = TrainConfig(
    model=aj.configs.LatentConfig(
        unet=aj.configs.UNetConfig(
            channels=(128, 256, 512, 512, 1024, 1024),
            factors=(1, 2, 2, 2, 2, 2),
            items=(2, 2, 2, 4, 8, 8),
            attentions=(0, 0, 1, 1, 1, 1),
            cross_attentions=(1, 1, 1, 1, 1, 1),
            attention_heads=12,
        ),
        text=aj.configs.TextConfig(tokenizer="t5-base"),
        length=2**21,
        dtype="bfloat16",
        autoencoder=diffusion_autoencoder.config.model,
    ),
    data=DataConfig(length=2**21, crop="fixed"),
)

small = TrainConfig(
    model=aj.configs.LatentConfig(
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
        text=aj.configs.TextConfig(features=64, num_layers=2, num_heads=4, max_length=96, pooled=True),
        sample_rate=4_000,
        channels=1,
        length=2**13,
        # The RMS of the latents is 0.17.
        schedule_shift=0.2,
        autoencoder=autoencoder_wave.config.model,
    ),
    data=DataConfig(sample_rate=4_000, channels=1, length=2**13, crop="fixed", normalize=-14.0, workers=2),
    optimizer=OptimizerConfig(learning_rate=2e-3, warmup_steps=200, learning_rate_schedule="cosine"),
    ema=EmaConfig(decay=0.999, start=100, every=1),
    batch_size=16,
    steps=4_000,
    log_every=100,
    checkpoint_every=1_000,
    keep_checkpoints=2,
    sample_prompts=("guitar", "organ", "bell", "bass", "drums", "pad"),
    sample_guidance_scale=1.5,
)
