//! What the device says about itself.

#![allow(unsafe_code)]

use super::on_metal;

/// Key of MLX's device information on Metal.
const WORKING_SET: &std::ffi::CStr = c"max_recommended_working_set_size";

/// Bytes that the GPU recommends to use at most (`recommendedMaxWorkingSetSize` of a Metal device);
/// `None` where there is no such bound or it can't be had. To be called on the thread that owns MLX.
pub fn working_set_bytes() -> Option<u64> {
    if !on_metal() {
        return None;
    }
    let mut bytes = 0_usize;
    // SAFETY: device and info are made here and freed once; MLX fills the info for a live device; the
    // key is a static string with its zero, and `bytes` outlives the call.
    let status = unsafe {
        let device = mlx_sys::mlx_device_new_type(mlx_sys::mlx_device_type__MLX_GPU, 0);
        let mut info = mlx_sys::mlx_device_info_new();
        let mut status = mlx_sys::mlx_device_info_get(&mut info, device);
        if status == 0 {
            status = mlx_sys::mlx_device_info_get_size(&mut bytes, info, WORKING_SET.as_ptr());
        }
        mlx_sys::mlx_device_info_free(info);
        mlx_sys::mlx_device_free(device);
        status
    };
    (status == 0 && bytes > 0).then_some(bytes as u64)
}
