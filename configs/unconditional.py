"""Sound of one kind, without text, with several transforms and diffusion methods.

    python -m train configs/unconditional.py --data DIR --out runs/unconditional
    python -m train configs/unconditional.py:small_edm --data DIR --out runs/unconditional
    python -m sample generate --model runs/unconditional --out sounds
    python -m benchmarks.evidence unconditional:small unconditional:small_edm

`config`, `patching` and `stft` are full-size models for a GPU, one for each of the thesis's transforms. They have 173
to 177M parameters, and were never trained here. The small models have 2.9M parameters, at 4 kHz mono. They train 1200
steps in 2.5 minutes on two CPU cores. `small` uses v-diffusion; `small_ddpm`, `small_edm` and `small_flow` use the
other methods; `small_patching` and `small_stft` use the other transforms. Configs that end in `_raw` do not normalize
the loudness of the sounds.

The last command takes any of the small configs. It trains on synthetic organ music and prints the distance between 128
generated sounds and three held-out pieces, by the number of DDIM steps. The distance is 1000 times the kernel distance
of log-mel embeddings. For comparison, three other real pieces have a distance of 65 (63 raw):

    steps                5     15     50    200
    v                   49     95    129    140
    DDPM                89    116    128    136
    EDM                 81    112    130    136
    flow               103    124    137    142
    v, raw              49    110    141    151
    DDPM, raw           96    124    135    143
    EDM, raw            84    116    135    142
    flow, raw          118    135    149    153

After so few training steps, the models have learned the spectrum of the organ, but not its tones. They make coloured
noise, and more sampling steps add hiss. With few sampling steps, v-diffusion is the best method; its noise levels are
shifted to the loudness of these sounds. Normalizing the loudness helps each method a little, although this music has a
constant loudness from the start.
"""

from dataclasses import replace

import archijax as aj
from configs import crisp
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

small = replace(
    crisp.small,
    model=replace(
        crisp.small.model,
        unet=aj.configs.UNetConfig(
            channels=(256, 256),
            factors=(1, 2),
            items=(1, 1),
            attentions=(0, 1),
            attention_heads=4,
            attention_features=32,
            modulation_features=128,
        ),
        text=None,
    ),
    batch_size=16,
    steps=1_200,
    sample_prompts=("", "", ""),
    sample_guidance_scale=1.0,
)
small_ddpm = replace(small, model=replace(small.model, method="ddpm", schedule_shift=1.0))
# The RMS at -14 dBFS is 0.2.
small_edm = replace(small, model=replace(small.model, method="edm", schedule_shift=1.0, sigma_data=0.2))
small_flow = replace(small, model=replace(small.model, method="flow", schedule_shift=1.0))
small_patching = replace(small, model=replace(small.model, transform=aj.configs.PatchingConfig(patch_size=128)))
small_stft = replace(small, model=replace(small.model, transform=aj.configs.STFTConfig(n_fft=256, hop_length=128)))

# The loudness of the files is kept, about -12 dBFS.
_raw = replace(small.data, normalize=None)
small_raw = replace(small, data=_raw)
small_ddpm_raw = replace(small_ddpm, data=_raw)
small_edm_raw = replace(small_edm, data=_raw, model=replace(small_edm.model, sigma_data=0.25))
small_flow_raw = replace(small_flow, data=_raw)
