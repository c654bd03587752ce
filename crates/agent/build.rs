//! Tells builds of the agent apart: `springtide agent` becomes `springtide-agent` only where both are built of the same sources.

use std::path::{Path, PathBuf};

/// FNV-1a, 64 bits.
const FNV: (u64, u64) = (0xcbf2_9ce4_8422_2325, 0x0000_0100_0000_01b3);

fn files(folder: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files(&path, found)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
}

fn main() -> std::io::Result<()> {
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let mut all = Vec::new();
    for folder in ["src", "../shim/src", "../../proto"] {
        println!("cargo:rerun-if-changed={folder}");
        files(&root.join(folder), &mut all)?;
    }
    all.sort();
    let mut hash = FNV.0;
    for path in all {
        for byte in std::fs::read(path)? {
            hash = (hash ^ u64::from(byte)).wrapping_mul(FNV.1);
        }
    }
    println!("cargo:rustc-env=SPRINGTIDE_AGENT_BUILD={hash:016x}");
    Ok(())
}
