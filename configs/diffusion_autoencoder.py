"""The diffusion autoencoder: 64 times fewer numbers than samples; small, at 4 kHz in minutes on two CPU cores.

    python -m train configs/diffusion_autoencoder.py --data DIR --out runs/diffusion_autoencoder
    python -m train configs/diffusion_autoencoder.py:small --data DIR --out runs/diffusion_autoencoder
    python -m sample reconstruct FILES --model runs/diffusion_autoencoder --num-steps 15 --out sounds
    python -m benchmarks.evidence diffusion_autoencoder:small

`config` is the thesis's: a magnitude encoder with tanh, injected into a net under a learned transform, 184.9M
parameters, crops of 2^18 stereo, batch 32, a million steps on a GPU; it was never trained here. `small` has 5.1M
parameters, and a latent of 32 channels at 15.6 Hz; 4000 steps took 12 minutes beside other work, and take about 8
alone. The last command trains it on music and spoken sentences and judges it on 48 files held out, 8 seconds
of each, 15 steps of DDIM:

                              log-spectral distance   STFT distance
    trained                         22.4 dB                3.04
    untrained                       27.0 dB                3.51
    resampled to 500 Hz             39.6 dB                6.18

In so few steps the latent comes to say when something sounds and hardly what: nearly all of it goes to -1 or 1. Latent
models in minutes are better made of configs/autoencoder_wave.py.
"""

import archijax as aj
from train.config import EmaConfig, OptimizerConfig, TrainConfig
from train.dataset import DataConfig

config = TrainConfig(
    model=aj.configs.DiffusionAEConfig(
        unet=aj.configs.UNetConfig(
            channels=(256, 512, 512, 512, 1024, 1024, 1024),
            factors=(1, 2, 2, 2, 2, 2, 2),
            items=(1, 2, 2, 2, 2, 2, 2),
        ),
        transform=aj.configs.LearnedTransformConfig(num_filters=128, window_length=128, stride=64),
        encoder=aj.configs.EncoderConfig(
            coder=aj.configs.CoderConfig(channels=512, multipliers=(1, 1), factors=(4,), num_blocks=(12,)),
            latent_channels=32,
        ),
        dtype="bfloat16",
    ),
)

small = TrainConfig(
    model=aj.configs.DiffusionAEConfig(
        unet=aj.configs.UNetConfig(channels=(256, 256), factors=(1, 2), items=(1, 2), modulation_features=128),
        # Windows of 64 ms: the partials of a note are different filters.
        transform=aj.configs.LearnedTransformConfig(num_filters=256, window_length=256, stride=128),
        sample_rate=4_000,
        channels=1,
        length=4096,
        schedule_shift=0.2,
        encoder=aj.configs.EncoderConfig(
            coder=aj.configs.CoderConfig(channels=128, multipliers=(1, 2), factors=(4,), num_blocks=(2,)),
            kind="mel",
            n_fft=256,
            hop_length=64,
            mel_channels=40,
            # Noise, so that latents that are nearly right sound nearly right.
            bottleneck=(aj.configs.TanhConfig(), aj.configs.NoiseConfig(0.1)),
            latent_channels=32,
        ),
    ),
    data=DataConfig(sample_rate=4_000, channels=1, length=4096, normalize=-14.0, workers=2),
    optimizer=OptimizerConfig(learning_rate=2e-3, warmup_steps=200, learning_rate_schedule="cosine"),
    ema=EmaConfig(decay=0.999, start=100, every=1),
    batch_size=16,
    steps=4_000,
    log_every=100,
    checkpoint_every=1_000,
    keep_checkpoints=2,
    sample_prompts=("", "", ""),
    sample_steps=15,
)
