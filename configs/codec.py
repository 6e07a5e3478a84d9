"""A codec of sound at frame rate, whose latents diffusion models are trained on.

    make set-notes set-phrases set-speech
    python -m train configs/codec.py:small --data runs/sets/notes/train --data runs/sets/phrases/train \\
        --data runs/sets/speech/train --out runs/codec
    python -m benchmarks.codec runs/codec runs/sets/notes/heldout --out runs/codec-judged

`config`, for 48 kHz stereo, was never trained. `small` has 6.0 million parameters; what
comes with the library as "codec-16k" took 15,900 steps, two hours of two CPU cores beside other work, in parts that its
card tells. On 64 notes of a soundfont that was never trained on, the median and the worst tenth:

    SI-SDR 6.3 dB, -0.8 (Opus at 16 kbit/s: 16.3, 10.4)
    log-spectral distance 3.5 dB, 8.9 (Opus: 4.4, 10.8)
    ViSQOL 4.50, 3.84 and 4.36 on average (Opus: 4.65, 4.50 and 4.63)
    pitch within 20 cents of the original's: 96 % (original: all by definition)

No latent is beyond 0.98.

`tokens` has 6 kbit/s: 8 codes of 12 bits, 62.5 times a second. It starts from the weights of codec-16k, because the
steps between its 8 levels are about as large as the noise that these latents were trained with:

    python -m train configs/codec.py:tokens --init-from codec-16k --data runs/sets/notes/train \\
        --data runs/sets/speech/train:0.4 --out runs/tokens

4,000 steps took 79 minutes beside other work. On 64 notes of the other soundfont, and on 48 sentences in Russian and
Italian that were not trained on (Italian was never trained on), against Opus at 6 kbit/s:

                           notes              Opus               sentences          Opus
    ViSQOL, mean, median   4.28, 4.44         4.11, 4.20         3.13, 2.98         3.07, 3.01
    worst tenth            3.54               3.08               2.87               2.76
    SI-SDR                 8.0 dB, -1.0       -2.3, -25.0        SPEECH
    log-spectral distance  4.6 dB, 9.6        7.1, 12.6

Not yet good enough: on sentences the median of ViSQOL is not above that of Opus.
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
        # Phase is learned first where it costs most: with stft=1, phase=3 alone it was not after 1,500 steps. From
        # nothing stft=0.3 and mel=0 were trained with; these came last, and taught the upper partials their levels.
        waveform=0.0,
        relative_waveform=3.0,
        stft=1.2,
        phase=10.0,
        mel=1.2,
        windows=(2048, 1024, 512, 256),
    ),
    data=DataConfig(sample_rate=16_000, channels=1, length=16_384, pitch_shift=3.0, skip_below=-50.0, workers=1),
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
