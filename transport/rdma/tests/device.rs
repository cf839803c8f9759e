//! The RDMA transport keeps the contract over a real device and its kernel. Ignored where there is none: the guest of
//! tests/guest has Soft-RoCE.
//!
//! ```sh
//! cargo test -p dure-rdma --no-run     # then, where there is a device:
//! target/debug/deps/device-... --ignored --test-threads 1
//! ```

#![expect(clippy::unwrap_used, reason = "a test that panics fails, as it should")]

use std::fs::File;
use std::net::SocketAddr;

use dure_device::Memory;
use dure_rdma::{Options, open};
use dure_tcp::{Driver, Port, PortOptions};
use dure_transport::conformance::{PROPERTIES, Pair};
use dure_transport::proof::Key;
use dure_transport::{Card, Event, Flow, Peer, Put, Span, Token, Transport};
use nix::sys::mman::{MapFlags, ProtFlags, mmap};

fn side(me: u32) -> Box<dyn Transport> {
    let port = Port::bind(PortOptions::default()).unwrap();
    let addresses = vec![SocketAddr::new("127.0.0.1".parse().unwrap(), port.number())];
    let key = Key::new([5; 32]);
    let (id, flows, driver) = ([3; 16], 1, Driver::Poll);
    dure_tcp::open(dure_tcp::Options { me: Peer(me), id, key, port, addresses, flows, driver })
        .unwrap()
}

fn end(me: u32, flows: u16) -> Box<dyn Transport> {
    open(Options { flows, ..Options::new(Peer(me), side(me)) }).unwrap()
}

#[expect(clippy::print_stdout, reason = "names the property that fails")]
fn all_properties_hold(flows: u16, which: impl Fn(&str) -> bool) {
    for (name, property) in PROPERTIES.iter().filter(|(name, _)| which(name)) {
        let begin = std::time::Instant::now();
        property(&mut || Pair { ends: [end(0, flows), end(1, flows)], tick: Box::new(|| ()) });
        println!("{name} with {flows} flows: {:.1} s", begin.elapsed().as_secs_f64());
    }
}

#[test]
#[ignore = "needs an RDMA device"]
fn all_properties_hold_with_one_flow() {
    all_properties_hold(1, |name| !name.starts_with("counts_beyond"));
}

#[test]
#[ignore = "needs an RDMA device"]
fn all_properties_hold_with_two_flows() {
    all_properties_hold(2, |_| true);
}

/// Puts land in memory of a CXL device, as guests of tests/guest have one; GUEST_DAX names it.
#[test]
#[ignore = "needs an RDMA device and a /dev/dax device"]
#[expect(clippy::disallowed_methods, reason = "a test has no settings of its own")]
fn memory_of_a_pool_is_written_over_rdma() {
    const LEN: usize = 2 << 20;
    let path = std::env::var_os("GUEST_DAX").expect("GUEST_DAX names a /dev/dax device");
    let file = File::options().read(true).write(true).open(path).unwrap();
    let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    let len = LEN.try_into().unwrap();
    // SAFETY: the kernel chooses an address range that is free.
    let at = unsafe { mmap(None, len, access, MapFlags::MAP_SHARED, &file, 0) }.unwrap();
    // SAFETY: mapped just now, and nobody else's.
    unsafe { at.cast::<u8>().write_bytes(0, LEN) };
    let mut ends = [end(0, 1), end(1, 1)];
    let source: Vec<u8> = (0..LEN).map(|i| u8::try_from(i * 31 % 251).unwrap()).collect();
    let from = Memory::host(source.as_ptr().cast_mut(), LEN);
    // SAFETY: the vector and the mapping outlive the transports, and nothing borrows them while puts are under way.
    let from = unsafe { ends[0].register(from) }.unwrap();
    // SAFETY: as above.
    let into = unsafe { ends[1].register(Memory::host(at.cast().as_ptr(), LEN)) }.unwrap();
    let signal = ends[1].counter(Peer(0)).unwrap();
    let addresses = [ends[0].address(), ends[1].address()];
    ends[0].connect(Peer(1), &addresses[1], &Card::default()).unwrap();
    ends[1].connect(Peer(0), &addresses[0], &Card::default()).unwrap();
    let mut events = Vec::new();
    while events.len() < 2 {
        ends.iter_mut().for_each(|end| end.poll(&mut events));
    }
    assert!(events.iter().all(|event| matches!(event, Event::Up { .. })), "{events:?}");
    let key = ends[1].key(into, Peer(0)).unwrap();
    let remote = ends[0].import(Peer(1), &key).unwrap();
    let put = Put {
        to: Peer(1),
        flow: Flow(0),
        head: &[],
        body: &[Span { region: from, offset: 0, len: LEN as u64 }],
        into: Some(remote),
        at: 0,
        signal: Some(signal),
        token: Token(0),
    };
    while ends[0].put(&put).is_err() {
        ends.iter_mut().for_each(|end| end.poll(&mut events));
    }
    while ends[1].arrived(signal) == 0 {
        ends.iter_mut().for_each(|end| end.poll(&mut events));
    }
    // SAFETY: the put has arrived, and none follows.
    let arrived = unsafe { std::slice::from_raw_parts(at.cast::<u8>().as_ptr(), LEN) };
    assert!(arrived == source, "the bytes in the device's memory are those that were put");
}

#[test]
fn where_there_is_no_device_it_says_why() {
    let options = Options { allows: &|_| false, ..Options::new(Peer(0), side(0)) };
    let error = open(options).map(|_| ()).unwrap_err();
    assert!(error.to_string().starts_with("no RDMA: "), "{error}");
}
