"""Where spaces are put."""

import pytest

from app.stores.words import spaced


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain text, as it was: QX-7731", "plain text, as it was: QX-7731"),
        ("退款政策", " 退款 款政 政策 "),
        ("用Python写", " 用 Python 写 "),
        ("カタカナ と 𠮷野家", " カタ タカ カナ   と   𠮷野 野家 "),
        ("한국어", " 한국 국어 "),
        ("", ""),
    ],
)
def test_spaced(text: str, expected: str) -> None:
    """Runs of Chinese, Japanese and Korean become overlapping pairs; all else stays."""
    assert spaced(text) == expected
