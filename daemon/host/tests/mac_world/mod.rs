//! A Mac made of recorded answers: what its tools say, keyed by their commands, and a kernel that keeps
//! what is set. All that is run or set is written down in order.

// Each test file uses a part of it.
#![allow(dead_code, clippy::unwrap_used)]

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    io,
    net::Ipv4Addr,
    path::PathBuf,
};

use tandem_host::{
    mac::system::{Mac, Runner},
    probes::{Answer, CommandOutput, Tool},
};

/// What the kernel knows.
pub(crate) struct Kernel {
    pub(crate) is_root: bool,
    pub(crate) mtu_bytes: u32,
    pub(crate) mtu_bytes_max: u32,
    pub(crate) addresses: Vec<Ipv4Addr>,
    pub(crate) hardware_address: Vec<u8>,
    pub(crate) bridge: Option<String>,
    /// Whether the system puts the port back at once.
    pub(crate) is_rebridged: bool,
    /// `None` is a system without the name.
    pub(crate) wired_limit_mib: Option<i32>,
    /// The kernel takes no more.
    pub(crate) wired_limit_mib_max: i32,
    pub(crate) memory_bytes: u64,
    pub(crate) version: &'static str,
    pub(crate) has_gpu: bool,
    /// What a call to set fails with.
    pub(crate) refuses: Option<i32>,
}

/// The interface that is there; no other is.
pub(crate) const LINK: &str = "en5";

/// The executable.
pub(crate) const PROGRAM: &str = "/usr/local/libexec/tandem/tandem";

/// A Mac.
pub(crate) struct Recorded {
    kernel: RefCell<Kernel>,
    answers: RefCell<BTreeMap<String, VecDeque<Answer<CommandOutput>>>>,
    calls: RefCell<Vec<String>>,
}

/// A Mac whose kernel has all that serving needs, run by root, with no tool.
pub(crate) fn mac() -> Recorded {
    let kernel = Kernel {
        is_root: true,
        mtu_bytes: 9_000,
        mtu_bytes_max: 16_384,
        addresses: vec![Ipv4Addr::new(169, 254, 0, 1)],
        hardware_address: vec![0x36, 0x13, 0x5e, 0x00, 0x53, 0x05],
        bridge: None,
        is_rebridged: false,
        wired_limit_mib: Some(505_000),
        wired_limit_mib_max: i32::MAX,
        memory_bytes: 512 << 30,
        version: "26.3",
        has_gpu: true,
        refuses: None,
    };
    Recorded {
        kernel: RefCell::new(kernel),
        answers: RefCell::default(),
        calls: RefCell::default(),
    }
}

impl Recorded {
    /// With another kernel.
    pub(crate) fn with(self, change: impl FnOnce(&mut Kernel)) -> Self {
        change(&mut self.kernel.borrow_mut());
        self
    }

    /// A tool says this and ends well; the last of what it is given is what it goes on saying.
    pub(crate) fn says(self, tool: &Tool, stdout: &str) -> Self {
        self.ends(tool, 0, stdout, "")
    }

    /// A tool ends with a code.
    pub(crate) fn ends(self, tool: &Tool, code: i32, stdout: &str, stderr: &str) -> Self {
        let (stdout, stderr) = (stdout.to_owned(), stderr.to_owned());
        self.answers(tool, Ok(CommandOutput { code: Some(code), stdout, stderr }))
    }

    /// A tool answers so, next.
    pub(crate) fn answers(self, tool: &Tool, answer: Answer<CommandOutput>) -> Self {
        self.answers.borrow_mut().entry(tool.to_string()).or_default().push_back(answer);
        self
    }

    /// What was run and set, in order.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.calls.borrow().clone()
    }

    /// What was set, in order: all but the commands that only read.
    pub(crate) fn sets(&self) -> Vec<String> {
        let is_read = |call: &&String| {
            ["-get", "-list", " -g", " -a -s", " read ", " status", "ibv_", "system_profiler"]
                .iter()
                .any(|part| call.contains(part))
        };
        self.calls().iter().filter(|call| !is_read(call)).cloned().collect()
    }

    fn set(&self, call: String) -> io::Result<()> {
        self.calls.borrow_mut().push(call);
        let kernel = self.kernel.borrow();
        match kernel.refuses {
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None if kernel.is_root => Ok(()),
            None => Err(io::Error::from_raw_os_error(libc::EPERM)),
        }
    }
}

