//! MLX's distributed group: the ranks that compute one model together.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::sync::atomic::{AtomicBool, Ordering};

use mlx_rs::{Array, Dtype, Stream};

use super::failure::last_message;
use crate::EngineError;
use crate::control::ring::Neighbours;
use crate::settings::Backend;

/// The largest gather that MLX's ring sends one way round: from 2 * 256 KiB it sends both ways on
/// both sockets, and each turn of a socket's thread then waits for the other direction first (see
/// `ring_sockets`). One way, a socket only sends or only receives and never waits in vain.
const MOST_ONE_WAY_BYTES: usize = 2 * 256 * 1024 - 1;

/// How much later than the others the last rank of a ring starts to form it. MLX lets the last rank
/// connect first, and one that finds nobody listening yet waits a whole second before it tries again
/// (`CONN_WAIT` in mlx/distributed/ring/ring.cpp).
const RING_HEAD_START: std::time::Duration = std::time::Duration::from_millis(30);

/// How much later than rank 0 the others begin to form a JACCL group. Rank 0 listens at its coordinator
/// address only inside `init`; a rank that finds nobody there waits a whole second before the second of
/// its four attempts (`jaccl::SideChannel` in mlx/distributed/jaccl). The control channel is formed
/// first, so both get here within milliseconds of each other, and 15 s of attempts are not needed.
const JACCL_HEAD_START: std::time::Duration = std::time::Duration::from_millis(30);

/// Whether this process has begun to form a JACCL group, however that ended.
static HAS_TRIED_JACCL: AtomicBool = AtomicBool::new(false);

/// A group of `size` ranks, of which this process is `rank`. All members must issue the same
/// collectives in the same order.
///
/// A group is never formed twice in one process: MLX caches it for the life of the process, and on
/// RDMA every attempt uses up driver resources until the next reboot: a group of two registers 64 of
/// about 100 memory regions that a device has, so that a second one beside it could only fail. A
/// second call of [`Group::init`] for JACCL is refused before MLX hears of it.
pub struct Group {
    handle: mlx_sys::mlx_distributed_group,
    backend: Backend,
    rank: u32,
    size: u32,
    /// Both back ends run collectives on a CPU stream, whatever device computes.
    stream: Stream,
}

impl Group {
    /// Joins the group that the environment describes (`MLX_RANK` and `MLX_HOSTFILE` for the ring,
    /// `MLX_IBV_DEVICES` and `MLX_JACCL_COORDINATOR` for JACCL; see MLX's
    /// `docs/src/usage/distributed.rst`). Blocks until all ranks are there, for ever if one never
    /// comes: the caller guards it with a deadline of its own.
    ///
    /// `strict` makes MLX fail instead of returning a group of one; the size is checked all the
    /// same, because a wrong one computes nonsense without a word.
    pub fn init(backend: Backend, strict: bool, rank: u32, size: u32) -> Result<Self, EngineError> {
        super::install_error_handler();
        if backend == Backend::Ring && rank + 1 == size && size > 1 {
            std::thread::sleep(RING_HEAD_START);
        }
        if backend == Backend::Jaccl {
            if HAS_TRIED_JACCL.swap(true, Ordering::SeqCst) {
                let why = "a process can form one JACCL group, and this one has tried already";
                return Err(EngineError::Software(why.to_owned()));
            }
            if rank > 0 {
                std::thread::sleep(JACCL_HEAD_START);
            }
        }
        #[cfg(target_os = "linux")]
        let sockets_before = super::ring_sockets::open_sockets();
        let group = Self::form(backend, strict, rank, size, |init| init())?;
        #[cfg(target_os = "linux")]
        if backend == Backend::Ring {
            let waiting = super::ring_sockets::make_waiting(&sockets_before);
            tracing::debug!(waiting, "the ring's sockets wait in the kernel");
        }
        Ok(group)
    }

    /// Joins a ring whose connections were made already (see [`crate::control::ring`]): nobody else can
    /// be in it, or keep it from forming. Does not wait for another rank.
    pub fn join_ring(neighbours: Neighbours, rank: u32, size: u32) -> Result<Self, EngineError> {
        super::install_error_handler();
        Self::form(Backend::Ring, true, rank, size, |init| {
            super::ring_join::join(neighbours, rank, size, init)
        })
    }

    fn form(
        backend: Backend,
        strict: bool,
        rank: u32,
        size: u32,
        join: impl FnOnce(&dyn Fn() -> Result<Formed, EngineError>) -> Result<Formed, EngineError>,
    ) -> Result<Self, EngineError> {
        let name = CString::new(backend.name())
            .map_err(|_| EngineError::Software("a back end's name holds NUL".to_owned()))?;
        let Formed(handle) = join(&|| init(&name, strict))?;
        let mut group = Self { handle, backend, rank: 0, size: 0, stream: Stream::cpu() };
        // SAFETY: the handle is a live group.
        let (formed_rank, formed_size) = unsafe {
            (
                mlx_sys::mlx_distributed_group_rank(group.handle),
                mlx_sys::mlx_distributed_group_size(group.handle),
            )
        };
        if (i64::from(formed_rank), i64::from(formed_size)) != (rank.into(), size.into()) {
            return Err(EngineError::Group(format!(
                "MLX formed rank {formed_rank} of {formed_size} where rank {rank} of {size} is \
                 configured"
            )));
        }
        group.rank = rank;
        group.size = size;
        Ok(group)
    }

    /// This process's place.
    pub fn rank(&self) -> u32 {
        self.rank
    }

