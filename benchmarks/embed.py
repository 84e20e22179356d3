"""`make bench-embed`: tokens a second of the worker's engines, next to sentence-transformers and onnxruntime.

Every engine gets the same texts and threads and is timed from texts to vectors, tokenising included. Rounds are
interleaved, so that a busy moment of the machine hits all of them. Of the ratios one compares the best rounds, the
other is the median of the rounds' ratios. Ours go through the real `Batcher`, as jobs of 64 texts that arrive at once.

SAMPLE=path/to/premises.tar.gz takes texts from there, else they are the demo corpus. TEXTS is how many, ROUNDS how
often, DEVICE (auto, cpu, cuda) where, MODELS (small,default) which. THREADS=1 counts CPU time, which other processes
on the machine disturb less than they do the time on the wall.
"""

import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from sentence_transformers import SentenceTransformer
from transformers import AutoConfig
from transformers.utils import logging as transformers_logging

from api.corpus.archive import read_archive
from api.corpus.reader import read_corpus
from benchmarks.onnx_peer import OnnxPeer
from shared.commands.demo_run import demo_environment
from shared.model.directory import ModelDirectory, open_model
from shared.model.spec import ModelSpec
from shared.settings import Settings
from shared.vectors import Vectors
from tests.support.models import opened, write_roberta
from tests.support.report import print_machine, table
from worker.batcher import Batcher
from worker.engine.encoder import TorchEncoder, compute_dtype
from worker.engine.tokenizer import Tokenizer

Embed = Callable[[Sequence[str]], Vectors]

JOB_TEXTS = 64
CPU_BUDGETS = (512, 1_024, 2_048, 4_096, 8_192, 16_384)
GPU_BUDGETS = (8_192, 16_384, 32_768, 65_536, 131_072, 262_144)
PEER = "sentence-transformers"


@dataclass(frozen=True)
class Work:
    """What every engine of one table embeds."""

    texts: list[str]
    tokens: int
    """Of all texts, special tokens counted, padding not."""
    truth: Vectors
    """sentence-transformers in float32 on the CPU, [texts, dimension]."""
    rounds: int
    clock: Callable[[], float]
    """Seconds."""


def main() -> None:
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers has no types here
    console = Console(width=120)
    settings = Settings.model_validate({n.lower(): v for n, v in demo_environment().items()})
    settings = settings.model_copy(update={"device": os.environ.get("DEVICE", "auto"), "max_batch_tokens": 131_072})
    gpu = settings.device != "cpu" and torch.cuda.is_available()
    threads = int(os.environ.get("THREADS", torch.get_num_threads()))
    torch.set_num_threads(threads)
    settings = settings.model_copy(update={"device": "cuda" if gpu else "cpu", "torch_threads": threads})
    texts = sample(int(os.environ.get("TEXTS", 8_192 if gpu else 192)), settings)
    print_machine(console, "torch", "transformers", "sentence-transformers")
    console.print(f"{len(texts)} texts, {torch.get_num_threads()} threads, {settings.device}", highlight=False)
    rate = matmul_rate() if gpu else 0.0
    if gpu:
        console.print(f"{torch.cuda.get_device_name()}: bfloat16 matmul {rate / 1e12:.0f} TFLOP/s", highlight=False)
    with tempfile.TemporaryDirectory() as folder:
        for name in os.environ.get("MODELS", "small,default").split(","):
            model = small_or_default(name, Path(folder), settings)
            compare(console, name, model, texts, settings, rate)


def sample(count: int, settings: Settings) -> list[str]:
    """`count` texts drawn from the sample, the same ones every time; fewer if it has fewer."""
    path = os.environ.get("SAMPLE") or Path(settings.data_repo) / "premises.tar.gz"
    texts = read_corpus(read_archive(Path(path))).texts
    return [texts[i] for i in np.random.default_rng(0).permutation(len(texts))[:count]]


def small_or_default(name: str, folder: Path, settings: Settings) -> ModelDirectory:
    """The real small model, or the default model's architecture with random weights and a tokenizer of its own."""
    if name == "small":
        return open_model(ModelSpec.of(settings), settings.data_dir, weights=True)
    texts = read_corpus(read_archive(Path(settings.data_repo) / "premises.tar.gz")).texts
    return opened(write_roberta(folder / "default", texts))


def compare(
    console: Console, name: str, model: ModelDirectory, texts: list[str], settings: Settings, rate: float
) -> None:
    """Print both tables of one model: engines, then budgets."""
    truth = SentenceTransformer(str(model.path), device="cpu")
    work = Work(
        texts,
        sum(len(ids) for ids in Tokenizer(model)(texts)),
        truth.encode(texts, normalize_embeddings=True),
        int(os.environ.get("ROUNDS", 3)),
        time.process_time if settings.device == "cpu" and settings.torch_threads == 1 else time.perf_counter,
    )
    del truth
    rows: list[tuple[object, ...]] = []
    for dtype in dtypes(settings):
        chosen = settings.model_copy(update={"dtype": dtype})
        measured = measure(engines(model, chosen), work)
        share = flops(model, work) / rate if rate and dtype == "bfloat16" else None
        for engine, (speed, best, ratio, cosine) in measured.items():
            against = f"{100 * share * speed / work.tokens:.0f} %" if share else ""
            rows.append((dtype, engine, f"{speed:,.0f}", f"{best:.2f}", f"{ratio:.2f}", f"{cosine:.6f}", against))
    columns = ("dtype", "engine", "tokens/s", "ratio", "median ratio", "least cosine", "of matmul rate")
    console.print(table(f"Embedding, {name} model, {work.tokens} tokens", columns, rows))
    console.print(table(f"Token budget, {name} model", ("dtype", "budget", "tokens/s"), sweep(model, settings, work)))


