"""Text to minutes of sound, by diffusion of an autoencoder's latents; small: 4 kHz, in minutes on two CPU cores.

    python -m train configs/long.py --autoencoder AUTOENCODER --data DIR --out runs/long
    python -m train.encode configs/long.py:small --autoencoder AUTOENCODER --data DIR --out runs/latents
    python -m train configs/long.py:small --autoencoder AUTOENCODER --data runs/latents --out runs/long
    python -m sample generate --model runs/long --prompt "organ" --guidance-scale 1.5 --seconds 180 --out music
    python -m benchmarks.evidence long:small

`config` follows the thesis: 562.6M parameters, T5-base and the autoencoder of configs/diffusion_autoencoder.py, crops
of 2^21 stereo samples with prompts that end with "i of n", batch 32, a million steps on many GPUs. It was never trained
here. `small` has 2.8M parameters and two seconds of latents of configs/autoencoder_wave.py. 4000 steps took 25 minutes
on busy cores and 27 minutes of CPU time, which is about 14 minutes on two idle cores. The last command trains the
autoencoder and `small` on synthetic music. A classifier then names the instruments of generated sounds, 4 for each of 6
instruments. The table shows how many answers are right:

    held-out real sounds              23 of 24
    training length, 2 s              23
    shuffled prompts                   4
    twice that length, 4 s            23

Generating three minutes of 48 kHz stereo with nets of these sizes took 1.0 GB of memory.
"""

from dataclasses import replace

import archijax as aj
from configs import diffusion_autoencoder, notes
from train.config import TrainConfig
from train.dataset import DataConfig

LENGTH = 65_536  # samples: 4.1 s, 64 frames of the small diffusion autoencoder

config = TrainConfig(
    model=aj.configs.LatentConfig(
        unet=aj.configs.UNetConfig(
            channels=(128, 256, 512, 512, 1024, 1024),
            factors=(1, 2, 2, 2, 2, 2),
            items=(2, 2, 2, 4, 8, 8),
            attentions=(0, 0, 1, 1, 1, 1),
            cross_attentions=(1, 1, 1, 1, 1, 1),
            attention_heads=12,
        ),
        text=aj.configs.TextConfig(tokenizer="t5-base"),
        length=2**21,
        dtype="bfloat16",
        autoencoder=diffusion_autoencoder.config.model,
    ),
    data=DataConfig(length=2**21, crop="fixed"),
)

# The net and the training of configs/notes.py, on latents with an eighth of the numbers, and for four seconds.
small = replace(
    notes.config,
    model=replace(notes.config.model, length=LENGTH, autoencoder=diffusion_autoencoder.small.model),
    data=replace(notes.config.data, length=LENGTH),
    steps=6_000,
    sample_prompts=("a melody in C major on a flute, 120 BPM", "chords in A minor on a piano", "rock beat, 120 BPM"),
)
