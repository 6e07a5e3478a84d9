"""An autoencoder of magnitudes with a tanh bottleneck, without diffusion; small: at 16 kHz, on two CPU cores.

    python -m train configs/autoencoder.py --data DIR --out runs/autoencoder
    make set-notes                                    # DIR: runs/sets/notes/train
    python -m train configs/autoencoder.py:small --data DIR --out runs/magnitude
    python -m benchmarks.codec runs/magnitude runs/sets/notes/heldout --count 48 --out runs/magnitude-judged

`config` has the encoder of the thesis's autoencoder, and a decoder that mirrors it: 50.5M parameters, 32 channels at 47
Hz. It was never trained here. `small` has 5.0M parameters and a latent of 32 channels at 31 Hz, 16 times fewer numbers
than samples. It was trained for 1,500 steps on notes of 96 instruments, 17 minutes beside another training. Of 48
notes, pairs of instrument and pitch that were not trained on, the median, and how many of 46 clear pitches are right:

                             log-spectral distance    pitch
    trained                         5.5 dB               1
    untrained                      25.5 dB               0
    resampled to 1000 Hz            6.2 dB              29
    Opus at 6 kbit/s                7.7 dB              45
    true magnitudes                                     46

So in this time the net learns the envelope of the spectra, but not the partials, and no pitch can be heard. Griffin-Lim
is not the limit: from the true magnitudes it restores the pitches. It did not help to make all sounds equally loud, nor
to add the difference of magnitudes (not of their logarithms) to the loss. 0.02 % of the latents are beyond 0.98. The
codec of configs/codec.py has twice as many numbers and learns the pitches: it reads and predicts frames with phases.
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
    data=DataConfig(sample_rate=16_000, channels=1, length=LENGTH, skip_below=-50.0, workers=1),
    optimizer=OptimizerConfig(learning_rate=1e-3, b1=0.9, b2=0.99, warmup_steps=200, learning_rate_schedule="cosine"),
    ema=EmaConfig(decay=0.998, start=100, every=1),
    batch_size=8,
    steps=1_500,
    log_every=100,
    checkpoint_every=500,
    keep_checkpoints=2,
    sample_prompts=("", "", ""),
)
