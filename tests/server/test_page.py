"""The page at `/` in a real headless Chromium, against a real `messctl serve`."""

import json
import re
import time

import browser as browsers
import pytest
from browser import live, opened, part
from servers import misbehaving
from serving import TWO, Serving

pytest.importorskip("uvicorn")
pytestmark = pytest.mark.slow

HOSTILE = "<img src=x onerror=alert(1)>"
NAMES = f"""
sla: {{alpha: 0.75}}
defaults: {{max_tokens: 64}}
models:
- {{name: "{HOSTILE}", path: cheap.gguf, cost: {{unit: USD, prompt: 1, generated: 1}}}}
- {{name: "a-name-that-is-so-long-that-it-fits-on-no-phone-of-this-world-{"x" * 60}", path: dear.gguf,
   cost: {{unit: USD, prompt: 10, generated: 20}}}}
"""
CONTRAST = """
() => {
  const light = (colour) => {
    const parts = colour.match(/[\\d.]+/g).slice(0, 3).map((each) => each / 255);
    const [r, g, b] = parts.map((each) => (each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = getComputedStyle(each).backgroundColor;
      if (!/, 0\\)$/.test(colour)) return colour;
    }
    return getComputedStyle(document.body).backgroundColor;
  };
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.textContent.trim() || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const [one, other] = [light(element.closest("svg") ? style.fill : style.color), light(behind(element))];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (ratio < 4.5) poor.push(`${ratio.toFixed(2)}: ${node.textContent}`);
  }
  return poor;
}
"""
"""Returns the texts that stand out too little from what is behind them (WCAG 2.2, 1.4.3)."""


