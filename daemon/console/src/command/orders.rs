//! `tandem drain`, `resume`, `hold`, `release` and `reboot`.

use std::{
    io::{self, Write},
    path::Path,
};

use super::{Command, RebootArgs, past::chain, problem};
use crate::{
    control::{Reply, Request, ask},
    exit,
    print::time::span,
};

pub(super) fn run(
    command: &Command,
    socket: &Path,
    out: &mut impl Write,
    problems: &mut impl Write,
) -> io::Result<i32> {
    let (request, done) = match command {
        Command::Drain(_) => (Request::Drain, "draining; tandem resume serves again".to_owned()),
        Command::Resume(_) => (Request::Resume, "serving again".to_owned()),
        Command::Release(_) => (Request::Release, "released".to_owned()),
        Command::Reboot(args) => {
            let RebootArgs { pair: all, reason, .. } = args;
            let whom = if *all { "all nodes are" } else { "this node is" };
            (
                Request::Reboot { all: *all, reason: reason.clone() },
                format!(
                    "{whom} to reboot once nothing is served; tandem status shows how far it is"
                ),
            )
        }
        Command::Hold(args) => {
            let until =
                args.for_ms.map_or("until released".to_owned(), |ms| format!("for {}", span(ms)));
            (Request::Hold { for_ms: args.for_ms }, format!("held {until}; tandem release ends it"))
        }
        _ => return Ok(exit::USAGE),
    };
    match ask(socket, request) {
        Ok(Reply::Obeyed { order }) => {
            writeln!(out, "{done} (order {order})")?;
            Ok(exit::HEALTHY)
        }
        Ok(reply) => {
            problem(problems, &format!("the supervisor answered an order with {reply:?}"))?;
            Ok(exit::UNAVAILABLE)
        }
        Err(error) => {
            problem(problems, &chain(&error))?;
            Ok(error.exit_code())
        }
    }
}
