"""WebUIs as workers, on a server in this process: nothing is lost, doubled or half, and each refusal is named."""

from __future__ import annotations

import base64
import http.server
import json
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lib_animatediff.cli.last_resort import explained
from lib_animatediff.cli.render.api_workers import rows as webui_rows
from lib_animatediff.jobs.api_workers import workers as webui_workers
from lib_animatediff.jobs.api_workers.api import UnreachableError, WebUI, WebUIError
from lib_animatediff.jobs.api_workers.finished import FinishedNotes
from lib_animatediff.jobs.api_workers.workers import WebUIWorkers
from lib_animatediff.jobs.many.claims import Claims
from lib_animatediff.jobs.many.errors import StoppedError
from lib_animatediff.jobs.many.queue import JobQueue

NOBODY = "http://127.0.0.1:1"


@dataclass(frozen=True)
class Job:
    id: str
    places: tuple[Path, ...]
    payload: dict[str, Any] = field(default_factory=dict, hash=False)
    models: str = ""


class Server:
    """A WebUI whose replies a function of the prompt and its number of tries decides: a status and an object."""

    def __init__(self, reply):
        self.asked, self.passwords, outer = [], [], self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.answer(200 if self.path == "/animatediff/v1/version" else 404, {})

            def do_POST(self):
                payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.passwords.append(self.headers["Authorization"])
                outer.asked.append(payload["prompt"])
                self.answer(*reply(payload["prompt"], outer.asked.count(payload["prompt"])))

            def answer(self, status, content):
                if status is None:  # it ends in the middle
                    self.send_response(200)
                    self.send_header("Content-Length", "1000")
                    self.end_headers()
                    self.wfile.write(b'{"images": ["')
                    return
                data = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def stop(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def serve(monkeypatch):
    monkeypatch.setattr(webui_workers, "PAUSE", 0.2)
    monkeypatch.setattr(webui_workers, "_LOOK", 0.02)
    started = []

    def start(reply=lambda prompt, _: (200, clip(prompt))):
        started.append(Server(reply))
        return started[-1]

    yield start
    for server in started:
        server.stop()


def clip(*contents):
    return {"images": [base64.b64encode(content.encode()).decode() for content in contents]}


def jobs_in(folder, *names):
    return [Job(name, (folder / f"{name}.gif",), {"prompt": name}) for name in names]


def rendered(folder, jobs, *addresses):
    said = []
    pool = WebUIWorkers([WebUI(address) for address in addresses], folder, folder / "claims", said.append, explained)
    ended = {job.id: outcome for job, outcome in pool.work(JobQueue(jobs))}
    pool.close()
    return {name: (outcome.kind, outcome.code) for name, outcome in ended.items()}, said


def test_clips_are_written_once_each_with_the_files_of_their_own_reply(serve, tmp_path):
    one, other, jobs = serve(), serve(), jobs_in(tmp_path, *"abcdef")
    ended, _ = rendered(tmp_path, jobs, one.url, other.url)
    assert ended == dict.fromkeys("abcdef", ("rendered", ""))
    assert sorted(one.asked + other.asked) == list("abcdef")
    assert [job.places[0].read_text() for job in jobs] == list("abcdef")
    ended, _ = rendered(tmp_path, jobs, one.url)
    assert ended == dict.fromkeys("abcdef", ("finished", ""))
    jobs[0].places[0].write_text("")
    assert rendered(tmp_path, jobs, one.url)[0]["a"] == ("rendered", "")
    assert not list((tmp_path / "claims").iterdir())


def test_what_ends_in_the_middle_is_rendered_again_and_what_never_ends_is_named(serve, tmp_path):
    def reply(prompt, tries):
        if prompt == "bad":
            return 500, {"errors": "it is broken"}
        return (None, {}) if tries == 1 else (200, clip(prompt))

    ended, said = rendered(tmp_path, jobs_in(tmp_path, "good", "bad"), serve(reply).url)
    assert ended == {"good": ("rendered", ""), "bad": ("failed", "AD-M52")}
    assert any("it is broken" in line for line in said)
    assert not (tmp_path / "bad.gif").exists()
    assert not FinishedNotes(tmp_path).has("bad", [tmp_path / "bad.gif"])


def test_a_webui_that_does_not_answer_leaves_its_clips_to_the_others(serve, tmp_path):
    server = serve()
    ended, said = rendered(tmp_path, jobs_in(tmp_path, *"abc"), NOBODY, server.url)
    assert ended == dict.fromkeys("abc", ("rendered", ""))
    assert "127.0.0.1:1 does not answer" in said[0]


def test_a_clip_that_ends_its_webui_each_time_is_named(serve, tmp_path, monkeypatch):
    server, check = serve(lambda _prompt, _tries: (None, {})), WebUI.check

    def check_once_it_is_there_again(webui):
        raise UnreachableError("it starts")

    monkeypatch.setattr(WebUI, "check", check_once_it_is_there_again)
    ended, _ = rendered(tmp_path, jobs_in(tmp_path, "bad"), server.url)
    assert ended == {"bad": ("failed", "AD-M52")}
    assert server.asked == ["bad"] * webui_workers.MOST_TRIES
    with pytest.raises(UnreachableError) as refused:
        check(WebUI(NOBODY))
    assert not refused.value.was_asked


def test_an_error_that_nobody_expects_ends_its_clip_only(serve, tmp_path):
    good, odd = jobs_in(tmp_path, "good", "odd")
    odd.payload["date"] = object()  # which JSON has no form for
    ends, url = [], serve().url
    run = threading.Thread(target=lambda: ends.append(rendered(tmp_path, [odd, good], url)[0]), daemon=True)
    run.start()
    run.join(10)
    assert ends == [{"good": ("rendered", ""), "odd": ("failed", "AD-K22")}]


def test_a_refusal_has_the_code_of_animatediff_and_the_sentence_of_others(serve, tmp_path):
    details = {"ours": "frames must be between 1 and 9. [AD-C09]", "theirs": "no such sampler", "few": None}

    def reply(prompt, _tries):
        return (200, {"images": []}) if prompt == "few" else (422, {"detail": details[prompt]})

    ended, _ = rendered(tmp_path, jobs_in(tmp_path, *details), serve(reply).url)
    assert ended == {"ours": ("failed", "AD-C09"), "theirs": ("failed", "AD-M49"), "few": ("failed", "AD-M51")}


def test_a_clip_that_another_run_has_is_not_asked_for(serve, tmp_path):
    server = serve()
    claim = Claims(tmp_path / "claims").take("a")
    pool = WebUIWorkers([WebUI(server.url)], tmp_path, tmp_path / "claims", print, explained)
    (job,) = jobs_in(tmp_path, "a")
    assert pool._rendered(WebUI(server.url), job).kind == "claimed"
    claim.release()
    assert pool._rendered(WebUI(server.url), job).kind == "rendered"
    assert server.asked == ["a"]
    pool.close()


def test_the_password_of_an_address_is_sent_and_never_shown(serve, tmp_path):
    server = serve()
    address = server.url.replace("http://", "http://me:s%40cret@")
    _, said = rendered(tmp_path, jobs_in(tmp_path, "a"), address, "http://me:s%40cret@127.0.0.1:1")
    assert base64.b64decode(server.passwords[0].removeprefix("Basic ")) == b"me:s@cret"
    assert not any("cret" in line for line in said)
    for wrong in ("ftp://me:s%40cret@host", "http://me:12/cret@host:7860", "me:secret?a@host", "http://me:secret@[a/"):
        with pytest.raises(WebUIError) as refused:
            WebUI(wrong)
        assert refused.value.code == "AD-M46"
        assert not any(part in str(refused.value) for part in ("cret", "12/", "me:"))
    long = f"http://{'a' * 70}.de"  # no host can have such a name
    with pytest.raises(UnreachableError):
        WebUI(long).check()


def test_a_run_ends_if_nothing_answers(tmp_path):
    pool = WebUIWorkers([WebUI(NOBODY)], tmp_path, tmp_path / "claims", lambda _line: None, explained)
    with pytest.raises(StoppedError) as stopped:
        pool.check()
    assert stopped.value.code == "AD-M53"


def payload_of(tmp_path, **fields):
    row = webui_rows.Row(1, "row 1", webui_rows.named(fields), name=str(fields.get("output", "")))
    refused = []
    jobs = webui_rows.checked([row], tmp_path, lambda _, error: refused.append(error.code), lambda _: False)
    return (jobs or [None])[0], refused


def test_a_row_is_a_request_of_the_api(tmp_path):
    row = {"prompt": "a fox", "checkpoint": "toon", "motion": "v3.ckpt", "lora": ["ink:0.5"], "sampler": "dpm++2m"}
    made, _ = payload_of(tmp_path, **row, cfg="5", frames="24", format=["gif", "mp4"], output="fox.gif")
    payload = made.payload
    assert payload["prompt"] == "a fox <lora:ink:0.5>"
    assert (payload["sampler_name"], payload["cfg_scale"], payload["seed"]) == ("DPM++ 2M", 5.0, 0)
    assert payload["override_settings"] == {"sd_model_checkpoint": "toon"}
    (settings,) = payload["alwayson_scripts"]["AnimateDiff"]["args"]
    assert settings == {"model": "v3.ckpt", "frames": "24", "formats": ["gif", "mp4"]}
    assert [path.name for path in made.places] == ["fox.gif", "fox.mp4"]
    assert made.shape == (512, 512, 24)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"fps": 0}, "AD-C09"),
        ({"steps": "many"}, "AD-M55"),
        ({"format": "txt"}, "AD-M54"),
        ({"output": "../a.gif"}, "AD-M37"),
    ],
)
def test_a_row_is_refused_before_anything_is_asked(tmp_path, fields, code):
    made, refused = payload_of(tmp_path, prompt="a", **fields)
    assert (made, refused) == (None, [code])
