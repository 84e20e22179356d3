"""Every setting, from environment variables or `.env`. `.env` holds the arithmetic behind the defaults."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.errors import StartupError
from shared.logs import LogFormat

Positive = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, le=31_536_000)]
Text = Annotated[str, Field(min_length=1)]

REDIS_URL = re.compile(
    r"rediss?://([^/?#\s]*@)?([^@/?#\s:\[\]]+|\[[0-9a-fA-F:.]+\])?(:[0-9]{1,5})?(/[0-9]*)?(\?\S*)?|unix://\S+"
)


class Settings(BaseSettings):
    """Settings of API and worker; read once at start, then passed on."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", frozen=True, env_ignore_empty=True)

    # HTTP
    host: str = Field("127.0.0.1", description="address the API listens on")
    port: int = Field(80, ge=1, le=65535, description="port the API listens on")
    api_processes: int = Field(1, ge=1, le=256, description="API processes on the port, over the same index pages")
    api_key: SecretStr = Field(SecretStr(""), description="requests must carry it, as bearer token or path segment")
    rate_limit: Annotated[int, Field(ge=0)] = Field(0, description="states a client may ask for in a minute; 0 = any")
    trusted_proxies: str = Field(
        "127.0.0.1", description="addresses or networks, comma-separated, whose X-Forwarded-For is believed"
    )
    request_timeout: float = Field(60, gt=0, le=600, description="seconds before a request is answered with 504")
    max_body_bytes: Positive = Field(16_777_216, description="larger request bodies are answered with 413")
    worker_metrics_port: int = Field(
        0, ge=0, le=65535, description="port a worker answers `/metrics` on; 0 = none (the API has it on PORT)"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="least level logged")
    log_format: LogFormat = Field("auto", description="text, json, or auto: text on a terminal, JSON elsewhere")
    otel_exporter_otlp_endpoint: str = Field("", description="where traces go over OTLP/HTTP; empty = no tracing")

    # Data and model
    data_repo: Text = Field(
        "l3lab/lean-premises", description="Hugging Face dataset, or a local directory of the same layout"
    )
    data_revision: Text = Field("v4.33.0", description="branch, tag or commit of DATA_REPO")
    model_id: Text = Field(
        "l3lab/all-distilroberta-v1-lr2e-4-bs256-nneg3-ml-ne2",
        description="Hugging Face model, or a local sentence-transformers directory",
    )
    model_revision: Text = Field("v4.33.0", description="branch, tag or commit of MODEL_ID")
    model_name: str = Field("", description="name in cache keys and file names (default: end of MODEL_ID)")
    data_dir: Path = Field(Path("data"), description="where downloads and built files are kept")

    # Limits of a request
    max_k: Positive = Field(1024, description="a larger k is clamped to this")
    max_new_premises: Positive = Field(2048, description="only the last this many new premises are ranked")

    # Redis
    redis_url: Text = Field("redis://127.0.0.1:6379/0", description="the queue; policy noeviction")
    cache_redis_url: str = Field("", description="the cache; policy allkeys-lfu (default: same as REDIS_URL)")
    state_ttl: Seconds = Field(3_600, description="seconds a state's embedding stays cached")
    premise_ttl: Seconds = Field(86_400, description="seconds a premise's embedding stays cached")
    lru_cache_size: Positive = Field(16_384, description="embeddings in an API process's near cache")

    # Queue
    embed_service_max_concurrent_inputs: Positive = Field(
        8_192, description="texts admitted to the queue at once, over all API processes"
    )
    chunk_tokens: Positive = Field(4_096, description="tokens (estimated) of new premises in one job")

    # Model execution
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where the model runs")
    dtype: Literal["float32", "float16", "bfloat16"] = Field("float32", description="type the model runs in")
    max_batch_tokens: Positive = Field(
        16_384, description="tokens in one forward pass; padding counts if the model needs it"
    )
    torch_threads: Annotated[int, Field(ge=0)] = Field(0, description="CPU threads of a worker; 0 = one per core")

    @field_validator("api_key")
    @classmethod
    def _key_fits_a_path(cls, key: SecretStr) -> SecretStr:
        if not re.fullmatch(r"[\w.~+=-]*", key.get_secret_value(), re.ASCII):
            raise ValueError("may have letters, digits and . _ ~ + = - only, because clients put it into a URL's path")
        return key

    @field_validator("redis_url", "cache_redis_url")
    @classmethod
    def _redis_can_parse(cls, url: str) -> str:
        # Checked here, because what a client library says about a URL may repeat a part of its password.
        if url and not REDIS_URL.fullmatch(url):
            raise ValueError(
                "must look like redis://:password@host:6379/0; in a password, write / ? # and spaces percent-encoded"
            )
        return url

    @model_validator(mode="after")
    def _roles_make_sense(self) -> Self:
        if self.max_batch_tokens < 512:
            raise ValueError("MAX_BATCH_TOKENS must be at least 512, the longest text the default model reads")
        if self.embed_service_max_concurrent_inputs < self.max_new_premises + 1:
            raise ValueError(
                "EMBED_SERVICE_MAX_CONCURRENT_INPUTS must exceed MAX_NEW_PREMISES, "
                "or a cold request of that size could never be admitted"
            )
        return self

    @property
    def cache_url(self) -> str:
        return self.cache_redis_url or self.redis_url


def load_settings() -> Settings:
    """Settings from the environment.

    Raises:
        StartupError: a variable does not fit; the sentence names it.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0]).upper() if first["loc"] else ""
        sentence = str(first["msg"]).removeprefix("Value error, ")
        raise StartupError(f"Setting {name}: {sentence}." if name else f"Settings: {sentence}.") from None
    except UnicodeDecodeError:
        raise StartupError("Settings: the file .env is not UTF-8 text.") from None
