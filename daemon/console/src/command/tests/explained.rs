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
fn a_guess_is_called_one_and_a_pattern_that_was_found_is_not() {
    let told = |text| printed(|out| explain::text(out, &plain(), Catalogue::builtin(), text));
    let guess = "found      by words alone: a guess\n";
    for (text, code, is_guess) in [
        ("stranded", 1, true),
        ("ZOMBIE ORPHANED FENCE KERNEL", 1, true),
        ("gpu-hang", 0, false),
        ("[ring] connection to a peer was lost", 0, false),
        ("exit code 81", 0, false),
        ("-[_MTLCommandBuffer addCompletedHandler:]:1011: failed assertion `late'", 0, false),
    ] {
        let (found, text_told) = told(text);
        assert_eq!(found, code, "{text}");
        let signatures = text_told.matches("signature  ").count();
        let guesses = if is_guess { signatures } else { 0 };
        assert!(signatures > 0, "{text}: {text_told}");
        assert_eq!(text_told.matches(guess).count(), guesses, "{text}: {text_told}");
    }
}

#[test]
fn a_text_may_begin_with_a_hyphen_and_options_still_count() {
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        command: crate::command::Command,
    }
    let assertion = "-[AGXG17XFamilyCommandBuffer commit]:9: failed assertion `late'";
    for (words, what, config) in [
        (vec!["explain", assertion], Some(assertion), None),
        (vec!["explain", "--config", "a.toml", assertion], Some(assertion), Some("a.toml")),
        (vec!["explain", assertion, "--config", "a.toml"], Some(assertion), Some("a.toml")),
        (vec!["explain", "--", "--config"], Some("--config"), None),
        (vec!["explain", "--config", "a.toml"], None, Some("a.toml")),
        (vec!["explain", "- what"], Some("- what"), None),
    ] {
        let line = Line::try_parse_from([&["tandem"], words.as_slice()].concat());
        let crate::command::Command::Explain(args) = line.unwrap().command else { panic!() };
        assert_eq!(args.what.as_deref(), what, "{words:?}");
        assert_eq!(args.target.config.as_deref(), config.map(std::path::Path::new), "{words:?}");
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
