"""The promises of the README, kept by the real executable to the official client."""

import concurrent.futures
import json
import os
import signal
import subprocess
import urllib.request

import openai
import pytest

from served import Pair

QUESTION = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
STORY = [{"role": "user", "content": "Write a long story about a lighthouse and a crow."}]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    with Pair(tmp_path_factory.mktemp("pair")) as pair:
        pair.wait_until_served()
        yield pair


@pytest.fixture(scope="module")
def client(pair):
    return openai.OpenAI(base_url=pair.url + "/v1", api_key="none", max_retries=0, timeout=120)


def stream_text(client, **request):
    """The whole text of a streamed chat, and why it ended."""
    text, reason = "", None
    for chunk in client.chat.completions.create(stream=True, **request):
        for choice in chunk.choices:
            text += choice.delta.content or ""
            reason = choice.finish_reason or reason
    return text, reason


def test_two_ranks_answer_a_question(client):
    reply = client.chat.completions.create(model="smollm2", messages=QUESTION, temperature=0)
    assert reply.choices[0].message.content == "The capital of France is Paris."
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage.prompt_tokens == 42 and reply.usage.completion_tokens == 8


def test_the_official_client_streams_a_chat_with_usage(client):
    text, usage = "", None
    for chunk in client.chat.completions.create(
            model="default_model", messages=QUESTION, temperature=0, stream=True,
            stream_options={"include_usage": True}):
        text += "".join(c.delta.content or "" for c in chunk.choices)
        usage = chunk.usage or usage
    assert text == "The capital of France is Paris."
    assert (usage.prompt_tokens, usage.completion_tokens) == (42, 8)


def test_seeded_draws_repeat_alone_and_in_company(client):
    request = dict(model="gpt-4o", messages=STORY, temperature=0.9, seed=7, max_tokens=24)
    alone = client.chat.completions.create(**request).choices[0].message.content
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        others = [pool.submit(client.chat.completions.create, model="smollm2", messages=STORY,
                              temperature=1.0, seed=n, max_tokens=24) for n in range(3)]
        again = pool.submit(client.chat.completions.create, **request).result()
        different = {other.result().choices[0].message.content for other in others}
    assert again.choices[0].message.content == alone
    assert len(different | {alone}) == 4


def test_logprobs_are_a_distribution(client):
    reply = client.chat.completions.create(
        model="smollm2", messages=QUESTION, temperature=0, max_tokens=4, logprobs=True,
        top_logprobs=5)
    for token in reply.choices[0].logprobs.content:
        best = [t.logprob for t in token.top_logprobs]
        assert len(best) == 5 and best == sorted(best, reverse=True)
        assert token.token == token.top_logprobs[0].token and token.logprob == best[0]
    # mlx-lm's own figure for this prompt's first token.
    assert abs(reply.choices[0].logprobs.content[0].logprob + 0.60131) < 1e-3


def test_fifty_clients_at_once_all_get_right_answers(client):
    def ask(n):
        return client.chat.completions.create(
            model="smollm2", messages=QUESTION, temperature=0).choices[0].message.content

    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(ask, range(50)))
    assert answers == ["The capital of France is Paris."] * 50


def bad(**changes):
    return json.dumps({"model": "smollm2", "messages": QUESTION, **changes}).encode()


