"""How long an honest request takes while others are sent and dropped as fast as the gateway takes
them: against a running `./install.sh demo`, started as root.

    .tandem/venv/bin/python tests/bench/cancel_storm.py [--seconds 60] [--threads 4] [--unread RATE]
"""

import argparse
import http.client
import json
import socket
import statistics
import threading
import time

# About 300 tokens.
DROPPED = {"stream": True, "max_tokens": 200}
LONG = "the quick brown fox jumps over the lazy dog " * 30
HONEST = {"max_tokens": 32, "temperature": 0}


def body(options, text, fields):
    messages = [{"role": "user", "content": text}]
    return json.dumps({"model": options.model, "messages": messages, **fields}).encode()


def ask(options):
    """Seconds that an honest request takes."""
    began = time.monotonic()
    connection = http.client.HTTPConnection(options.host, options.port, timeout=120)
    headers = {"content-type": "application/json"}
    text = "What is the capital of France?"
    connection.request("POST", "/v1/chat/completions", body(options, text, HONEST), headers)
    response = connection.getresponse()
    response.read()
    if response.status != 200:
        raise SystemExit(f"an honest request got {response.status}")
    return time.monotonic() - began


def drop(options, until, count, refused):
    """Sends requests, each gone after the first bytes of its answer, or at once if RATE a second are
    sent unread; ends with one that is refused."""
    sent = body(options, LONG, DROPPED)
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
        f"content-type: application/json\r\ncontent-length: {len(sent)}\r\n\r\n"
    ).encode()
    due = time.monotonic()
    while not until.is_set():
        with socket.create_connection((options.host, options.port)) as connection:
            connection.sendall(head + sent)
            began = connection.recv(12) if options.unread is None else None
        if began not in (b"HTTP/1.1 200", None):
            return refused.append(began)
        count.append(time.monotonic())
        if options.unread is not None:
            due += options.threads / options.unread
            time.sleep(max(0, due - time.monotonic()))


def told(name, took, quiet):
    ordered = sorted(took)
    p90 = ordered[int(len(ordered) * 0.9)]
    ratios = "".join(f", {one / quiet:.2f}" for one in (statistics.median(took), p90, max(took)))
    print(
        f"{name}: {len(took)} requests; median {statistics.median(took):.2f} s, p90 {p90:.2f} s,"
        f" longest {max(took):.2f} s; times the quiet median{ratios}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--unread", type=float, metavar="RATE")
    options = parser.parse_args()
    quiet = [ask(options) for _ in range(20)]
    median = statistics.median(quiet)
    told("quiet", quiet, median)
    until, count, refused = threading.Event(), [], []
    for _ in range(options.threads):
        storm = threading.Thread(target=drop, args=(options, until, count, refused), daemon=True)
        storm.start()
    began, took = time.monotonic(), []
    while time.monotonic() - began < options.seconds:
        took.append(ask(options))
        time.sleep(0.2)
    until.set()
    if refused:
        raise SystemExit(f"requests of the storm were refused, so it was none: {refused}")
    print(f"storm: {len(count) / options.seconds:.0f} dropped each second")
    told("meanwhile", took, median)


if __name__ == "__main__":
    main()
