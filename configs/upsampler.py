"""The diffusion upsampler from 3 to 48 kHz; small: from 2 to 8 kHz, in minutes on two CPU cores.

    python -m train configs/upsampler.py --data DIR --out runs/upsampler
    python -m train configs/upsampler.py:small --data DIR --out runs/upsampler
    python -m sample upsample FILES --model runs/upsampler --num-steps 15 --out sounds
    python -m benchmarks.evidence upsampler:small

`config` follows the thesis: the net in the README of audio-diffusion-pytorch with 12 heads, 238.4M parameters, crops of
2^18 stereo, batch 32, a million steps on a GPU. It was never trained here. `small` has 4.4M parameters and a learned
transform. 4000 steps took 7 minutes. The last command trains `small` on music and spoken sentences. It then measures 48
held-out files, 4 seconds of each, with 15 steps of DDIM:

                                          log-spectral distance   STFT distance
    trained                                     18.8 dB                2.24
    sinc                                        28.9 dB                3.96
    sinc and noise of mean magnitudes           19.5 dB                2.36
    sinc and noise of mean log-magnitudes       16.6 dB                2.10

The noise has the mean spectrum of the high band in the training data. The last row shows a limit of these distances:
very faint noise, which fits silence, gets smaller distances than a real high band. The model leaves some hiss in
silence.
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
        sampling=aj.configs.SampleDefaults(num_steps=10),
    ),
    data=DataConfig(sample_rate=48_000, channels=1, length=LENGTH, workers=2),
    optimizer=OptimizerConfig(learning_rate=1e-3, b1=0.9, b2=0.99, warmup_steps=200, learning_rate_schedule="cosine"),
    ema=EmaConfig(decay=0.998, start=100, every=1),
    batch_size=8,
    steps=1_500,
    log_every=100,
    checkpoint_every=500,
    keep_checkpoints=2,
    sample_prompts=("", "", ""),
)
