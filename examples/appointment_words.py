"""Names, days, times and yes or no in what a recogniser understood of a caller."""

import re

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")
UNITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
TEENS = ("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty")
NUMBERS = (*UNITS, *TEENS)
MINUTES = {"fifteen": 15, "thirty": 30, "forty five": 45, "forty-five": 45}
YES = ("yes", "yeah", "yep", "yup", "sure", "correct", "right", "exactly", "perfect", "okay", "ok", "fine")
NO = ("no", "nope", "wrong", "not right", "incorrect", "change", "different", "another")
NOT_NAMES = frozenset(
    re.findall(
        r"\w+",
        """a an the i it my you your we is am are have get want would like need can could make book booking schedule
        appointment doctor dentist day time morning afternoon today tomorrow for at on in to of and what when yes no
        yeah okay ok hello hi hey please thanks thank sorry uh um well so just good not here""",
    )
)
NAME_BEFORE = re.compile(
    r"\b(?:my name is|my name's|name is|this is|i am called|call me|i'm|i am|it is|it's|speaking is)\s+"
    r"([a-z][\w'-]*(?:\s+[a-z][\w'-]*)?)",
    re.IGNORECASE,
)
NAME_AFTER = re.compile(r"^\W*([a-z][\w'-]*(?:\s+[a-z][\w'-]*)?) (?:speaking|here)\b", re.IGNORECASE)


def words(text: str) -> str:
    """Lower case, single spaces, no punctuation but apostrophes, colons within numbers and hyphens within words."""
    text = re.sub(r"\b([ap])\.?\s?m\b\.?", r"\1m", text.lower().replace("’", "'"))
    text = re.sub(r"(\d)\.(\d\d)\b", r"\1:\2", text)
    return " ".join(re.sub(r"[^\w':-]|(?<!\d):|:(?!\d)", " ", text).split())


def mentions(text: str, phrases: tuple[str, ...]) -> bool:
    """Whether one of the phrases occurs, as whole words."""
    heard = f" {words(text)} "
    return any(f" {phrase} " in heard for phrase in phrases)


def find_yes_no(text: str) -> bool | None:
    """True, False, or None when it is neither."""
    if mentions(text, NO):
        return False
    return True if mentions(text, YES) else None


def find_day(text: str) -> str:
    """A day from Monday to Friday, or ""; the last one that is named counts ("not Monday, Tuesday")."""
    found = [(words(text).rfind(day.lower()), day) for day in DAYS]
    position, day = max(found)
    return day if position >= 0 else ""


def find_name(text: str, *, expected: bool) -> str:
    """A name after "my name is" and the like; when one is `expected`, up to three words that look like one will do."""
    for pattern in (NAME_BEFORE, NAME_AFTER):
        if (found := pattern.search(text.replace("’", "'"))) and (name := _kept(found.group(1))):
            return name
    heard = re.sub(r"[^\w' -]", " ", text).split()
    if expected and 0 < len(heard) <= 3 and len(_kept(text).split()) == len(heard):
        return _kept(text)
    return ""


def _kept(text: str) -> str:
    """The leading words that may be part of a name, capitalised."""
    kept: list[str] = []
    for word in re.sub(r"[^\w' -]", " ", text).split():
        if word.lower() in NOT_NAMES or not word[0].isalpha() or word.capitalize() in DAYS or word.lower() in NUMBERS:
            break
        kept.append(word[0].upper() + word[1:])
    return " ".join(kept)


def find_time(text: str, *, expected: bool) -> tuple[int, int] | None:
    """Hour and minute on a 24-hour clock; a bare number only counts when a time is `expected`. 1 to 6 are afternoon."""
    heard = words(text)
    for value in range(len(NUMBERS) - 1, -1, -1):
        heard = re.sub(rf"\b{NUMBERS[value]}\b", str(value), heard)
    heard = re.sub(r"\bnoon\b|\bmidday\b", "12 o'clock", heard)
    for phrase, minute in (("half past", 30), ("quarter past", 15)):
        heard = re.sub(rf"\b{phrase} (\d+)\b", rf"\1:{minute} o'clock", heard)
    if quarter := re.search(r"\bquarter to (\d+)\b", heard):
        return _clock(int(quarter.group(1)) - 1, 45, heard)
    heard = re.sub(r"\b(\d{1,2}) (?:thirty|30)\b", r"\1:30", heard)
    heard = re.sub(r"\b(\d{1,2}) (?:fifteen|15)\b", r"\1:15", heard)
    heard = re.sub(r"\b(\d{1,2}) (?:forty[ -]five|forty-5|forty 5|45)\b", r"\1:45", heard)
    heard = re.sub(r"\b(\d{1,2})(00|15|30|45)\b(?! o)", r"\1:\2", heard)
    found = re.search(r"\b(\d{1,2})(?::(\d\d))?\s?(o'?clock|oclock|am|pm|in the (?:morning|afternoon))", heard)
    found = found or re.search(r"\b(\d{1,2}):(\d\d)\b", heard) or re.search(r"\bat (\d{1,2})\b()", heard)
    if found is None and expected:
        found = re.search(r"\b(\d{1,2})\b()", heard)
    return _clock(int(found.group(1)), int(found.group(2) or 0), heard) if found else None


def _clock(hour: int, minute: int, heard: str) -> tuple[int, int] | None:
    afternoon = re.search(r"\bpm\b|\dpm\b|\bafternoon\b", heard) is not None
    morning = re.search(r"\bam\b|\dam\b|\bmorning\b", heard) is not None
    if hour < 12 and (afternoon or (not morning and hour < 7)):
        hour += 12
    return (hour, minute) if 0 <= hour < 24 and 0 <= minute < 60 else None


def spoken_time(hour: int, minute: int) -> str:
    """The time in words, as a voice says it best."""
    part = "in the morning" if hour < 12 else "in the afternoon"
    tail = next((word for word, value in MINUTES.items() if value == minute), "o'clock" if minute == 0 else str(minute))
    return f"{NUMBERS[(hour - 1) % 12 + 1]} {tail} {part}"
