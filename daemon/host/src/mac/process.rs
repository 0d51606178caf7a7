//! What the kernel says about processes: their memory, names and arguments.
//!
//! Source: xnu 11417.101.15, `<sys/resource.h>`, `<sys/proc_info.h>`, `bsd/kern/kern_exit.c`,
//! `bsd/kern/kern_resource.c`, and `sysctl_procargsx` in `bsd/kern/kern_sysctl.c`.

use std::cmp::Reverse;

use tandem_policy::Owner;

/// Most owners that are told. One process more cannot have a part that matters.
pub const OWNERS_MAX: usize = 64;

/// Longest command line that is told, in bytes: far more than any of ours has.
pub const COMMAND_BYTES_MAX: usize = 64 * 1024;

/// The most that a process can have wired, in bytes. Memory that it made for the GPU is in its
/// footprint, wired or not, and not in its wired size; locked pages of files are in that one only.
pub fn footprint_bytes(phys_footprint_bytes: u64, wired_bytes: u64) -> u64 {
    phys_footprint_bytes.max(wired_bytes)
}

/// The largest owners, largest first.
pub fn largest(mut owners: Vec<Owner>) -> Vec<Owner> {
    owners.sort_by_key(|owner| (Reverse(owner.footprint_bytes), owner.pid));
    owners.truncate(OWNERS_MAX);
    owners
}

/// Whether a process whose memory could not be read may be left out of the owners: it ended
/// meanwhile; or the system keeps even root from looking, and memory can't wait for ever for one
/// process that it protects. Without root all other users' processes are hidden, and their memory would
/// look as if nobody owned it, so then memory is not known.
pub fn may_be_left_out(errno: Option<i32>, is_root: bool) -> bool {
    match errno {
        Some(libc::ESRCH) => true,
        Some(libc::EPERM) => is_root,
        _ => false,
    }
}

/// A process's name: the one it has registered (`pbi_name`), or else the first 15 bytes of its
/// program's (`pbi_comm`).
pub fn name(registered: &[u8], program: &[u8]) -> String {
    let text = |field: &[u8]| {
        let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
        String::from_utf8_lossy(field.get(..end).unwrap_or_default()).into_owned()
    };
    Some(text(registered)).filter(|name| !name.is_empty()).unwrap_or_else(|| text(program))
}

