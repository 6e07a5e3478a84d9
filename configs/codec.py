"""A codec of sound at frame rate, whose latents diffusion models are trained on.

    make set-notes set-phrases set-speech
    python -m train configs/codec.py:small --data runs/sets/notes/train --data runs/sets/phrases/train \\
        --data runs/sets/speech/train --out runs/codec
    python -m benchmarks.codec runs/codec runs/sets/notes/heldout --out runs/codec-judged

`config`, for 48 kHz stereo, was never trained. `small` has 6.0 million parameters; what comes with the library as
"codec-16k" took 15,900 steps, two hours of two CPU cores beside other work, in parts that its card tells, and 6,000
steps of the decoder alone (58 minutes beside other work), which keep the latents as they are:

    python -m train configs/codec.py:small --init-from codec-16k --trainable net/decoder --data runs/sets/notes/train \
        --data runs/sets/phrases/train:0.5 --data runs/sets/speech/train:0.3 --model.relative-waveform 1.5 \
        --model.phase 4 --model.stft 2 --model.mel 3 --optimizer.learning-rate 5e-4 --ema.decay 0.998 --ema.every 1 \
        --steps 6000 --out runs/decoder

On 64 notes of a soundfont that was never trained on, the median and the worst tenth:

    SI-SDR 7.9 dB, 0.1 (Opus at 16 kbit/s: 16.9, 11.4)
    log-spectral distance 3.7 dB, 9.6 (Opus: 4.7, 9.7)
    log-mel distance 0.36, 0.55 (Opus: 0.28, 0.57)
    ViSQOL 4.54, 4.00 and 4.43 on average (Opus: 4.66, 4.54 and 4.64)
    pitch within 20 cents: 62 of the 63 notes whose pitch is heard right in the original

No latent is beyond 0.98. A training step takes 0.51 s and has 20.4 billion operations, which is a third of the speed of
the fastest matrix product on the same two cores.

`tokens` has 6 kbit/s: 8 codes of 12 bits, 62.5 times a second. It starts from codec-16k, because the steps between
its 8 levels per channel are about as large as the noise that these latents were trained with:

    python -m train configs/codec.py:tokens --init-from codec-16k --data runs/sets/notes/train \\
        --data runs/sets/speech/train:0.4 --optimizer.learning-rate 5e-4 --steps 4000 --out runs/tokens

This took 79 minutes beside other work. Median and worst tenth of 64 notes of the other soundfont, and of 48 sentences
that were not trained on, Russian and Italian (a language that was never trained on), beside Opus at 6 kbit/s:

                             notes        Opus           sentences    Opus
    ViSQOL                   4.44, 3.54   4.20, 3.08     2.98, 2.87   3.01, 2.76
    ViSQOL on average        4.28         4.11           3.13         3.07
    SI-SDR (dB)              8.0, -1.0    -2.3, -25.0    6.3, 5.1     0.9, -0.4
    log-spectral (dB)        4.6, 9.6     7.1, 12.6      15.0, 16.3   18.0, 19.4
    log-mel                  0.47, 0.85   0.74, 1.40     1.06, 1.12   1.21, 1.28

So it scores higher than Opus on average, but on sentences not in the median of ViSQOL. Each of the 8 codebooks has
4,096 codes, of which held-out notes and sentences use 98 to 99 %. These weights do not come with the library.
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