# body, status, what the message must name
BAD_CHATS = [
    (b"", 400, "JSON"),
    (b"{", 400, "JSON"),
    (b"[]", 400, ""),
    (b'{"model": "smollm2"}', 400, "messages"),
    (b'{"messages": [{"role": "user", "content": "a \\ud83d b"}]}', 400, "messages[0].content"),
    (b"\x1f\x8b\x08", 415, "gzip"),
    (bad(continue_final_message=True), 400, "continue_final_message"),
    (bad(model="llama-405b"), 404, "llama-405b"),
    (bad(model=7), 400, "model"),
    (bad(messages=[]), 400, "messages"),
    (bad(messages="hello"), 400, "messages"),
    (bad(messages=[{"role": "user", "content": 1}]), 400, "content"),
    (bad(messages=[{"role": "king", "content": "x"}]), 400, "role"),
    (bad(messages=[{"role": "user", "content": "x " * 9000}]), 400, "8192"),
    (bad(temperature=-1), 400, "temperature"),
    (bad(temperature=2.1), 400, "temperature"),
    (bad(temperature="hot"), 400, "temperature"),
    (bad(top_p=-0.1), 400, "top_p"),
    (bad(top_p=1.5), 400, "top_p"),
    (bad(top_k=-2), 400, "top_k"),
    (bad(min_p=2), 400, "min_p"),
    (bad(presence_penalty=3), 400, "presence_penalty"),
    (bad(frequency_penalty=-3), 400, "frequency_penalty"),
    (bad(repetition_penalty=0), 400, "repetition_penalty"),
    (bad(logit_bias={"abc": 1}), 400, "logit_bias"),
    (bad(logit_bias={"1": 1000}), 400, "logit_bias"),
    (bad(max_tokens=0), 400, "max_tokens"),
    (bad(max_tokens=1.5), 400, "max_tokens"),
    (bad(n=0), 400, "n"),
    (bad(n=10000), 400, "n"),
    (bad(stop=[1, 2]), 400, "stop"),
    (bad(seed="x"), 400, "seed"),
    (bad(stream="yes"), 400, "stream"),
    (bad(top_logprobs=5), 400, "logprobs"),
    (bad(logprobs=True, top_logprobs=21), 400, "top_logprobs"),
]


@pytest.mark.parametrize("body,status,named", BAD_CHATS)
def test_a_bad_request_is_refused_with_a_reason(pair, body, status, named):
    request = urllib.request.Request(
        pair.url + "/v1/chat/completions", body, {"content-type": "application/json"})
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(request, timeout=30)
    answer = json.load(refusal.value)
    assert refusal.value.code == status, answer
    assert named in answer["error"]["message"], answer
    assert refusal.value.headers["x-request-id"]


def test_it_still_serves_after_all_that(client):
    test_two_ranks_answer_a_question(client)


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("sampling", [dict(temperature=0), dict(temperature=0.8, seed=11)])
def test_killing_a_rank_in_mid_stream_does_not_lose_the_stream(pair, client, rank, sampling):
    request = dict(model="smollm2", messages=STORY, max_tokens=60, **sampling)
    undisturbed = stream_text(client, **request)
    before, text, killed = pair.epoch(), "", False
    for chunk in client.chat.completions.create(stream=True, **request):
        for choice in chunk.choices:
            text += choice.delta.content or ""
        if not killed and len(text) > 40:
            os.kill(pair.rank_pid(rank), signal.SIGKILL)
            killed = True
    assert killed
    assert (text, "length") == undisturbed
    pair.wait_until_served()
    assert pair.epoch() == before + 1


def test_a_frozen_rank_is_given_up_and_the_stream_goes_on(pair, client):
    request = dict(model="smollm2", messages=STORY, max_tokens=40, temperature=0)
    undisturbed, text, frozen = stream_text(client, **request)[0], "", None
    for chunk in client.chat.completions.create(stream=True, **request):
        for choice in chunk.choices:
            text += choice.delta.content or ""
        if frozen is None and len(text) > 20:
            frozen = pair.rank_pid(1)
            os.kill(frozen, signal.SIGSTOP)
    assert text == undisturbed
    assert pair.rank_pid(1) != frozen


def test_sigterm_ends_everything_in_order(tmp_path):
    with Pair(tmp_path, first_weight=2) as pair:
        pair.wait_until_served()
        pids = [r["pid"] for r in pair.status()["ranks"]]
        pair.process.send_signal(signal.SIGTERM)
        assert pair.process.wait(60) == 0
        for pid in pids:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
        assert "orderly unload" in pair.said() or "code=0" in pair.said(), pair.said()


def test_a_model_that_cannot_be_split_is_refused_and_not_tried_again(tmp_path):
    with Pair(tmp_path, gateway="") as pair:
        text = pair.config.read_text()
        pair.process.send_signal(signal.SIGTERM)
        pair.process.wait(60)
    more = '[[rank]]\nnode = "here"\naddress = "127.0.0.1"\nweight = 1\n'
    pair.config.write_text(text.replace("[engine]", more * 2 + "[engine]"))
    process = subprocess.Popen([pair.binary, "supervise", "--config", pair.config],
                               stdout=open(tmp_path / "again.log", "wb"), stderr=subprocess.STDOUT)
    pair.process = process
    try:
        pair.wait_for(lambda: (pair.status() or {}).get("phase") == "held", "held", 60)
        assert "3 KV heads" in (tmp_path / "again.log").read_text()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
