"""`python -m worker.doctor`: what torch, the device and the weights are like here, as JSON for the doctor."""

import logging
import os
import sys
from pathlib import Path

import numpy as np

from shared.errors import StartupError
from shared.finding import Finding, encode, found
from shared.model.directory import ModelDirectory, open_model
from shared.model.hub import NotDownloaded
from shared.model.spec import ModelSpec
from shared.settings import Settings, load_settings

DEVICE, WEIGHTS = "device", "model"
GPU_BATCH_TOKENS = 131_072
NVIDIA_DEVICE = Path("/dev/nvidia0")
SENTENCE = "theorem Nat.add_comm (n m : Nat) : n + m = m + n"


def main() -> int:
    logging.disable(logging.WARNING)  # what it would say is among the findings
    settings = load_settings()
    findings = found(DEVICE, lambda: device_findings(settings))
    findings += found(WEIGHTS, lambda: weights_findings(settings))
    sys.stdout.buffer.write(encode(findings))
    return 0


def device_findings(settings: Settings) -> list[Finding]:
    """What DEVICE, DTYPE and TORCH_THREADS come to."""
    import torch

    from worker.engine.encoder import compute_dtype, device_of

    try:
        device = device_of(settings.device)
    except StartupError as error:
        return [Finding("problem", DEVICE, str(error), "Set DEVICE=auto, or choose a torch build with CUDA.")]
    if device.type == "cuda":
        return _gpu_findings(settings)
    cores = os.cpu_count() or 1
    threads = settings.torch_threads or cores
    dtype = compute_dtype(settings.dtype, device)
    findings = [Finding("ok", DEVICE, f"torch {torch.__version__} on the CPU, {threads} threads on {cores} cores.")]
    if dtype != getattr(torch, settings.dtype):
        sentence = f"This CPU has no {settings.dtype} instructions, so the model runs in float32."
        findings.append(Finding("warning", DEVICE, sentence, "Set DTYPE=float32 for API and workers."))
    if threads > cores:
        sentence = f"TORCH_THREADS={threads} on {cores} cores: threads wait for one another."
        findings.append(Finding("warning", DEVICE, sentence, f"Set TORCH_THREADS to at most {cores}."))
    if NVIDIA_DEVICE.exists():
        sentence = "There is an NVIDIA GPU, and this torch does not use it."
        advice = "Install a torch build with CUDA for this driver, and leave DEVICE at auto."
        findings.append(Finding("warning", DEVICE, sentence, advice))
    return findings


def _gpu_findings(settings: Settings) -> list[Finding]:
    import torch

    free, total = torch.cuda.mem_get_info()
    name = f"{torch.cuda.device_count()} GPU(s), first {torch.cuda.get_device_name()}"
    memory = f"{free / 1e9:.1f} of {total / 1e9:.1f} GB free"
    findings = [Finding("ok", DEVICE, f"torch {torch.__version__} with CUDA {torch.version.cuda}: {name}, {memory}.")]
    if settings.dtype == "bfloat16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        sentence = "This GPU computes bfloat16 in software."
        findings.append(Finding("warning", DEVICE, sentence, "Set DTYPE=float16 for API and workers."))
    if settings.max_batch_tokens < GPU_BATCH_TOKENS:
        sentence = f"MAX_BATCH_TOKENS={settings.max_batch_tokens} leaves a GPU idle between small batches."
        findings.append(Finding("warning", DEVICE, sentence, f"Set MAX_BATCH_TOKENS={GPU_BATCH_TOKENS}."))
    return findings


def weights_findings(settings: Settings) -> list[Finding]:
    """Whether the model loads and embeds. One that is not here is not fetched: the model's own check says so."""
    try:
        directory = open_model(ModelSpec.of(settings), settings.data_dir, weights=True, local_only=True)
    except NotDownloaded:
        return [Finding("ok", WEIGHTS, "Its weights are not here yet, so it was not tried.")]
    except StartupError:
        return []  # said there too
    return [_tried(directory, settings)]


def _tried(directory: ModelDirectory, settings: Settings) -> Finding:
    from worker.engine.encoder import TorchEncoder

    encoder = TorchEncoder(directory, settings)
    (row,) = encoder.embed(encoder.tokenize([SENTENCE]))
    if row.shape != (directory.dimension,) or not np.isfinite(row).all():
        sentence = f"It embeds a declaration to {row.shape} with {np.isfinite(row).sum()} finite numbers."
        return Finding("problem", WEIGHTS, sentence, "Fetch the model again, or choose another DTYPE.")
    engine = "with padding" if encoder.padded else "without padding"
    dtype = str(encoder.dtype).removeprefix("torch.")
    return Finding("ok", WEIGHTS, f"Its weights load and embed a declaration ({dtype}, {engine}).")


if __name__ == "__main__":
    sys.exit(main())
