//! The proof of the key: whoever does not know it proves nothing, whatever it sends.
#![no_main]

use dure_transport::proof::{Claim, Dialler, HELLO_LEN, Key, Listener, MAC_LEN, REPLY_LEN};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: ([u8; HELLO_LEN], [u8; MAC_LEN], [u8; REPLY_LEN])| {
    let (hello, mac, reply) = bytes;
    let key = Key::new([7; 32]);
    if let Ok(listener) = Listener::new(&key, 1, &hello) {
        assert!(listener.verify(&mac).is_err());
    }
    let claim = Claim { rank: 0, flow: 0 };
    let dialler = Dialler::new(&key, claim, 1).expect("the system has randomness");
    assert!(dialler.verify(&reply).is_err());
});