    /// What carries its collectives.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// How many ranks there are.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// The elementwise sum over all ranks, bit for bit the same on each. Shape and dtype of `x`,
    /// which must agree between ranks.
    ///
    /// Between two ranks of a ring this is one exchange of the whole array and a local sum: the
    /// ring's own all-reduce exchanges twice (reduce-scatter, then gather), which costs a second
    /// rendezvous and saves no bytes when there are only two.
    pub fn all_sum(&self, x: &Array) -> Result<Array, EngineError> {
        if self.size == 2 && self.backend == Backend::Ring {
            return self.sum_of_two(x);
        }
        self.collective(x, mlx_sys::mlx_distributed_all_sum, "all_sum")
    }

    fn sum_of_two(&self, x: &Array) -> Result<Array, EngineError> {
        // Decoding one request is this, sixty times a token: no operation more than it needs.
        if x.ndim() > 0 && x.dim(0) == 1 && x.nbytes() <= MOST_ONE_WAY_BYTES {
            return Ok(self.all_gather(x)?.sum_axis(0, true)?);
        }
        let flat = x.reshape(&[1, -1])?;
        let width = x.nbytes() / x.size().max(1);
        let piece = (MOST_ONE_WAY_BYTES / width.max(1)) as i32;
        let mut sums = Vec::new();
        for start in (0..flat.dim(1)).step_by(piece as usize) {
            let stop = flat.dim(1).min(start.saturating_add(piece));
            let part = super::slice(&flat, &[0, start], &[1, stop])?;
            sums.push(self.all_gather(&part)?.sum_axis(0, false)?);
        }
        let sum = match sums.as_slice() {
            [whole] => whole.reshape(x.shape()),
            _ => mlx_rs::ops::concatenate(&sums, 0)?.reshape(x.shape()),
        };
        Ok(sum?)
    }

    /// Every rank's `x`, joined along axis 0 in order of rank. Not for a JACCL ring (two or more
    /// cables striped) before MLX 0.32.3: there it returns wrong data (ml-explore/mlx#4443).
    pub fn all_gather(&self, x: &Array) -> Result<Array, EngineError> {
        self.collective(x, mlx_sys::mlx_distributed_all_gather, "all_gather")
    }

    /// Sends `x` to a neighbour; evaluate what is returned for it to happen.
    pub fn send(&self, x: &Array, to: u32) -> Result<Array, EngineError> {
        // SAFETY: live handles; the result is given to `Array`, which frees it.
        unsafe {
            let mut result = mlx_sys::mlx_array_new();
            let status = mlx_sys::mlx_distributed_send(
                &mut result,
                x.as_ptr(),
                to as i32,
                self.handle,
                self.stream.as_ptr(),
            );
            self.finish(status, result, "send")
        }
    }

    /// Receives an array of this shape and dtype from a neighbour.
    pub fn recv(&self, shape: &[i32], dtype: Dtype, from: u32) -> Result<Array, EngineError> {
        // SAFETY: `shape` is a live slice of the length given; else as in `send`.
        unsafe {
            let mut result = mlx_sys::mlx_array_new();
            let status = mlx_sys::mlx_distributed_recv(
                &mut result,
                shape.as_ptr(),
                shape.len(),
                dtype.into(),
                from as i32,
                self.handle,
                self.stream.as_ptr(),
            );
            self.finish(status, result, "recv")
        }
    }

    fn collective(
        &self,
        x: &Array,
        call: unsafe extern "C" fn(
            *mut mlx_sys::mlx_array,
            mlx_sys::mlx_array,
            mlx_sys::mlx_distributed_group,
            mlx_sys::mlx_stream,
        ) -> i32,
        what: &'static str,
    ) -> Result<Array, EngineError> {
        // SAFETY: as in `send`.
        unsafe {
            let mut result = mlx_sys::mlx_array_new();
            let status = call(&mut result, x.as_ptr(), self.handle, self.stream.as_ptr());
            self.finish(status, result, what)
        }
    }

    /// # Safety
    /// `result` is an array handle that nobody else frees.
    unsafe fn finish(
        &self,
        status: i32,
        result: mlx_sys::mlx_array,
        what: &'static str,
    ) -> Result<Array, EngineError> {
        // SAFETY: by this function's contract.
        let result = unsafe { Array::from_ptr(result) };
        if status == 0 {
            Ok(result)
        } else {
            Err(EngineError::Mlx { what, message: last_message() })
        }
    }
}

/// A group that MLX formed.
struct Formed(mlx_sys::mlx_distributed_group);

/// Has MLX form the group that the environment describes.
fn init(name: &CStr, strict: bool) -> Result<Formed, EngineError> {
    // SAFETY: `name` outlives the call, which fills in the handle; the group that is made of it frees it.
    let (status, handle) = unsafe {
        let mut handle = mlx_sys::mlx_distributed_group_new();
        (mlx_sys::mlx_distributed_init(&mut handle, strict, name.as_ptr()), handle)
    };
    if status == 0 { Ok(Formed(handle)) } else { Err(EngineError::Group(last_message())) }
}

impl Drop for Group {
    fn drop(&mut self) {
        // SAFETY: the handle is freed once, here.
        unsafe { mlx_sys::mlx_distributed_group_free(self.handle) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// MLX for a CPU has no JACCL, so the first try fails by its word and the second by ours.
    #[cfg(not(target_os = "macos"))]
    #[test]
    fn a_process_tries_a_fabric_only_once() {
        let tried = || Group::init(Backend::Jaccl, true, 0, 2).map(drop);
        assert!(matches!(tried(), Err(EngineError::Group(_))));
        match tried() {
            Err(EngineError::Software(why)) => assert!(why.contains("one JACCL group"), "{why}"),
            other => panic!("{other:?}"),
        }
    }
}
