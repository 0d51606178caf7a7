use super::*;

fn apple(notary_profile: Option<&str>) -> Signing {
    Signing::Apple {
        installer: "Developer ID Installer: Example (TEAM123456)".to_owned(),
        notary_profile: notary_profile.map(str::to_owned),
    }
}

fn rcodesign(notary_key: Option<&str>) -> Signing {
    Signing::Rcodesign {
        installer: "/keys/installer.p12".into(),
        password: "/keys/password".into(),
        notary_key: notary_key.map(PathBuf::from),
    }
}

/// The calls that sign and then notarise, a line each.
fn calls(signing: &Signing) -> Vec<String> {
    let line = |argv: Argv| {
        let words: Vec<&str> = argv.iter().map(|word| word.to_str().unwrap()).collect();
        words.join(" ")
    };
    let mut calls = vec![signing.package(Path::new("/b/u.pkg"), Path::new("/b/s.pkg"))];
    calls.extend(signing.notarize(Path::new("/b/s.pkg")));
    calls.into_iter().map(line).collect()
}

#[test]
fn apples_tools_are_called_with_the_identity_from_the_keychain() {
    let signing = apple(Some("tandem"));
    assert_eq!(
        calls(&signing),
        [
            "/usr/bin/productsign --timestamp --sign Developer ID Installer: Example (TEAM123456) \
             /b/u.pkg /b/s.pkg",
            "/usr/bin/xcrun notarytool submit --keychain-profile tandem --wait --timeout 3600s \
             /b/s.pkg",
            "/usr/bin/xcrun stapler staple /b/s.pkg",
        ]
    );
    let sign = signing.package(Path::new("/b/u.pkg"), Path::new("/b/s.pkg"));
    assert_eq!(sign[3], "Developer ID Installer: Example (TEAM123456)", "one word of the call");
}

#[test]
fn rcodesign_gets_passwords_by_file_and_never_as_an_argument() {
    assert_eq!(
        calls(&rcodesign(Some("/keys/notary.json"))),
        [
            "rcodesign sign --p12-file /keys/installer.p12 --p12-password-file /keys/password \
             /b/u.pkg /b/s.pkg",
            "rcodesign notary-submit --api-key-file /keys/notary.json --max-wait-seconds 3600 \
             --staple /b/s.pkg",
        ]
    );
}

#[test]
fn nothing_is_sent_to_a_notary_unless_asked() {
    for signing in [apple(None), rcodesign(None)] {
        assert!(signing.notarize(Path::new("/b/s.pkg")).is_empty());
    }
}

#[test]
fn a_file_whose_name_looks_like_an_option_is_still_a_file() {
    for signing in [apple(Some("p")), rcodesign(Some("/k"))] {
        let mut argvs = signing.notarize(Path::new("--deep"));
        argvs.push(signing.package(Path::new("--deep"), Path::new("--sign")));
        for argv in argvs {
            let last = argv.last().unwrap();
            assert!(Path::new(last).is_absolute(), "{argv:?}");
        }
    }
}

#[test]
fn a_command_that_fails_or_is_missing_is_an_error() {
    assert!(run(&argv([&"true"])).is_ok());
    assert!(format!("{:#}", run(&argv([&"false"])).unwrap_err()).contains("failed"));
    assert!(format!("{:#}", run(&argv([&"/no/such/tool"])).unwrap_err()).contains("installed?"));
    assert!(run(&Argv::new()).is_err());
}
