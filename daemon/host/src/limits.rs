//! How many files this process and the children that it will start may open.

use nix::{
    errno::Errno,
    sys::resource::{Resource, getrlimit, setrlimit},
};
use tandem_policy::invariant::{Found, Unknown};

use crate::MendError;

/// The soft limit, which is the one in force.
pub(crate) fn open_files() -> Result<(Found, String), Unknown> {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE)
        .map_err(|error| Unknown::Failed(format!("getrlimit NOFILE: {error}")))?;
    Ok((Found::Count(soft), "getrlimit NOFILE".into()))
}

/// Raises the soft limit to this many, or to the hard limit if that is lower, which is an error.
pub(crate) fn raise_open_files(count: u64) -> Result<(), MendError> {
    let failed = |errno: Errno| MendError::system("the limit of open files", errno.into());
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(failed)?;
    let wanted = count.min(hard);
    if wanted > soft {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).map_err(failed)?;
    }
    if count > hard { Err(MendError::OpenFiles { count, hard }) } else { Ok(()) }
}
