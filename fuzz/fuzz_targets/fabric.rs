//! The address of a fabric, and the key of a region of one of its transports.
#![no_main]

use dure_transport::simulated::{Options, World};
use dure_transport::{Card, Event, Fabric, Peer, Transport};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|cards: (&[u8], &[u8])| {
    let (address, key) = (Card(cards.0.into()), Card(cards.1.into()));
    let (mut fabrics, _) = pair();
    // A card that leads nowhere is refused; one that leads somewhere connects to rank 1 at most.
    let _ = fabrics[0].connect(Peer(1), &address, &Card::default());

    let (mut fabrics, world) = pair();
    let addresses = [fabrics[0].address(), fabrics[1].address()];
    for (me, peer) in [(0, 1), (1, 0)] {
        let to = Peer(u32::try_from(peer).expect("two ranks"));
        fabrics[me].connect(to, &addresses[peer], &Card::default()).expect("its own address");
    }
    let mut events = Vec::new();
    while events.is_empty() && world.step() {
        fabrics[0].poll(&mut events);
    }
    assert!(matches!(events[..], [Event::Up { .. }]));
    if let Ok(region) = fabrics[0].import(Peer(1), &key) {
        fabrics[0].forget(region);
    }
});

/// Two ranks that are connected by nothing yet, and their clock.
fn pair() -> (Vec<Fabric>, World) {
    let (world, nets) = World::new(2, &Options::default());
    let fabric = |net| Fabric::new(vec![net], &[0, 0]).expect("nothing to sleep on");
    (nets.into_iter().map(fabric).collect(), world)
}
