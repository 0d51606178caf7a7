//! The I/O Registry: the GPU's counters, and which interface is a Thunderbolt port. Needs no
//! privilege. Each call asks drivers, so one whose driver hangs may not return.
//!
//! Source: `<IOKit/IOKitLib.h>`; the classes are those that `ioreg` shows, and that configd's
//! `SCNetworkInterface.c` looks for.

#![allow(unsafe_code)]

use std::{ffi::CStr, io};

use objc2_core_foundation::{CFDictionary, CFNumber, CFRetained, CFString, CFType};
use objc2_io_kit::{
    IOBSDNameMatching, IOIteratorNext, IOObjectConformsTo, IOObjectRelease,
    IORegistryEntryCreateCFProperty, IORegistryEntryGetParentEntry,
    IORegistryEntryGetRegistryEntryID, IOServiceGetMatchingService, IOServiceGetMatchingServices,
    IOServiceMatching, io_object_t, io_registry_entry_t, kIOServicePlane,
};

use super::interface;
use crate::mac::{
    accelerator::{self, Accelerator},
    layout,
};

/// The class of every GPU's driver.
const ACCELERATOR: &CStr = c"IOAccelerator";

/// The class that a Thunderbolt port's interface hangs below.
const THUNDERBOLT_PORT: &CStr = c"AppleThunderboltIPPort";

/// Most objects of one class that are looked at. A Mac has one or two GPUs.
const OBJECTS_MAX: usize = 64;

/// Most parents that are climbed. The registry is some twenty deep.
const PARENTS_MAX: usize = 64;

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

/// Whether an interface is a Thunderbolt port's. `ENXIO` if it is not there.
///
/// # Errors
/// The system's, or a registry that is deeper than any that was seen.
pub(crate) fn is_thunderbolt_port(link: &str) -> io::Result<bool> {
    let name = layout::interface_name(link).ok_or_else(interface::absent)?;
    // SAFETY: the name ends with a zero.
    let matching = unsafe { IOBSDNameMatching(MAIN_PORT, 0, name.as_ptr().cast()) }
        .ok_or_else(|| refused("IOBSDNameMatching", 0))?;
    // SAFETY: the dictionary is one that IOKit made; its reference is handed over.
    let found =
        unsafe { IOServiceGetMatchingService(MAIN_PORT, Some(CFRetained::from(&matching))) };
    let mut object = Object::new(found).ok_or_else(interface::absent)?;
    for _ in 0..PARENTS_MAX {
        // SAFETY: the object is held, and the name of the class ends with a zero.
        if unsafe { IOObjectConformsTo(object.0, THUNDERBOLT_PORT.as_ptr().cast_mut().cast()) } {
            return Ok(true);
        }
        let mut parent: io_registry_entry_t = 0;
        // SAFETY: the object is held, the plane's name ends with a zero, and `parent` is a live
        // place for the handle.
        let code = unsafe {
            let plane = kIOServicePlane.as_ptr().cast_mut().cast();
            IORegistryEntryGetParentEntry(object.0, plane, &raw mut parent)
        };
        // At the root there is none.
        let Some(parent) = Object::new(parent).filter(|_| code == libc::KERN_SUCCESS) else {
            return Ok(false);
        };
        object = parent;
    }
    Err(io::Error::other(format!("{link} has more than {PARENTS_MAX} parents in the registry")))
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
