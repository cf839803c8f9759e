//! A path between two devices that does not deliver what was written is not used.

use std::ffi::c_int;
use std::sync::Arc;
use std::thread;

use dure::{Collective, Communicator, Config, Device, Dtype, ReduceOp, UniqueId};
use dure_device::plugin::Plugin;
use dure_device_abi as abi;
use dure_harness::Call;
use dure_harness::plugins::npu_a;

use crate::conformance::{planted, table};

/// All-reduces of two ranks, each on a device of its own; the bytes that each copied from and to the host in the last.
fn all_reduce(plugins: [Arc<Plugin>; 2]) -> Vec<u64> {
    let config = Config::default();
    let id = UniqueId::new(&config).unwrap();
    let rank = |(rank, plugin): (u32, Arc<Plugin>)| {
        let config = config.clone();
        thread::spawn(move || {
            let name = (format!("device of rank {rank}"), u16::try_from(rank).unwrap());
            let device: Arc<dyn Device> = plugin.open(rank, name, &[]).unwrap();
            let builder = Communicator::builder().rank(rank, 2).meet_at(id).config(config);
            let on = builder.device(Arc::clone(&device)).connect().unwrap();
            let (what, dtype, op) = (Collective::AllReduce, Dtype::Int32, ReduceOp::Sum);
            let call = Call { what, count: 50_000, dtype, op, in_place: true };
            call.check(&on, &device).unwrap();
            let crossed = call.check_crossing(&on, &device).unwrap();
            on.finalize().unwrap();
            crossed.unwrap()
        })
    };
    let ranks: Vec<_> = (0..).zip(plugins).map(rank).collect();
    ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
}

#[test]
fn a_path_that_corrupts_is_not_used() {
    unsafe extern "C" fn import(
        device: *mut abi::Device,
        handle: *const abi::Handle,
        address: *mut *mut std::ffi::c_void,
    ) -> c_int {
        let import = table(npu_a()).import_handle.unwrap();
        // SAFETY: the caller's promise.
        let status = unsafe { import(device, handle, address) };
        if status == abi::OK {
            // What it shows begins one byte later.
            // SAFETY: as above.
            let address = unsafe { &mut *address };
            *address = (*address).wrapping_byte_add(1);
        }
        status
    }
    let good = Plugin::load(npu_a()).unwrap();
    assert_eq!(all_reduce([Arc::clone(&good), Arc::clone(&good)]), [0, 0]);
    let bad = planted(npu_a(), |table| table.import_handle = Some(import)).unwrap();
    let crossed = all_reduce([good, bad]);
    // What rank 0 has comes through the host; what rank 1 has is read by rank 0's device.
    assert!(crossed.iter().all(|bytes| *bytes > 0), "{crossed:?}");
}
