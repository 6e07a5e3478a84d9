"""A codec of sound at frame rate, whose latents diffusion models are trained on.

python -m train configs/codec.py:small --data DIR --out runs/codec
python -m sample reconstruct FILES --model runs/codec --out sounds
"""

import dataclasses

import archijax as aj
from train.config import EmaConfig, OptimizerConfig, TrainConfig
from train.dataset import DataConfig

config = TrainConfig(
    model=aj.configs.AutoEncoderConfig(
        coder=aj.configs.FrameCoderConfig(
            n_fft=2560,
            hop_length=640,
            widths=(512, 768),
            factors=(2,),
            encoder_blocks=(3, 4),
            decoder_blocks=(4, 5),
        ),
        bottleneck=(aj.configs.TanhConfig(guard=1.0), aj.configs.NoiseConfig(0.05)),
        latent_channels=64,
        length=64_000,
        waveform=0.0,
        relative_waveform=3.0,
        stft=0.3,
        phase=10.0,
        mel=0.3,
        discriminator=aj.configs.AdversaryConfig(),
        adversarial=0.1,
        feature_matching=0.2,
        adversary_start=20_000,
        dtype="bfloat16",
    ),
    data=DataConfig(length=64_000, pitch_shift=2.0, skip_below=-50.0),
    optimizer=OptimizerConfig(learning_rate=5e-4, b1=0.8, b2=0.99, warmup_steps=1_000, learning_rate_schedule="cosine"),
    ema=EmaConfig(decay=0.999),
    batch_size=32,
    steps=200_000,
    validation=0.01,
    sample_prompts=("", "", ""),
)

small = TrainConfig(
    model=aj.configs.AutoEncoderConfig(
        coder=aj.configs.FrameCoderConfig(
            n_fft=1024,
            hop_length=256,
            widths=(320,),
            encoder_blocks=(2,),
            decoder_blocks=(6,),
        ),
        # Noise, so that latents that are nearly right sound nearly right.
        bottleneck=(aj.configs.TanhConfig(guard=1.0), aj.configs.NoiseConfig(0.05)),
        latent_channels=32,
        sample_rate=16_000,
        channels=1,
        length=16_384,
        # Phase is learned first where it costs most: with stft=1, phase=3 alone it was not after 1,500 steps.
        waveform=0.0,
        relative_waveform=3.0,
        stft=0.3,
        phase=10.0,
        windows=(2048, 1024, 512, 256),
    ),
    data=DataConfig(sample_rate=16_000, channels=1, length=16_384, pitch_shift=2.0, skip_below=-50.0, workers=1),
    optimizer=OptimizerConfig(learning_rate=1e-3, b1=0.8, b2=0.99, warmup_steps=200, learning_rate_schedule="cosine"),
    ema=EmaConfig(decay=0.995, start=100, every=10),
    batch_size=8,
    steps=12_000,
    log_every=100,
    checkpoint_every=250,
    keep_checkpoints=2,
    validation=0.02,
    validate_every=500,
    sample_prompts=("", "", ""),
)

tokens = dataclasses.replace(
    small,
    # 8 codes of 12 bits, 62.5 times a second: 6000 bits.
    model=dataclasses.replace(small.model, bottleneck=(aj.configs.FiniteScalarConfig((8, 8, 8, 8)),)),
)
