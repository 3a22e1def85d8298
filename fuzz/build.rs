//! The PKCS#11 module and the faulty module of the tests export functions of the same names, as every module does. Both are linked here,
//! and nothing calls either by those names.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg=-Wl,--allow-multiple-definition");
}
