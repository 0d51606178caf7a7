use proptest::{prelude::*, test_runner::RngSeed};

use super::*;

const MIB: u64 = 1 << 20;

/// Recorded on Linux 6.18, shortened.
const MEMINFO: &str = "\
MemTotal:       24684084 kB
MemFree:        22511056 kB
MemAvailable:   23953044 kB
Active(anon):       1564 kB
Unevictable:       20840 kB
Mlocked:           19872 kB
HugePages_Total:       0
DirectMap1G:    25165824 kB
";

/// Recorded on Linux 6.18: one locked segment that nobody has, one locked and attached, one that is not
/// locked, and one locked that is to be removed with its last process.
const SEGMENTS: &str = "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime                   rss                  swap
         0          0  2600             268435456  1742  1742      0     0     0     0     0 1795250000 1795250001 1795250000             268435456                     0
         0          1  2600              67108864  1750  1751      2     0     0     0     0 1795250000          0 1795250000              33554432                     0
      4660          2   644               4194304  1760  1760      0  1000  1000  1000  1000 1795250000 1795250001 1795250000               4194304                     0
         0          3  3600               1048576  1770  1770      1     0     0     0     0 1795250000          0 1795250000               1048576                     0
";

/// Recorded on Linux 6.18, shortened.
const STATUS: &str = "Name:\ttokio (rt) \\n w\nUmask:\t0022\nState:\tS (sleeping)\nPid:\t1742\n\
                      VmPeak:\t  301452 kB\nVmLck:\t  262144 kB\nVmRSS:\t  270336 kB\n\
                      RssAnon:\t    8192 kB\nRssShmem:\t  262144 kB\nThreads:\t3\n";

#[test]
fn recorded_meminfo_is_read_in_bytes() {
    let expected = Meminfo {
        total_bytes: 24_684_084 * 1_024,
        available_bytes: 23_953_044 * 1_024,
        unevictable_bytes: 20_840 * 1_024,
        mlocked_bytes: 19_872 * 1_024,
    };
    assert_eq!(parse_meminfo(MEMINFO), Some(expected));
}

#[test]
fn meminfo_that_lacks_or_garbles_a_line_is_unknown() {
    for name in ["MemTotal", "MemAvailable", "Unevictable", "Mlocked"] {
        assert_eq!(parse_meminfo(&MEMINFO.replace(name, "Other")), None, "without {name}");
        let garbled = MEMINFO.replace(&format!("{name}:"), &format!("{name}: many"));
        assert_eq!(parse_meminfo(&garbled), None, "{name} is no number");
    }
    assert_eq!(parse_meminfo(&MEMINFO.replace("kB", "MB")), None, "another unit");
    assert_eq!(parse_meminfo(""), None);
}

#[test]
fn locked_segments_are_told_apart_by_who_has_them() {
    let expected = Segments { attached_bytes: 33 * MIB, orphaned_bytes: 256 * MIB };
    assert_eq!(parse_segments(SEGMENTS), Some(expected));
    let none = SEGMENTS.lines().next().unwrap();
    assert_eq!(parse_segments(none), Some(Segments::default()), "there are no segments");
    assert_eq!(parse_segments(""), None, "the file was not read");
    assert_eq!(parse_segments(&SEGMENTS.replace("nattch", "other")), None);
    assert_eq!(parse_segments(&SEGMENTS.replace("2600", "9600")), None, "not octal");
}

#[test]
fn recorded_status_gives_name_and_resident_memory() {
    assert_eq!(name(STATUS), Some("tokio (rt) \\n w"));
    assert_eq!(rss_bytes(STATUS), Some(264 * MIB));
    assert_eq!(rss_bytes("Name:\tkthreadd\nState:\tS (sleeping)\n"), None);
}

#[test]
fn locked_memory_is_neither_missed_nor_counted_twice() {
    // In MiB: unevictable, mlocked, attached and orphaned segments, what is truly locked.
    for (unevictable, mlocked, attached, orphaned, locked, story) in [
        (0, 0, 0, 0, 0, "nothing"),
        (20, 20, 0, 0, 20, "mlocked pages are unevictable"),
        (276, 20, 0, 256, 276, "an orphan touched after its lock, and mlocked pages"),
        (20, 20, 0, 256, 276, "an orphan touched before its lock, and mlocked pages"),
        (20, 20, 256, 0, 256, "attached, touched before its lock: at least this"),
        (276, 276, 256, 0, 276, "an attached segment that is mlocked too"),
        (256, 0, 0, 0, 256, "a segment of another IPC namespace, or a ramfs"),
        (19, 20, 0, 0, 20, "pages on their way to the list"),
    ] {
        let meminfo = Meminfo {
            unevictable_bytes: unevictable * MIB,
            mlocked_bytes: mlocked * MIB,
            ..Meminfo::default()
        };
        let segments = Segments { attached_bytes: attached * MIB, orphaned_bytes: orphaned * MIB };
        assert_eq!(locked_bytes(&meminfo, &segments), locked * MIB, "{story}");
    }
}

/// The same cases in every run.
fn fixed() -> ProptestConfig {
    ProptestConfig { rng_seed: RngSeed::Fixed(5), failure_persistence: None, ..Default::default() }
}

/// A recorded text with some of its bytes changed, and cut somewhere.
fn damaged(text: &'static str) -> impl Strategy<Value = String> {
    let change = (0..text.len(), any::<u8>());
    (prop::collection::vec(change, 0..6), 0..=text.len()).prop_map(move |(changes, end)| {
        let mut bytes = text.as_bytes().to_vec();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        bytes.truncate(end);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

proptest! {
    #![proptest_config(fixed())]

    #[test]
    fn no_text_makes_a_parser_panic(
        text in any::<String>(),
        meminfo in damaged(MEMINFO),
        segments in damaged(SEGMENTS),
        status in damaged(STATUS),
    ) {
        for text in [text, meminfo, segments, status] {
            let seen = parse_meminfo(&text).zip(parse_segments(&text));
            if let Some((meminfo, segments)) = seen {
                locked_bytes(&meminfo, &segments);
            }
            let _ = (rss_bytes(&text), name(&text));
        }
    }

    #[test]
    fn what_is_written_is_read(
        total in 0..u64::MAX / 1_024, available: u32, unevictable: u32, mlocked: u32,
    ) {
        let text = format!(
            "MemTotal: {total} kB\nMemAvailable:\t{available} kB\nX: 1\n\
             Unevictable: {unevictable} kB\nMlocked: {mlocked} kB\n"
        );
        let seen = parse_meminfo(&text).unwrap();
        prop_assert_eq!(seen.total_bytes, total * 1_024);
        prop_assert_eq!(seen.available_bytes, u64::from(available) * 1_024);
        prop_assert_eq!(seen.unevictable_bytes, u64::from(unevictable) * 1_024);
        prop_assert_eq!(seen.mlocked_bytes, u64::from(mlocked) * 1_024);
    }
}
