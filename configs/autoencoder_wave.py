"""A small autoencoder of sound with a tanh bottleneck, at 4 kHz mono. The latent has a quarter of the numbers.

    python -m train configs/autoencoder_wave.py --data DIR --out runs/autoencoder_wave
    python -m sample reconstruct FILES --model runs/autoencoder_wave --out reconstructions
    python -m benchmarks.evidence autoencoder_wave

The last command makes music, trains on it and measures the result. The model has 2.8M parameters. 2200 steps took 8
minutes on two otherwise idle CPU cores, with 4.7 steps per second. Results on the 36 held-out tracks:

                            SI-SDR
    trained                 6.8 dB
    untrained             -53.1 dB
    resampled to 1000 Hz    0.8 dB

Sinc resampling keeps as many numbers per second as the latent, 16 channels at 62.5 Hz. The loss compares only samples
(`waveform`). `aj.configs.AutoEncoderConfig` also has spectral losses and a `discriminator`.
"""

import archijax as aj
from train.config import EmaConfig, OptimizerConfig, TrainConfig
from train.dataset import DataConfig

config = TrainConfig(
    model=aj.configs.AutoEncoderConfig(
        coder=aj.configs.CoderConfig(
            channels=32, multipliers=(1, 8, 8), factors=(2, 1), num_blocks=(1, 2), patch_size=32, resnet_groups=8
        ),
        latent_channels=16,
        sample_rate=4_000,
        channels=1,
        length=4096,
    ),
    data=DataConfig(sample_rate=4_000, channels=1, length=4096, normalize=-14.0, workers=2),
    optimizer=OptimizerConfig(learning_rate=2e-3, warmup_steps=100, learning_rate_schedule="cosine"),
    ema=EmaConfig(decay=0.99, start=100, every=1),
    batch_size=16,
    steps=2_200,
    log_every=50,
    checkpoint_every=1_100,
    keep_checkpoints=2,
    sample_prompts=("", "", ""),
)
