"""Two small autoencoders of the thesis's kinds, at 16 kHz: of magnitudes, and of the waveform.

make set-notes                                    # DIR: runs/sets/notes/train
python -m train configs/autoencoder.py:magnitude --data DIR --out runs/magnitude
python -m train configs/autoencoder.py:waveform --data DIR --out runs/waveform
python -m benchmarks.codec runs/magnitude runs/sets/notes/heldout --count 48 --out runs/magnitude-judged
"""

from dataclasses import replace

import archijax as aj
from train.config import EmaConfig, OptimizerConfig, TrainConfig
from train.dataset import DataConfig

LENGTH = 32_768  # samples: 2 s

# A tanh that is not saturated, and noise, so that a small error of a latent makes a small error of the sound.
BOTTLENECK = (aj.configs.TanhConfig(guard=1.0), aj.configs.NoiseConfig(0.05))

magnitude = TrainConfig(
    model=aj.configs.MagnitudeAutoEncoderConfig(
        coder=aj.configs.CoderConfig(channels=256, multipliers=(1, 1), factors=(2,), num_blocks=(3,)),
        bottleneck=BOTTLENECK,
        latent_channels=32,
        sample_rate=16_000,
        channels=1,
        length=LENGTH,
        n_fft=1023,
        hop_length=256,
    ),
    data=DataConfig(sample_rate=16_000, channels=1, length=LENGTH, skip_below=-50.0, workers=1),
    optimizer=OptimizerConfig(learning_rate=1e-3, b1=0.9, b2=0.99, warmup_steps=200, learning_rate_schedule="cosine"),
    ema=EmaConfig(decay=0.998, start=100, every=1),
    batch_size=16,
    steps=3_000,
    log_every=100,
    checkpoint_every=1_000,
    keep_checkpoints=2,
    sample_prompts=("", "", ""),
)

waveform = replace(
    magnitude,
    model=aj.configs.AutoEncoderConfig(
        coder=aj.configs.CoderConfig(channels=256, multipliers=(1, 1), factors=(4,), num_blocks=(3,), patch_size=64),
        bottleneck=BOTTLENECK,
        latent_channels=64,
        sample_rate=16_000,
        channels=1,
        length=LENGTH,
        # The weights of configs/codec.py.
        waveform=0.0,
        relative_waveform=3.0,
        stft=1.2,
        phase=10.0,
        mel=1.2,
        windows=(2048, 1024, 512, 256),
    ),
)
