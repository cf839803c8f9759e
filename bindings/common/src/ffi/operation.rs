//! Reductions that the user makes.

use std::ffi::c_int;

use dure::{Error, ReduceOp, Space};

use super::pointer::{CommPtr, Function, Out, ScalarAt, User};
use crate::Interface;
use crate::boundary::boundary_on;
use crate::number::dtype;
use crate::operation::{Factor, Made};

/// `...ScalarResidence_t`.
pub const SCALAR_DEVICE: c_int = 0;
pub const SCALAR_HOST_IMMEDIATE: c_int = 1;

pub fn red_op_create_pre_mul_sum<I: Interface>(
    op: Out<c_int>,
    scalar: ScalarAt,
    datatype: c_int,
    residence: c_int,
    comm: CommPtr,
) -> c_int {
    boundary_on(
        || comm.get(),
        |comm| {
            let place = op.place("op")?;
            let dtype = dtype(datatype)?;
            let address = scalar.address("scalar")?;
            if comm.open()?.locate(address, dtype.size()).space != Space::Host {
                return Err(Error::invalid_usage(
                    "scalar is in a device's memory: give one in host memory",
                ));
            }
            let factor = match residence {
                SCALAR_DEVICE => Factor::EachCall(scalar),
                SCALAR_HOST_IMMEDIATE => Factor::Now(scalar.read(dtype)),
                _ => {
                    let text = format!(
                        "residence {residence} (allowed: 0, {}; 1, {})",
                        I::function("ScalarDevice"),
                        I::function("ScalarHostImmediate")
                    );
                    return Err(Error::invalid_argument(text));
                }
            };
            place.set(comm.operations().add(Made::PreMulSum(dtype, factor))?);
            Ok(())
        },
    )
}

pub fn red_op_create_custom(
    op: Out<c_int>,
    function: Option<Function>,
    user: User,
    comm: CommPtr,
) -> c_int {
    boundary_on(
        || comm.get(),
        |comm| {
            let place = op.place("op")?;
            let function = function.ok_or_else(|| Error::invalid_argument("function is NULL"))?;
            comm.open()?;
            let mut operations = comm.operations();
            let id = operations.next_custom()?;
            let combine = move |input: &[u8], inout: &mut [u8], dtype| {
                user.combine(function, input, inout, dtype)
            };
            place.set(operations.add(Made::Custom(ReduceOp::custom(id, combine)))?);
            Ok(())
        },
    )
}

pub fn red_op_destroy(op: c_int, comm: CommPtr) -> c_int {
    boundary_on(|| comm.get(), |comm| comm.operations().remove(op))
}
