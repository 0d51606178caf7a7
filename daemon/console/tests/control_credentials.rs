//! Who may give orders. Alone in its process, since it changes the process's user.

#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;

use nix::unistd::{Uid, geteuid, seteuid};
use tandem_console::{
    control::{ControlError, ControlServer, Orders, Reply, Request, Why, ask},
    exit,
};

/// `nobody` on Linux; on a Mac a user as good as any, since only the number counts.
const STRANGER: u32 = 65_534;

#[test]
fn root_is_obeyed_and_a_stranger_is_not() {
    if !geteuid().is_root() {
        eprintln!("not run: only root can become another user");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = folder.path().join("control.sock");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let orders = Orders::new(0);
    {
        let _entered = runtime.enter();
        let server = ControlServer::bind(&path).unwrap();
        runtime.spawn(server.serve(orders.clone()));
    }
    assert_eq!(ask(&path, Request::Ping).unwrap(), Reply::Pong);

    // The file's mode keeps a stranger out ...
    seteuid(Uid::from_raw(STRANGER)).unwrap();
    let kept_out = ask(&path, Request::Drain);
    seteuid(Uid::from_raw(0)).unwrap();
    let error = kept_out.unwrap_err();
    assert!(matches!(error, ControlError::NeedsRoot { .. }), "{error}");
    assert_eq!(error.exit_code(), exit::NEEDS_ROOT);

    // ... and were the mode ever wrong, so does what the kernel says about it.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    seteuid(Uid::from_raw(STRANGER)).unwrap();
    let refused = ask(&path, Request::Drain);
    seteuid(Uid::from_raw(0)).unwrap();
    let error = refused.unwrap_err();
    assert_eq!(error.exit_code(), exit::NEEDS_ROOT);
    match error {
        ControlError::Refused { why: Why::Forbidden, message } => {
            assert_eq!(message, "user 65534 may not give orders; use sudo");
        }
        other => panic!("{other}"),
    }
    assert_eq!(orders.pending(), []);
}
