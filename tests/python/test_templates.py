"""Chat templates render as `transformers` renders them, which is Jinja2 in a sandbox of its own."""

import collections
import json
import secrets
import subprocess
import warnings

import pytest
from transformers.utils import chat_template_utils

import examples
import template_grammar

RENDERINGS = 5000
# Seeds of the templates that are always tried: two renderings each, and a few that Jinja2 refuses.
FIXED = range(1, 1 + RENDERINGS * 11 // 20)
FRESH = 300


@pytest.fixture(scope="session")
def binary():
    return examples.build("templates")


def rendered(binary, jobs):
    """What the gateway makes of each job: `{"text": …}` or `{"error": …}`."""
    lines = "".join(json.dumps({"template": text, "context": context}) + "\n" for text, context in jobs)
    done = subprocess.run([binary], input=lines, capture_output=True, text=True, check=True, timeout=300)
    return [json.loads(line) for line in done.stdout.split("\n")[:-1]]


def expected(text, context):
    """What `transformers` makes of it: the text, or None if it refuses."""
    try:
        return chat_template_utils._compile_jinja_template(text).render(**context)
    except RecursionError:
        raise
    except Exception:  # Whatever Python's operators raise.
        return None


def difference(binary, jobs):
    """How many jobs rendered equally, and a description of each that did not."""
    answers = rendered(binary, jobs)
    assert len(answers) == len(jobs)
    equal, others = 0, []
    for (text, context), answer in zip(jobs, answers):
        want = expected(text, context)
        # Python prints the address of what has no text of its own.
        if want is None or " at 0x" in want:
            continue
        if answer.get("text") == want:
            equal += 1
        else:
            others.append(f"{text!r}\n  is: {answer}\n  should be: {want!r}")
    return equal, others


def by_seed(seeds):
    made = [template_grammar.template(seed) for seed in seeds]
    jobs = [(text, context) for text, contexts, _ in made for context in contexts]
    return jobs, [used for *_, used in made]


def test_generated_templates_render_as_jinja2_does(binary):
    jobs, used = by_seed(FIXED)
    equal, others = difference(binary, jobs)
    assert not others, f"{len(others)} differ:\n" + "\n".join(others[:20])
    assert equal >= RENDERINGS, f"only {equal} render at all"
    count = collections.Counter(name for names in used for name in names)
    for productions in template_grammar.PRODUCTIONS.values():
        for production in productions:
            assert count[production.__name__] > 5, f"{production.__name__} is hardly tried"


def test_fresh_templates(binary):
    """A range that nobody tried: what differs is a find, told loudly, and no failure of this change."""
    start = secrets.randbelow(2**40)
    _, others = difference(binary, by_seed(range(start, start + FRESH))[0])
    if others:
        warnings.warn(f"FRESH TEMPLATES from seed {start}: {len(others)} differ:\n" + "\n".join(others[:5]))
