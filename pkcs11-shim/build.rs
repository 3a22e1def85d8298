//! Links the module so that it stays: a host that unloads it while a thread of it is inside, or while a thread's destructor is to
//! run, would otherwise jump into nothing.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
