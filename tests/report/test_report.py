"""The page of a run: what it holds, that it needs nothing else, and that it works in a browser."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest

from cmpnas.cli.app import main
from cmpnas.data.images import ArrayImages
from cmpnas.data.items import Items, Protocol
from cmpnas.files import write_json
from cmpnas.report.examples import choose
from tests.report.browser import needs_chromium, open_page
from tests.report.conftest import evaluated
from tests.report.test_plot import markers


class Seen(HTMLParser):
    """Everything a page asks for, and its rows."""

    def __init__(self, text):
        super().__init__()
        self.asked, self.ids, self.images_without_words, self.open = [], [], 0, []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        told = dict(attributes)
        self.asked += [told[name] for name in ("src", "href") if told.get(name)]
        self.ids += [told["id"]] if "id" in told else []
        self.images_without_words += tag == "img" and not told.get("alt")
        if tag not in ("meta", "link", "img", "input", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(made_up, tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "one.html"
    assert main(["report", str(made_up), "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def content(page):
    return json.loads(re.search(r'id="data">(.*?)</script>', page.read_text(), re.S)[1])


def test_the_page_asks_nothing_of_a_network_and_is_well_formed(page):
    seen = Seen(page.read_text())
    assert not seen.open
    assert all(asked.startswith(("#", "data:")) for asked in seen.asked)
    assert {asked[1:] for asked in seen.asked if asked.startswith("#")} <= set(seen.ids)
    assert len(seen.ids) == len(set(seen.ids))
    assert not seen.images_without_words
    assert "http://" not in page.read_text()
    assert "default-src 'none'" in page.read_text()


def test_the_numbers_are_those_of_the_records(made_up, content):
    lines = [json.loads(line) for line in (made_up / "records.jsonl").read_text().splitlines()]
    columns = content["candidates"]
    assert columns["id"] == [line["query"]["id"] for line in lines]
    assert columns["mflops"] == [line["query"]["mflops"] for line in lines]
    assert [macs and sum(macs) for macs in columns["macs"]] == [round(line["query"]["mflops"] * 1e6) for line in lines]
    for line, scores, choices in zip(lines, columns["scores"][0], columns["choices"], strict=True):
        assert scores[0] == pytest.approx(line["galleries"]["resnet"]["heterogeneous"], abs=1e-5)
        taken = {name: values[at] for (name, values), at in zip(content["decisions"], choices, strict=True) if at >= 0}
        assert taken == line["query"]["arch"]["choices"]
    order = content["positions"]
    assert order[0] == "stem"
    assert order[-1] == "embed"
    assert order.index("stage1.block2") < order.index("stage2.block1") < order.index("last")


def test_every_pair_of_the_front_is_in_the_table(made_up, page, content):
    front = json.loads((made_up / "front.json").read_text())
    rows = re.findall(r'data-candidate="(\d+)" data-gallery="0"', page.read_text())
    assert [content["candidates"]["id"][int(row)] for row in rows] == [pair["query"]["id"] for pair in front["pairs"]]
    assert f"{len(front['pairs'])} pairs are beaten by no other" in page.read_text()


def test_two_galleries_have_a_column_of_names_and_scores_each(two_galleries, tmp_path):
    assert main(["report", str(two_galleries), "--out", str(tmp_path / "two.html")]) == 0
    text = (tmp_path / "two.html").read_text()
    content = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])
    first, second = content["candidates"]["scores"]
    assert content["galleries"] == ["resnet", "fusion"]
    assert [b[0] - a[0] for a, b in zip(first, second, strict=True)] == pytest.approx([0.02] * 30, abs=2e-5)
    rows = re.findall(r'data-candidate="\d+" data-gallery="(\d)"', text)
    assert set(rows) == {"1"}
    assert text.count('<td data-value="fusion">fusion</td>') == len(rows)
    assert "not measured; resnet on both sides has 0.8600" in text


def test_milliseconds_come_first_where_they_were_lowered(timed):
    assert main(["report", str(timed)]) == 0
    text = (timed / "report.html").read_text()
    content = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])
    assert [key for key, _ in content["costs"]] == ["latency_ms", "mflops", "params_m"]
    assert '<button type="button">ms</button>' in text


def test_the_same_run_gives_the_same_page(made_up, page, tmp_path):
    assert main(["report", str(made_up), "--out", str(tmp_path / "again.html")]) == 0
    assert (tmp_path / "again.html").read_bytes() == page.read_bytes()


def test_without_weights_it_says_so_and_trains_nothing(made_up, tmp_path, capsys):
    before = sorted(made_up.rglob("*"))
    assert main(["report", str(made_up), "--out", str(tmp_path / "r.html"), "--json"]) == 0
    told = capsys.readouterr()
    assert "supernet.pt is missing" in json.loads(told.out)["examples"]
    assert told.err.startswith("report: no examples:")
    assert sorted(made_up.rglob("*")) == before


def test_evaluations_and_the_ranking_are_shown(made_up, tmp_path):
    run = shutil.copytree(made_up, tmp_path / "run")
    write_json(run / "evaluation.test.json", evaluated("test"))
    (run / "rank.jsonl").touch()
    write_json(run / "rank.json", {"n": 0, "verdict": "the supernet ranks better"})
    assert main(["report", str(run)]) == 0
    text = (run / "report.html").read_text()
    for shown in (
        "q1 = w1: &lt;compatible&gt;",
        "M(q,g) 0.6000 [0.5000, 0.7000]",
        "untrained     M(u,g)  u1",
        "ranks better",
    ):
        assert shown in text
    table = evaluated("test")  # an option that is called as tables call the anchor is not taken for it
    pair = table["systems"][1]
    table["systems"].append(pair | {"gallery": "g", "scores": {"map@r": 0.3, "hit@1": 0.4}})
    write_json(run / "evaluation.test.json", table)
    assert main(["report", str(run)]) == 0
    assert "M(q,g) 0.6000 [0.5000, 0.7000]" in (run / "report.html").read_text()
    former = {"query": "q1", "id": "w1", "gallery": "resnet", "aligned": False, "text": "q1 = w1"}  # of an older cmpnas
    for damaged in (
        {"systems": []}, table | {"systems": [{"name": "heterogeneous M(q,g)  q1"}]}, table | {"verdicts": [former]},
    ):  # fmt: skip
        write_json(run / "evaluation.test.json", damaged)
        assert main(["report", str(run)]) == 2


def items(labels, sources=None):
    import torch

    pixels = torch.arange(len(labels) * 3 * 8 * 8).remainder(251).to(torch.uint8).reshape(-1, 3, 8, 8)
    return Items(ArrayImages(pixels), np.array(labels), sources and np.array(sources), np.arange(len(labels)))


def test_examples_of_nothing_but_the_own_source():
    task = Protocol(items([0, 0], [0, 1]), items([0, 0, 5], [0, 0, 3]))
    rows, found = np.arange(2), np.array([[2, -1, -1], [0, 1, 2]])
    about = choose(task, rows, {"paragon": found, "pair": found})[1]
    assert about.startswith("1 queries of the search split")  # the other has nothing to find
    task = Protocol(items([5], [0]), items([5, 5], [0, 1]))
    found = np.array([[1, -1]])
    (group,), _ = choose(task, np.arange(1), {"paragon": found, "pair": np.array([[-1, 1]])})
    assert [len(system.items) for system in group.examples[0].systems] == [1, 1]


def test_examples_are_of_every_kind_and_counted():
    task = Protocol(items([0, 0, 0, 1, 9]), items([0, 1, 1]))
    rows = np.arange(5)
    first, second = np.array([[0], [0], [1], [1], [0]]), np.array([[0], [1], [0], [2], [0]])
    groups, about = choose(task, rows, {"paragon": first, "pair": second})
    assert about == (
        "4 queries of the search split: only what the paragon finds first is relevant: 1, "
        "only what the pair finds first is relevant: 1, neither is relevant: 0, both are relevant: 2"
    )
    assert [len(group.examples) for group in groups] == [1, 1, 1]
    example = groups[0].examples[0]
    assert [[item.relevant for item in system.items] for system in example.systems] == [[True], [False]]
    assert example.query.src.startswith("data:image/")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "report.pdf"], "cannot write a report to 'report.pdf'; use a name that ends in .html."),
        (["--out", "none/report.html"], "folder none does not exist"),
        (["--out", "/proc/report.html"], "cannot write /proc/report.html"),
        (["--pick", "bets"], "unknown pick 'bets'. Did you mean 'best'?"),
        (["--pick", "1000000x"], "no pair is 1e+06 times cheaper"),
    ],
)
def test_mistakes(made_up, arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["report", str(made_up), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert [line.startswith("error:") for line in error.splitlines()].count(True) == 1


def test_a_run_without_a_front(made_up, tmp_path, capsys):
    run = shutil.copytree(made_up, tmp_path / "run")
    (run / "front.json").unlink()
    assert main(["report", str(run)]) == 2
    assert "has no front.json; finish the search with" in capsys.readouterr().err
    assert not (run / "report.html").exists()


# In a browser

ACT = """
const ready = (text) => document.documentElement.setAttribute("data-probe", JSON.stringify(text));
const chart = document.getElementById("chart"), svg = chart.querySelector("svg").getBoundingClientRect();
const told = {};
const key = (name) => chart.dispatchEvent(new KeyboardEvent("keydown", {key: name}));
key("ArrowRight"); key("ArrowRight"); key("Enter");
told.said = document.getElementById("told").textContent;
told.tip = document.getElementById("tip").textContent;
const ring = chart.querySelector("circle.ring");
const at = {clientX: svg.left + Number(ring.getAttribute("cx")), clientY: svg.top + Number(ring.getAttribute("cy"))};
chart.dispatchEvent(new PointerEvent("pointermove", at));
told.pointed = document.getElementById("tip").textContent;
told.compared = [...document.querySelectorAll("#comparison thead th")].map((th) => th.textContent);
const cost = document.getElementById("cost");
cost.value = "params_m"; cost.dispatchEvent(new Event("change"));
told.axis = [...chart.querySelectorAll("text")].some((text) => text.textContent.includes("million parameters"));
const heads = document.querySelectorAll("#table th button");
const column = (n) => [...document.querySelectorAll("#table tbody tr")].map((row) => row.cells[n].dataset.value);
heads[2].click(); told.up = column(3); heads[2].click(); told.down = column(3);
told.sort = document.querySelectorAll("#table th")[3].getAttribute("aria-sort");
told.wide = document.documentElement.scrollWidth <= innerWidth;
ready(told);
"""


@needs_chromium
@pytest.mark.parametrize("size", [(1200, 900), (500, 900)])
def test_it_works_in_a_browser(page, content, size):
    document, console = open_page(page, script=ACT, size=size)
    assert not console
    assert re.search(r'data-drawn-ms="\d+"', document)
    probe = re.search(r'data-probe="([^"]*)"', document)[1]
    told = json.loads(probe.replace("&quot;", '"').replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    columns = content["candidates"]
    cheap = sorted(range(40), key=lambda n: columns["mflops"][n])
    best, along = -1, []
    for n in cheap:
        if columns["scores"][0][n][0] > best:
            best = columns["scores"][0][n][0]
            along.append(columns["id"][n])
    assert told["said"].startswith(f"B is now {along[1]}:")
    assert told["tip"].startswith(along[1])
    first = columns["id"][content["chosen"][1]["candidate"]]
    assert told["pointed"].startswith(first)
    assert told["compared"] == [f"A{first}", f"B{along[1]}"]
    assert told["axis"]
    assert told["up"] == sorted(told["up"], key=float)
    assert told["down"] == told["up"][::-1]
    assert told["sort"] == "descending"
    assert told["wide"]


OWN = """
document.getElementById("own").click();
const drawn = document.querySelector("#chart .own").getAttribute("d").split("M").length - 1;
document.documentElement.setAttribute("data-drawn", drawn);
document.documentElement.setAttribute("data-compared", document.getElementById("comparison").textContent);
"""


@needs_chromium
def test_what_was_scored_against_no_gallery_of_its_own_is_not_drawn(made_up, tmp_path):
    run = shutil.copytree(made_up, tmp_path / "run")
    lines = [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]
    for line in lines[5:]:
        del line["homogeneous"]
    (run / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["report", str(run), "--out", str(tmp_path / "a.html")]) == 0
    document, console = open_page(tmp_path / "a.html", script=OWN)
    assert not console
    assert 'data-drawn="5"' in document
    assert "not computed" in re.search(r'data-compared="([^"]*)"', document)[1]
    assert main(["plot", str(run), "--out", str(tmp_path / "a.svg")]) == 0
    assert 6 in markers(tmp_path / "a.svg")  # and its sign in the legend
    for line in lines:
        line.pop("homogeneous", None)
    (run / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["plot", str(run), "--out", str(tmp_path / "a.svg")]) == 0
    assert "homogeneous" not in (tmp_path / "a.svg").read_text()


@needs_chromium
def test_a_complaint_on_the_console_would_be_heard(page):
    _, console = open_page(page, script="fetch('https://example.org'); console.error('mine');")
    assert any("mine" in line for line in console)
    assert any("Content Security Policy" in line for line in console)  # nothing may be asked of a network
