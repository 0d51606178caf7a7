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