/// A command line from the answer of `KERN_PROCARGS2`: the number of arguments, 32 bits in the Mac's
/// byte order; the program's path and zeros; then the arguments, each with its closing zero, and the
/// environment, which is left out. Arguments are joined by blanks. `None` if the answer ends before
/// the arguments do.
pub fn command_line(answer: &[u8]) -> Option<String> {
    let (count, rest) = answer.split_first_chunk::<4>()?;
    let count = usize::try_from(i32::from_le_bytes(*count)).ok()?;
    let path_end = rest.iter().position(|byte| *byte == 0)?;
    let after = rest.get(path_end..)?;
    let padding = after.iter().take_while(|byte| **byte == 0).count();
    let mut rest = after.get(padding..)?;
    let mut line = Vec::new();
    for at in 0..count {
        let end = rest.iter().position(|byte| *byte == 0)?;
        let (argument, after) = rest.split_at_checked(end)?;
        if at > 0 {
            line.push(b' ');
        }
        line.extend(argument);
        if line.len() >= COMMAND_BYTES_MAX {
            line.truncate(COMMAND_BYTES_MAX);
            break;
        }
        rest = after.get(1..)?;
    }
    Some(String::from_utf8_lossy(&line).into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, test_runner::RngSeed};

    use super::*;

    fn owner(pid: u32, footprint_bytes: u64) -> Owner {
        Owner { pid, name: "engine".into(), footprint_bytes }
    }

    /// As the kernel lays it out: the path is padded to 8 bytes.
    fn answer(count: i32, arguments: &[&str]) -> Vec<u8> {
        let mut bytes = count.to_le_bytes().to_vec();
        bytes.extend(b"/usr/local/libexec/tandem/tandem\0\0\0\0\0\0\0\0");
        for argument in arguments {
            bytes.extend(argument.as_bytes());
            bytes.push(0);
        }
        bytes
    }

    #[test]
    fn the_larger_of_footprint_and_locked_memory_counts() {
        for (footprint, wired, expected, story) in [
            (277 << 30, 0, 277 << 30, "an engine: its buffers are wired by the GPU"),
            (1 << 20, 8 << 30, 8 << 30, "locked pages of a file"),
        ] {
            assert_eq!(footprint_bytes(footprint, wired), expected, "{story}");
        }
    }

    #[test]
    fn the_largest_owners_are_told_first() {
        let few = vec![owner(1, 5), owner(9, 7), owner(4, 7)];
        let pids: Vec<u32> = largest(few).iter().map(|owner| owner.pid).collect();
        assert_eq!(pids, [4, 9, 1]);
        let many: Vec<Owner> = (0..100).map(|pid| owner(pid, pid.into())).collect();
        let many = largest(many);
        assert_eq!((many.len(), many[0].pid, many[63].pid), (OWNERS_MAX, 99, 36));
    }

    #[test]
    fn a_process_that_can_not_be_read_is_left_out_only_where_that_hides_nothing() {
        for (errno, is_root, expected, story) in [
            (Some(libc::ESRCH), false, true, "it ended"),
            (Some(libc::ESRCH), true, true, "it ended"),
            (Some(libc::EPERM), true, true, "not even root may"),
            (Some(libc::EPERM), false, false, "another user's"),
            (Some(libc::EINVAL), true, false, "the system does not know the question"),
            (None, true, false, "no reason is given"),
        ] {
            assert_eq!(may_be_left_out(errno, is_root), expected, "{story}");
        }
    }

    #[test]
    fn the_registered_name_is_taken_before_the_programs() {
        assert_eq!(name(b"tandem rank 0\0\0", b"tandem\0"), "tandem rank 0");
        assert_eq!(name(b"\0\0", b"kernel_task\0\0"), "kernel_task");
        assert_eq!(name(b"\0", b"no closing zero"), "no closing zero");
        assert_eq!(name(b"", b""), "");
    }

    #[test]
    fn a_command_line_is_the_arguments_without_the_environment() {
        let bytes = answer(4, &["tandem", "rank", "--rank", "0", "HOME=/var/empty", ""]);
        assert_eq!(command_line(&bytes).as_deref(), Some("tandem rank --rank 0"));
        let bytes = answer(3, &["sh", "", "x"]);
        assert_eq!(command_line(&bytes).as_deref(), Some("sh  x"), "an empty argument");
        assert_eq!(command_line(&answer(0, &[])).as_deref(), Some(""), "no arguments");
        for (bytes, story) in [
            (answer(3, &["sh", "x"]), "fewer than it says"),
            (answer(-1, &["sh"]), "a negative number"),
            (answer(1, &["sh"])[..10].to_vec(), "cut in the path"),
            (vec![1, 0], "cut in the number"),
            (vec![], "no answer"),
        ] {
            assert_eq!(command_line(&bytes), None, "{story}");
        }
        let long = "x".repeat(COMMAND_BYTES_MAX);
        let bytes = answer(2, &["sh", &long]);
        assert_eq!(command_line(&bytes).map(|line| line.len()), Some(COMMAND_BYTES_MAX));
    }

    proptest! {
        // The same cases in every run.
        #![proptest_config(ProptestConfig {
            rng_seed: RngSeed::Fixed(15), failure_persistence: None, ..Default::default()
        })]

        #[test]
        fn arguments_are_read_as_they_were_written(
            arguments in prop::collection::vec("[^\\x00]{1,12}", 1..6),
            environment in prop::collection::vec("[^\\x00]{0,12}", 0..4),
            cut in any::<prop::sample::Index>(),
            noise in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let all: Vec<&str> = arguments.iter().chain(&environment).map(|s| &**s).collect();
            let bytes = answer(i32::try_from(arguments.len()).unwrap(), &all);
            prop_assert_eq!(command_line(&bytes), Some(arguments.join(" ")));
            // Cut anywhere, it is refused or whole.
            let line = command_line(&bytes[..cut.index(bytes.len())]);
            prop_assert!(line.is_none_or(|line| line == arguments.join(" ")));
            let _ = (command_line(&noise), name(&noise, &noise));
        }
    }
}
