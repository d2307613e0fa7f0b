"""As much of a question as a search can use: people paste whole logs, and a body may be long."""

LAST_WORD = 40
"""Characters that the cut may move back to end with a word; a longer word is cut."""


def beginning(question: str, most: int) -> str:
    """Return the beginning of a question, `most` characters at most, the last word whole."""
    question = question.strip()
    if len(question) <= most:
        return question
    ends = (end for end in range(most, most - LAST_WORD, -1) if question[end].isspace())
    return question[: next(ends, most)].rstrip()
