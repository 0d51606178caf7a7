//! Slices, and arrays from bytes: calls that `mlx-rs` has only behind dynamic indexing.

#![allow(unsafe_code)]

use mlx_rs::{Array, Dtype, Stream};

use super::failure::last_message;
use crate::EngineError;

fn check(status: i32, what: &'static str) -> Result<(), EngineError> {
    if status == 0 { Ok(()) } else { Err(EngineError::Mlx { what, message: last_message() }) }
}

/// `array[start..stop]` on every axis, with stride 1. A view: nothing is copied.
pub fn slice(array: &Array, start: &[i32], stop: &[i32]) -> Result<Array, EngineError> {
    let strides = [1; 8];
    let axes = axes_of(array, start, stop)?;
    let stream = Stream::thread_local_or_default();
    // SAFETY: all pointers are to live slices of `axes` elements (checked above); the result is
    // given to `Array`, which frees it.
    unsafe {
        let mut result = mlx_sys::mlx_array_new();
        let status = mlx_sys::mlx_slice(
            &mut result,
            array.as_ptr(),
            start.as_ptr(),
            axes,
            stop.as_ptr(),
            axes,
            strides.as_ptr(),
            axes,
            stream.as_ptr(),
        );
        let result = Array::from_ptr(result);
        check(status, "slice").map(|()| result)
    }
}

/// `array` with `update` in place of `array[start..stop]`. MLX writes in place if nobody else holds
/// `array` when it is evaluated, so drop the old handle at once.
pub fn slice_update(
    array: &Array,
    update: &Array,
    start: &[i32],
    stop: &[i32],
) -> Result<Array, EngineError> {
    let strides = [1; 8];
    let axes = axes_of(array, start, stop)?;
    let stream = Stream::thread_local_or_default();
    // SAFETY: as in `slice`.
    unsafe {
        let mut result = mlx_sys::mlx_array_new();
        let status = mlx_sys::mlx_slice_update(
            &mut result,
            array.as_ptr(),
            update.as_ptr(),
            start.as_ptr(),
            axes,
            stop.as_ptr(),
            axes,
            strides.as_ptr(),
            axes,
            stream.as_ptr(),
        );
        let result = Array::from_ptr(result);
        check(status, "slice_update").map(|()| result)
    }
}

fn axes_of(array: &Array, start: &[i32], stop: &[i32]) -> Result<usize, EngineError> {
    let axes = array.ndim();
    if axes > 8 || start.len() != axes || stop.len() != axes {
        return Err(EngineError::Software(format!(
            "slice {start:?}..{stop:?} of an array of shape {:?}",
            array.shape()
        )));
    }
    Ok(axes)
}

/// Copies bytes into a new array. `bytes` holds exactly the elements of `shape` in row-major order
/// and native byte order.
pub fn upload(bytes: &[u8], shape: &[i32], dtype: Dtype) -> Result<Array, EngineError> {
    let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(usize::try_from(d).ok()?));
    let width = match dtype {
        Dtype::Float32 | Dtype::Uint32 | Dtype::Int32 => 4,
        Dtype::Float16 | Dtype::Bfloat16 => 2,
        _ => return Err(EngineError::Software(format!("upload of {dtype:?}"))),
    };
    if count.and_then(|n| n.checked_mul(width)) != Some(bytes.len()) {
        return Err(EngineError::Software(format!(
            "{} bytes for an array of shape {shape:?} of {dtype:?}",
            bytes.len()
        )));
    }
    // SAFETY: the buffer holds as many elements as the shape says (checked above), and MLX copies
    // them before it returns; it copies bytes, so alignment does not matter.
    Ok(unsafe { Array::from_raw_data(bytes.as_ptr().cast(), shape, dtype) })
}

/// Gives a vector's memory to MLX without copying it.
pub fn adopt(values: Vec<f32>, shape: &[i32]) -> Result<Array, EngineError> {
    let count: i64 = shape.iter().map(|&d| i64::from(d)).product();
    if count != values.len() as i64 || shape.iter().any(|&d| d < 0) {
        return Err(EngineError::Software(format!(
            "{} values for an array of shape {shape:?}",
            values.len()
        )));
    }
    extern "C" fn release(owner: *mut std::ffi::c_void) {
        // SAFETY: `owner` is the box made below; MLX calls this once, when the last array that
        // uses the memory is gone.
        drop(unsafe { Box::from_raw(owner.cast::<Vec<f32>>()) });
    }
    let mut owner = Box::new(values);
    let data = owner.as_mut_ptr().cast();
    // SAFETY: the memory holds as many values as the shape says (checked above) and lives until
    // MLX calls `release`; nobody else has it.
    unsafe {
        let array = mlx_sys::mlx_array_new_data_managed_payload(
            data,
            shape.as_ptr(),
            shape.len() as i32,
            Dtype::Float32.into(),
            Box::into_raw(owner).cast(),
            Some(release),
        );
        if array.ctx.is_null() {
            return Err(EngineError::Mlx { what: "adopt", message: last_message() });
        }
        Ok(Array::from_ptr(array))
    }
}

/// Whether an array is computed, without waiting for it.
#[cfg(test)]
pub fn is_computed(array: &Array) -> bool {
    let mut is_computed = false;
    // SAFETY: a live handle, and a place for the answer.
    let status = unsafe { mlx_sys::_mlx_array_is_available(&mut is_computed, array.as_ptr()) };
    status == 0 && is_computed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_read_and_replaced() {
        let a = Array::from_slice(&[0i32, 1, 2, 3, 4, 5], &[2, 3]);
        let column = slice(&a, &[0, 1], &[2, 2]).unwrap();
        let column = column.contiguous().unwrap();
        assert_eq!(column.to_vec_cast::<i32>().unwrap(), [1, 4]);
        let b =
            slice_update(&a, &Array::from_slice(&[9i32, 9], &[2, 1]), &[0, 1], &[2, 2]).unwrap();
        assert_eq!(b.to_vec_cast::<i32>().unwrap(), [0, 9, 2, 3, 9, 5]);
        assert!(slice(&a, &[0], &[1]).is_err());
    }

    #[test]
    fn bytes_that_do_not_fill_the_shape_are_refused() {
        assert!(upload(&[0; 8], &[2], Dtype::Float32).is_ok());
        assert!(upload(&[0; 7], &[2], Dtype::Float32).is_err());
        assert!(upload(&[0; 8], &[-2], Dtype::Float32).is_err());
    }
}
