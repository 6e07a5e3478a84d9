"""The diffusion vocoder, from mel spectrograms to sound; small: 16 kHz.

    python -m train configs/vocoder.py --data DIR --out runs/vocoder
    python -m train configs/vocoder.py:small --data DIR --out runs/vocoder
    python -m sample vocode FILES --model runs/vocoder --num-steps 15 --out sounds
    python -m benchmarks.vocoding runs/vocoder FOLDER --out runs/vocoder-judged
    python -m benchmarks.judges runs/vocoder-judged/vocoder --reference runs/vocoder-judged/reference

`config` follows the thesis: the net in the README of audio-diffusion-pytorch without attention, 80 mels with windows of
1024 samples and a hop of 256, 175.5M parameters, crops of 2^18, batch 32, a million steps on a GPU. It was never
trained here.

`small` has 4.3M parameters. It estimates the level of each frequency from the mel spectrogram, diffuses sound divided
by these levels, and makes the estimated magnitudes agree with the spectrogram. 2,400 steps on 12,000 notes and on one
speaker (DIR:0.3 for the latter) took 15 minutes on two CPU cores; the 3,000 of the config were not run. 32 notes,
pairs of instrument and pitch that were not trained on, and 24 sentences, some by an unseen speaker in an unseen
language; the log-spectral distance is the median and the worst tenth, `pitch` is within 20 cents of the original's:

                             notes                               sentences
                             log-spectral     pitch    ViSQOL    log-spectral    ViSQOL
    trained                  3.2,  8.7 dB     93.8 %   4.67      7.5, 8.0 dB     4.65
    noise, trained levels    3.2,  8.7 dB     96.9 %   4.67      7.5, 8.0 dB     4.64
    untrained                4.6, 12.3 dB     78.1 %             8.3, 8.7 dB
    Griffin-Lim, 100 steps   4.5, 12.1 dB     84.4 %   4.63      7.0, 7.3 dB     4.63
    from true magnitudes     1.0,  2.7 dB    100.0 %   4.69      2.8, 3.1 dB     4.72

So the vocoder beats Griffin-Lim on notes. On speech, it does not: ViSQOL is hardly higher, and the distance is larger.
The estimated levels make the gain; the diffusion adds nothing to noise in its place yet.
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
