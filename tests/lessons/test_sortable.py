"""A large table: names in words, colours by size, what is missing as a dash."""

import re

import pandas as pd

from fedlab_helpers.lessons.panels import SortableTable

FRAME = pd.DataFrame(
    {"gain": [4.0, -2.0, None], "seeds": [3, 3, 6], "partition": ["1", "<b>", "iid"]},
    index=["fedavg", "median", "mine & <yours>"],
)


def test_the_table_says_names_numbers_and_dashes():
    page = SortableTable(FRAME, digits=2, coloured=["gain"]).html
    cells = re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", page)
    assert cells[:8] == [
        "", "gain (points)", "seeds", "reviews are dealt", "FedAvg", "4.00", "3",
        "1",
    ]  # fmt: skip
    assert "mine &amp; &lt;yours&gt;" in page
    assert "<td>&lt;b&gt;</td>" in page
    assert "<td>–</td>" in page
    assert 'data-value="4.0"' in page
    shades = re.findall(r"rgba\(([^)]*)\)", page)
    assert shades == ["0, 114, 178, 0.55", "213, 94, 0, 0.28"]


def test_numbers_have_the_decimals_of_their_column_and_name_rows_that_sort():
    frame = pd.DataFrame({"loss": [0.512], "points": [71.26], "mine": [1.0]}, index=[0.03])
    page = SortableTable(frame.rename_axis("α"), digits={"loss": 2, "points": 0}).html
    cells = re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", page)
    assert cells[0] == "α"
    assert cells[4:] == ["0.03", "0.51", "71", "1.0"]
    assert '<th data-value="0.03">' in page


def test_a_cell_shows_the_table_and_what_sorts_it(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    table = SortableTable(FRAME)
    table._ipython_display_()
    assert shown[0]["text/html"] == table.html
    view = shown[1]["application/vnd.jupyter.widget-view+json"]
    assert view["model_id"] == table.model_id


def heads(frame):
    head, body = SortableTable(frame).html.split("</thead>")
    return re.findall(r"<th>(.*?)</th>", head), re.findall(r"<tr><th[^>]*>(.*?)</th>", body)


def test_a_readers_own_names_stay_as_they_are():
    own = ["size", "run", "stop", "error", "times", 1]
    frame = pd.DataFrame([[1] * 6] * 3, columns=own).rename_axis("client")
    assert heads(frame) == (["client", *map(str, own)], ["0", "1", "2"])
    assert heads(pd.DataFrame({"a": [1, 2]}, index=["goals", "0"]))[1] == ["goals", "0"]
