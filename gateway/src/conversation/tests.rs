use serde_json::json;

use super::*;

const CHATML: &str = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + \
                      '<|im_end|>\\n' }}{% endfor %}\
                      {% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// Trims, alternates and takes a system message only in front, as Mistral's and Gemma's do.
const STRICT: &str = "{{ '<s>' }}{% if messages[0].role == 'system' %}\
    {% set system = messages[0].content %}{% set rest = messages[1:] %}\
    {% else %}{% set system = '' %}{% set rest = messages %}{% endif %}\
    {% for m in rest %}\
    {% if m.role != ('assistant' if loop.index0 % 2 else 'user') %}\
    {{ raise_exception('roles must alternate') }}{% endif %}\
    {% if m.role == 'user' %}{{ '[INST]' + (system + '|' if loop.first and system else '') \
    + m.content | trim + '[/INST]' }}\
    {% else %}{{ m.content | trim + '</s>' }}{% endif %}{% endfor %}";

const NO_SYSTEM: &str = "{% for m in messages %}\
    {% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}\
    {{ m.role + ':' + m.content + ';' }}{% endfor %}";

fn render(source: &str, messages: &[(&str, &str)], ending: Ending) -> Result<String, RenderError> {
    let template = ChatTemplate::new(source, Map::new()).unwrap();
    let message = |(role, content): &(&str, &str)| json!({"role": role, "content": content});
    prompt(&template, messages.iter().map(message).collect(), &Map::new(), ending)
}

#[test]
fn an_open_message_ends_where_its_words_end() {
    let open = |source: &str, text: &str| {
        render(source, &[("user", "q"), ("assistant", text)], Ending::Open).unwrap()
    };
    for text in
        ["Hello, I", "", "a\nb", "1 + ", " <|im_end|> ", "CONTINUE_FINAL_MESSAGE_TAG", "é🚀"]
    {
        let head = "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n";
        assert_eq!(open(CHATML, text), format!("{head}{text}"));
        assert_eq!(open(STRICT, text), format!("<s>[INST]q[/INST]{}", text.trim()));
    }
    let left_out = "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}";
    let refused = render(left_out, &[("user", "q"), ("assistant", "a")], Ending::Open);
    assert!(matches!(refused, Err(RenderError::Failed(why)) if why.contains("gone on with")));
}

#[test]
fn the_other_endings_are_the_templates() {
    let messages = [("user", "q"), ("assistant", "a")];
    let closed = "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\na<|im_end|>\n";
    assert_eq!(render(CHATML, &messages, Ending::Closed).unwrap(), closed);
    let turn = format!("{closed}<|im_start|>assistant\n");
    assert_eq!(render(CHATML, &messages, Ending::NewTurn).unwrap(), turn);
}

#[test]
fn instructions_go_where_the_template_takes_them() {
    let (s, u, a, d) = ("system", "user", "assistant", "developer");
    for (source, messages, text) in [
        (STRICT, vec![(s, "A"), (u, "q")], "<s>[INST]A|q[/INST]"),
        (STRICT, vec![(s, "A"), (s, "B"), (u, "q")], "<s>[INST]A\n\nB|q[/INST]"),
        (STRICT, vec![(s, "A"), (d, "B"), (u, "q")], "<s>[INST]A\n\nB|q[/INST]"),
        (STRICT, vec![(u, "q"), (s, "A")], "<s>[INST]A|q[/INST]"),
        (
            STRICT,
            vec![(u, "q"), (a, "r"), (s, "A"), (u, "p")],
            "<s>[INST]A|q[/INST]r</s>[INST]p[/INST]",
        ),
        (STRICT, vec![(u, "q"), (s, "A"), (u, "p")], "<s>[INST]A|q\n\np[/INST]"),
        (STRICT, vec![(s, ""), (s, "B"), (u, "q")], "<s>[INST]B|q[/INST]"),
        (NO_SYSTEM, vec![(s, "A"), (u, "q")], "user:A\n\nq;"),
        (
            NO_SYSTEM,
            vec![(u, "q"), (a, "r"), (s, "A"), (u, "p")],
            "user:A\n\nq;assistant:r;user:p;",
        ),
        (NO_SYSTEM, vec![(a, "r"), (s, "A"), (s, "B"), (u, "p")], "assistant:r;user:A\n\nB\n\np;"),
    ] {
        assert_eq!(render(source, &messages, Ending::NewTurn).as_deref(), Ok(text), "{messages:?}");
    }
    let late = [(u, "q"), (s, "A"), (a, "Hello")];
    let text = "<s>[INST]A|q[/INST]Hello";
    assert_eq!(render(STRICT, &late, Ending::Open).as_deref(), Ok(text));
}

#[test]
fn what_the_template_takes_is_left_as_it_is() {
    let messages = [("user", "q"), ("system", "A"), ("system", "B")];
    let text = "<|im_start|>user\nq<|im_end|>\n<|im_start|>system\nA<|im_end|>\n\
                <|im_start|>system\nB<|im_end|>\n";
    assert_eq!(render(CHATML, &messages, Ending::Closed).as_deref(), Ok(text));
}

#[test]
fn a_refusal_about_something_else_keeps_its_words() {
    let refused =
        |source: &str, messages: &[(&str, &str)]| match render(source, messages, Ending::NewTurn) {
            Err(RenderError::Raised(why)) => why,
            other => panic!("{other:?}"),
        };
    let users = [("user", "q"), ("user", "p")];
    assert_eq!(refused(STRICT, &users), "roles must alternate");
    let answers = [("system", "A"), ("assistant", "q"), ("assistant", "p"), ("system", "B")];
    assert_eq!(refused(STRICT, &answers), "roles must alternate");
    assert_eq!(refused(NO_SYSTEM, &[("system", "A")]), "System role not supported");
}
