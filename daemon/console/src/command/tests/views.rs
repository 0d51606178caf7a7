use super::*;
use crate::command::{check, doctor, explain, fixtures, gates, handoff, status};
use tandem_evidence::Catalogue;
#[test]
fn show() {
    for f in [
        fixtures::healthy(),
        fixtures::degraded(),
        fixtures::held(),
        fixtures::drained(),
        fixtures::unknown(),
    ] {
        let a = asked(&f);
        eprintln!("=== status");
        let r = printed(|o| status::print(o, &plain(), &a));
        eprintln!("{}\n{}", r.0, r.1);
        eprintln!("=== check");
        let r = printed(|o| check::print(o, &plain(), &a));
        eprintln!("{}\n{}", r.0, r.1);
        eprintln!("=== gates");
        let r = printed(|o| gates::print(o, &plain(), &a));
        eprintln!("{}\n{}", r.0, r.1);
        eprintln!("=== doctor");
        let r = printed(|o| {
            doctor::print(o, &plain(), &doctor::all("http://x", &Ok(a.clone()), vec![]))
        });
        eprintln!("{}\n{}", r.0, r.1);
        eprintln!("=== explain");
        let r = printed(|o| explain::faults(o, &plain(), Catalogue::builtin(), &a));
        eprintln!("{}\n{}", r.0, r.1);
        eprintln!("=== handoff");
        let r = printed(|o| handoff::print(o, &plain(), &a, None, &Ok(handoff::Past::default())));
        eprintln!("{}\n{}", r.0, r.1);
    }
    panic!();
}
