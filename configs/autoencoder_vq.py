"""A small autoencoder of sound with a vector quantizer, at 4 kHz mono: 250 codes of 8 bits per second.

    python -m train configs/autoencoder_vq.py --data DIR --out runs/autoencoder_vq
    python -m sample reconstruct FILES --model runs/autoencoder_vq --out reconstructions
    python -m benchmarks.evidence autoencoder_vq

The last command makes music, trains on it and measures the result. The model has 2.8M parameters and the codebooks.
1800 steps took 7 minutes on two otherwise idle CPU cores, with 4.4 steps per second. Results on the 36 held-out tracks:

                           SI-SDR
    trained                1.1 dB
    untrained            -55.9 dB
    resampled to 500 Hz   -5.4 dB

All codes of the four codebooks of 256 are used. Sinc resampling keeps as many numbers per second as the latent, 8
channels at 62.5 Hz, and does not quantize them.
"""

import archijax as aj
from train.config import EmaConfig, OptimizerConfig, TrainConfig
from train.dataset import DataConfig

config = TrainConfig(
    model=aj.configs.AutoEncoderConfig(
        coder=aj.configs.CoderConfig(
            channels=32, multipliers=(1, 8, 8), factors=(2, 1), num_blocks=(1, 2), patch_size=32, resnet_groups=8
        ),
        bottleneck=(aj.configs.QuantizerConfig(num_codes=256, num_levels=4),),
        latent_channels=8,
        sample_rate=4_000,
        channels=1,
        length=4096,
    ),
    data=DataConfig(sample_rate=4_000, channels=1, length=4096, normalize=-14.0, workers=2),
    optimizer=OptimizerConfig(learning_rate=2e-3, warmup_steps=100, learning_rate_schedule="cosine"),
    ema=EmaConfig(decay=0.99, start=100, every=1),
    batch_size=16,
    steps=1_800,
    log_every=50,
    checkpoint_every=900,
    keep_checkpoints=2,
    sample_prompts=("", "", ""),
)
