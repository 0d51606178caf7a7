//! Not there yet.
#![allow(missing_docs, clippy::unused_async, clippy::missing_errors_doc)]

fn none<T>() -> std::io::Result<T> {
    Err(std::io::ErrorKind::Unsupported.into())
}

pub(super) mod sysctl {
    use super::none;
    use std::io;
    pub(crate) fn text(_: &str) -> io::Result<String> {
        none()
    }
    pub(crate) fn i32(_: &str) -> io::Result<i32> {
        none()
    }
    pub(crate) fn u64(_: &str) -> io::Result<u64> {
        none()
    }
    pub(crate) fn set_i32(_: &str, _: i32) -> io::Result<()> {
        none()
    }
}

pub(super) mod interface {
    use super::none;
    use std::{io, net::Ipv4Addr};
    pub(crate) fn mtu_bytes(_: &str) -> io::Result<u32> {
        none()
    }
    pub(crate) fn set_mtu(_: &str, _: u32) -> io::Result<()> {
        none()
    }
    pub(crate) fn hardware_address(_: &str) -> io::Result<Vec<u8>> {
        none()
    }
    pub(crate) fn add_address(_: &str, _: Ipv4Addr, _: u8) -> io::Result<()> {
        none()
    }
}

pub(super) mod bridge {
    use super::none;
    use std::io;
    pub(crate) fn bridge_of(_: &str) -> io::Result<Option<String>> {
        none()
    }
    pub(crate) fn remove(_: &str, _: &str) -> io::Result<()> {
        none()
    }
}

pub(super) mod registry {
    pub(crate) fn gpu_is_there() -> std::io::Result<bool> {
        super::none()
    }
}

pub(super) mod memory {
    pub fn memory(_: u64) -> std::io::Result<tandem_policy::Memory> {
        super::none()
    }
}

pub(super) mod process {
    use super::none;
    use std::io;
    pub fn command_line(_: u32) -> String {
        String::new()
    }
    pub fn is_running(_: u32) -> bool {
        false
    }
    pub async fn exited(_: u32) -> io::Result<()> {
        none()
    }
    pub fn footprint_bytes(_: u32) -> io::Result<u64> {
        none()
    }
    pub fn cpu_time_ms(_: u32) -> io::Result<u64> {
        none()
    }
}

pub(super) mod link_watch {
    pub struct LinkWatch(());
    impl LinkWatch {
        pub fn open() -> std::io::Result<Self> {
            super::none().map(Self)
        }
        pub async fn changed(&mut self) -> std::io::Result<()> {
            super::none()
        }
    }
}
