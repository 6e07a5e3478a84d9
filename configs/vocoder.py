"""The diffusion vocoder, from mel spectrograms to sound; small: 16 kHz.

    python -m train configs/vocoder.py --data DIR --out runs/vocoder
    python -m train configs/vocoder.py:small --data DIR --out runs/vocoder
    python -m sample vocode FILES --model runs/vocoder --num-steps 15 --out sounds
    python -m benchmarks.vocoding runs/vocoder FOLDER --out runs/vocoder-judged

`config` follows the thesis: the net in the README of audio-diffusion-pytorch without attention, 80 mels with windows of
1024 samples and a hop of 256, 175.5M parameters, crops of 2^18, batch 32, a million steps on a GPU. It was never
trained here.

`small` estimates the level of each frequency from the mel spectrogram, and diffuses sound divided by these levels. It
was not trained to its end: after 700 steps with a larger net, the diffusion had learned nothing (a loss of 1.0 to 1.2,
where 1 is the power of the sound), and the mean squared error of the log-levels was 0.59 (noise: 0.41).
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
            channels=(128, 128), factors=(1, 2), items=(1, 1), item="adaptive", modulation_features=128
        ),
        transform=aj.configs.LearnedTransformConfig(num_filters=256, window_length=512, stride=128),
        sample_rate=16_000,
        channels=1,
        length=16_384,
        stratified=True,
        sampling=aj.configs.SampleDefaults(num_steps=20),
        n_fft=1024,
        hop_length=256,
        mel_channels=80,
        envelope=aj.configs.EnvelopeConfig(n_fft=1024, hop_length=256, channels=256, num_blocks=6),
    ),
    data=DataConfig(sample_rate=16_000, channels=1, length=16_384, skip_below=-50.0, workers=1),
    optimizer=OptimizerConfig(learning_rate=1e-3, b1=0.9, b2=0.99, warmup_steps=200, learning_rate_schedule="cosine"),
    ema=EmaConfig(decay=0.998, start=100, every=1),
    batch_size=8,
    steps=3_000,
    log_every=100,
    checkpoint_every=1_000,
    keep_checkpoints=2,
    sample_prompts=("", "", ""),
    sample_steps=20,
)
