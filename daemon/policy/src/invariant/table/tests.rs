//! The table against the names that serde knows.

use std::collections::BTreeSet;

use serde::{
    Deserialize,
    de::{IntoDeserializer, value::Error},
};

use super::*;

/// The names of all variants as serde has them, by way of the schema.
fn names_known_to_serde() -> BTreeSet<String> {
    let schema = schemars::schema_for!(Invariant);
    let variants = schema.get("oneOf").and_then(|list| list.as_array()).unwrap();
    variants.iter().map(|v| v.get("const").unwrap().as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_variant_is_in_the_list_once_under_its_serde_name() {
    let listed: BTreeSet<String> = Invariant::ALL.iter().map(|i| i.row().name.into()).collect();
    assert_eq!(listed, names_known_to_serde(), "a variant is missing in ALL, or has another name");
    assert_eq!(listed.len(), Invariant::ALL.len(), "a name is there twice");
    for invariant in Invariant::ALL {
        let name = invariant.row().name;
        let read = Invariant::deserialize(IntoDeserializer::<Error>::into_deserializer(name));
        assert_eq!(read, Ok(invariant), "{name}");
    }
}

#[test]
fn every_row_says_what_is_needed_and_names_a_command_for_the_operator() {
    for invariant in Invariant::ALL {
        let row = invariant.row();
        assert!(!row.needs.is_empty(), "{}", row.name);
        let quoted: Vec<&str> = row.remedy.split('`').skip(1).step_by(2).collect();
        assert_eq!(row.remedy.matches('`').count(), 2 * quoted.len(), "{}: open quote", row.name);
        let is_command = |text: &&str| text.len() > 3 && text.contains([' ', '_']);
        assert!(quoted.iter().any(is_command), "{}: {}", row.name, row.remedy);
        assert!(row.remedy.ends_with('.'), "{}: {}", row.name, row.remedy);
        assert!(!row.remedy.contains("  "), "{}: {}", row.name, row.remedy);
    }
}

#[test]
fn what_blocks_and_what_is_only_shown_is_as_documented() {
    use Invariant::*;
    let named = |test: fn(Row) -> bool| -> BTreeSet<Invariant> {
        Invariant::ALL.into_iter().filter(|i| test(i.row())).collect()
    };
    let blocking = [
        LinkMtu,
        LinkAddress,
        LinkUnbridged,
        RdmaEnabled,
        RdmaActive,
        WiredLimit,
        GpuUsable,
        DiskSpace,
        OpenFiles,
        OsVersion,
    ];
    assert_eq!(named(|row| row.severity == Blocks), BTreeSet::from(blocking));
    let observed = [UnattendedBoot, AutomaticUpdatesOff, ClockSynchronised, FirewallOpen];
    assert_eq!(named(|row| row.mode == Observe), BTreeSet::from(observed));
    // What the next boot has lost must be set again before the engine starts.
    let lost = [LinkAddress, LinkUnbridged, RdmaActive, WiredLimit, GpuUsable, OpenFiles];
    assert_eq!(named(|row| !row.survives_reboot), BTreeSet::from(lost));
    let cheap = [LinkMtu, LinkAddress, LinkUnbridged, WiredLimit, DiskSpace, OpenFiles, OsVersion];
    assert_eq!(named(|row| !row.is_slow), BTreeSet::from(cheap));
}
