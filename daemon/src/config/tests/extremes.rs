//! Every key with every extreme value: what is taken can serve, by rules that are told again here.

use std::{
    ffi::OsStr,
    path::{Component, Path},
};

use super::*;

/// What is put in place of each value.
fn extremes() -> Vec<toml::Value> {
    let mut values: Vec<toml::Value> = [
        0,
        1,
        -1,
        2,
        16,
        255,
        1_000,
        1 << 16,
        (1 << 16) - 1,
        (1 << 32) - 1,
        1 << 32,
        (1 << 53) + 1,
        i64::MAX,
        i64::MIN,
    ]
    .map(toml::Value::Integer)
    .into();
    values.extend([f64::NAN, f64::INFINITY, 1.5, -0.0].map(toml::Value::Float));
    values.extend([true, false].map(toml::Value::Boolean));
    let long = "x".repeat(100_000);
    let long_path = "/x".repeat(50_000);
    let texts = [
        "",
        " ",
        "/",
        ".",
        "..",
        "../../../etc",
        "/etc",
        "/private/var",
        "/dev/null",
        "/usr/bin",
        "/tmp",
        "/a\0b",
        "a\nb",
        "\u{1b}[2J",
        "0.0.0.0",
        "255.255.255.255",
        "224.0.0.1",
        "::",
        "::1",
        "127.0.0.1",
        "0.0.0.0:0",
        "0.0.0.0:8080",
        "224.0.0.1:80",
        "255.255.255.255:80",
        "[::]:0",
        "127.0.0.1:8080",
        "127.0.0.1:52380",
        "jaccl",
        "ring",
        "enforce",
        "observe",
        "trace",
        "json",
        "openai",
        "sk-secret",
        long.as_str(),
        long_path.as_str(),
    ];
    values.extend(texts.map(|text| toml::Value::String(text.into())));
    values.push(toml::Value::Array(Vec::new()));
    values.push(toml::Value::Array(vec!["".into()]));
    values.push(toml::Value::Array(vec!["/etc".into(); 1_000]));
    values.push(toml::Value::Array(vec![long.into()]));
    values.push(toml::Value::Table(toml::Table::new()));
    values
}

/// Puts a value at the place of `path`, through tables and the first entry of arrays of them.
fn put(root: &mut toml::Table, path: &str, value: &toml::Value) {
    let (head, rest) = path.split_once('.').map_or((path, None), |(head, rest)| (head, Some(rest)));
    let Some(rest) = rest else {
        root.insert(head.to_owned(), value.clone());
        return;
    };
    match root.get_mut(head).unwrap() {
        toml::Value::Table(table) => put(table, rest, value),
        toml::Value::Array(items) => put(items[0].as_table_mut().unwrap(), rest, value),
        other => panic!("{path}: {other}"),
    }
}

/// Why a config that was taken can't serve, told independently of the checks.
fn hindrance(config: &Config) -> Option<String> {
    let node = &config.node;
    for (folder, may_be_the_configs) in
        [(&node.run_dir, false), (&node.state_dir, false), (&node.log_dir, true)]
    {
        let mut names: Vec<&OsStr> = Vec::new();
        for part in folder.components() {
            match part {
                Component::Normal(name) => names.push(name),
                Component::ParentDir => drop(names.pop()),
                _ => {}
            }
        }
        let is_the_configs = names == ["srv", "tandem"] && !may_be_the_configs;
        let is_left_out = folder.as_os_str().is_empty() && may_be_the_configs;
        let is_the_systems = names.len() < 2 || names[0] == "etc" || names[1] == "bin";
        if !is_left_out && (is_the_configs || is_the_systems) {
            return Some(format!("{folder:?} is not its own"));
        }
    }
    let text = toml::to_string(config).unwrap();
    if text.contains("\\u0000") || text.contains("\\u001B") {
        return Some("control characters".into());
    }
    // The request that proves serving, whose body the gateway must take and whose answer is read to
    // 64 KiB.
    let name = config.model.served_id();
    let question = serde_json::json!({
        "model": name,
        "messages": [{"role": "user", "content": "Say hello and count to five."}],
        "max_tokens": config.canary.max_tokens,
        "temperature": 0,
    });
    if question.to_string().len() > config.gateway.max_body_bytes as usize || name.len() > 1_000 {
        return Some("a canary that the gateway refuses".into());
    }
    let context = config.engine.context_tokens;
    if context != 0 && context < config.canary.max_tokens + 512 {
        return Some(format!("a context of {context}"));
    }
    if config.canary.timeout_ms > config.gateway.request_timeout_ms
        || config.canary.timeout_ms < 1_000
    {
        return Some("a canary without time".into());
    }
    if config.supervise.stall_timeout_ms < config.engine.step_timeout_ms
        || config.supervise.start_timeout_ms < config.engine.form_timeout_ms
        || config.supervise.silence_timeout_ms < config.engine.silence_timeout_ms
    {
        return Some("ranks that are ended while they are well".into());
    }
    if config.engine.wired_limit_mib > config.host.wired_limit_mib
        && config.host.wired_limit_mib > 0
    {
        return Some("more wired memory than the system allows".into());
    }
    let asks = config.host.wired_limit_mib;
    if asks > 0 && asks < 1_024 {
        return Some(format!("{asks} MiB for the GPU"));
    }
    let odd = |ip: IpAddr| ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST);
    if odd(config.gateway.listen.ip()) || odd(config.pair.listen.ip()) {
        return Some("an address that nobody has".into());
    }
    if config.rank.iter().any(|rank| odd(rank.address) || !rank.address.is_ipv4()) {
        return Some("a rank that can't be reached".into());
    }
    let ports = [config.gateway.listen.port(), config.supervise.status_listen.port()];
    if ports.contains(&0) || ports[0] == ports[1] {
        return Some("a port that nobody finds".into());
    }
    let times = toml::Value::try_from(config).unwrap();
    endless(&times, "").map(|key| format!("{key} never comes"))
}

