use super::*;
use crate::command::explain;

#[test]
fn explain_knows_faults_invariants_signatures_and_lines() {
    let cases = [
        ("leak_confirmed", "fault      leak_confirmed", 0),
        ("Leak Confirmed", "fault      leak_confirmed", 0),
        ("stall", "fault      stall", 0),
        ("link_mtu", "invariant  link_mtu", 0),
        ("link-mtu", "invariant  link_mtu", 0),
        ("ring-peer-lost", "signature  ring-peer-lost", 0),
        ("[ring] Receiving from socket failed with errno 54", "signature  ring-peer-lost", 0),
        (
            "qqqq zzzz",
            "nothing is known of this; tandem explain without a text tells the open faults",
            1,
        ),
    ];
    for (text, first, expected) in cases {
        let (code, told) = printed(|out| explain::text(out, &plain(), &catalogue(), text));
        assert_eq!(told.lines().next(), Some(first), "{text}");
        assert_eq!(code, expected, "{text}");
    }
}

#[test]
fn a_signature_is_told_whole() {
    let (_, told) = printed(|out| explain::text(out, &plain(), &catalogue(), "ring-peer-lost"));
    assert_lines(
        &told,
        &[
            "signature  ring-peer-lost",
            "meaning    A rank is gone.",
            "action     restart",
            "do         None; the ranks start again.",
        ],
    );
}

#[test]
fn every_signature_that_ships_can_be_explained() {
    for signature in Catalogue::builtin().signatures() {
        let id = &signature.id;
        let (code, told) = printed(|out| explain::text(out, &plain(), Catalogue::builtin(), id));
        assert_eq!(code, 0, "{id}");
        assert!(told.contains(&format!("signature  {id}\n")), "{id}: {told}");
    }
}
