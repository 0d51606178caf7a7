//! The Distribution as other parsers read it, and its checks as a JavaScript engine runs them.

#![allow(clippy::unwrap_used)]

mod support;

use std::{io::Cursor, process::Command};

use apple_xar::reader::XarReader;
use serde_json::{Value, json};
use tandem_pkg::{
    distribution::{MEMORY_MIN_BYTES, disk_min_kib},
    layout, package_info,
};

/// Prints an XML document as JSON: name, attributes, text, children.
const TO_JSON: &str = "
import json, sys, xml.etree.ElementTree as tree
def of(e): return {'name': e.tag, 'attributes': e.attrib, 'text': (e.text or '').strip(),
                   'children': [of(c) for c in e]}
print(json.dumps(of(tree.fromstring(sys.stdin.buffer.read()))))
";

/// Runs a check of the Distribution on a made-up Mac: stdin is script, expression and what the Mac says.
const RUN_CHECK: &str = "
const vm = require('vm'), fs = require('fs');
const { script, check, sysctl, target } = JSON.parse(fs.readFileSync(0));
const log = [], result = {};
const sandbox = { my: { result, target }, system: {
    sysctl: (name) => sysctl[name], log: (line) => log.push(line) } };
vm.createContext(sandbox);
vm.runInContext(script, sandbox);
const allowed = vm.runInContext(check, sandbox, { timeout: 1000 });
console.log(JSON.stringify({ allowed, result, logged: log.length }));
";

fn member(path: &str) -> Vec<u8> {
    let mut reader = XarReader::new(Cursor::new(support::package())).unwrap();
    reader.get_file_data_from_path(path).unwrap().unwrap()
}

/// Standard output, as JSON, of a program that is handed these bytes.
fn json_of(command: &mut Command, stdin: &[u8]) -> Value {
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, stdin).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    serde_json::from_slice(&support::output(command.stdin(file))).unwrap()
}

fn parsed(path: &str) -> Option<Value> {
    let python = support::tool(&["python3"])?;
    Some(json_of(Command::new(python).args(["-c", TO_JSON]), &member(path)))
}

/// The only child of this name.
fn child<'a>(element: &'a Value, name: &str) -> &'a Value {
    let children = element["children"].as_array().unwrap();
    let found: Vec<&Value> = children.iter().filter(|child| child["name"] == name).collect();
    assert_eq!(found.len(), 1, "{name}");
    found[0]
}

#[test]
fn it_asks_for_the_system_the_architecture_and_the_place_that_tandem_needs() {
    let Some(root) = parsed("Distribution") else { return };
    assert_eq!(root["name"], "installer-gui-script");
    assert_eq!(root["attributes"], json!({ "minSpecVersion": "2" }));
    assert_eq!(
        child(&root, "options")["attributes"],
        json!({ "customize": "never", "require-scripts": "false", "hostArchitectures": "arm64" })
    );
    assert_eq!(
        child(&root, "domains")["attributes"],
        json!({
            "enable_anywhere": "false",
            "enable_currentUserHome": "false",
            "enable_localSystem": "true"
        })
    );
    let volume = child(&root, "volume-check");
    assert_eq!(volume["attributes"], json!({ "script": "disk_suffices()" }));
    let os_version = child(child(volume, "allowed-os-versions"), "os-version");
    assert_eq!(os_version["attributes"], json!({ "min": "26.2" }));
    let (major, minor) = tandem_pkg::cross::MIN_OS;
    assert_eq!(format!("{major}.{minor}"), "26.2", "the executable runs on another system");
    let config = std::fs::read_to_string(support::root().join("config/tandem.toml")).unwrap();
    assert!(config.contains("\nos_version_min = \"26.2\"\n"), "the config asks for another system");
    assert_eq!(
        child(&root, "product")["attributes"],
        json!({ "id": layout::PACKAGE_ID, "version": support::VERSION })
    );
    for (page, file, kind) in [
        ("welcome", "welcome.html", "text/html"),
        ("license", "LICENSE.txt", "text/plain"),
        ("conclusion", "conclusion.html", "text/html"),
    ] {
        assert_eq!(child(&root, page)["attributes"], json!({ "file": file, "mime-type": kind }));
        assert!(!member(&format!("Resources/{file}")).is_empty());
    }
}

