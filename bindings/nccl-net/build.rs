//! Gives the library its name, and keeps it in memory: NCCL closes a plug-in of which no communicator is left, and does not say so
//! before to those of ABI v8 to v10.

fn main() {
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libnccl-net-dure.so");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo::rerun-if-changed=build.rs");
}
