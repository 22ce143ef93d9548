"""Whole reports: figures that JSON can carry, and charts of them."""

import csv
import io
import json
import re
from dataclasses import asdict, is_dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports import building, world
from reports.building import build
from reports.charts import charts_of, path_of, shown
from reports.figures import Figures
from reports.sources import airports, some_airports
from reports.table import survey
from tests.examples.frontdesk import SITE

CITIES = """\
name,country,lat,lon,height,founded
Lyon,FR,45.76,4.84,173,1200-01-01
Paris,FR,48.86,2.35,35,1150-05-01
Nice,FR,43.7,7.27,10,1300-01-01
Bonn,DE,50.73,7.1,60,1400-03-01
Köln,DE,50.94,6.96,53,1250-01-01
Ulm,DE,48.4,9.99,478,1181-01-01
Bern,CH,46.95,7.45,540,1191-01-01
Genf,CH,46.2,6.14,375,
Rom,IT,41.9,12.5,21,1100-01-01
Rom,IT,41.9,12.5,21,1100-01-01
"""


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch):
    monkeypatch.setattr(building, "RESAMPLES", 20)
    monkeypatch.setattr(building, "GROUP_RESAMPLES", 10)


def report(text: str, **options: Any) -> Figures:
    return build(io.BytesIO(text.encode()), name="cities.csv", **options)


def test_a_report_tells_what_is_in_the_table():
    found = report(CITIES)
    assert (found["rows"], found["cells"], found["missing"], found["repeated_rows"]) == (10, 60, 1, 1)
    assert {column["name"]: column["kind"] for column in found["columns"]} == {
        "name": "category",
        "country": "category",
        "lat": "latitude",
        "lon": "longitude",
        "height": "number",
        "founded": "date",
    }
    height = found["columns"][4]["numbers"]
    assert (height["smallest"], height["median"], height["largest"]) == (10, 56.5, 540)
    assert height["mean_interval"]["low"] < height["mean"] < height["mean_interval"]["high"]
    assert found["columns"][5]["dates"]["earliest"] == "1100-01-01"


def test_a_report_knows_where_places_are_and_who_is_lonely():
    mapped = report(CITIES)["map"]
    assert mapped
    assert mapped["places"] == 10
    assert sum(count for _, _, count in mapped["dots"]) == 10
    assert mapped["loneliest"][0]["name"].startswith("Paris")
    assert 380 < mapped["loneliest"][0]["kilometres"] < 420


def test_groups_are_compared_where_there_are_enough_rows():
    rows = "".join(f"{'abc'[index % 3]},{index}.5\n" for index in range(60))
    comparison = report(f"group,value\n{rows}")["comparisons"][0]
    assert comparison["categories"] == "group"
    assert {group["name"]: group["count"] for group in comparison["groups"]} == {"a": 20, "b": 20, "c": 20}


def test_progress_goes_forward_and_to_the_end():
    heard: list[tuple[float, str]] = []
    report(CITIES, report=lambda percent, message: heard.append((percent, message)))
    percents = [percent for percent, _ in heard]
    assert percents == sorted(percents)
    assert percents[-1] == pytest.approx(100, abs=0.2)
    assert heard[0][1] == "Reading rows: 10 of 10"
    assert any("Drawing samples of height" in message for _, message in heard)


def test_whoever_is_told_of_progress_can_stop_the_work():
    class Enough(Exception):
        pass

    def stop(_percent: float, _message: str) -> None:
        raise Enough

    with pytest.raises(Enough):
        report(CITIES, report=stop)


def test_the_same_table_gives_the_same_figures():
    assert report(CITIES) == report(CITIES)


def test_names_are_fit_for_a_page():
    found = build(io.BytesIO(b"\xe2\x80\xaeword\n" + b"y" * 500 + b"\n"), name="\u202egpj.csv")
    assert found["name"] == " gpj.csv"
    assert found["columns"][0]["name"] == " word"
    assert len(found["columns"][0]["common"][0]["value"]) == 80


@given(data=st.data())
@settings(max_examples=60)
def test_every_table_has_figures_and_charts(data):
    width = data.draw(st.integers(min_value=1, max_value=5))
    names = data.draw(st.permutations(["lat", "lon", "name", "size", "when"]))[:width]
    number = st.floats(allow_nan=False).map(str) | st.integers(min_value=-9, max_value=9).map(str)
    word = st.sampled_from(["a", "b", "", "NA", "2024-02-29", "<b>", '="x"', "0012", "1e300"]) | st.text(max_size=5)
    columns = [data.draw(st.sampled_from([number, word, st.just("7"), st.just("")])) for _ in range(width)]
    rows = data.draw(st.lists(st.tuples(*columns), min_size=1, max_size=30))
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    printable = [["".join(each for each in cell if each.isprintable()) or "-" for cell in row] for row in rows]
    writer.writerows([names, *printable])
    found = report(text.getvalue())
    assert json.loads(json.dumps(found, allow_nan=False)) is not None
    for position in _positions(asdict(charts_of(json.loads(json.dumps(found))))):
        assert 0 <= position <= 100


def test_charts_are_of_figures_as_a_program_gets_them():
    found = json.loads(json.dumps(report(CITIES)))
    charts = charts_of(found)
    assert charts.map
    assert [card.name for card in charts.numbers] == ["height"]
    assert [name for name, _ in charts.dates] == ["founded"]
    assert [ring.number for ring in charts.map.rings] == list(range(1, 11))
    assert is_dataclass(charts)


@pytest.mark.parametrize(
    ("value", "text"),
    [(1234567.0, "1,234,567"), (-2.5, "−2.5"), (0.123456, "0.1235"), (1e-9, "1e−09"), (12345.678, "12,346"), (0, "0")],
)
def test_numbers_are_shown_for_people(value, text):
    assert shown(value) == text


def test_the_airports_are_a_table_with_places():
    with airports().open("rb") as source:
        layout = survey(source)
    assert layout.rows > 28_000
    assert {"lat", "lon", "elevation", "country"} <= set(layout.header)


def test_a_sample_of_the_airports_is_taken_from_all_over():
    found = build(some_airports(400), name="airports.csv")
    assert found["rows"] == 400
    countries = next(column for column in found["columns"] if column["name"] == "country")
    assert countries["distinct"] > 40


def _positions(value: Any) -> list[float]:
    match value:
        case dict():
            return [position for each in value.values() for position in _positions(each)]
        case list() | tuple():
            return [position for each in value for position in _positions(each)]
        case str() if re.fullmatch(r"-?[\d.]+%", value):
            return [float(value[:-1])]
    return []


def test_the_map_on_the_first_page_is_the_one_of_the_reports():
    drawn = (SITE / "frontdesk/static/frontdesk/world.svg").read_text()
    assert f'd="{path_of(world.land())}"' in drawn


def test_a_line_has_as_many_dots_as_it_stands_for():
    dots = [world.Dot(3, 7), world.Dot(3, 8), world.Dot(3, 9), world.Dot(4, 0)]
    lengths = [float(length) for length in re.findall(r"h([\d.]+)", path_of(dots))]
    assert [int(length) + 1 for length in lengths] == [3, 1]
