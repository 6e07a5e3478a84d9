"""The diffusion vocoder, from mel spectrograms to sound; small: 8 kHz, in minutes on two CPU cores.

    python -m train configs/vocoder.py --data DIR --out runs/vocoder
    python -m train configs/vocoder.py:small --data DIR --out runs/vocoder
    python -m sample vocode FILES --model runs/vocoder --num-steps 15 --out sounds
    python -m benchmarks.evidence vocoder:small

`config` follows the thesis: the net in the README of audio-diffusion-pytorch without attention, 80 mels with windows of
1024 samples and a hop of 256, 175.5M parameters, crops of 2^18, batch 32, a million steps on a GPU. It was never
trained here. `small` has 6.1M parameters and diffuses whitened sound. 5000 steps took 16 minutes on busy cores, and
take about 10 on idle cores. The last command trains `small` on synthetic music and spoken sentences. It then measures
48 held-out files, 4 seconds of each, with 15 steps of DDIM:

                                          log-spectral distance   STFT distance
    trained                                      8.8 dB                1.31
    noise, as much brought to the mel            9.5 dB                1.38
    Griffin-Lim, 60 iterations                   8.9 dB                1.35

64 projections, as many as Griffin-Lim uses, fit the net's sound to the spectrogram. The second row applies these
projections to noise. Without whitening, the hiss of the small net filled the quiet parts (STFT distance 3.2).
"""

import archijax as aj
from train.config import EmaConfig, OptimizerConfig, TrainConfig
from train.dataset import DataConfig

config = TrainConfig(
    model=aj.configs.VocoderConfig(
        unet=aj.configs.UNetConfig(
            channels=(8, 32, 64, 128, 256, 512, 512, 1024, 1024),
            factors=(1, 4, 4, 4, 2, 2, 2, 2, 2),
            items=(1, 2, 2, 2, 2, 2, 2, 4, 4),
        ),
        n_fft=1024,
        hop_length=256,
        mel_channels=80,
        dtype="bfloat16",
    ),
)

small = TrainConfig(
    model=aj.configs.VocoderConfig(
        unet=aj.configs.UNetConfig(
            channels=(256, 256, 256), factors=(1, 2, 2), items=(1, 1, 1), modulation_features=128
        ),
        transform=aj.configs.LearnedTransformConfig(num_filters=512, window_length=512, stride=128),
        sample_rate=8_000,
        channels=1,
        length=4096,
        n_fft=512,
        hop_length=128,
        mel_channels=64,
        whiten=True,
    ),
    data=DataConfig(sample_rate=8_000, channels=1, length=4096, normalize=-14.0, workers=2),
    optimizer=OptimizerConfig(learning_rate=2e-3, warmup_steps=200, learning_rate_schedule="cosine"),
    ema=EmaConfig(decay=0.999, start=100, every=1),
    batch_size=16,
    steps=5_000,
    log_every=100,
    checkpoint_every=1_000,
    keep_checkpoints=2,
    sample_prompts=("", "", ""),
)
