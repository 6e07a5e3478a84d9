"""small"""

import archijax as aj
from train.config import EmaConfig, OptimizerConfig, TrainConfig
from train.dataset import DataConfig

config = TrainConfig(
    model=aj.VocoderConfig(
        unet=aj.UNetConfig(
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
    model=aj.VocoderConfig(
        unet=aj.UNetConfig(channels=(256, 256, 256), factors=(1, 2, 2), items=(1, 1, 1), modulation_features=128),
        transform=aj.LearnedTransformConfig(num_filters=512, window_length=512, stride=128),
        sample_rate=8_000,
        channels=1,
        length=4096,
        n_fft=512,
        hop_length=128,
        mel_channels=64,
        whiten=True,
    ),
    data=DataConfig(sample_rate=8_000, channels=1, length=4096, normalize=-14.0, workers=2),
    optimizer=OptimizerConfig(learning_rate=2e-3, warmup_steps=200, schedule="cosine"),
    ema=EmaConfig(decay=0.999, start=100, every=1),
    batch_size=16,
    steps=5_000,
    log_every=100,
    checkpoint_every=1_000,
    keep_checkpoints=2,
    sample_prompts=("", "", ""),
)