@pytest.fixture(scope="module")
def browser():
    with browsers.chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A server with judged requests, which tests only look at."""
    with Serving(tmp_path_factory.mktemp("shared"), TWO, "--show-prompts", scripted=0) as serving:
        for number in range(40):
            _, _, answer = serving.chat(f"prompt {number}")
            if number % 4:
                serving.ask("/v1/feedback", {"id": answer["id"], "value": number % 5 > 0})
        yield serving


@pytest.fixture
def serving(tmp_path):
    with Serving(tmp_path, TWO, "--show-prompts", scripted=0) as serving:
        yield serving


def text(page, name):
    return part(page, name).inner_text()


def status(serving):
    return serving.ask("/v1/status")[2]


def eventually(check, within_s=20):
    """Wait until something is true."""
    gives_up = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < gives_up
        time.sleep(0.05)


def test_a_page_without_requests_says_where_to_ask(browser, serving):
    with opened(browser, serving.url) as page:
        live(page)
        assert text(page, "verdict") == "no feedback yet"
        assert f"{serving.url}/v1" in text(page, "latest-note")
        assert not part(page, "latest").is_visible()


def test_figures_are_those_of_the_status(browser, shared):
    document = status(shared)
    standing = document["standing"]
    with opened(browser, shared.url) as page:
        live(page)
        assert text(page, "attained") == f"{standing['attained']:.4f}"
        assert text(page, "certificate") == f"{standing['certificate']:.4f}"
        assert text(page, "debt") == f"{standing['queue']:.2f}"
        assert text(page, "verdict") == ("promise kept" if document["sla_met"] else "below the promise")
        assert text(page, "requests") == "40"
        assert f"{document['pending']} not judged" in text(page, "requests-note")
        assert f"{float(text(page, 'cost').removesuffix(' ×')):.2f}" == f"{document['cost_vs_costliest']:.2f}"
        for name, share in document["model_share"].items():
            row = part(page, "models").locator("tr", has=page.get_by_role("rowheader", name=name, exact=True))
            shown = float(row.locator(".share span").inner_text().removesuffix(" %"))
            assert shown == pytest.approx(100 * share, abs=0.51)
        assert "alone" in text(page, "bars")
        assert page.locator(".plot path.attained").count() == page.locator(".plot path.queue").count() == 1
        assert part(page, "latest").locator("tr").count() == 20


def test_requests_and_judgements_of_others_appear_by_themselves(browser, serving):
    with opened(browser, serving.url) as page:
        live(page)
        _, _, answer = serving.chat("Who are you?")
        part(page, "latest").locator("tr").wait_for()
        assert "Who are you?" in text(page, "latest")
        assert part(page, "latest").locator("[aria-pressed=true]").count() == 0
        serving.ask("/v1/feedback", {"id": answer["id"], "value": False})
        page.locator(".thumb.down[aria-pressed=true]").wait_for()
        eventually(lambda: text(page, "attained") == "0.0000")
        assert text(page, "verdict") == "below the promise"
        serving.ask("/v1/feedback", {"id": answer["id"], "value": 0.5})
        eventually(lambda: part(page, "latest").locator(".thumbs span").inner_text() == "0.50")


def test_a_thumb_is_stored_and_another_one_corrects_it(browser, serving):
    serving.chat()
    with opened(browser, serving.url) as page:
        live(page)
        page.get_by_role("button", name=re.compile("^good:")).click()
        eventually(lambda: status(serving)["standing"]["attained"] == 1.0)
        page.locator(".thumb.up[aria-pressed=true]").wait_for()
        page.get_by_role("button", name=re.compile("^bad:")).click()
        eventually(lambda: status(serving)["standing"]["attained"] == 0.0)
        page.locator(".thumb.down[aria-pressed=true]").wait_for()
        assert page.locator("[aria-pressed=true]").count() == 1
        assert status(serving)["standing"]["judged"] == 1


def test_all_can_be_done_with_the_keyboard_and_updates_keep_the_focus(browser, serving):
    for prompt in ("first", "second"):
        serving.chat(prompt)
    with opened(browser, serving.url) as page:
        live(page)
        part(page, "latest").locator("tr").nth(1).wait_for()
        reached = []
        for _ in range(20):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.className || document.activeElement.tagName"))
            if reached[-1].startswith("thumb down"):
                break
        assert reached[0] == "skip"
        assert reached.count("plot") == 2
        assert "SUMMARY" in reached
        assert reached[-2].startswith("thumb up")
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        page.keyboard.press("Space")
        eventually(lambda: status(serving)["standing"]["attained"] == 0.0)
        serving.chat("third")
        part(page, "latest").locator("tr").nth(2).wait_for()
        assert page.evaluate("document.activeElement.closest('tr').innerText").count("second") == 1
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Enter")
        eventually(lambda: status(serving)["standing"]["attained"] == 1.0)


def test_charts_are_read_with_arrow_keys(browser, shared):
    with opened(browser, shared.url) as page:
        live(page)
        chart = part(page, "promise-chart")
        chart.locator("path.attained").wait_for()
        plot, readout = chart.locator(".plot"), chart.locator(".note")
        latest = plot.get_attribute("aria-label")
        assert f"attained {status(shared)['standing']['attained']:.4f}" in latest
        plot.focus()
        page.keyboard.press("Home")
        assert readout.inner_text().endswith("after 1 judged answers")
        page.keyboard.press("ArrowRight")
        assert readout.inner_text().endswith("after 2 judged answers")
        page.keyboard.press("Escape")
        assert plot.get_attribute("aria-label") == latest
        plot.hover(position={"x": 60, "y": 60})
        assert not readout.inner_text().endswith("after 30 judged answers")


def test_prompts_are_shown_only_if_the_server_was_told_to(browser, tmp_path):
    with Serving(tmp_path, TWO, scripted=0) as serving, opened(browser, serving.url) as page:
        serving.chat("a secret prompt")
        part(page, "latest").locator("tr").wait_for()
        assert "--show-prompts" in text(page, "latest-note")
        assert "secret" not in page.content()
        assert "secret" not in json.dumps(next(events(serving)))
        assert not page.locator("td.said").first.is_visible()


def test_a_prompt_opens_to_its_answer(browser, shared):
    with opened(browser, shared.url) as page:
        live(page)
        row = part(page, "latest").locator("tr").first
        assert not row.locator(".answer").is_visible()
        row.locator("summary").click()
        assert row.locator(".answer").inner_text().endswith(": prompt 39")


def test_names_prompts_and_errors_are_text_and_fit_on_a_phone(browser, tmp_path):
    with Serving(tmp_path, NAMES, "--show-prompts", scripted=0) as serving:
        for model in ("auto", HOSTILE):
            assert serving.chat(f"<b>{HOSTILE}</b> {'long' * 200}", model=model)[0] == 200
        for width in (320, 390, 768):
            with opened(browser, serving.url, width) as page:
                part(page, "latest").locator("tr").nth(1).wait_for()
                assert page.locator("main img, main b b").count() == 0
                assert HOSTILE in text(page, "models")
                assert HOSTILE in text(page, "latest")
                assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_an_outage_is_shown_with_its_reason_and_ends(browser, tmp_path):
    zoo = 'defaults: {{retries: 0}}\nmodels: [{{name: cheap, url: "{}", cost: {{unit: USD, prompt: 1, generated: 1}}}}]'
    answer = json.dumps({"error": {"message": f"out of order {HOSTILE}"}}).encode()
    with (
        misbehaving(lambda handler: handler.answer(answer, 500, "application/json")) as broken,
        Serving(tmp_path, zoo.format(broken.url)) as serving,
        opened(browser, serving.url) as page,
    ):
        live(page)
        assert text(page, "outages") == "No model has failed."
        assert serving.chat()[0] >= 500
        eventually(lambda: "left alone for" in text(page, "outages"))
        assert "1 lost attempt" in text(page, "outages")
        assert HOSTILE in text(page, "outages")
        assert part(page, "latest").locator("tr").inner_text().endswith("no answer")


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_colours_are_those_that_the_reader_wants_and_stand_out(browser, shared, colours):
    with opened(browser, shared.url, colours=colours) as page:
        live(page)
        page.locator(".plot path.attained").wait_for()
        back = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", back))) < 200) == (colours == "dark")
        assert page.evaluate(CONTRAST) == []


def test_thumbs_are_large_enough_for_a_finger(browser, shared):
    with opened(browser, shared.url, 390, 844) as page:
        live(page)
        box = page.locator(".thumb").first.bounding_box()
        assert min(box["width"], box["height"]) >= 44


def test_a_server_that_goes_and_comes_back_is_noticed(browser, tmp_path):
    with Serving(tmp_path, TWO, scripted=0) as serving, opened(browser, serving.url) as page:
        live(page)
        began = time.monotonic()
        serving.stop(20)
        assert time.monotonic() - began < 20  # an open page does not hold it
        page.locator('#connection[data-state="broken"]').wait_for()
        page.complaints.clear()
        with Serving(tmp_path, TWO, "--port", serving.url.rpartition(":")[2], scripted=0) as again:
            assert again.url == serving.url
            live(page)
        page.complaints.clear()


def test_a_tab_in_the_background_holds_no_connection_and_goes_on_when_it_is_seen(browser, serving):
    hide = (
        "(hidden) => { Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });"
        " document.dispatchEvent(new Event('visibilitychange')); }"
    )
    with opened(browser, serving.url) as page:
        live(page)
        page.evaluate(hide, True)
        page.get_by_text("paused in the background").wait_for()
        serving.chat()
        assert part(page, "latest").locator("tr").count() == 0
        page.evaluate(hide, False)
        part(page, "latest").locator("tr").wait_for()
        live(page)


def test_without_a_log_the_page_says_so(browser, tmp_path):
    with Serving(tmp_path, TWO, "--no-log", scripted=0) as serving, opened(browser, serving.url) as page:
        serving.chat()
        eventually(lambda: text(page, "requests") == "1")
        assert "--no-log" in text(page, "latest-note")


def test_the_page_runs_no_script_but_its_own_and_may_not_be_framed(browser, shared):
    for path in ("/", "/page/page.js", "/page/chart.js", "/page/page.css", "/page/icon.svg"):
        found, headers = got(shared, path)
        assert found == 200
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
    with opened(browser, shared.url) as page:
        live(page)
        page.evaluate(
            "() => { const made = document.createElement('script'); made.textContent = 'window.ran = 1';"
            " document.body.append(made); }"
        )
        assert page.evaluate("window.ran") is None
        assert any("Content Security Policy" in each for each in page.complaints)
        page.complaints.clear()


def test_with_keys_the_page_asks_for_one_and_shows_its_tenant_alone(browser, tmp_path):
    from messctl.server.keys import hash_of

    keys = {"search": "the key of search", "batch": "the key of batch"}
    tenants = "".join(f'- {{name: {name}, key_hash: "{hash_of(key)}"}}\n' for name, key in keys.items())
    with Serving(tmp_path, f"{TWO}tenants:\n{tenants}", "--show-prompts", scripted=0) as serving:
        for name, key in keys.items():
            body = {"model": "auto", "messages": [{"role": "user", "content": f"for {name}"}]}
            assert serving.ask("/v1/chat/completions", body, {"authorization": f"Bearer {key}"})[0] == 200
        with opened(browser, serving.url) as page:
            field = page.get_by_label("Key", exact=True)
            field.wait_for()
            assert page.evaluate("document.activeElement.id") == "key"
            assert page.locator(".tenant").count() == 0
            field.fill("a wrong key")
            field.press("Enter")
            page.get_by_text("The server does not know this key.").wait_for()
            field.fill(keys["search"])
            page.get_by_role("button", name="Show").click()
            live(page)
            assert page.locator(".tenant h2").all_inner_texts() == ["search"]
            assert "for search" in text(page, "latest")
            assert "batch" not in page.content()
            page.locator(".thumb.up").click()
            page.locator(".thumb.up[aria-pressed=true]").wait_for()
            eventually(lambda: text(page, "attained") == "1.0000")
            assert keys["search"] not in page.url + page.content()
            kept = page.evaluate("JSON.stringify([{...localStorage}, document.cookie, {...sessionStorage}])")
            assert json.loads(kept) == [{}, "", {"messctl-key": keys["search"]}]
            page.reload()
            live(page)
            page.get_by_role("button", name="Forget the key").click()
            field.wait_for()
            assert page.evaluate("sessionStorage.length") == 0
            assert all("401" in each for each in page.complaints)
            page.complaints.clear()


@pytest.mark.parametrize(
    ("host", "expected"),
    [("evil.example:8080", 403), ("127.0.0.1.evil.example", 403), ("localhost", 200), ("127.0.0.1:1", 200)],
)
def test_events_are_not_for_pages_that_call_this_machine_by_another_name(shared, host, expected):
    connection = shared.connection()
    connection.request("GET", "/v1/status/events", headers={"host": host})
    assert connection.getresponse().status == expected
    connection.close()


def test_every_key_of_the_events_is_on_the_page_of_documentation(shared):
    document = next(events(shared))
    (tenant,) = document["tenants"]
    text = (browsers.DOCS / "serve.md").read_text(encoding="utf-8")
    of_status = set(status(shared)) - {"version", "tenant", "running", "waiting"}
    models = {key for each in tenant["latency"].values() for key in each}
    own = {*document, *tenant, *tenant["history"], *models, *(key for each in tenant["requests"] for key in each)}
    assert {key for key in own - of_status if not re.search(rf"[`.]{key}\b", text)} == set()
    assert of_status <= set(tenant)
    assert len({len(values) for values in tenant["history"].values()}) == 1


def test_only_so_many_may_watch_at_a_time(shared):
    from messctl.server.page import MOST_WATCHERS

    watching = [events(shared) for _ in range(MOST_WATCHERS)]
    for each in watching:
        assert next(each)["version"] == 1
    found, _, document = shared.ask("/v1/status/events")
    assert (found, document["error"]["code"]) == (429, "rate_limit_exceeded")
    for each in watching:
        each.close()
    eventually(lambda: next(events(shared), None) is not None)


def test_pictures_are_taken(browser, shared, tmp_path):
    browsers.take_pictures(browser, shared, tmp_path)
    for name, (width, height, _) in browsers.PICTURES.items():
        head = (tmp_path / name).read_bytes()[:24]
        assert head[:8] == b"\x89PNG\r\n\x1a\n"
        assert (int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")) == (width, height)
        kept = (browsers.DOCS / name).read_bytes()[:24]
        assert kept == head


def got(serving, path):
    connection = serving.connection()
    connection.request("GET", path)
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status, {name.lower(): value for name, value in response.getheaders()}


def events(serving):
    """Yield what a server sends to those who watch."""
    connection = serving.connection()
    try:
        connection.request("GET", "/v1/status/events")
        response = connection.getresponse()
        for line in response if response.status == 200 else ():
            if line.startswith(b"data: "):
                yield json.loads(line[6:])
    finally:
        connection.close()
