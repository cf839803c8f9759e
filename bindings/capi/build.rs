//! Gives the library its SONAME. While the version begins with 0, minor versions may break the interface, so they are
//! part of the name, as with libraries of Debian: `libdure.so.0.1`. From 1.0 on it is `libdure.so.1`.

#![allow(
    clippy::disallowed_methods,
    reason = "the environment is how cargo tells a build script its version"
)]

fn main() {
    let number = |name: &str| std::env::var(name).expect("cargo sets the package's version");
    let (major, minor) = (number("CARGO_PKG_VERSION_MAJOR"), number("CARGO_PKG_VERSION_MINOR"));
    let suffix = if major == "0" { format!("{major}.{minor}") } else { major };
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libdure.so.{suffix}");
    println!("cargo::rerun-if-changed=build.rs");
}
