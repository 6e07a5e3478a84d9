"""The diffusion autoencoder, with 64 times fewer numbers than samples; small: 16 kHz, in an hour on two CPU cores.

    python -m train configs/diffusion_autoencoder.py --data DIR --out runs/diffusion_autoencoder
    make set-notes
    python -m train configs/diffusion_autoencoder.py:small --data runs/sets/notes/train --out runs/dae
    python -m sample reconstruct FILES --model runs/dae --num-steps 20 --out sounds
    python -m benchmarks.codec runs/dae runs/sets/notes/heldout --count 48 --opus --out runs/dae-judged

`config` follows the thesis: a magnitude encoder with tanh, whose latent is injected into a net with a learned
transform, 184.9M parameters, crops of 2^18 stereo, batch 32, a million steps on a GPU. It was never trained here.

`small` has 8.4M parameters and a latent of 16 channels at 15.6 Hz: 250 numbers a second. A net estimates the envelope
of the sound from the latent, and diffusion works on sound divided by this envelope. Without the envelope, 3,000 steps
taught the net the mean spectrum of all notes, and the latent was ignored. The figures are for 3,000 steps with an
encoder of 128 mel bands, and 1,600 more with the present encoder (--init-from, learning rate 8e-4). These took 18
minutes, so the 4,000 steps of the config need about 45; they were not run from nothing. Of 48 notes, pairs of
instrument and pitch that were not trained on, 96 instruments, the median and the worst tenth:

                               trained        untrained
    log-spectral distance      4.0, 8.0 dB    13.9, 16.8 dB
    log-mel distance           0.58, 0.96     3.13, 3.54
    ViSQOL                     4.43, 3.79     3.81, 2.84
    ViSQOL on average          4.29           3.63
    pitch within 50 cents      56 %           2 %
    latents beyond 0.98        0.01 %

The envelope makes these sounds. If noise takes the place of the sampled sound, the pitch is right as often, and the
distances are the same to 0.02. ViSQOL gives even the untrained net 3.6, because large parts of notes are silence. The
pitch is right for none of the 8 notes below A2, and for 13 of 14 from A4 to A5: the envelope does not separate the
partials of low notes.

Longer windows do not help. With windows of 2048 for the envelope, 192 mel bands for the encoder and a smaller net (4.4M
parameters), 4,500 steps on notes and phrases gave 3.4 dB, ViSQOL 4.19, and the right pitch for 42 %; half of the
pitches were an octave off. The same Griffin-Lim restores the pitch of all notes from true magnitudes, and of 96 % if
only the magnitudes below 500 Hz are true. So the estimate of the lowest partials is the limit.
"""

import archijax as aj
from configs import codec
from train.config import EmaConfig, OptimizerConfig, TrainConfig
from train.dataset import DataConfig

LENGTH = 32_768  # samples: 2 s, 128 frames of the codec

config = TrainConfig(
    model=aj.configs.DiffusionAEConfig(
        unet=aj.configs.UNetConfig(
            channels=(256, 512, 512, 512, 1024, 1024, 1024),
            factors=(1, 2, 2, 2, 2, 2, 2),
            items=(1, 2, 2, 2, 2, 2, 2),
        ),
        transform=aj.configs.LearnedTransformConfig(num_filters=128, window_length=128, stride=64),
        encoder=aj.configs.EncoderConfig(
            coder=aj.configs.CoderConfig(channels=512, multipliers=(1, 1), factors=(4,), num_blocks=(12,)),
            latent_channels=32,
        ),
        dtype="bfloat16",
    ),
)

small = TrainConfig(
    model=aj.configs.DiffusionAEConfig(
        unet=aj.configs.UNetConfig(
            channels=(160, 320), factors=(1, 4), items=(2, 4), item="adaptive", modulation_features=256
        ),
        sample_rate=16_000,
        channels=1,
        length=LENGTH,
        stratified=True,
        sampling=aj.configs.SampleDefaults(num_steps=20, sampler="dpm++"),
        autoencoder=codec.small.model,
        encoder=aj.configs.EncoderConfig(
            coder=aj.configs.CoderConfig(channels=256, multipliers=(1, 1), factors=(4,), num_blocks=(3,)),
            kind="waveform",
            # With this noise in training, a small error of a latent makes a small error of the sound.
            bottleneck=(aj.configs.TanhConfig(guard=1.0), aj.configs.NoiseConfig(0.05)),
            latent_channels=16,
        ),
    ),
    data=DataConfig(sample_rate=16_000, channels=1, length=LENGTH, workers=1),
    optimizer=OptimizerConfig(learning_rate=1e-3, b1=0.9, b2=0.99, warmup_steps=200, learning_rate_schedule="cosine"),
    ema=EmaConfig(decay=0.998, start=100, every=1),
    batch_size=16,
    steps=4_000,
    log_every=100,
    checkpoint_every=1_000,
    keep_checkpoints=2,
    sample_prompts=("", "", ""),
    sample_steps=20,
)
