"""Endless sound of one kind: drum loops, at 16 kHz.

    make set-phrases                                  # DIR: one of its folders train/drums_*, each with its own --data
    python -m train configs/endless.py --data DIR --data DIR --out runs/endless
    python -m sample generate --model runs/endless --seconds 600 --num-steps 96 --out sounds
    python -m benchmarks.unconditional runs/endless runs/sets/phrases/heldout/drums_* --count 32 --num-steps 16 48

The model has four seconds of mono sound in 16 splits, each with its own noise level, and 3.0M parameters. Generation
advances by one split of 256 ms at a time, so that the memory on the device does not grow with the sound. Like
`small_waveform` of configs/unconditional.py, the model diffuses the waveform, which needs far more steps than latents.
After 270 of its 1,000 steps, 11 minutes beside another training, it makes noise: the distance from held-out loops is
892 with 16 denoising steps and 931 with 48 (untrained net: 1245, white noise as loud as the loops: 411).
"""

from dataclasses import replace

import archijax as aj
from configs import unconditional

_waveform = unconditional.small_waveform

config = replace(
    _waveform,
    model=aj.configs.AutoregressiveConfig(
        unet=aj.configs.UNetConfig(channels=(128, 192, 256), factors=(1, 4, 2), items=(1, 1, 1)),
        transform=_waveform.model.transform,
        sample_rate=_waveform.model.sample_rate,
        channels=_waveform.model.channels,
        length=_waveform.model.length,
    ),
    # Equally loud sounds, because this model has no shift of noise levels.
    data=replace(_waveform.data, normalize=-14.0),
    steps=1_000,
    sample_steps=96,
)
