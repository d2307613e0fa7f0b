"""Text from outside as a reader would see it, and as a chat template cannot mistake it.

- What cannot be seen is left out: control characters, and all code points that are invisible by
  default (zero-width, bidirectional, tags, variation selectors …), in which instructions to a
  model can be hidden from people. Lost with them are the joiners of some scripts and of
  composed emoji, which then show their parts. Lone surrogates, which no UTF-8 can carry, go too.
- Any kind of line end is a newline.
- Markers of chat templates (`<|im_start|>`, `<turn|>`, `</s>`, `[INST]` …) are broken up by a
  space: some model servers take them for real also within a message
  (https://github.com/huggingface/transformers/issues/29279). There is no full list of them.

Applying it again changes nothing.

Needs: the standard library.
Source of the invisible: Default_Ignorable_Code_Point in Unicode's DerivedCoreProperties.txt, and
the interlinear annotations of the same kind.
"""

import re

LINE_END = re.compile("\r\n?|[\v\f\x1c-\x1e\x85\u2028\u2029]")
INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ud800-\udfff\ufe00-\ufe0f\ufeff\uffa0"
    "\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
TEMPLATE_MARKER = re.compile(
    "<(?=[|\uff5c][^\\s>])|(?<=[^\\s<])[|\uff5c](?=>)"
    "|<(?=/?(?:s|bos|eos|think|tool_call|tool_response|start_of_turn|end_of_turn|</?SYS>)>)"
    "|\\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_[A-Z]+|gMASK)\\])"
)


def visible(text: str) -> str:
    """Return the text without what is hidden in it."""
    text = INVISIBLE.sub("", LINE_END.sub("\n", text))
    return TEMPLATE_MARKER.sub(lambda marker: f"{marker[0]} ", text)


def visible_line(text: str, *, length: int) -> str:
    """Return the text as one line of at most `length` characters."""
    line = " ".join(visible(text).split())
    return line if len(line) <= length else f"{line[: length - 1].rstrip()}…"
