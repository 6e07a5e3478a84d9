"""python -m benchmarks.speed.theirs CASE WEIGHTS: runs a case with the PyTorch originals.

The program needs torch, audio-diffusion-pytorch, audio-encoders-pytorch, transformers and diffusers, in a separate
environment.
"""

import argparse
import contextlib
import copy
import sys

import numpy as np
import torch

from benchmarks.speed.cases import CASES, Case
from benchmarks.speed.draws import drawn
from benchmarks.speed.serve import Job, serve


def build(case: Case) -> torch.nn.Module:
    """Builds the module of a case. Its state_dict has the names of the weights."""
    if case.kind == "t5":
        from transformers import T5Config, T5EncoderModel

        return T5EncoderModel(T5Config(**case.net, dropout_rate=0.0))
    if case.kind == "transformer":
        from diffusers import StableAudioDiTModel

        return StableAudioDiTModel(**case.net)
    if case.kind == "oobleck":
        from diffusers import AutoencoderOobleck

        lists = {name: list(value) if isinstance(value, tuple) else value for name, value in case.net.items()}
        return AutoencoderOobleck(**lists)
    if case.kind == "encoder":
        from audio_encoders_pytorch import ME1d, TanhBottleneck

        stft = {"stft_num_fft": case.settings["n_fft"], "stft_hop_length": case.settings["hop_length"]}
        return ME1d(in_channels=case.channels, **case.net, **stft, bottleneck=TanhBottleneck())
    from audio_diffusion_pytorch import DiffusionModel, DiffusionUpsampler, DiffusionVocoder, LTPlugin, UNetV0

    net_t = UNetV0 if case.transform is None else LTPlugin(UNetV0, **case.transform)
    if case.kind == "upsampler":
        return DiffusionUpsampler(
            net_t=net_t, in_channels=case.channels, upsample_factor=case.settings["factor"], **case.net
        )
    if case.kind == "vocoder":
        mel = {
            "mel_n_fft": case.settings["n_fft"], "mel_hop_length": case.settings["hop_length"],
            "mel_channels": case.settings["mel_channels"], "mel_sample_rate": 48_000,
        }  # fmt: skip
        return DiffusionVocoder(net_t=net_t, **mel, **case.net)
    return DiffusionModel(net_t=net_t, in_channels=case.channels, **case.net)


def job(case: Case, weights: str, device: str, dtype: str, compiled: bool) -> Job:
    module = build(case)
    with np.load(weights) as state:
        found = module.load_state_dict({name: torch.from_numpy(state[name]) for name in state.files}, strict=False)
    # The state_dict contains the net three times, and the file contains it once.
    missing = [name for name in found.missing_keys if not name.startswith(("diffusion.", "sampler."))]
    if rest := [*missing, *found.unexpected_keys]:
        raise ValueError(f"weights and net do not have the same names: {rest[0]} and {len(rest) - 1} more")
    module = module.to(device).train(case.work == "training")
    given = {name: torch.from_numpy(array).to(device) for name, array in drawn(case, first=True).items()}
    embedding = {"embedding": given["embedding"]} if case.text else {}
    half = torch.autocast(device, dtype=torch.bfloat16) if dtype == "bfloat16" else contextlib.nullcontext()
    averages = None

    def finish(result: torch.Tensor) -> np.ndarray:
        if device == "cuda":
            torch.cuda.synchronize()
        return result.detach().float().cpu().numpy()

    if case.work == "training":
        optimizer = torch.optim.AdamW(module.parameters(), 1e-4, (0.95, 0.999), 1e-6, 1e-3)
        # The original's trainer updates the averages in every tenth step, after the first hundred steps.
        averages = copy.deepcopy(getattr(module, "net", module)).requires_grad_(False)
        masked = {"embedding_mask_proba": 0.1} if case.text else {}
        call = torch.compile(module) if compiled else module

        def run() -> np.ndarray:
            optimizer.zero_grad()
            with half:
                loss = call(given["x"], **embedding, **masked)
            loss.backward()
            optimizer.step()
            return finish(loss)

    elif case.work == "sampling":
        scale = {"embedding_scale": case.guidance} if case.guidance != 1 else {}
        if compiled:
            module.sampler.net = torch.compile(module.sampler.net)
        # The models draw their own noise. Here they get the same noise as ours.
        import audio_diffusion_pytorch.models as models

        models.randn_like = lambda like, **_: given["noise"].reshape(like.shape)
        source = {"upsampler": "low", "vocoder": "spectrogram"}.get(case.kind, "noise")

        def run() -> np.ndarray:
            with half, torch.no_grad():
                return finish(module.sample(given[source], num_steps=case.steps, **embedding, **scale))

    else:
        net = getattr(module, "net", module)
        call = torch.compile(net) if compiled else net
        if case.kind == "transformer":
            from diffusers.models.embeddings import get_1d_rotary_pos_embed

            # Once for all steps, as in the pipeline of diffusers.
            turns = get_1d_rotary_pos_embed(
                case.net["attention_head_dim"] // 2, case.length + 1, use_real=True, repeat_interleave_real=False
            )

        def forward() -> torch.Tensor:
            if case.kind == "t5":
                return call(input_ids=given["tokens"], attention_mask=given["mask"]).last_hidden_state
            if case.kind == "encoder":
                return call(given["x"])
            if case.kind == "oobleck":
                return module.decode(given["x"]).sample
            if case.kind == "transformer":
                times, state = torch.full((case.batch,), 0.5, device=device), given["features"][:, None]
                return call(given["x"], times, given["embedding"], state, rotary_embedding=turns).sample
            return call(given["x"], torch.full((case.batch,), 0.5, device=device), **embedding)

        def run() -> np.ndarray:
            with half, torch.no_grad():
                return finish(forward())

    memory = torch.cuda.max_memory_allocated if device == "cuda" else lambda: None
    return Job(run, {"version": f"torch {torch.__version__}"}, device_memory=memory, keep=averages)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("case")
    parser.add_argument("weights")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    case = CASES[options.case]
    if options.device == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    serve(lambda: job(case, options.weights, options.device, options.dtype, options.compile))


if __name__ == "__main__":
    sys.exit(main())
