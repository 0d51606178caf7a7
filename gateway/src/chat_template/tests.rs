use serde_json::{Value, json};

use super::*;

fn specials() -> Map<String, Value> {
    let Value::Object(map) = json!({"bos_token": "<s>", "eos_token": "</s>"}) else {
        unreachable!()
    };
    map
}

fn render(source: &str, messages: Value) -> Result<String, RenderError> {
    let template = ChatTemplate::new(source, specials()).unwrap();
    template.render(messages.as_array().unwrap(), &Map::new(), true)
}

const CHATML: &str = "{% for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\\n' + message.content | trim + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}";

#[test]
fn chatml_is_rendered_as_by_transformers() {
    let messages = json!([
        {"role": "system", "content": " Be brief. "},
        {"role": "user", "content": "<b>&</b>"},
    ]);
    assert_eq!(
        render(CHATML, messages).unwrap(),
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n<b>&</b><|im_end|>\n\
         <|im_start|>assistant\n"
    );
}

/// The shapes of Llama 3, Qwen 3, Mistral and Gemma templates: namespaces, loop controls, slices,
/// Python's string methods, reversed lists, macros.
#[test]
fn what_published_templates_use_works() {
    let source = "{{- bos_token }}
{%- set ns = namespace(last=-1, found=false) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if message.role == 'user' and not ns.found %}
        {%- set ns.last = index %}{%- set ns.found = true %}
        {%- break %}
    {%- endif %}
{%- endfor %}
{%- macro show(text) %}[{{ text }}]{% endmacro %}
{%- for message in messages %}
    {%- if message.role == 'system' %}{% continue %}{% endif %}
    {%- if message.content is string and '</think>' in message.content %}
        {{- show(message.content.split('</think>')[-1].lstrip('\\n')) }}
    {%- else %}
        {{- show(message.content.strip().upper() if loop.last else message.content) }}
    {%- endif %}
{%- endfor %}
{%- if messages[0]['content'].startswith('B') %}{{ ns.last }}{% endif %}
{%- if tools is not none and tools %}TOOLS{% endif %}
{%- if enable_thinking is defined and enable_thinking is false %}NO{% endif %}
{{- {'a': 'ü<'} | tojson }}{{ eos_token }}";
    let messages = json!([
        {"role": "system", "content": "B"},
        {"role": "user", "content": "q1"},
        {"role": "assistant", "content": "<think>x</think>\n\na1"},
        {"role": "user", "content": " q2 "},
    ]);
    assert_eq!(render(source, messages.clone()).unwrap(), "<s>[q1][a1][Q2]3{\"a\": \"ü<\"}</s>");
    let template = ChatTemplate::new(source, specials()).unwrap();
    let kwargs = json!({"enable_thinking": false}).as_object().unwrap().clone();
    let text = template.render(messages.as_array().unwrap(), &kwargs, true).unwrap();
    assert!(text.contains("3NO{"), "{text}");
}

#[test]
fn generation_marks_vanish_and_their_content_stays() {
    let source = "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}\
                  {% endfor %}{{ '{%' }}";
    assert_eq!(render(source, json!([{"content": "a"}])).unwrap(), "a{%");
}

#[test]
fn a_raised_exception_keeps_its_words() {
    let source = "{{ raise_exception('roles must alternate') }}";
    let raised = RenderError::Raised("roles must alternate".into());
    assert_eq!(render(source, json!([])), Err(raised));
}

#[test]
fn endless_templates_end() {
    let source = "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}";
    assert_eq!(render(source, json!([])), Err(RenderError::TooLarge));
}

#[test]
fn a_template_that_fails_on_the_messages_says_where() {
    let Err(RenderError::Failed(message)) = render("{{ messages.a.b.c }}", json!([])) else {
        panic!("rendered")
    };
    assert!(message.contains("chat_template:1"), "{message}");
    assert!(ChatTemplate::new("{% if %}", Map::new()).is_err());
}

