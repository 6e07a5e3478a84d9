"""The diffusion autoencoder, with 64 times fewer numbers than samples; small: 4 kHz, in minutes on two CPU cores.

    python -m train configs/diffusion_autoencoder.py --data DIR --out runs/diffusion_autoencoder
    python -m train configs/diffusion_autoencoder.py:small --data DIR --out runs/diffusion_autoencoder
    python -m sample reconstruct FILES --model runs/diffusion_autoencoder --num-steps 15 --out sounds
    python -m benchmarks.evidence diffusion_autoencoder:small

`config` follows the thesis: a magnitude encoder with tanh, whose latent is injected into a net with a learned
transform, 184.9M parameters, crops of 2^18 stereo, batch 32, a million steps on a GPU. It was never trained here.
`small` has 5.1M parameters and a latent of 32 channels at 15.6 Hz. 4000 steps took 12 minutes on busy cores, and take
about 8 on idle cores. The last command trains `small` on music and spoken sentences. It then measures 48 held-out
files, 8 seconds of each, with 15 steps of DDIM:

                              log-spectral distance   STFT distance
    trained                         22.4 dB                3.04
    untrained                       27.0 dB                3.51
    resampled to 500 Hz             39.6 dB                6.18

After so few steps, the latent encodes when a sound starts, but little about the sound: nearly all values are at -1 or
1. For latent models that train in minutes, configs/autoencoder_wave.py is the better autoencoder.
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
        unet=aj.configs.UNetConfig(
            channels=(256, 256), factors=(1, 4), items=(2, 1), item="adaptive", modulation_features=128
        ),
        transform=aj.configs.LearnedTransformConfig(num_filters=512, window_length=1024, stride=256),
        envelope=aj.configs.EnvelopeConfig(n_fft=1024, hop_length=256, channels=256, num_blocks=4),
        sample_rate=16_000,
        channels=1,
        length=16_384,
        stratified=True,
        sampling=aj.configs.SampleDefaults(num_steps=20),
        encoder=aj.configs.EncoderConfig(
            coder=aj.configs.CoderConfig(channels=128, multipliers=(1, 2), factors=(4,), num_blocks=(2,)),
            kind="log_magnitude",
            n_fft=1023,
            hop_length=256,
            # With this noise in training, a small error of a latent makes a small error of the sound.
            bottleneck=(aj.configs.TanhConfig(guard=1.0), aj.configs.NoiseConfig(0.05)),
            latent_channels=16,
        ),
    ),
    data=DataConfig(sample_rate=16_000, channels=1, length=16_384, skip_below=-50.0, workers=1),
    optimizer=OptimizerConfig(learning_rate=1e-3, b1=0.9, b2=0.99, warmup_steps=200, learning_rate_schedule="cosine"),
    ema=EmaConfig(decay=0.998, start=100, every=1),
    batch_size=16,
    steps=3_000,
    log_every=100,
    checkpoint_every=1_000,
    keep_checkpoints=2,
    sample_prompts=("", "", ""),
    sample_steps=20,
)