#[test]
fn it_names_the_one_component_by_identifier_version_and_size() {
    let (Some(root), Some(info)) = (parsed("Distribution"), parsed("tandem.pkg/PackageInfo"))
    else {
        return;
    };
    let choice = child(child(&root, "choices-outline"), "line")["attributes"]["choice"].clone();
    assert_eq!(child(&root, "choice")["attributes"]["id"], choice);
    let chosen = child(child(&root, "choice"), "pkg-ref");
    assert_eq!(chosen["attributes"], json!({ "id": layout::PACKAGE_ID }));
    let component = child(&root, "pkg-ref");
    let size = child(&info, "payload")["attributes"]["installKBytes"].clone();
    assert_eq!(
        component["attributes"],
        json!({
            "id": layout::PACKAGE_ID,
            "version": support::VERSION,
            "installKBytes": size,
            "onConclusion": "none"
        })
    );
    assert_eq!(component["text"], "#tandem.pkg");
    assert_eq!(info["name"], "pkg-info");
    assert_eq!(info["attributes"]["identifier"], layout::PACKAGE_ID);
    assert_eq!(info["attributes"]["version"], support::VERSION);
    let scripts = child(&info, "scripts");
    for name in ["preinstall", "postinstall"] {
        assert_eq!(child(scripts, name)["attributes"], json!({ "file": format!("./{name}") }));
    }
}

#[test]
fn a_mac_with_too_little_memory_or_disk_is_refused_and_told_why() {
    let (Some(node), Some(root)) = (support::tool(&["node"]), parsed("Distribution")) else {
        return;
    };
    let script = child(&root, "script")["text"].clone();
    let memory = child(&root, "installation-check")["attributes"]["script"].clone();
    let disk = child(&root, "volume-check")["attributes"]["script"].clone();
    let least_kib = disk_min_kib(package_info::install_kib(&support::payload().0));
    let mac = |memory: Value| json!({ "hw.memsize": memory });
    let volume = |free: Value| json!({ "availableKilobytes": free });
    let gib = 1u64 << 30;
    // What is asked, what the Mac says, whether it may install, what it is told, lines in the log.
    for (check, sysctl, target, allowed, told, logged) in [
        (&memory, mac(json!(MEMORY_MIN_BYTES)), json!({}), true, None, 0),
        (&memory, mac(json!(512 * gib)), json!({}), true, None, 0),
        // The Installer's function gives numbers or text, by the version of macOS.
        (&memory, mac(json!((24 * gib).to_string())), json!({}), true, None, 0),
        (&memory, mac(json!((8 * gib).to_string())), json!({}), false, Some("8.0 GiB"), 0),
        (&memory, mac(json!(MEMORY_MIN_BYTES - 1)), json!({}), false, Some("16.0 GiB"), 0),
        (&memory, mac(json!(null)), json!({}), true, None, 1),
        (&memory, json!({}), json!({}), true, None, 1),
        (&memory, mac(json!("many")), json!({}), true, None, 1),
        (&disk, json!({}), volume(json!(least_kib)), true, None, 0),
        (&disk, json!({}), volume(json!(least_kib - 1)), false, Some("2.0 GiB"), 0),
        (&disk, json!({}), volume(json!(0)), false, Some("0.0 GiB"), 0),
        (&disk, json!({}), volume(json!(null)), true, None, 1),
        (&disk, json!({}), json!({}), true, None, 1),
    ] {
        let asked = json!({ "script": script, "check": check, "sysctl": sysctl, "target": target });
        let told_of =
            json_of(Command::new(&node).args(["-e", RUN_CHECK]), asked.to_string().as_bytes());
        assert_eq!(told_of["allowed"], allowed, "{asked}");
        assert_eq!(told_of["logged"], logged, "{asked}");
        match told {
            None => assert_eq!(told_of["result"], json!({}), "{asked}"),
            Some(told) => {
                assert_eq!(told_of["result"]["type"], "Fatal");
                let message = told_of["result"]["message"].as_str().unwrap();
                assert!(message.contains(told), "{message}");
                assert_ne!(told_of["result"]["title"], "");
            }
        }
    }
}

#[test]
fn the_checks_call_nothing_that_starts_a_program() {
    let text = String::from_utf8(member("Distribution")).unwrap();
    // The Installer asks an admin for leave before system.run; nothing here needs it.
    for call in ["system.run", "system.files", "allow-external-scripts", "eval("] {
        assert!(!text.contains(call), "{call}");
    }
}
