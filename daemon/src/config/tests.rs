use super::*;

mod extremes;

const SHIPPED: &str = include_str!("../../../config/tandem.toml");

#[test]
fn the_shipped_file_is_the_defaults_and_explains_every_key() {
    let shipped = Config::parse(SHIPPED).unwrap();
    assert_eq!(shipped, Config::default());
    assert_eq!(shipped.problems(), Vec::<String>::new());

    let written: toml::Table = SHIPPED.parse().unwrap();
    let declared = toml::Table::try_from(Config::default()).unwrap();
    assert_eq!(keys(&declared), keys(&written), "config/tandem.toml lacks or invents keys");

    // Each key stands under a comment of its own, which says at least its default's reason.
    let lines: Vec<&str> = SHIPPED.lines().collect();
    for (number, line) in lines.iter().enumerate() {
        let is_key = line.contains(" = ") && !line.starts_with('#');
        let ranks_repeat = number > 0 && lines[..number].contains(line);
        if is_key && !ranks_repeat {
            assert!(lines[number - 1].starts_with("# "), "line {}: {line}", number + 1);
        }
    }
}

fn keys(table: &toml::Table) -> Vec<String> {
    let mut found = Vec::new();
    for (name, value) in table {
        let inner = match value {
            toml::Value::Table(inner) => keys(inner),
            toml::Value::Array(items) => {
                items.first().and_then(toml::Value::as_table).map(keys).unwrap_or_default()
            }
            _ => Vec::new(),
        };
        if inner.is_empty() {
            found.push(name.clone());
        }
        found.extend(inner.into_iter().map(|key| format!("{name}.{key}")));
    }
    found.sort();
    found
}

#[test]
fn a_typo_is_refused_with_its_line_and_what_is_allowed() {
    let message = Config::parse("[node]\nname = \"a\"\nrundir = \"/tmp\"\n").unwrap_err();
    for part in ["line 3", "rundir", "run_dir"] {
        assert!(message.contains(part), "{part} is not in: {message}");
    }
    let message = Config::parse("[engine]\nbackend = \"nccl\"\n").unwrap_err();
    assert!(message.contains("line 2") && message.contains("jaccl"), "{message}");
    let message = Config::parse("[supervise]\nbackoff_min_ms = \"1s\"\n").unwrap_err();
    assert!(message.contains("line 2"), "{message}");
}

fn peer(name: &str, addresses: &[&str]) -> Peer {
    let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
    Peer { name: name.into(), addresses }
}

#[test]
fn a_machine_knows_its_own_ranks_and_every_machines_place() {
    let mut config = Config { peer: vec![peer("b", &["10.0.0.2:52390"])], ..Config::default() };
    config.rank[1].node = "b".into();
    for (rank, address) in ["10.0.0.1", "10.0.0.2"].iter().enumerate() {
        config.rank[rank].address = address.parse().unwrap();
    }
    assert_eq!(config.problems(), Vec::<String>::new());
    assert_eq!(config.own_ranks(), [0]);
    let names: Vec<_> = config.nodes().into_iter().map(|node| (node.name, node.ranks)).collect();
    assert_eq!(names, [("local".to_owned(), vec![0]), ("b".to_owned(), vec![1])]);
    config.rank[0].address = "127.0.0.1".parse().unwrap();
    assert!(config.problems()[0].contains("can't reach"), "{:?}", config.problems());
    config.node.name = "c".into();
    assert!(config.problems().iter().any(|p| p.contains("nothing would run here")));
}

/// Two machines with one rank each, by JACCL.
fn over_fabric() -> Config {
    let mut config = Config { peer: vec![peer("b", &["10.0.0.2:52390"])], ..Config::default() };
    config.rank[1].node = "b".into();
    for (rank, address) in ["169.254.7.1", "169.254.7.2"].iter().enumerate() {
        config.rank[rank].address = address.parse().unwrap();
    }
    config.engine.backend = tandem_engine::settings::Backend::Jaccl;
    config.host.link = "en5".into();
    config
}

#[test]
fn jaccl_joins_machines_with_one_rank_each_at_a_port_that_is_named() {
    type Break = fn(&mut Config);
    assert_eq!(over_fabric().problems(), Vec::<String>::new());
    assert!(over_fabric().policy_setup().uses_fabric);
    let cases: [(Break, &str); 5] = [
        (
            |c| c.rank.push(c.rank[1].clone()),
            "\"b\" has 2 [[rank]] sections; an RDMA device joins two machines",
        ),
        (|c| c.host.link.clear(), "host.link is empty"),
        (|c| c.rank[0].address = "fe80::1".parse().unwrap(), "must be an IPv4 address"),
        (
            |c| c.engine.coordinator_port = c.engine.control_port,
            "engine.coordinator_port has port 52310",
        ),
        (|c| c.supervise.fabric_timeout_ms = 0, "supervise.fabric_timeout_ms is 0"),
    ];
    for (break_it, expected) in cases {
        let mut config = over_fabric();
        break_it(&mut config);
        let problems = config.problems();
        assert_eq!(problems.len(), 1, "{expected}: {problems:?}");
        assert!(problems[0].contains(expected), "{expected}: {problems:?}");
    }
    // All ranks on one machine: there is no second one that a device could lead to.
    let mut config = Config::default();
    config.engine.backend = tandem_engine::settings::Backend::Jaccl;
    config.host.link = "en5".into();
    let problems = config.problems();
    assert!(problems[0].contains("\"local\" has 2 [[rank]] sections"), "{problems:?}");
    config.rank.truncate(1);
    assert_eq!(config.problems(), Vec::<String>::new(), "a rank alone has no group");
    assert!(!config.policy_setup().uses_fabric);
}

