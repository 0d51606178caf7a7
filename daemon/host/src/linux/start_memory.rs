//! Giving back what only the start needed.

#![allow(unsafe_code)]

use std::{ffi::c_void, fs::File, io::Read};

/// Most bytes of this process's list of mappings that are read; each has some thirty lines.
const MAPS_BYTES_MAX: u64 = 4 << 20;

/// Gives back memory that only the start needed. The one executable holds all roles, so its code, and
/// that of the libraries of the roles that do not run here, is most of what a start maps: what is used
/// again is read again, from the page cache. Freed heap goes back, too.
pub fn release_start_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) may be called at any time; it only returns free pages to the system.
    unsafe {
        libc::malloc_trim(0);
    }
    let mut maps = String::new();
    let Ok(file) = File::open("/proc/self/smaps") else { return };
    if file.take(MAPS_BYTES_MAX).read_to_string(&mut maps).is_err() {
        return;
    }
    for (start, length) in clean_code(&maps) {
        // SAFETY: by the kernel's own list the range maps code of a file privately and has no page of
        // its own, so all its pages are the file's: the next access brings the same bytes back. Should
        // it have been unmapped since, the call fails and changes nothing; nothing else is mapped in
        // its place, because this process unloads no code.
        unsafe {
            libc::madvise(start as *mut c_void, length, libc::MADV_DONTNEED);
        }
    }
}

/// Start and length of the mappings of files' code that nothing was written to, relocations included,
/// from the text of proc_pid_smaps(5): a line `START-END PERMISSIONS OFFSET DEVICE INODE PATH` and then
/// lines of figures.
fn clean_code(smaps: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut current = None;
    for line in smaps.lines() {
        if let Some(range) = range(line) {
            current = is_code_of_a_file(line).then_some(range);
        } else if let Some(own) = line.strip_prefix("Anonymous:")
            && own.trim() == "0 kB"
        {
            found.extend(current.take());
        }
    }
    found
}

fn range(line: &str) -> Option<(usize, usize)> {
    let (start, end) = line.split_ascii_whitespace().next()?.split_once('-')?;
    let parse = |hex| usize::from_str_radix(hex, 16).ok();
    let (start, end) = (parse(start)?, parse(end)?);
    (end > start).then_some((start, end - start))
}

fn is_code_of_a_file(line: &str) -> bool {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    words.get(1) == Some(&"r-xp") && words.get(4).is_some_and(|inode| *inode != "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_that_is_its_files_is_given_back() {
        let smaps = "\
55d0c0a00000-55d0c0a02000 r-xp 00012000 fe:00 131                        /usr/bin/tandem
Size:                  8 kB
Anonymous:             0 kB
55d0c0b00000-55d0c0b02000 r-xp 00012000 fe:00 132                        /lib/relocated.so
Anonymous:             4 kB
55d0c0c00000-55d0c0c02000 r--p 00012000 fe:00 131                        /usr/bin/tandem
Anonymous:             0 kB
55d0c0d00000-55d0c0d02000 rw-p 00012000 fe:00 131                        /usr/bin/tandem
Anonymous:             0 kB
7ffc1a9fe000-7ffc1aa00000 r-xp 00000000 00:00 0                          [vdso]
Anonymous:             0 kB
nonsense
";
        assert_eq!(clean_code(smaps), [(0x55d0_c0a0_0000, 0x2000)]);
        assert_eq!(clean_code("Anonymous: 0 kB\n"), []);
    }

    #[test]
    fn a_process_runs_on_without_what_its_start_needed() {
        let numbers: Vec<u64> = (0..10_000).collect();
        let before: u64 = numbers.iter().sum();
        release_start_memory();
        assert_eq!(numbers.iter().sum::<u64>(), before);
        let elsewhere = std::thread::spawn(move || numbers.iter().sum::<u64>());
        assert_eq!(elsewhere.join().unwrap(), before);
    }
}
