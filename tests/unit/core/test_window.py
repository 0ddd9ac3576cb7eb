from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from p8.core.window import PER_MESSAGE, clip, compose


def words(text: str) -> int:
    return len(text.split())


def said(*texts: str) -> list[dict[str, str]]:
    return [{"role": "user" if n % 2 == 0 else "assistant", "content": text} for n, text in enumerate(texts)]


def test_all_is_sent_where_it_fits() -> None:
    conversation = said("one", "two", "three")
    for window in (1000, 40):  # without counting, and with
        check_all_is_sent(conversation, window)


def check_all_is_sent(conversation: list[dict[str, str]], window: int) -> None:
    sent = compose(conversation, window, words, memories=lambda _budget: "remember me")

    assert sent.messages[0] == {"role": "system", "content": "remember me"}
    assert sent.messages[1:] == conversation
    assert sent.left_out == 0


def test_the_newest_are_sent_whole_and_the_rest_is_told_of() -> None:
    conversation = said(*(f"m{n} " + "word " * 50 for n in range(20)))
    sent = compose(
        conversation, 500, words, note=lambda: "NOTE of the work", first=lambda: "the goal", where="p8 session show X"
    )

    room = 400
    assert sent.tokens <= room
    assert sum(words(m["content"]) + PER_MESSAGE for m in sent.messages) <= room + 5
    head, *rest = sent.messages
    assert rest == conversation[-len(rest) :]
    assert sent.left_out == 20 - len(rest) > 0
    assert head["role"] == "system"
    for part in ("the goal", "NOTE of the work", f"[{sent.left_out} earlier messages", "p8 session show X"):
        assert part in head["content"]


def test_a_last_message_that_is_too_long_alone_keeps_its_end() -> None:
    sent = compose(said("x", "y", "begin " + "word " * 5000 + "the question?"), 500, words)

    assert sent.messages[-1]["content"].endswith("the question?")
    assert sent.tokens <= 400
    assert sent.left_out == 2


def test_nothing_is_changed_in_what_was_said() -> None:
    conversation = said("a " * 300, "b " * 300)
    before = [dict(m) for m in conversation]
    compose(conversation, 100, words)
    assert conversation == before


@given(st.lists(st.integers(0, 200), min_size=1, max_size=40), st.integers(200, 3000))
def test_what_is_sent_fits_and_ends_with_the_last(sizes: list[int], window: int) -> None:
    conversation = said(*(f"m{n} " + "w " * size for n, size in enumerate(sizes)))
    sent = compose(conversation, window, words, memories=lambda budget: "r " * (budget * 3), note=lambda: "n " * 5000)

    assert sent.tokens <= window * 4 // 5
    assert sent.messages[-1]["content"].split()[-1] == conversation[-1]["content"].split()[-1]
    talk = [m for m in sent.messages if m["role"] != "system"]
    assert sent.left_out == len(conversation) - len(talk)
    assert talk[1:] == conversation[len(conversation) - len(talk) + 1 :]


@given(st.text(max_size=300), st.integers(0, 50), st.booleans())
def test_clipping_fits(text: str, budget: int, end: bool) -> None:
    cut = clip(text, budget, len, end=end)
    assert len(cut) <= budget
    assert cut == text or not cut or cut.strip("…") in text
