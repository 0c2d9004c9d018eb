"""Names, values and points as devices may send them, for hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

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