/// What each piece of a template is, by Jinja2 3.1.6 as `transformers` sets it up. The comparison
/// in `tests/python` has many more; these name each kind.
#[test]
fn values_are_pythons() {
    for (source, expected) in [
        // None and undefined.
        ("{{ none is iterable }}{{ missing is iterable }}", "FalseTrue"),
        (
            "{{ missing|length }}{{ missing }}{{ missing == none }}{{ missing is sequence }}",
            "0FalseTrue",
        ),
        ("{% for x in missing %}x{% else %}none{% endfor %}", "none"),
        ("{{ tools is iterable and tools|length > 0 }}", "False"),
        ("{{ none ~ 1.0 ~ true }}", "None1.0True"),
        // Types.
        ("{{ 'a' is sequence }}{{ {} is sequence }}{{ 1 is sequence }}", "TrueTrueFalse"),
        ("{{ true is number }}{{ true is integer }}{{ 1.0 is float }}", "TrueFalseTrue"),
        ("{{ raise_exception is callable }}{{ 'a'.upper is callable }}", "TrueTrue"),
        ("{{ {'items': 1}.items is callable }}{{ {'items': 1}['items'] }}", "True1"),
        ("{{ namespace(a=1) is mapping }}{{ {}.keys() is sequence }}", "FalseFalse"),
        // Printing.
        ("{{ ['a', true, none, \"it's\", 'ü\\n'] }}", "['a', True, None, \"it's\", 'ü\\n']"),
        ("{{ {'k': ('v',), 1: 2.0} }}{{ () }}", "{'k': ('v',), 1: 2.0}()"),
        (
            "{{ 1e20 }} {{ 1e-7 }} {{ 0.1 + 0.2 }} {{ 1e16 }} {{ 5 / 1 }}",
            "1e+20 1e-07 0.30000000000000004 1e+16 5.0",
        ),
        ("{{ {'a': 1}.items() }}{{ range(3) }}", "dict_items([('a', 1)])range(0, 3)"),
        ("{{ '\\u200b' }}{{ ['\\u200b\\x07'] }}", "\u{200b}['\\u200b\\x07']"),
        // Methods.
        ("{{ 'a b c'.rsplit(' ', 1) }}{{ 'a.b'.partition('.') }}", "['a b', 'c']('a', '.', 'b')"),
        ("{{ 'xab'.removeprefix('x') }}{{ 'ab'.index('b') }}{{ '7'.zfill(3) }}", "ab1007"),
        ("{{ 'a'.center(4, '*') }}{{ 'ß'.casefold() }}{{ 'aB'.swapcase() }}", "*a**ssAb"),
        ("{{ 'ab'.translate({97: 'x', 98: none}) }}{{ 'a\\tb'.expandtabs(4) }}", "xa   b"),
        (
            "{{ ['a', 'b'].index('b') }}{{ {'a': 1}.copy() }}{{ [1].append is defined }}",
            "1{'a': 1}False",
        ),
        ("{{ '%s: %05.1f %(x)s'[:10] % ('a', 2.25) }}", "a: 002.2"),
        ("{{ '%(a)s' % {'a': none} }}{{ '{} {b!r}'.format(1, b='c') }}", "None1 'c'"),
        (
            "{{ '{:^7}|{:>5}|{:*<6.2}|{:05}|{:é^4}|{:.2s}|{:<}'.format(\
             'ΣΑΣ', 'ß', '日本語', 'é', 'x', '日本語', 'y') }}",
            "  ΣΑΣ  |    ß|日本****|é0000|éxéé|日本|y",
        ),
        // Filters and their arguments.
        (
            "{{ {'b': 1, 'a': [1, 2]}|tojson(separators=(',', ':'), sort_keys=true) }}",
            "{\"a\":[1,2],\"b\":1}",
        ),
        (
            "{{ 'é'|tojson }}{{ 'é'|tojson(ensure_ascii=true) }}{{ [1]|tojson(indent=2) }}",
            "\"é\"\"\\u00e9\"[\n  1\n]",
        ),
        ("{{ 'x'|int(7) }}{{ 'x'|float(1.5) }}{{ '0x1f'|int(base=16) }}", "71.531"),
        ("{{ 'a b c'|wordcount }}{{ 'a  <b>c</b>'|striptags }}{{ 'a b'|urlencode }}", "3a ca%20b"),
        (
            "{{ [{'n': 1}, {'n': 2}]|sum(attribute='n') }}{{ 2.5|round }}{{ 2.45|round(1, 'ceil') }}",
            "32.02.5",
        ),
        (
            "{{ 'ja' if []|select else 'nein' }}{% set g = [1]|map('string') %}{{ g|list }}{{ g|list }}",
            "ja['1'][]",
        ),
        // Macros, cycler and joiner.
        (
            "{% macro f(a, b=a) %}{{ a }}{{ b }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1, 2, 3, c=4) }}{{ f(5) }}",
            "12(3,){'c': 4}55(){}",
        ),
        (
            "{% set c = cycler(1, 2) %}{% set j = joiner() %}{{ c.next() }}{{ c.current }}{{ j() }}{{ j() }}",
            "12, ",
        ),
        // What is safe for HTML escapes what is added to it.
        ("{{ '<' + ('<'|safe) }}{{ '<'|e }}", "&lt;<&lt;"),
    ] {
        assert_eq!(render(source, json!([])).as_deref(), Ok(expected), "{source}");
    }
}

