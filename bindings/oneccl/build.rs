//! Gives the library its SONAME, for whoever looks at what a process has loaded: oneCCL loads it by its path.

fn main() {
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libdure_oneccl.so");
    println!("cargo::rerun-if-changed=build.rs");
}
