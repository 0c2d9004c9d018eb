"""Names, values, points and types of fields as they may be, for hypothesis, and what was made of them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from gateway.errors import ReadingError

# Every character that line protocol treats specially, some that it should leave alone, and the whole of Unicode.
ORDINARY = st.one_of(
    st.sampled_from(",= \"'#/:;.%`~é温🌡\u00a0\u2028it1"),
    st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters="\\"),
)
AFTER_BACKSLASH = st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters='\\,= "')
WORDS = st.lists(st.one_of(ORDINARY, AFTER_BACKSLASH.map("\\{}".format)), min_size=1, max_size=12).map("".join)

NAMES = WORDS.filter(lambda name: name != "time" and not name.startswith("_"))
MEASUREMENTS = NAMES.filter(lambda name: not name.startswith("#"))
TAG_VALUES = WORDS
TEXT = st.lists(st.one_of(ORDINARY, st.sampled_from(["\\", "\n", "\r", "\t", "\0"])), max_size=24).map("".join)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
INTS = st.integers(-(2**63), 2**63 - 1)
VALUES = st.one_of(FLOATS, INTS, st.booleans(), TEXT)
TIMES = st.integers(-9223372036854775806, 9223372036854775806)
FIELDS = st.dictionaries(NAMES, VALUES, min_size=1, max_size=6)
TAGS = st.dictionaries(NAMES, TAG_VALUES, max_size=4)
NUMBERS = st.one_of(FLOATS, st.integers(-12, 12), st.integers(-(2**63), 2**64 - 1))
SPECS = st.fixed_dictionaries(
    {"type": st.sampled_from(["float", "int", "bool", "string"])},
    optional={"min": st.integers(-10, 0), "max": st.integers(0, 10)},
).filter(lambda spec: spec["type"] in {"float", "int"} or len(spec) == 1)


def outcome(act: Any, *arguments: Any) -> Any:
    """What it returns, or the refusal's code, field and text."""
    try:
        return act(*arguments)
    except ReadingError as error:
        return error.code, error.field, error.message
