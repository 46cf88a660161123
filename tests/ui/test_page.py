from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from assistant.viewers.model_about import about_embedded
from tests.ui.desks import Office
from ui.build import build_page
from ui.theme import SCRIPTS, looks, static_text

ACTIONS = {
    "watch", "watch_file", "test_source", "stop", "state", "pause", "resume", "seek", "speed", "forget", "talkative",
    "instruct", "ask", "stop_answers", "events", "search", "export", "cameras", "watch_camera", "draw",
    "rules", "put_rule", "mute_rule", "remove_rule",
}  # fmt: skip


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    office = Office()
    config = dict(build_page(office.backend).get_config_file())
    assert not office.host.started  # the page is there before anything of the model is read
    return config


def parts(config: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [part["props"] for part in config["components"] if part["type"] == kind]


def test_programs_find_every_action_by_name_and_nothing_else(config: dict[str, Any]) -> None:
    public = {entry["api_name"] for entry in config["dependencies"] if entry["api_visibility"] == "public"}
    assert public - {None, False} == ACTIONS


def test_every_control_has_a_label(config: dict[str, Any]) -> None:
    kinds = ("textbox", "slider", "dropdown", "checkboxgroup", "radio", "file", "multimodaltextbox", "chatbot")
    for kind in kinds:
        assert parts(config, kind)
        for props in parts(config, kind):
            assert props["label"], (kind, props)
    assert all(props["value"] for props in parts(config, "button"))


def test_three_questions_suit_the_model(config: dict[str, Any]) -> None:
    buttons = {props["value"] for props in parts(config, "button")}
    assert set(about_embedded().questions) < buttons and "Synthetic scene" in buttons


def test_what_is_said_of_the_embedded_model_is_what_its_card_measured() -> None:
    card = (Path(__file__).parents[2] / "models" / "embedded" / "README.md").read_text()
    answers = [float(share) for share in re.findall(r"answers right +(\d\.\d+)", card)]
    content = float(re.findall(r"content \(slots right\) +(\d\.\d+)", card)[0])
    assert all(0.9 <= share < 0.95 for share in answers) and "nine questions in ten" in about_embedded().cannot
    assert f"{int(100 * content)} of 100" in about_embedded().cannot
    assert "wrong" not in about_embedded().can + about_embedded().cannot and "unreliably" not in about_embedded().cannot


def test_each_source_has_a_place_of_its_own_for_what_is_said_of_it(config: dict[str, Any]) -> None:
    assert sum("sva-result" in (props.get("elem_classes") or []) for props in parts(config, "html")) == 4


def test_nothing_is_fetched_from_elsewhere() -> None:
    sent = looks()
    texts = [sent["css"], sent["head"], *map(static_text, (*SCRIPTS, "viewer.html", "status.html", "grid.html"))]
    for text in texts:
        for line in text.splitlines():
            if "http" in line:
                assert "w3.org/2000/svg" in line or "http://127.0.0.1" in line or '"https:"' in line, line
    assert all("googleapis" not in str(font) for font in sent["theme"]._stylesheets)


def test_pages_scripts_make_no_markup_of_what_they_are_told() -> None:
    for name in SCRIPTS:
        text = static_text(name)
        assert "innerHTML" not in text and "insertAdjacentHTML" not in text and "eval(" not in text
