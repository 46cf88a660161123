"""What the endpoint reads of requests, whom it lets in, and whose turn it is."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from assistant.chat.keys import ClientKeys, make_key, read_keys
from assistant.chat.media import MediaFiles, decoded
from assistant.chat.refusal import ChatRefused
from assistant.chat.requests import MediaUrl, parse_request
from assistant.chat.turns import FairTurns
from assistant.config.app import load_config
from assistant.errors import ConfigError
from assistant.inputs.limits import UploadLimits
from assistant.viewers.passwords import Authenticator, make_line, read_users
from models.session.media_turns import Clip
from models.spans import SpanKind
from tests.assistant.test_limits import png_header
from tests.clips import write_clip

ASK = {"role": "user", "content": "What is there?"}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,AAAA"}}


def parsed(**values: Any) -> Any:
    return parse_request(json.dumps({"model": "embedded", "messages": [ASK], **values}).encode())


def jpeg(width_px: int = 64, height_px: int = 48) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width_px, height_px), (200, 30, 30)).save(file, "JPEG")
    return file.getvalue()


def url_of(data: bytes, kind: str = "image/jpeg") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def test_a_conversation_becomes_a_question_with_what_went_before() -> None:
    asked = parsed(
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [PICTURE, {"type": "text", "text": "What is this?"}]},
            {"role": "assistant", "content": "A circle."},
            {"role": "user", "content": [{"type": "text", "text": "And"}]},
            {"role": "user", "content": [{"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAA"}},
                                         {"type": "text", "text": "this?"}]},
        ]
    )  # fmt: skip
    assert asked.system == "Be brief." and asked.question == "And\nthis?"
    assert asked.earlier == ((SpanKind.QUESTION, "What is this?"), (SpanKind.ANSWER, "A circle."))
    assert [(media.is_clip, media.name) for media in asked.media] == [(False, "picture 1"), (True, "clip 1")]


def test_settings_without_effect_are_accepted_and_sampling_is_read() -> None:
    asked = parsed(temperature=0.5, top_p=0.9, seed=7, max_tokens=3000, user="hub", n=1, tools=[], stop=None,
                   stream=True, stream_options={"include_usage": True}, response_format={"type": "text"})  # fmt: skip
    assert (asked.sampling.temperature, asked.sampling.top_p, asked.sampling.seed) == (0.5, 0.9, 7)
    assert asked.max_tokens == 3000 and asked.is_streamed and asked.wants_usage
    assert parsed().sampling.temperature == 0 and not parsed().is_streamed


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"model": 3}, "model 3: it must be a text"),
        ({"messages": "hello"}, "messages 'hello': it must be a list of 1 to 64"),
        ({"messages": []}, "it must be a list of 1 to 64"),
        ({"messages": [ASK] * 65}, "a list of 65"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role 'tool': it must be system, user"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content 7: it must be a text, or a list"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "'input_audio': parts of type text"),
        ({"messages": [{"role": "user", "content": [PICTURE]}]}, "the question has no words"),
        ({"messages": [{"role": "system", "content": [PICTURE]}, ASK]}, "belong to messages of the user"),
        ({"messages": [{"role": "user", "content": [PICTURE] * 33}]}, "at most 32 pictures and clips"),
        ({"messages": [ASK, {"role": "assistant", "content": "A."}]}, "the last message must be the user's"),
        ({"messages": [{"role": "user", "content": "x" * 32_001}]}, "at most 32,000 characters"),
        ({"n": 2}, "n 2: one answer is given; leave it out"),
        ({"n": True}, "n true: one answer is given"),
        ({"tools": [{"type": "function"}]}, "tools (a list of 1): tools are not called here"),
        ({"response_format": {"type": "json_object"}}, "answers are plain text"),
        ({"logprobs": True}, "probabilities of tokens are not given"),
        ({"stop": ["."]}, "an answer ends where the model ends it"),
        ({"temperature": "hot"}, "temperature 'hot': it must be a number from 0 to 2"),
        ({"temperature": float("nan")}, "temperature NaN: it must be a number from 0 to 2"),
        ({"max_tokens": 0}, "max_tokens 0: it must be a whole number from 1"),
        ({"stream": "yes"}, "stream 'yes': it must be true or false"),
        ({"stream_options": {"more": 1}}, "it may hold include_usage alone"),
        ({"best_of": 2}, "best_of: an unknown field; known are model, messages"),
    ],
)  # fmt: skip
def test_what_is_not_served_is_refused_in_one_line(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ChatRefused) as refused:
        parsed(**values)
    said = str(refused.value)
    assert words in said and "\n" not in said and len(said) < 400 and refused.value.status == 400
    assert refused.value.as_dict()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "it must be JSON"),
        (b"\xff\xfe", "it must be JSON"),
        (b"[" * 15_000, "it is nested too deeply"),
        (b"[" + b"0," * 30_000 + b"0]", "at most 20,000 are read"),
        (b'{"n":' + b"9" * 10_000 + b"}", "it must be JSON"),
        (b'"text"', "it must be an object with model and messages"),
    ],
)
def test_bodies_that_are_no_requests_are_refused(body: bytes, words: str) -> None:
    with pytest.raises(ChatRefused, match=words):
        parse_request(body)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://example.org/a.jpg", "nothing is fetched from elsewhere"),
        ("http://169.254.169.254/latest", "nothing is fetched from elsewhere"),
        ("file:///etc/passwd", "nothing is fetched from elsewhere"),
        ("/etc/passwd", "nothing is fetched from elsewhere"),
        ("data:image/jpeg,plain", "its data must be base64"),
        ("data:image/jpeg;base64,*", "its base64 is damaged"),
        ("data:video/mp4;base64,AAAA", "image_url takes image/"),
    ],
)
def test_only_data_urls_are_read(url: str, words: str) -> None:
    with pytest.raises(ChatRefused, match=words):
        decoded(MediaUrl(False, url, "messages[0]", "picture 1"))


def test_pictures_and_clips_are_files_until_they_are_read(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", num_frames=75)
    files = MediaFiles(UploadLimits(), tmp_path / "kept")
    files.folder.mkdir()
    files.keep([
        MediaUrl(False, url_of(jpeg()), "a", "picture 1"),
        MediaUrl(True, url_of((tmp_path / "clip.mp4").read_bytes(), "video/mp4"), "b", "clip 1"),
    ])  # fmt: skip
    assert len(list(files.folder.iterdir())) == 2
    picture, clip = files.read()
    assert isinstance(picture, np.ndarray) and picture.shape == (48, 64, 3)
    assert isinstance(clip, Clip) and len(clip.frames) == 3
    files.close()
    assert not list(files.folder.iterdir())


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\0" * 100, "picture 1: it is not a picture"),
        (jpeg()[:300], "picture 1: it is a JPEG picture whose header cannot be read; check that"),
        (jpeg(640, 480)[:-400], "picture 1: it cannot be read to its end"),
        (png_header(60_000, 60_000), "picture 1: it is a picture of far more pixels than are read; at most 36 mega"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "picture 1: "),
    ],
)
def test_hostile_pictures_are_refused_in_words(tmp_path: Path, data: bytes, words: str) -> None:
    files = MediaFiles(UploadLimits(), tmp_path)
    files.keep([MediaUrl(False, url_of(data), "messages[0].content[0]", "picture 1")])
    with pytest.raises(ChatRefused, match=words) as refused:
        files.read()
    assert refused.value.param == "messages[0].content[0]" and str(tmp_path) not in str(refused.value)


def test_pictures_that_are_too_large_together_are_refused(tmp_path: Path) -> None:
    files = MediaFiles(UploadLimits(), tmp_path)
    # Headers alone tell their sizes; none of them would decode.
    large = url_of(png_header(6000, 6000), "image/png")
    files.keep([MediaUrl(False, large, "a", f"picture {number}") for number in range(1, 13)])
    with pytest.raises(ChatRefused, match="picture 12: pictures and frames of one request come to 432 megapixels"):
        files.read()


def test_keys_and_the_page_s_users_are_told_apart(tmp_path: Path) -> None:
    key, line = make_key("frigate")
    path = tmp_path / "keys"
    path.write_text(f"# who may ask\n{line}\n")
    path.chmod(0o600)
    users = tmp_path / "users"
    users.write_text(make_line("ada", "correct horse", rounds=4))
    users.chmod(0o600)
    keys = ClientKeys(read_keys(path), Authenticator(read_users(users)))
    basic = base64.b64encode(b"ada:correct horse").decode()
    assert key not in line and keys.client(f"Bearer {key}", "a") == "key frigate"
    assert keys.client("Bearer ada:correct horse", "a") == keys.client(f"Basic {basic}", "a") == "user ada"
    for given in (None, "", key, "Bearer", f"Bearer {key}x", "Bearer ada:wrong", "Basic %%%", "Basic " + "A" * 9999):
        with pytest.raises(ChatRefused, match="send Authorization: Bearer with a key of the key file or name:") as no:
            keys.client(given, "a")
        assert no.value.status == 401 and no.value.code == "invalid_api_key"
    assert ClientKeys().client(None, "127.0.0.1") == "address 127.0.0.1"


@pytest.mark.parametrize(("text", "words"), [("", "holds no key"), ("frigate:sva-plain\n", "line 1: it must be name")])
def test_key_files_that_are_wrong_are_told(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "keys"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match=words):
        read_keys(path)
    path.chmod(0o622)
    with pytest.raises(ConfigError, match="chmod go-w"):
        read_keys(path)


def test_a_key_file_of_an_endpoint_that_is_off_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="keys_file is for an endpoint that is enabled"):
        load_config(None, {"endpoint": {"keys_file": tmp_path / "keys"}})


def test_clients_have_turns_one_after_another_and_places_are_bounded() -> None:
    async def scenario() -> list[str]:
        turns, order = FairTurns(most=5, most_of_one=3), list[str]()
        hub = [turns.enter("hub") for _ in range(3)]
        with pytest.raises(ChatRefused, match="3 requests of this client wait; 3 may") as too_many:
            turns.enter("hub")
        assert too_many.value.status == 429 and too_many.value.retry_after_s
        other = [turns.enter("other") for _ in range(2)]
        with pytest.raises(ChatRefused, match="5 requests wait for the model; 5 may") as full:
            turns.enter("third")
        assert full.value.status == 503 and full.value.retry_after_s

        async def served(number: int, place: Any) -> None:
            await place.turn()
            order.append(f"{place.client} {number}")
            place.leave()
            place.leave()

        gone = asyncio.create_task(hub[1].turn())
        tasks = [asyncio.create_task(served(n, place)) for n, place in enumerate([hub[0], hub[2], *other])]
        await asyncio.sleep(0)
        gone.cancel()
        hub[1].leave()  # its client went away while it waited
        await asyncio.gather(*tasks)
        assert turns.num_places == 0
        return order

    assert asyncio.run(scenario()) == ["hub 0", "other 2", "hub 1", "other 3"]