/// A time of more than a year: it is taken for what it says nowhere.
fn endless(value: &toml::Value, key: &str) -> Option<String> {
    match value {
        toml::Value::Table(table) => {
            table.iter().find_map(|(name, value)| endless(value, &format!("{key}.{name}")))
        }
        toml::Value::Integer(ms) if key.ends_with("_ms") && *ms > 366 * 86_400_000 => {
            Some(key.into())
        }
        _ => None,
    }
}

#[test]
fn a_value_that_is_taken_can_serve() {
    let whole = toml::Table::try_from(Config::default()).unwrap();
    let keys = keys(&whole);
    assert!(keys.len() > 100, "{}", keys.len());
    let (mut taken, mut refused) = (0, 0);
    for key in &keys {
        for value in extremes() {
            let mut changed = whole.clone();
            put(&mut changed, key, &value);
            let text = toml::to_string(&changed).unwrap();
            let shown: String = value.to_string().chars().take(40).collect();
            let checked = Config::parse(&text).map(|mut config| {
                config.resolve(Path::new("/srv/tandem"));
                let mut problems = config.problems();
                config.check_places(Path::new("/srv/tandem/tandem.toml"), &mut problems);
                (config, problems)
            });
            match checked {
                Ok((config, problems)) if problems.is_empty() => {
                    taken += 1;
                    assert_eq!(hindrance(&config), None, "{key} = {shown} is taken");
                }
                Ok((_, told)) => {
                    refused += 1;
                    let section = key.split('.').next().unwrap();
                    assert!(
                        told.iter().any(|told| told.contains(section)),
                        "{key} = {shown}: {told:?}"
                    );
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(taken > 500 && refused > 2_000, "{taken} taken, {refused} refused");
}

#[test]
fn values_that_keep_each_other_from_serving_are_named_with_both_keys() {
    type Break = fn(&mut Config);
    let cases: [(Break, &str, &str); 8] = [
        (
            |c| c.gateway.request_timeout_ms = 100_000,
            "gateway.request_timeout_ms",
            "canary.timeout_ms",
        ),
        (|c| c.canary.timeout_ms = 700_000, "gateway.request_timeout_ms", "canary.timeout_ms"),
        (|c| c.supervise.start_timeout_ms = 20_000, "start_timeout_ms", "engine.form_timeout_ms"),
        (|c| c.supervise.stall_timeout_ms = 59_999, "stall_timeout_ms", "engine.step_timeout_ms"),
        (
            |c| c.supervise.silence_timeout_ms = 1_000,
            "silence_timeout_ms",
            "engine.silence_timeout_ms",
        ),
        (
            |c| c.reboot.return_timeout_ms = 500_000,
            "return_timeout_ms",
            "supervise.start_timeout_ms",
        ),
        (
            |c| {
                c.host.wired_limit_mib = 2_000;
                c.engine.wired_limit_mib = 2_001;
            },
            "engine.wired_limit_mib",
            "host.wired_limit_mib (2000)",
        ),
        (|c| c.rank[1].address = "::1".parse().unwrap(), "rank 1", "IPv4"),
    ];
    for (break_it, key, other) in cases {
        let mut config = Config::default();
        break_it(&mut config);
        let problems = config.problems();
        assert_eq!(problems.len(), 1, "{key}: {problems:?}");
        assert!(problems[0].contains(key) && problems[0].contains(other), "{problems:?}");
    }
}

#[test]
fn the_least_context_takes_what_proves_serving_and_0_takes_the_models() {
    for (tokens, is_taken) in [(0, true), (1, false), (16, false), (1_023, false), (1_024, true)] {
        let mut config = Config::default();
        config.engine.context_tokens = tokens;
        assert_eq!(config.problems().is_empty(), is_taken, "{tokens}: {:?}", config.problems());
    }
}

#[test]
fn the_folders_are_not_where_the_config_or_a_model_is() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("etc");
    std::fs::create_dir(&inner).unwrap();
    let file = inner.join("tandem.toml");
    let of = |run: &str, state: &str, model: &str| {
        let text = format!(
            "[node]\nrun_dir = {run:?}\nstate_dir = {state:?}\n[model]\npath = {model:?}\n"
        );
        std::fs::write(&file, text).unwrap();
        Config::load_to_supervise(&file).map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(of("run", "state", "model"), Ok(()));
    for (run, state, model, expected) in [
        ("", "state", "m", "node.run_dir is empty"),
        ("run", "", "m", "node.state_dir is empty"),
        (".", "state", "m", "which this config is in"),
        ("./run/..", "state", "m", "without \"..\""),
        ("..", "state", "m", "without \"..\""),
        ("run", ".", "m", "the folder of this config"),
        ("run", "state", "run/m", "which model.path is in"),
        ("run", "state", "./run", "which model.path is in"),
        ("../../../../../../../../../etc", "state", "m", "without \"..\""),
    ] {
        let told = of(run, state, model).unwrap_err();
        assert!(told.contains(expected), "{run} {state} {model}: {told}");
    }
}
