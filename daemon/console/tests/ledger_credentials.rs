//! Who may read the ledger. Alone in its process, since it changes the process's user.

#![allow(clippy::unwrap_used)]

use std::{os::unix::fs::PermissionsExt, path::Path};

use nix::unistd::{Uid, geteuid, seteuid};
use tandem_console::{
    Style,
    command::{Command, Context, LedgerArgs, run},
    exit,
};
use tandem_evidence::Catalogue;
use tandem_ledger::{Ledger, Limits};
use tandem_policy::State;

/// `nobody` on Linux; on a Mac a user as good as any, since only the number counts.
const STRANGER: u32 = 65_534;

fn ask(folder: &Path) -> (i32, String, String) {
    let sql = "SELECT count(*) AS events FROM events".to_owned();
    let context = Context {
        url: "http://127.0.0.1:1",
        control: &folder.join("control.sock"),
        ledger: folder,
        catalogue: Catalogue::builtin(),
        checks: &Vec::new,
        model_path: None,
        style: Style::plain(0),
        terminal: tandem_console::Terminal::None,
    };
    let (mut out, mut problems) = (Vec::new(), Vec::new());
    let command = Command::Ledger(LedgerArgs { sql, ..LedgerArgs::default() });
    let code = run(&command, &context, &mut out, &mut problems).unwrap();
    (code, String::from_utf8(out).unwrap(), String::from_utf8(problems).unwrap())
}

#[test]
fn a_stranger_is_told_to_use_sudo() {
    if !geteuid().is_root() {
        eprintln!("not run: only root can become another user");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (mut ledger, _) = Ledger::open(folder.path(), Limits::default()).unwrap();
    ledger.save(&State::new("boot"), &[]).unwrap();
    assert_eq!(ask(folder.path()), (exit::HEALTHY, "events\n0\n".into(), String::new()));
    // Both a folder that can't be entered and a file that can't be opened; the latter without its
    // group's right to read, since only the user changes here.
    let path = folder.path().join("ledger.db");
    let permit = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    permit(&path, 0o600);
    for mode in [0o700, 0o755] {
        permit(folder.path(), mode);
        seteuid(Uid::from_raw(STRANGER)).unwrap();
        let answer = ask(folder.path());
        seteuid(Uid::from_raw(0)).unwrap();
        let why = format!("{} is not for this user; use sudo\n", path.display());
        assert_eq!(answer, (exit::NEEDS_ROOT, String::new(), why), "{mode:o}");
    }
}
