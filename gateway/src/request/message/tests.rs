use super::*;

/// What becomes of the message put between a question and another.
fn taken(message: Value) -> Result<Value, ApiError> {
    let question = json!({"role": "user", "content": "q"});
    let all = json!([question, message, question]);
    let read = read_all(Some(&all))?;
    assert_eq!((read.len(), &read[0], &read[2]), (3, &question, &question));
    Ok(read[1].clone())
}

/// Whatever a history may hold for a message that says nothing: the same for each role.
#[test]
fn a_message_of_any_role_may_say_nothing() {
    let nothing = [
        json!({}),
        json!({"content": null}),
        json!({"content": ""}),
        json!({"content": []}),
        json!({"content": [null]}),
        json!({"content": [{"type": "text", "text": null}]}),
        json!({"content": [{"type": "text"}]}),
        json!({"content": [{"type": "refusal", "refusal": ""}]}),
        json!({"content": [{"type": "thinking", "thinking": null}]}),
        json!({"content": [{"type": "redacted_thinking", "data": "x"}]}),
        json!({"content": null, "tool_calls": null, "function_call": null, "audio": null}),
        json!({"content": null, "tool_calls": [], "refusal": null, "annotations": []}),
        json!({"content": null, "refusal": "I can't."}),
        json!({"content": null, "reasoning_content": "Done."}),
    ];
    for role in ROLES {
        for fields in &nothing {
            let mut message = fields.clone();
            message["role"] = role.into();
            let read = taken(message.clone()).unwrap_or_else(|e| panic!("{message}: {e:?}"));
            assert_eq!(read["content"], "", "{message}");
            let nulls = read.as_object().unwrap().values().any(Value::is_null);
            assert!(!nulls && read.get("tool_calls").is_none(), "{message} became {read}");
        }
    }
}

#[test]
fn text_is_read_in_whatever_form_it_comes() {
    for (content, text) in [
        (json!("hi"), "hi"),
        (json!(["hi"]), "hi"),
        (json!(["a", {"type": "text", "text": "b"}, "c"]), "a\nb\nc"),
        (
            json!([{"type": "input_text", "text": "a"}, {"type": "output_text", "text": "b"}]),
            "a\nb",
        ),
        (json!([{"type": "refusal", "refusal": "No."}]), "No."),
        (json!([{"text": "untyped"}]), "untyped"),
        (json!([{"type": null, "text": "a", "cache_control": {"type": "ephemeral"}}]), "a"),
        (json!([{"type": "thinking", "thinking": "x"}, {"type": "text", "text": "hi"}]), "hi"),
        (json!([null, {"type": "redacted_thinking"}, "a"]), "a"),
        (json!([{"type": "text", "text": [{"type": "text", "text": "deep"}]}]), "deep"),
    ] {
        for role in ROLES {
            let read = taken(json!({"role": role, "content": content})).unwrap();
            assert_eq!(read["content"], text, "{role} {content}");
        }
    }
}

#[test]
fn what_was_thought_goes_where_templates_look_for_it() {
    let thoughts = [
        json!([{"type": "thinking", "thinking": "x", "signature": "s"}, "hi"]),
        json!([{"type": "reasoning", "text": "x"}, "hi"]),
        json!([{"type": "thinking", "thinking": [{"type": "text", "text": "x"}]}, "hi"]),
    ];
    for content in thoughts {
        let read = taken(json!({"role": "assistant", "content": content})).unwrap();
        assert_eq!((&read["content"], &read["reasoning_content"]), (&json!("hi"), &json!("x")));
        let own = json!({"role": "assistant", "content": content, "reasoning_content": "own"});
        assert_eq!(taken(own).unwrap()["reasoning_content"], "own");
    }
}

#[test]
fn what_is_no_text_is_refused_by_its_place() {
    for (content, place) in [
        (json!(1), "messages[1].content"),
        (json!(true), "messages[1].content"),
        (json!({"type": "text", "text": "a"}), "messages[1].content"),
        (json!([1]), "messages[1].content[0]"),
        (
            json!(["a", {"type": "image_url", "image_url": {"url": "data:"}}]),
            "messages[1].content[1]",
        ),
        (json!([{"type": "input_audio", "input_audio": {}}]), "messages[1].content[0]"),
        (json!([{"type": "file", "file": {}}]), "messages[1].content[0]"),
        (json!([{"type": "text", "text": 1}]), "messages[1].content[0]"),
        (json!([{"type": 7, "text": "a"}]), "messages[1].content[0]"),
        (json!([{"image": "x"}]), "messages[1].content[0]"),
        (json!([["a"]]), "messages[1].content[0]"),
    ] {
        let refusal = taken(json!({"role": "tool", "content": content})).unwrap_err();
        assert_eq!(refusal.param.as_deref(), Some(place), "{content}");
    }
    let refusal = taken(json!({"role": "king", "content": "a"})).unwrap_err();
    assert!(refusal.message.contains("assistant, tool, function"), "{}", refusal.message);
}

#[test]
fn past_calls_are_told_in_one_form() {
    let call = |arguments: Value| json!({"name": "f", "arguments": arguments});
    let read = |arguments| {
        let calls = json!([{"id": "1", "type": "function", "function": call(arguments)}]);
        let message = json!({"role": "assistant", "content": null, "tool_calls": calls});
        taken(message).unwrap()["tool_calls"][0]["function"]["arguments"].clone()
    };
    assert_eq!(read(json!("{\"a\": 1}")), json!({"a": 1}));
    for kept in [json!("not json"), json!("[1]"), json!(""), json!({"a": 1}), json!(null)] {
        assert_eq!(read(kept.clone()), kept);
    }
    let old = json!({"role": "assistant", "function_call": call(json!("{\"a\": 1}"))});
    let calls = json!([{"type": "function", "function": call(json!({"a": 1}))}]);
    assert_eq!(
        taken(old).unwrap(),
        json!({"role": "assistant", "content": "", "tool_calls": calls})
    );
    let result = json!({"role": "function", "name": "f", "content": "1"});
    assert_eq!(taken(result).unwrap(), json!({"role": "tool", "name": "f", "content": "1"}));
    let refusal = taken(json!({"role": "assistant", "tool_calls": "f"})).unwrap_err();
    assert_eq!(refusal.param.as_deref(), Some("messages[1].tool_calls"));
}
