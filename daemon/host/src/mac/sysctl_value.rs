//! What a sysctl answers, read by the type that is wanted of it.
//!
//! sysctlbyname(3) hands out bytes and their number and not their type, so an answer of another size
//! is not the value that is wanted. Numbers are in the Mac's own byte order.

/// A 32-bit number, such as `vm.page_wire_count`; `None` for an answer of another size.
pub fn u32(answer: &[u8]) -> Option<u32> {
    answer.try_into().ok().map(u32::from_le_bytes)
}

/// A signed 32-bit number, such as `iogpu.wired_limit_mb`; `None` for an answer of another size.
pub fn i32(answer: &[u8]) -> Option<i32> {
    answer.try_into().ok().map(i32::from_le_bytes)
}

/// A 64-bit number, such as `hw.memsize`; `None` for an answer of another size.
pub fn u64(answer: &[u8]) -> Option<u64> {
    answer.try_into().ok().map(u64::from_le_bytes)
}

/// A text, such as `kern.osversion`, which ends with its first zero; `None` if that is missing or the
/// text is not UTF-8.
pub fn text(answer: &[u8]) -> Option<&str> {
    let end = answer.iter().position(|byte| *byte == 0)?;
    std::str::from_utf8(answer.get(..end)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_only_in_its_own_size() {
        let memsize = (512_u64 << 30).to_le_bytes();
        assert_eq!(u64(&memsize), Some(512 << 30));
        assert_eq!((u32(&memsize), i32(&memsize)), (None, None));
        let limit = 505_000_i32.to_le_bytes();
        assert_eq!((i32(&limit), u32(&limit), u64(&limit)), (Some(505_000), Some(505_000), None));
        assert_eq!(i32(&(-1_i32).to_le_bytes()), Some(-1));
        for short in [&[][..], &[1], &[1, 2, 3]] {
            assert_eq!((u32(short), i32(short), u64(short)), (None, None, None), "{short:?}");
        }
    }

    #[test]
    fn a_text_ends_with_its_zero() {
        for (answer, expected) in [
            (&b"25F80\0"[..], Some("25F80")),
            (b"25F80\0rest", Some("25F80")),
            (b"\0", Some("")),
            (b"25F80", None),
            (b"", None),
            (b"\xff\0", None),
        ] {
            assert_eq!(text(answer), expected, "{answer:?}");
        }
    }
}
