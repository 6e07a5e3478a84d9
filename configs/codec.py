"""A codec of sound at frame rate, whose latents diffusion models are trained on.

python -m train configs/codec.py:small --data DIR --out runs/codec
python -m sample reconstruct FILES --model runs/codec --out sounds
"""

import archijax as aj
from train.config import EmaConfig, OptimizerConfig, TrainConfig
from train.dataset import DataConfig

small = TrainConfig(
    model=aj.AutoEncoderConfig(
        coder=aj.FrameCoderConfig(
            n_fft=1024,
            hop_length=256,
            widths=(256, 384),
            factors=(2,),
            encoder_blocks=(1, 2),
            decoder_blocks=(2, 3),
        ),
        # Noise, so that latents that are nearly right sound nearly right.
        bottleneck=(aj.TanhConfig(guard=1.0), aj.NoiseConfig(0.05)),
        latent_channels=64,
        sample_rate=16_000,
        channels=1,
        length=16_384,
        waveform=0.0,
        stft=1.0,
        phase=3.0,
        windows=(2048, 1024, 512, 256),
    ),
    data=DataConfig(sample_rate=16_000, channels=1, length=16_384, pitch_shift=2.0, skip_below=-50.0, workers=1),
    optimizer=OptimizerConfig(learning_rate=1e-3, b1=0.8, b2=0.99, warmup_steps=200, learning_rate_schedule="cosine"),
    ema=EmaConfig(decay=0.995, start=100, every=10),
    batch_size=8,
    steps=16_000,
    log_every=100,
    checkpoint_every=500,
    keep_checkpoints=2,
    validation=0.02,
    validate_every=500,
    sample_prompts=("", "", ""),
)