fn of_link<T>(link: &str, value: T) -> io::Result<T> {
    if link == LINK { Ok(value) } else { Err(io::Error::from_raw_os_error(libc::ENXIO)) }
}

fn none<T>() -> io::Result<T> {
    Err(io::Error::from_raw_os_error(libc::ENOENT))
}

impl Runner for Recorded {
    fn run(&self, tool: &Tool) -> Answer<CommandOutput> {
        let call = tool.to_string();
        self.calls.borrow_mut().push(call.clone());
        let mut answers = self.answers.borrow_mut();
        let Some(queue) = answers.get_mut(&call) else { panic!("not recorded: {call}") };
        if queue.len() > 1 { queue.pop_front() } else { queue.front().cloned() }.unwrap()
    }
}

impl Mac for Recorded {
    fn is_root(&self) -> bool {
        self.kernel.borrow().is_root
    }

    fn mtu_bytes(&self, link: &str) -> io::Result<u32> {
        of_link(link, self.kernel.borrow().mtu_bytes)
    }

    fn set_mtu(&self, link: &str, mtu_bytes: u32) -> io::Result<()> {
        self.set(format!("SIOCSIFMTU {link} {mtu_bytes}"))?;
        let mut kernel = self.kernel.borrow_mut();
        if mtu_bytes > kernel.mtu_bytes_max {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        kernel.mtu_bytes = mtu_bytes;
        Ok(())
    }

    fn hardware_address(&self, link: &str) -> io::Result<Vec<u8>> {
        of_link(link, self.kernel.borrow().hardware_address.clone())
    }

    fn ipv4_addresses(&self, link: &str) -> io::Result<Vec<Ipv4Addr>> {
        // As getifaddrs does: an interface that is not there has none.
        Ok(if link == LINK { self.kernel.borrow().addresses.clone() } else { Vec::new() })
    }

    fn add_address(&self, link: &str, address: Ipv4Addr, prefix_bits: u8) -> io::Result<()> {
        self.set(format!("SIOCAIFADDR {link} {address}/{prefix_bits}"))?;
        self.kernel.borrow_mut().addresses.push(address);
        Ok(())
    }

    fn bridge_of(&self, link: &str) -> io::Result<Option<String>> {
        of_link(link, self.kernel.borrow().bridge.clone())
    }

    fn leave_bridge(&self, bridge: &str, link: &str) -> io::Result<()> {
        self.set(format!("BRDGDEL {bridge} {link}"))?;
        let mut kernel = self.kernel.borrow_mut();
        kernel.bridge = kernel.bridge.take().filter(|_| kernel.is_rebridged);
        Ok(())
    }

    fn sysctl_text(&self, name: &str) -> io::Result<String> {
        if name == "kern.osproductversion" {
            Ok(self.kernel.borrow().version.into())
        } else {
            none()
        }
    }

    fn sysctl_i32(&self, name: &str) -> io::Result<i32> {
        let value = self.kernel.borrow().wired_limit_mib.filter(|_| name == "iogpu.wired_limit_mb");
        value.map_or_else(none, Ok)
    }

    fn sysctl_u64(&self, name: &str) -> io::Result<u64> {
        if name == "hw.memsize" { Ok(self.kernel.borrow().memory_bytes) } else { none() }
    }

    fn set_sysctl_i32(&self, name: &str, value: i32) -> io::Result<()> {
        self.set(format!("sysctl {name}={value}"))?;
        let mut kernel = self.kernel.borrow_mut();
        kernel.wired_limit_mib = Some(value.min(kernel.wired_limit_mib_max));
        Ok(())
    }

    fn has_gpu(&self) -> io::Result<bool> {
        Ok(self.kernel.borrow().has_gpu)
    }

    fn executable(&self) -> io::Result<PathBuf> {
        Ok(PROGRAM.into())
    }
}