def dtypes(settings: Settings) -> list[str]:
    """float32, and bfloat16 where the worker would compute in it."""
    has_half = compute_dtype("bfloat16", torch.device(settings.device)) == torch.bfloat16
    return ["float32", "bfloat16"] if has_half else ["float32"]


def engines(model: ModelDirectory, settings: Settings) -> dict[str, Embed]:
    """Every engine there is for this model, dtype and device; the peer first."""
    dtype = getattr(torch, settings.dtype)
    peer = SentenceTransformer(str(model.path), device=settings.device, model_kwargs={"dtype": dtype})
    gpu = settings.device == "cuda"

    def encode(size: int) -> Embed:
        return lambda texts: peer.encode(list(texts), batch_size=size, normalize_embeddings=True)

    found: dict[str, Embed] = {PEER: encode(32)}  # its default
    if gpu:
        found[f"{PEER}, batches of 256"] = encode(256)
    found["ours, padded"] = through_batcher(TorchEncoder(model, settings, packed=False))
    found["ours, packed"] = through_batcher(TorchEncoder(model, settings))
    if not gpu and settings.dtype == "float32":
        try:
            found["onnxruntime"] = OnnxPeer(model, Path(tempfile.mkdtemp()), torch.get_num_threads())
        except ImportError as error:
            Console().print(f"no onnxruntime row: {error}", highlight=False)
    return found


def through_batcher(encoder: TorchEncoder) -> Embed:
    async def run(texts: Sequence[str]) -> Vectors:
        async with Batcher(encoder) as batcher:
            jobs = [texts[i : i + JOB_TEXTS] for i in range(0, len(texts), JOB_TEXTS)]
            parts = await asyncio.gather(*(batcher.embed(job, "bulk") for job in jobs))
        rows = [row for part in parts for row in part]
        return np.stack([row for row in rows if isinstance(row, np.ndarray)])

    return lambda texts: asyncio.run(run(texts))


def measure(found: dict[str, Embed], work: Work) -> dict[str, tuple[float, float, float, float]]:
    """Tokens/s of the best round, its ratio to the first engine's, the median ratio, and least cosine to the truth."""
    took: dict[str, list[float]] = {name: [] for name in found}
    cosines = {}
    for _ in range(work.rounds + 1):
        for name, embed in found.items():
            start = work.clock()
            rows = embed(work.texts)
            took[name].append(work.clock() - start)
            cosines[name] = float(np.einsum("ij,ij->i", rows.astype(np.float32), work.truth).min())
    # The first round warms up: memory, oneDNN's code for each shape.
    times = {name: np.array(seconds[1:]) for name, seconds in took.items()}
    first = next(iter(times.values()))
    return {
        name: (work.tokens / s.min(), first.min() / s.min(), float(np.median(first / s)), cosines[name])
        for name, s in times.items()
    }


def sweep(model: ModelDirectory, settings: Settings, work: Work) -> list[tuple[object, ...]]:
    """Tokens/s of the packed engine at each budget."""
    gpu = settings.device == "cuda"
    rows: list[tuple[object, ...]] = []
    for dtype in dtypes(settings):
        encoder = TorchEncoder(model, settings.model_copy(update={"dtype": dtype}))
        found: dict[str, Embed] = {}
        for budget in GPU_BUDGETS if gpu else CPU_BUDGETS:
            found[f"{budget}"] = _with_budget(encoder, budget)
        rows += [(dtype, budget, f"{speed:,.0f}") for budget, (speed, *_) in measure(found, work).items()]
    return rows


def _with_budget(encoder: TorchEncoder, budget: int) -> Embed:
    embed = through_batcher(encoder)

    def run(texts: Sequence[str]) -> Vectors:
        encoder.batch_tokens = budget
        return embed(texts)

    return run


def flops(model: ModelDirectory, work: Work) -> float:
    """Floating-point operations that all texts need: per token and layer 2 x 12 width² in linear layers and
    4 x length x width in attention (Kaplan et al. 2020, table 1, with a feed-forward width of 4 x width)."""
    lengths = np.array([len(ids) for ids in Tokenizer(model)(work.texts)], dtype=float)
    config = AutoConfig.from_pretrained(model.path)
    width, layers = config.hidden_size, config.num_hidden_layers
    return float(layers * (24 * width**2 * lengths.sum() + 4 * width * (lengths**2).sum()))


def matmul_rate() -> float:
    """FLOP/s of a large bfloat16 matrix product on this GPU."""
    size = 8_192
    a = torch.randn(size, size, dtype=torch.bfloat16, device="cuda")
    for _ in range(5):
        a @ a
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(100):
        a @ a
    torch.cuda.synchronize()
    return 100 * 2 * size**3 / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