#[test]
fn what_mlx_keeps_wired_may_differ_between_machines() {
    let (one, mut other) = (over_fabric(), over_fabric());
    other.engine.wired_limit_mib = 400_000;
    let plan = |config: &Config| config.policy_setup().plan;
    assert_eq!(plan(&one), plan(&other));
    other.engine.ring_fallback = false;
    assert_ne!(plan(&one), plan(&other));
}

#[test]
fn alone_the_usual_names_mean_the_fallback_model() {
    let mut config = Config::default();
    config.model.id = "big".into();
    config.model.aliases = vec!["default".into()];
    config.fallback.path = "/models/small".into();
    let alone = config.alone();
    assert_eq!(alone.model.served_id(), "small");
    assert_eq!(alone.model.aliases, ["big", "default"]);
    assert_eq!(alone.own_ranks(), [0]);
    assert_eq!(alone.problems(), Vec::<String>::new());
}

#[test]
fn contradictions_are_all_named_at_once() {
    type Break = fn(&mut Config);
    let cases: [(Break, &str); 24] = [
        (|c| c.rank.clear(), "there are 0 [[rank]]"),
        (|c| c.rank[1].node = "other".into(), "rank 1 has node"),
        (|c| c.rank[0].weight = 0, "rank 0 has weight = 0"),
        (|c| c.rank[0].address = "0.0.0.0".parse().unwrap(), "rank 0 has address"),
        (|c| c.supervise.status_listen = "0.0.0.0:1".parse().unwrap(), "status_listen"),
        (|c| c.supervise.status_listen.set_port(8080), "has port 8080"),
        (|c| c.engine.control_port = 52321, "ring_port_base plus 1 has port 52321"),
        (|c| c.gateway.listen.set_port(0), "gateway.listen has port 0"),
        (|c| c.supervise.backoff_max_ms = 100, "more than backoff_max_ms"),
        (|c| c.supervise.unload_timeout_ms = 0, "unload_timeout_ms is 0"),
        (|c| c.supervise.drain_timeout_ms = 1, "at least gateway.drain_timeout_ms"),
        (|c| c.engine.prefill_step_tokens = 1, "engine.prefill_step_tokens"),
        (|c| c.node.run_dir = "/x".repeat(60).into(), "node.run_dir is too long"),
        (|c| c.node.run_dir = "".into(), "node.run_dir is empty"),
        (|c| c.node.run_dir = "/etc".into(), "node.run_dir is \"/etc\""),
        (|c| c.node.run_dir = "/a/../../etc".into(), "without \"..\""),
        (|c| c.peer = vec![peer("b", &[])], "peer \"b\" has 0 addresses"),
        (|c| c.peer = vec![peer("local", &["10.0.0.1:1"])], "a [[peer]] has name = \"local\""),
        (|c| c.peer = vec![peer("b", &["0.0.0.0:1"])], "peer \"b\" has the address 0.0.0.0:1"),
        (|c| c.peer = vec![peer("b", &["10.0.0.1:1"])], "peer \"b\" has no [[rank]]"),
        (|c| c.fallback.path = "/m".into(), "fallback.path is set"),
        (|c| c.node.log_file_max_mib = 0, "node.log_file_max_mib is 0"),
        (|c| c.node.log_files_max = 101, "node.log_files_max is 101"),
        (|c| c.pair.report_ms = 0, "pair.report_ms is 0"),
    ];
    let mut all = Config::default();
    for (break_it, expected) in cases {
        let mut config = Config::default();
        break_it(&mut config);
        let problems = config.problems();
        assert!(problems.iter().any(|p| p.contains(expected)), "{expected}: {problems:?}");
        if !expected.contains("[[rank]]") {
            break_it(&mut all);
        }
    }
    assert!(all.problems().len() >= 10, "{:?}", all.problems());
}

#[test]
fn relative_paths_are_taken_from_the_files_own_folder() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tandem.toml");
    std::fs::write(&file, "[node]\nrun_dir = \"run\"\n[model]\npath = \"m/tiny\"\n").unwrap();
    let config = Config::load(&file).unwrap();
    let folder = folder.path().canonicalize().unwrap();
    assert_eq!(config.node.run_dir, folder.join("run"));
    assert_eq!(config.node.log_dir, PathBuf::new(), "none stays none");
    assert_eq!(config.model.served_id(), "tiny");
    assert_eq!(config.rank_socket(1), folder.join("run/children/rank-1.sock"));
    assert!(config.rank_setup(2).is_none(), "there are two ranks");
    for (run_dir, expected) in [("", "is empty"), ("../../../etc", "\"..\""), ("/", "is \"/\"")] {
        std::fs::write(&file, format!("[node]\nrun_dir = {run_dir:?}\n")).unwrap();
        let refusal = Config::load(&file).unwrap_err();
        let text = format!("{:#}", anyhow::Error::new(refusal));
        assert!(text.contains("node.run_dir") && text.contains(expected), "{text}");
    }
}
