//! Gathers manifests from files and folders, packs their packages' sources, and fills in the digests.
//!
//! The server gets the text with `source: x` replaced by `digest: sha256:…` on the same line, so that its faults name the same lines.

use super::failure::{Failure, on_wire};
use super::pack;
use api::http::{ApplyRequest, ManifestFile};
use model::manifest::{self, Declared};
use model::{Digest, Fault, Package, Resource};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Most files in one apply.
const FILES_MAX: usize = 10_000;
/// Deepest folder walked.
const DEPTH_MAX: usize = 32;

/// Where manifests are.
#[derive(clap::Args, Debug, Clone)]
pub struct Files {
    /// File or folder of manifests (*.yaml and *.yml, folders within it too); `-` reads stdin. May stand several times
    #[arg(short = 'f', long = "file", required = true, value_name = "PATH")]
    pub files: Vec<PathBuf>,
}

/// A package that was packed.
#[derive(Debug)]
pub struct Packed {
    /// `lottery 1.4`, for people; several where packages share their bytes.
    pub titles: Vec<String>,
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub bytes: Arc<[u8]>,
}

/// Manifests ready for the server, and the packages they need there.
#[derive(Debug)]
pub struct Gathered {
    /// The manifests.
    pub request: ApplyRequest,
    /// Packages packed here, one for each digest.
    pub packages: Vec<Packed>,
}

impl Files {
    /// Reads, checks and packs everything.
    pub fn gather(&self, prune: bool) -> Result<Gathered, Failure> {
        let texts = self.read()?;
        let faulty = |faults: Vec<Fault>| Failure::Faults(faults.into_iter().map(on_wire).collect());
        let declared = manifest::parse(&texts).map_err(faulty)?;
        let mut texts: BTreeMap<String, String> = texts.into_iter().collect();
        let mut sources = Sources::default();
        let mut packages: BTreeMap<Digest, Packed> = BTreeMap::new();
        let mut faults = Vec::new();
        for one in &declared {
            let Resource::Package(package) = &one.resource else { continue };
            let Some(source) = &package.source else { continue };
            let text = texts.get_mut(&one.file).expect("it was declared in one of the files");
            match fill(&mut sources, one, package, source, text) {
                Ok(packed) => match packages.entry(packed.digest.clone()) {
                    Entry::Vacant(entry) => drop(entry.insert(packed)),
                    Entry::Occupied(mut entry) => entry.get_mut().titles.extend(packed.titles),
                },
                Err(fault) => faults.push(fault),
            }
        }
        if !faults.is_empty() {
            return Err(faulty(faults));
        }
        let files = texts.into_iter().map(|(path, text)| ManifestFile { path, text }).collect();
        let uploads = packages.keys().map(ToString::to_string).collect();
        let request = ApplyRequest { files, prune, uploads };
        Ok(Gathered { request, packages: packages.into_values().collect() })
    }

    /// The files as they are, with their paths.
    pub fn texts(&self) -> Result<Vec<(String, String)>, Failure> {
        self.read()
    }

    fn read(&self) -> Result<Vec<(String, String)>, Failure> {
        let mut paths = Vec::new();
        for path in &self.files {
            if path.as_os_str() == "-" || path.is_file() {
                paths.push(path.clone());
                continue;
            }
            let before = paths.len();
            walk(path, 0, &mut paths)?;
            if paths.len() == before {
                return Err(Failure::Usage(format!("{} has no *.yaml or *.yml file", path.display())));
            }
        }
        paths.sort();
        paths.dedup();
        paths.into_iter().map(|path| Ok((path.display().to_string(), read(&path)?))).collect()
    }
}

fn walk(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let fault = |error: std::io::Error| Failure::Usage(format!("cannot read {}: {error}", folder.display()));
    if depth > DEPTH_MAX {
        return Err(Failure::Usage(format!("{} lies deeper than {DEPTH_MAX} folders", folder.display())));
    }
    for entry in std::fs::read_dir(folder).map_err(fault)? {
        let entry = entry.map_err(fault)?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(fault)?);
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let yaml = path.extension().is_some_and(|end| end == "yaml" || end == "yml");
        if kind.is_dir() {
            walk(&path, depth + 1, found)?;
        } else if yaml && path.is_file() {
            found.push(path);
        }
        if found.len() > FILES_MAX {
            return Err(Failure::Usage(format!("more than {FILES_MAX} manifest files; apply fewer at a time")));
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, Failure> {
    let limit = manifest::FILE_BYTES_MAX as u64 + 1;
    let mut text = String::new();
    let done = if path.as_os_str() == "-" {
        std::io::stdin().take(limit).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(limit).read_to_string(&mut text))
    };
    match done {
        Ok(_) => Ok(text),
        Err(error) => Err(Failure::Usage(format!("cannot read {}: {error}", path.display()))),
    }
}

/// Sources packed so far: many packages may share one, such as a program with several roles.
#[derive(Default)]
struct Sources(BTreeMap<PathBuf, (Digest, Arc<[u8]>)>);

impl Sources {
    fn pack(&mut self, path: &Path) -> Result<(Digest, Arc<[u8]>), String> {
        let at = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if let Some(packed) = self.0.get(&at) {
            return Ok(packed.clone());
        }
        let bytes: Arc<[u8]> = pack::pack(path)?.into();
        let packed = (Digest::of(&bytes), bytes);
        self.0.insert(at, packed.clone());
        Ok(packed)
    }
}

/// Packs a source and writes the digest in its place.
fn fill(
    sources: &mut Sources,
    one: &Declared,
    package: &Package,
    source: &str,
    text: &mut String,
) -> Result<Packed, Fault> {
    let packed = sources.pack(&pack::beside(&one.file, source));
    let (digest, bytes) = packed.map_err(|why| one.fault("source", why))?;
    if let Some(declared) = package.digest.as_ref().filter(|declared| **declared != digest) {
        let message = format!(
            "{declared} is not the digest of `source: {source}`, which is {digest}; leave the digest out or mend it"
        );
        return Err(one.fault("digest", message));
    }
    let wanted = Package { digest: Some(digest.clone()), source: None, ..package.clone() };
    let edited = replaced(text, one.line_of("source"), package.digest.is_none().then_some(&digest));
    let holds = |text: &str| {
        let again = manifest::parse(&[(one.file.clone(), text.to_owned())]).unwrap_or_default();
        again.iter().any(|other| other.resource == Resource::Package(wanted.clone()))
    };
    match edited.filter(|edited| holds(edited)) {
        Some(edited) => *text = edited,
        None => {
            return Err(
                one.fault("source", "cannot be replaced by the digest; write `source: PATH` on a line of its own")
            );
        }
    }
    Ok(Packed { titles: vec![format!("{} {}", package.name, package.version)], digest, bytes })
}

/// The text with its `source: x` line replaced, or blanked when the digest stands elsewhere.
fn replaced(text: &str, line: u32, digest: Option<&Digest>) -> Option<String> {
    let index = usize::try_from(line).ok()?.checked_sub(1)?;
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    let old = lines.get(index)?;
    let indent = &old[..old.len() - old.trim_start().len()];
    if !old.trim_start().starts_with("source:") {
        return None;
    }
    let end = if old.ends_with('\n') { "\n" } else { "" };
    let new = digest.map_or_else(|| end.to_owned(), |digest| format!("{indent}digest: {digest}{end}"));
    lines[index] = &new;
    Some(lines.concat())
}

#[cfg(test)]
mod tests;
