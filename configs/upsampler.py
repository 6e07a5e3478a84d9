"""The diffusion upsampler from 3 to 48 kHz; small: from 16 to 48 kHz, in an hour on two CPU cores.

    make set-phrases                                  # installs what the next command needs
    python -m benchmarks.sets phrases --rate 48000 --out runs/sets/phrases-48k
    python -m train configs/upsampler.py:small --data runs/sets/phrases-48k/train --out runs/upsampler
    python -m sample upsample FILES --model runs/upsampler --out sounds
    python -m benchmarks.upsampling runs/upsampler runs/sets/phrases-48k/heldout --count 96 --out runs/upsampled

`config` follows the thesis: the net in the README of audio-diffusion-pytorch with 12 heads, 238.4M parameters, crops of
2^18 stereo, batch 32, a million steps on a GPU. It was never trained here. `small` has 3.3M parameters, of which a
third estimate the envelope of the high band. It is the model `upsampler-48k` of the library: 4,000 steps took 62
minutes on two CPU cores beside another training, about 35 minutes alone. 96 held-out phrases of 3.1 s, resampled to 16
kHz by soxr: log-spectral distance above 8 kHz (median and worst tenth), and ViSQOL against the original (mean and worst
tenth):

                                   log-spectral distance     ViSQOL
    trained, 4 denoising steps         6.5, 11.0 dB        4.14, 3.25
    noise in the trained envelope      6.6, 10.8 dB        4.16, 3.24
    sinc                              13.5, 31.0 dB        3.52, 2.05
    noise of mean magnitudes          22.0, 27.8 dB

So the envelope makes the gain over sinc; the diffusion adds little to noise in this envelope. 10, 20 and 40 steps have
0.2, 0.3 and 0.4 dB more than 4 steps. Sounds for silence stay below -145 dBFS. Two findings, from trainings with other
settings: filters of width 6 fold a part of the high band into the low band, and the net reads it there, so that sounds
of other resamplers came out too dull (8.3 dB, ViSQOL 3.83); and each resampler weakens the highest eighth of the low
band in its own way, so the net must not read it (with it: 8.7 dB, ViSQOL 3.80).
"""

import archijax as aj
from train.config import EmaConfig, OptimizerConfig, TrainConfig
from train.dataset import DataConfig

LENGTH = 49_152  # samples: 1.02 s

config = TrainConfig(
    model=aj.configs.UpsamplerConfig(
        unet=aj.configs.UNetConfig(
            channels=(8, 32, 64, 128, 256, 512, 512, 1024, 1024),
            factors=(1, 4, 4, 4, 2, 2, 2, 2, 2),
            items=(1, 2, 2, 2, 2, 2, 2, 4, 4),
            attentions=(0, 0, 0, 0, 0, 1, 1, 1, 1),
            attention_heads=12,
        ),
        factor=16,
        dtype="bfloat16",
    ),
)

small = TrainConfig(
    model=aj.configs.UpsamplerConfig(
        unet=aj.configs.UNetConfig(
            channels=(128, 160, 96),
            factors=(1, 2, 2),
            items=(1, 1, 1),
            item="adaptive",
            modulation_features=128,
        ),
        transform=aj.configs.STFTConfig(n_fft=512, hop_length=256),
        envelope=aj.configs.EnvelopeConfig(n_fft=1024, hop_length=256, channels=192, num_blocks=5),
        factor=3,
        lowpass_filter_width=64,
        sample_rate=48_000,
        channels=1,
        length=LENGTH,
        stratified=True,
        sampling=aj.configs.SampleDefaults(num_steps=4),
    ),
    data=DataConfig(sample_rate=48_000, channels=1, length=LENGTH, workers=2),
    optimizer=OptimizerConfig(learning_rate=1e-3, b1=0.9, b2=0.99, warmup_steps=200, learning_rate_schedule="cosine"),
    ema=EmaConfig(decay=0.998, start=100, every=1),
    batch_size=8,
    steps=4_000,
    log_every=100,
    checkpoint_every=500,
    keep_checkpoints=2,
    sample_prompts=("", "", ""),
)
