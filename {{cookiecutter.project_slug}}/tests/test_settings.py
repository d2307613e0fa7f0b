"""Every environment variable: read once, checked at the start, never shown if it is a secret."""

from pathlib import Path

import pytest

from app.main import create_app
from app.settings import DEFAULT_MODELS, load_settings

BAD_VALUES = {
    "PORT": ["eighty", "65536", "80\n80"],
    "WORKERS": ["0"],
    "LOG_LEVEL": ["LOUD"],
    "LLM_PROVIDER": ["nobody", "openai,nobody", ",", "echo,echo"],
    "LLM_MODEL": ["a,b"],
    "LLM_MAX_CONCURRENCY": ["0"],
    "LLM_MAX_QUEUE": ["-1"],
    "LLM_QUEUE_TIMEOUT": ["0"],
    "LLM_TIMEOUT_TOTAL": ["soon", "inf", "1e-9"],
    "OPENAI_BASE_URL": [
        "localhost:9000", "http://", "http://:9000", "http://local host", "http://xn--a",
        "http://999.1.1.1", "http://[::1", "http://localhost:port", "http://localhost:65536",
        "http://localhost/v1?key=x",
    ],
    "ANTHROPIC_BASE_URL": ["http://user:password@localhost", "http://h?", "http://h/#", "http://a..b"],
    "RATE_LIMIT_WINDOW": ["inf", "1e-9"],
    "DRAIN_TIMEOUT": ["inf"],
    "ECHO_TOKEN_INTERVAL": ["nan"],
    "ECHO_TOKEN_COUNT": ["0"],
    "OPENAI_API_KEY": ["sk with a space", "sk-ü"],
    "SERPPOST_BASE_URL": ["http://localhost:port"],  # optional: ingestion_client
    "BROKER_URL": ["redis://localhost", "amqp://localhost:port/"],  # optional: job_queue
    "EMBEDDING_MODEL": ["text-embedding-3-small"],  # optional: vector_store
}  # fmt: skip
LIMITS = {
    "LLM_MAX_CONCURRENCY": 1,
    "RATE_LIMIT_REQUESTS": 1,
    "RATE_LIMIT_TOKENS": 100,
    "CLIENT_RATE_LIMIT_REQUESTS": 1,
    "CLIENT_RATE_LIMIT_TOKENS": 100,
    "SERPPOST_REQUEST_SLOTS": 1,  # optional: ingestion_client
}


@pytest.fixture(autouse=True)
def directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Start in a directory that has no `.env` yet."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal() -> str:
    """Return the line that the start ends with."""
    with pytest.raises(SystemExit) as ended:
        load_settings()
    (line,) = str(ended.value).splitlines()
    return line


def test_starts_with_nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any variable, or with empty ones, the service is echo on localhost."""
    settings = load_settings()
    assert (settings.host, settings.port, settings.workers) == ("127.0.0.1", 8000, 1)
    assert settings.llm_provider == ("echo",)
    assert (settings.llm_max_concurrency, settings.llm_max_queue) == (20, 200)
    assert settings.llm_queue_timeout == 30
    monkeypatch.setenv("PORT", "")
    monkeypatch.setenv("LLM_PROVIDER", "")
    assert load_settings() == settings


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD_VALUES.items() for value in values]
)
def test_bad_value_is_one_line_with_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """A bad value ends the start with one line that names the variable, once."""
    monkeypatch.setenv(name, value)
    assert refusal().count(name) == 1


@pytest.mark.parametrize(
    ("url", "read"),
    [
        ("http://my_server:11434/v1/", "http://my_server:11434/v1"),
        ("https://[::1]:8443/@a", "https://[::1]:8443/@a"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
    ],
)
def test_server_of_ones_own(monkeypatch: pytest.MonkeyPatch, url: str, read: str) -> None:
    """A provider may be anywhere that a client can ask, under any path."""
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    assert load_settings().openai_base_url == read


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_vendor_needs_its_key(monkeypatch: pytest.MonkeyPatch, provider: str) -> None:
    """A provider at its vendor's own address does not start without a key; another server may."""
    monkeypatch.setenv("LLM_PROVIDER", f"echo,{provider}")
    assert refusal().count(f"{provider.upper()}_API_KEY") == 1
    monkeypatch.setenv(f"{provider.upper()}_BASE_URL", "http://localhost:9000/v1")
    load_settings()


def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Providers and models are comma lists, in the same order; blanks do not matter."""
    monkeypatch.setenv("LLM_PROVIDER", " openai , echo ,")
    monkeypatch.setenv("LLM_MODELS_ALLOWED", "gpt-own, echo")
    monkeypatch.setenv("LLM_MODEL", "gpt-own")
    monkeypatch.setenv("OPENAI_API_KEY", "sk")
    settings = load_settings()
    assert settings.llm_provider == ("openai", "echo")
    assert settings.models == {"openai": "gpt-own", "echo": DEFAULT_MODELS["echo"]}
    assert settings.llm_models_allowed == ("gpt-own", "echo")


@pytest.mark.parametrize(("name", "least"), LIMITS.items())
def test_limit_below_workers(monkeypatch: pytest.MonkeyPatch, name: str, least: int) -> None:
    """A limit whose share admits nothing in a worker ends the start with one line."""
    monkeypatch.setenv("LLM_MAX_TOKENS", "100")
    monkeypatch.setenv("WORKERS", "8")
    monkeypatch.setenv(name, str(8 * least - 1))
    assert refusal().startswith(f"Bad settings: {name}={8 * least - 1} is below {8 * least}")
    assert refusal().endswith(f"LLM_MAX_TOKENS={least}" if least > 1 else "at least 1")
    monkeypatch.setenv(name, str(8 * least))
    load_settings()


def test_env_file_is_read(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    """`.env` counts unless the environment differs; all bad values are named at once."""
    (directory / ".env").write_text("PORT=1234\nWORKERS=3\nOTHER_PROGRAM=x\n")
    monkeypatch.setenv("WORKERS", "2")
    settings = load_settings()
    assert (settings.port, settings.workers) == (1234, 2)
    (directory / ".env").write_text("PORT=x\n")
    monkeypatch.setenv("WORKERS", "y")
    assert "PORT='x'" in refusal()
    assert "WORKERS='y'" in refusal()


def test_secrets_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key is in the text of the settings, nor in the line about a bad one."""
    monkeypatch.setenv("OPENAI_API_KEY", "my-secret-key")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "my-secret-key")
    settings = load_settings()
    assert settings.openai_api_key.get_secret_value() == "my-secret-key"
    assert "my-secret-key" not in f"{settings!r} {settings} {settings.model_dump_json()}"
    monkeypatch.setenv("API_KEYS", "my-secret-key")
    assert "API_KEYS" in refusal()
    monkeypatch.setenv("OPENAI_BASE_URL", "http://me:my-secret-key@localhost")
    assert "OPENAI_BASE_URL" in refusal()
    assert "my-secret-key" not in refusal()


def test_removed_variables_are_named_in_one_warning(
    monkeypatch: pytest.MonkeyPatch, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was removed and is still set, in the environment or in `.env`, is one line at start."""
    create_app()
    assert "removed" not in capsys.readouterr().err
    monkeypatch.setenv("CLIENT_TERMS", "alice:weight=2")
    (directory / ".env").write_text("tiktoken_encoding=o200k_base\n")
    create_app()
    (line,) = capsys.readouterr().err.splitlines()
    assert "CLIENT_TERMS: all clients have the same share" in line
    assert "TIKTOKEN_ENCODING: tokens are estimated" in line
    assert "alice" not in line
