"""Who may ask: the parsing of API_KEYS and CLIENT_TERMS, and the keyring made of them."""

import pytest
from pydantic import SecretStr

from app.clients import Client, Keyring, Terms
from app.settings import load_settings

SECRET = "sk-very-secret"
BAD_KEYS = [
    SECRET,
    f":{SECRET}",
    "alice:",
    f"alice smith:{SECRET}",
    f"al/ice:{SECRET}",
    f"alice: {SECRET}",
    f"alice:{SECRET}é",
    f"alice:{SECRET},alice:another",
    f"alice:{SECRET},bob:{SECRET}",
    f"alice:good,{SECRET}",
]
BAD_TERMS = [
    "alice",
    "alice:",
    "alice:weight",
    "alice:weight=",
    "alice:weight=0",
    "alice:weight=nan",
    "alice:weight=inf",
    "alice:requests=0",
    "alice:requests=many",
    "alice:tokens=-1",
    "alice:tokens=1.5",
    "alice:speed=1",
    "carol:weight=2",
    ":weight=2",
    f"alice:{SECRET}",
]


def refusal(monkeypatch: pytest.MonkeyPatch, **environment: str) -> str:
    """Return what the start ends with under these variables."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        load_settings(_env_file=None)
    return str(ended.value)


@pytest.mark.parametrize("keys", BAD_KEYS)
def test_bad_keys_are_one_line_without_a_key(monkeypatch: pytest.MonkeyPatch, keys: str) -> None:
    """A bad entry ends the start with one line that names the variable and shows no key."""
    said = refusal(monkeypatch, API_KEYS=keys)
    assert "API_KEYS" in said
    assert len(said.splitlines()) == 1
    assert SECRET not in said


@pytest.mark.parametrize("terms", BAD_TERMS)
def test_bad_terms_are_one_line(monkeypatch: pytest.MonkeyPatch, terms: str) -> None:
    """So do bad terms, those of nobody who has a key, and a key in the wrong variable."""
    said = refusal(monkeypatch, API_KEYS="alice:key", CLIENT_TERMS=terms)
    assert "CLIENT_TERMS" in said
    assert len(said.splitlines()) == 1
    assert SECRET not in said


def test_keys_and_terms_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys may hold colons and equal signs; terms may be all, some or none; blanks do not count."""
    monkeypatch.setenv("API_KEYS", " alice:sk:a= , bob-2.x_y:b ,carol:c,")
    monkeypatch.setenv(
        "CLIENT_TERMS", "alice:weight=2.5:requests=10:tokens=500, bob-2.x_y:tokens=7"
    )
    settings = load_settings(_env_file=None)
    keys = {name: key.get_secret_value() for name, key in settings.api_keys.items()}
    assert keys == {"alice": "sk:a=", "bob-2.x_y": "b", "carol": "c"}
    assert settings.client_terms == {"alice": Terms(2.5, 10, 500), "bob-2.x_y": Terms(tokens=7)}


def test_no_keys_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without keys the service is open to all; a single one closes it."""
    assert Keyring(load_settings(_env_file=None).api_keys, {}).is_open
    monkeypatch.setenv("API_KEYS", "alice:a")
    assert not Keyring(load_settings(_env_file=None).api_keys, {}).is_open


def test_keyring_finds_the_client_of_a_key() -> None:
    """A key leads to its own client, with its terms; a part of one, or another, to nobody."""
    keys = {"alice": SecretStr("key-a"), "bob": SecretStr("key-b")}
    keyring = Keyring(keys, {"bob": Terms(weight=3)})
    assert keyring.client_with("key-a") == Client("alice")
    assert keyring.client_with("key-b") == Client("bob", Terms(weight=3))
    for wrong in ("", "key", "key-a ", "KEY-A", "alice", "key-ä", "key-a,key-b"):
        assert keyring.client_with(wrong) is None


def test_keyring_shows_no_key() -> None:
    """Nothing that a debugger or a log would print of a keyring has a key in it."""
    keyring = Keyring({"alice": SecretStr(SECRET)}, {})
    assert "alice" in repr(vars(keyring))
    assert SECRET not in repr(vars(keyring))
