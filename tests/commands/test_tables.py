import pytest

from backroom.tasks.tables import count, printable, span, table


def test_columns_are_as_wide_as_their_widest_cell_and_numbers_stand_to_the_right():
    assert table(["queue", "ready", "oldest"], [["mail", 7, "3 s"], ["reports", "10000+", ""]]) == [
        "queue     ready  oldest",
        "mail          7     3 s",
        "reports  10000+",
    ]


def test_ids_and_times_stand_to_the_left():
    assert table(["id", "at"], [["01a2" * 8, "2026-11-22 17:06"]]) == [
        "id                                at",
        "01a201a201a201a201a201a201a201a2  2026-11-22 17:06",
    ]


def test_a_table_without_rows_is_its_headers():
    assert table(["queue", "ready"], []) == ["queue  ready"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0 s"), (0.4, "0 s"), (1.6, "2 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (200_000, "2 d")],
)
def test_a_span_is_told_in_the_unit_that_a_person_would_choose(seconds, text):
    assert span(seconds) == text


def test_a_number_takes_the_plural_of_its_noun():
    assert (count(1, "task"), count(0, "task"), count(2, "process", "processes")) == (
        "1 task",
        "0 tasks",
        "2 processes",
    )


def test_a_name_gives_the_terminal_no_orders():
    assert printable("mail\x1b[2J\u202e\n") == "mail\ufffd[2J\ufffd "
    assert printable("{'one': 1,\n 'two': 2}") == "{'one': 1, 'two': 2}"
    assert printable("Üben 日本") == "Üben 日本"
    assert printable("one \r\n\n two  three\n") == "one two  three "


def test_a_long_line_of_blanks_is_looked_through_once():
    assert printable("\t" * 400_000) == "\ufffd" * 400_000
