"""Sound of one kind, without text: two representations of drum loops, and four diffusion methods.

    python -m train configs/unconditional.py --data DIR --out runs/unconditional
    make set-phrases                                  # DIR: one of its folders train/drums_*, each with its own --data
    python -m train configs/unconditional.py:small_waveform --data DIR --data DIR --out runs/waveform
    python -m train.encode configs/unconditional.py:small --autoencoder AUTOENCODER --data DIR --out runs/latents
    python -m train configs/unconditional.py:small --autoencoder AUTOENCODER --data runs/latents --out runs/drums
    python -m benchmarks.unconditional runs/drums runs/sets/phrases/heldout/drums_*

`config`, `patching` and `stft` are full-size models for a GPU, one for each of the thesis's transforms. They have 173
to 177M parameters, and were never trained here. The small models make four seconds at 16 kHz. `small` diffuses latents
of diffusion_autoencoder:small, and `small_waveform` sound on a learned transform. The other small configs use other
methods than v-diffusion on the same latents.

The table has the distances between sounds and held-out loops by the number of DDIM steps, as the last command prints
them, for 48 sounds of each model and 64 held-out loops. The training used 566 loops. 500 steps on latents took 200 s
alone on two CPU cores, 300 steps on the waveform 165 s:

    steps                        5      15      50
    latents, v                  25      13       9
    latents, EDM                39      10       5
    latents, DDPM               18      11       6
    latents, flow               20      10       9
    waveform, v                670     754     824
    untrained net                      105
    white noise                        411
    real loops                          -3
    real loops, coded                    2

So the latents win by far in this time. Their sounds have clear hits of drums, but no regular beat. The waveform is
noise still, louder than the loops. The methods differ little on the latents; EDM needs the most steps (one training
each, so small differences may be chance).
"""

from dataclasses import replace

import archijax as aj
from configs import long
from train.config import TrainConfig
from train.dataset import DataConfig

learned = aj.configs.LearnedTransformConfig(num_filters=128, window_length=128, stride=64)

config = TrainConfig(
    model=aj.configs.DiffusionConfig(
        unet=aj.configs.UNetConfig(
            channels=(256, 512, 512, 512, 1024, 1024, 1024),
            factors=(1, 2, 2, 2, 2, 2, 2),
            items=(1, 2, 2, 2, 2, 2, 2),
            attentions=(0, 0, 0, 0, 0, 1, 1),
        ),
        transform=learned,
        dtype="bfloat16",
    ),
    data=DataConfig(),
)
patching = replace(config, model=replace(config.model, transform=aj.configs.PatchingConfig(patch_size=32)))
stft = replace(config, model=replace(config.model, transform=aj.configs.STFTConfig(n_fft=1024, hop_length=256)))

# Drum loops of four seconds at 16 kHz, as latents of the small diffusion autoencoder.
small = replace(
    long.small,
    model=replace(
        long.small.model,
        unet=replace(long.small.model.unet, cross_attentions=()),
        text=None,
        sampling=aj.configs.SampleDefaults(num_steps=50),
    ),
    steps=500,
    checkpoint_every=250,
    validation=0.0,
    sample_prompts=("", "", ""),
    sample_guidance_scale=1.0,
)
small_ddpm = replace(small, model=replace(small.model, method="ddpm"))
small_edm = replace(small, model=replace(small.model, method="edm"))
small_flow = replace(small, model=replace(small.model, method="flow"))

# The same loops as sound, on a learned transform.
small_waveform = replace(
    small,
    model=aj.configs.DiffusionConfig(
        unet=replace(small.model.unet, channels=(128, 192, 256), factors=(1, 4, 2), items=(1, 1, 1)),
        transform=aj.configs.LearnedTransformConfig(num_filters=256, window_length=512, stride=256),
        sample_rate=16_000,
        channels=1,
        length=long.LENGTH,
        stratified=True,
        # The noise levels are shifted to the loudness of these sounds.
        schedule_shift=0.2,
        sampling=small.model.sampling,
    ),
    steps=300,
)
