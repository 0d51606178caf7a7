//! The I/O Registry: the GPU's counters. Needs no privilege. Each call asks drivers, so one whose driver
//! hangs may not return.
//!
//! Source: `<IOKit/IOKitLib.h>`; the class is the one that `ioreg` shows.

#![allow(unsafe_code)]

use std::{ffi::CStr, io};

use objc2_core_foundation::{CFDictionary, CFNumber, CFRetained, CFString, CFType};
use objc2_io_kit::{
    IOIteratorNext, IOObjectRelease, IORegistryEntryCreateCFProperty,
    IORegistryEntryGetRegistryEntryID, IOServiceGetMatchingServices, IOServiceMatching,
    io_object_t,
};

use crate::mac::accelerator::{self, Accelerator};

/// The class of every GPU's driver.
const ACCELERATOR: &CStr = c"IOAccelerator";

/// Most objects of one class that are looked at. A Mac has one or two GPUs.
const OBJECTS_MAX: usize = 64;

/// The port that stands for the default one (`kIOMainPortDefault`).
const MAIN_PORT: libc::mach_port_t = 0;

/// Every GPU with its counters; none is an empty list.
///
/// # Errors
/// The system's, or that a GPU does not tell its memory in use.
pub(crate) fn accelerators() -> io::Result<Vec<Accelerator>> {
    objects(ACCELERATOR)?.iter().map(accelerator).collect()
}

/// Whether the system has a GPU's driver. Whether it can be used is for Metal to say.
///
/// # Errors
/// The system's.
pub(crate) fn gpu_is_there() -> io::Result<bool> {
    Ok(!objects(ACCELERATOR)?.is_empty())
}

/// An object of the registry, given back when dropped.
struct Object(io_object_t);

impl Object {
    /// Takes over a handle; `None` for the one that says that there is no object.
    fn new(handle: io_object_t) -> Option<Self> {
        (handle != 0).then_some(Self(handle))
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        IOObjectRelease(self.0);
    }
}

/// Every object of a class, or of one derived from it.
fn objects(class: &CStr) -> io::Result<Vec<Object>> {
    // SAFETY: the name ends with a zero.
    let matching = unsafe { IOServiceMatching(class.as_ptr()) }
        .ok_or_else(|| refused("IOServiceMatching", 0))?;
    let mut iterator = 0;
    // SAFETY: the dictionary is one that IOKit made, and its reference is handed over; `iterator` is a
    // live place for the handle.
    let code = unsafe {
        let matching = Some(CFRetained::<CFDictionary>::from(&matching));
        IOServiceGetMatchingServices(MAIN_PORT, matching, &raw mut iterator)
    };
    if code != libc::KERN_SUCCESS {
        return Err(refused("IOServiceGetMatchingServices", code));
    }
    // No iterator is no object.
    let Some(iterator) = Object::new(iterator) else { return Ok(Vec::new()) };
    let next = || Object::new(IOIteratorNext(iterator.0));
    Ok(std::iter::from_fn(next).take(OBJECTS_MAX).collect())
}

fn accelerator(object: &Object) -> io::Result<Accelerator> {
    let mut registry_id = 0;
    // SAFETY: the object is held, and `registry_id` is a live place for its number.
    let code = unsafe { IORegistryEntryGetRegistryEntryID(object.0, &raw mut registry_id) };
    if code != libc::KERN_SUCCESS {
        return Err(refused("IORegistryEntryGetRegistryEntryID", code));
    }
    let unknown = || {
        let text =
            "a GPU does not tell its memory in use: look at `ioreg -r -c IOAccelerator -d 1`";
        io::Error::other(text)
    };
    let name = CFString::from_static_str(accelerator::PROPERTY);
    // SAFETY: the object is held; no allocator stands for the default one, and no option is set.
    let property = unsafe { IORegistryEntryCreateCFProperty(object.0, Some(&name), None, 0) }
        .ok_or_else(unknown)?;
    let counters = property.downcast::<CFDictionary>().map_err(|_| unknown())?;
    // SAFETY: the keys of a dictionary of the registry are strings, for `OSDictionary` has no others,
    // and its values are Core Foundation's own types.
    let counters = unsafe { counters.cast_unchecked::<CFString, CFType>() };
    let counter = |name| {
        let value = counters.get(&CFString::from_static_str(name))?;
        u64::try_from(value.downcast_ref::<CFNumber>()?.as_i64()?).ok()
    };
    accelerator::from_counters(registry_id, counter).ok_or_else(unknown)
}

fn refused(call: &str, code: libc::kern_return_t) -> io::Error {
    io::Error::other(format!("{call} failed with {code:#x}"))
}