#[test]
fn only_tags_of_generation_are_taken_for_them() {
    let source = "{{ generation }}{% raw %}{% generation %}'{% endraw %}{# {% generation %} ' #}\
                  {% generation %}{% set x = 1 %}{{ \"{% generation %}\" }}{% endgeneration %}{{ x }}";
    assert_eq!(render(source, json!([])).unwrap(), "{% generation %}'{% generation %}");
}

#[test]
fn a_template_reads_the_same_with_any_line_ends() {
    assert_eq!(render("{% if true %}\r\na\r\n{% endif %}\r\nb", json!([])).unwrap(), "a\nb");
}

/// Each would take all memory, or for ever, in a few characters.
#[test]
fn no_template_grows_without_end() {
    for source in [
        "{{ 'x' * 10 ** 12 }}",
        "{{ [0] * 10 ** 12 }}",
        "{{ 'x'.center(10 ** 12) }}{{ 'x'.zfill(10 ** 12) }}",
        "{{ ('\\t' * 100000).expandtabs(10 ** 9) }}",
        "{{ ('x' * 1000000).replace('x', 'y' * 1000000) }}",
        "{{ ('x' * 1000000)|replace('', 'y' * 1000000) }}",
        "{{ range(10 ** 9) }}",
        "{{ '%1000000000d' % 1 }}{{ '{:1000000000}'.format(1) }}",
        "{{ ('y' * 1000000).join('x' * 1000000) }}",
        "{{ ([1] * 100000)|batch(10 ** 12, 0)|list }}",
        "{{ [1]|slice(10 ** 12)|list }}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x == ns.x[:] }}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}{% endfor %}",
        "{% set ns = namespace(x=1) %}{% for i in range(99999) %}{% set ns.x = {'a': ns.x}.items %}{% endfor %}",
        "{% set ns = namespace(x=1) %}{% for i in range(99999) %}{% set ns.x = namespace(x=ns.x) %}{% endfor %}",
        "{% set ns = namespace(x='a') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
        "{{ (range(99999)|list)|unique|list|length }}",
        "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
        "{% set x = 'a' * 10000000 %}{% for i in range(99999) %}{{ x.count('b') }}{% endfor %}",
        "{{ 9 ** 99999 }}",
        "{{ [1]|tojson(indent=10 ** 9) }}",
    ] {
        let rendered = render(source, json!([]));
        assert!(rendered.is_err(), "{source}: {} bytes", rendered.unwrap().len());
    }
}
