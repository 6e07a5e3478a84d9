"""Text to notes at 16 kHz, by diffusion of codec-16k's latents. It trains in minutes on two CPU cores.

make set-notes SET="--instruments flute clarinet oboe recorder trumpet trombone 'alto saxophone' violin cello harp \\
    vibraphone 'electric piano' 'grand piano' 'nylon guitar'"
python -m train.encode configs/quickstart.py --autoencoder codec-16k --data runs/sets/notes/train --out runs/latents
python -m train configs/quickstart.py --autoencoder codec-16k --data runs/latents --out runs/quickstart
python -m benchmarks.notes runs/quickstart runs/sets/notes

These commands train on 1,800 notes; any other folder of sounds with captions works, too. 1,750 steps took 8.6 minutes.
Of 96 notes, pairs of instrument and pitch that the training has not seen, seed 0:

                          pitch within 50 cents   instrument   periodicity
    generated             60.4 %                  30.2 %       0.980
    prompts shuffled       4.2 %                   8.3 %
    untrained net          0.0 %                   5.2 %       0.352
    real                  95.8 %                  95.8 %       0.990
    real, coded           97.9 %                  76.0 %       0.988

With seeds 1 and 2, the pitch is right for 58.3 and 58.3 %, the instrument for 29.2 and 26.0 %. With guidance 2, the
pitch of 58.3 % is right, the instrument of 30.2 %; the rows of shuffled prompts and of the untrained net have guidance
2, too.

The instruments are harder with more of them, and the pitches easier: the same steps on the 1,038 notes of eight
instruments gave 50.0 % of the pitches and 51.0 % of the instruments, guidance 2. On these, four variants were worse:
2,300 batches of 8 with a learning rate of 0.0015 (30.2 and 51.0 %, guidance 3); a schedule with more high noise,
schedule_shift=3, for 1,600 steps (25.0 and 62.5 %); two seconds of 28 instruments (19.8 and 8.3 %, guidance 3); and
two seconds of the eight instruments for 2,800 steps (41.7 and 34.4 %), which had the lowest training loss: the net
probably learns these notes by heart. Most wrong pitches are a semitone or an octave off.
"""

import archijax as aj
from configs import codec
from train.config import EmaConfig, OptimizerConfig, TrainConfig
from train.dataset import DataConfig

LENGTH = 43_008  # samples: 2.69 s, 168 frames of the codec

config = TrainConfig(
    model=aj.configs.LatentConfig(
        unet=aj.configs.UNetConfig(
            channels=(128, 160, 192),
            factors=(1, 2, 2),
            items=(2, 1, 1),
            attentions=(0, 0, 1),
            cross_attentions=(0, 0, 1),
            item="adaptive",
            positions=6,
            attention_heads=4,
            attention_features=64,
            modulation_features=256,
        ),
        text=aj.configs.TextConfig("words", features=128, num_layers=2, num_heads=4, max_length=32, pooled=True),
        sample_rate=16_000,
        channels=1,
        length=LENGTH,
        stratified=True,
        sampling=aj.configs.SampleDefaults(num_steps=20, sampler="dpm++", guidance_scale=3.0),
        autoencoder=codec.small.model,
    ),
    data=DataConfig(sample_rate=16_000, channels=1, length=LENGTH, workers=1),
    optimizer=OptimizerConfig(learning_rate=1e-3, b1=0.9, b2=0.99, warmup_steps=200, learning_rate_schedule="cosine"),
    ema=EmaConfig(decay=0.995, start=100, every=1),
    batch_size=12,
    steps=1_750,
    log_every=100,
    checkpoint_every=875,
    keep_checkpoints=2,
    sample_prompts=("a soft flute playing C5", "a loud electric bass, E2", "vibraphone A4"),
    sample_guidance_scale=3.0,
)
