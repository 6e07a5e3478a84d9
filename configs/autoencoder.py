"""An autoencoder of magnitudes with a tanh bottleneck, without diffusion; small: at 16 kHz, on two CPU cores.

python -m train configs/autoencoder.py --data DIR --out runs/autoencoder
make set-notes                                    # DIR: runs/sets/notes/train
python -m train configs/autoencoder.py:small --data DIR --out runs/magnitude
python -m benchmarks.codec runs/magnitude runs/sets/notes/heldout --count 48 --out runs/magnitude-judged
"""

from dataclasses import replace

import archijax as aj
from train.config import EmaConfig, OptimizerConfig, TrainConfig
from train.dataset import DataConfig

LENGTH = 32_768  # samples: 2 s

config = TrainConfig(
    model=aj.configs.MagnitudeAutoEncoderConfig(
        coder=aj.configs.CoderConfig(channels=512, multipliers=(1, 1), factors=(4,), num_blocks=(12,)),
        n_fft=1023,
        dtype="bfloat16",
    ),
)

small = TrainConfig(
    model=replace(
        config.model,
        coder=aj.configs.CoderConfig(channels=256, multipliers=(1, 1), factors=(2,), num_blocks=(3,)),
        # The guard keeps the tanh from saturating. With the noise, a small error of a latent makes a small error of the
        # sound.
        bottleneck=(aj.configs.TanhConfig(guard=1.0), aj.configs.NoiseConfig(0.05)),
        sample_rate=16_000,
        channels=1,
        length=LENGTH,
        dtype="float32",
    ),
    data=DataConfig(sample_rate=16_000, channels=1, length=LENGTH, normalize=-14.0, skip_below=-50.0, workers=1),
    optimizer=OptimizerConfig(learning_rate=1e-3, b1=0.9, b2=0.99, warmup_steps=200, learning_rate_schedule="cosine"),
    ema=EmaConfig(decay=0.998, start=100, every=1),
    batch_size=8,
    steps=2_000,
    log_every=100,
    checkpoint_every=500,
    keep_checkpoints=2,
    sample_prompts=("", "", ""),
)
