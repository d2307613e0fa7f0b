"""Who may ask: the parsing of API_KEYS, and the keyring made of it."""

import pytest
from pydantic import SecretStr

from app.clients import Client, Keyring
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


def test_keys_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys may hold colons and equal signs; blanks and empty entries do not count."""
    monkeypatch.setenv("API_KEYS", " alice:sk:a= , bob-2.x_y:b ,carol:c,")
    settings = load_settings(_env_file=None)
    keys = {name: key.get_secret_value() for name, key in settings.api_keys.items()}
    assert keys == {"alice": "sk:a=", "bob-2.x_y": "b", "carol": "c"}


def test_no_keys_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without keys the service is open to all; a single one closes it."""
    assert Keyring(load_settings(_env_file=None).api_keys).is_open
    monkeypatch.setenv("API_KEYS", "alice:a")
    assert not Keyring(load_settings(_env_file=None).api_keys).is_open


def test_keyring_finds_the_client_of_a_key() -> None:
    """A key leads to its own client; a part of one, or another, to nobody."""
    keys = {"alice": SecretStr("key-a"), "bob": SecretStr("key-b")}
    keyring = Keyring(keys)
    assert keyring.client_with("key-a") == Client("alice")
    assert keyring.client_with("key-b") == Client("bob")
    for wrong in ("", "key", "key-a ", "KEY-A", "alice", "key-ä", "key-a,key-b"):
        assert keyring.client_with(wrong) is None


def test_keyring_shows_no_key() -> None:
    """Nothing that a debugger or a log would print of a keyring has a key in it."""
    keyring = Keyring({"alice": SecretStr(SECRET)})
    assert "alice" in repr(vars(keyring))
    assert SECRET not in repr(vars(keyring))
