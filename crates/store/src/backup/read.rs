//! Reading a backup: once to see that it is whole, and again to build a data folder from it.

use super::*;
use crate::redb::RedbStore;
use std::fs;
use std::io::BufReader;
use std::os::unix::fs::OpenOptionsExt;

/// What is done with what was read.
trait Sink {
    fn keys(&mut self, keys: Vec<KeyValue>) -> Result<(), Error>;
    fn records(&mut self, kind: Kind, records: &[Record]) -> Result<(), Error>;
    fn blob(&mut self, digest: &Digest, from: &mut dyn Read) -> Result<(), Error>;
    fn file(&mut self, name: &str, from: &mut dyn Read) -> Result<(), Error>;
}

/// Reads the whole file and checks that it is as it was written; writes nothing.
///
/// # Errors
/// [`Error::Damaged`] when a byte is missing or changed, [`Error::Newer`] for the file of a newer springtide.
pub fn verify(path: &Path) -> Result<About, Error> {
    Reader::new(path).read(&mut Nothing)
}

/// Builds a data folder, which must exist and be empty, from a backup. All of it is on disk when this returns.
///
/// # Errors
/// Those of [`verify`], or what could not be written; the folder is then half built.
pub fn unpack(path: &Path, into: &Path) -> Result<About, Error> {
    let records = Records::open(&into.join("records"))?;
    let blobs = Blobs::open(&into.join("blobs"))?;
    let mut folder = Folder { into, records, blobs, keys: Vec::new() };
    let about = Reader::new(path).read(&mut folder)?;
    RedbStore::fill(&into.join("store.redb"), about.revision, folder.keys)?;
    let folder = File::open(into).and_then(|folder| folder.sync_all());
    folder.map_err(Error::io(into))?;
    Ok(about)
}

/// Only looks.
struct Nothing;

impl Sink for Nothing {
    fn keys(&mut self, _: Vec<KeyValue>) -> Result<(), Error> {
        Ok(())
    }

    fn records(&mut self, _: Kind, _: &[Record]) -> Result<(), Error> {
        Ok(())
    }

    fn blob(&mut self, _: &Digest, from: &mut dyn Read) -> Result<(), Error> {
        self.file("", from)
    }

    fn file(&mut self, name: &str, from: &mut dyn Read) -> Result<(), Error> {
        io::copy(from, &mut io::sink()).map(drop).map_err(Error::io(Path::new(name)))
    }
}

/// A data folder on its way.
struct Folder<'a> {
    into: &'a Path,
    records: Records,
    blobs: Blobs,
    keys: Vec<KeyValue>,
}

impl Sink for Folder<'_> {
    fn keys(&mut self, keys: Vec<KeyValue>) -> Result<(), Error> {
        self.keys.extend(keys);
        Ok(())
    }

    fn records(&mut self, kind: Kind, records: &[Record]) -> Result<(), Error> {
        let borrowed: Vec<(&str, &[u8])> = records.iter().map(|at| (at.id.as_str(), at.bytes.as_slice())).collect();
        self.records.append_all(kind, &borrowed)?;
        Ok(())
    }

    fn blob(&mut self, digest: &Digest, from: &mut dyn Read) -> Result<(), Error> {
        let mut blob = self.blobs.create()?;
        io::copy(from, &mut blob).map_err(Error::io(Path::new(digest.as_str())))?;
        blob.finish(digest)?;
        Ok(())
    }

    fn file(&mut self, name: &str, from: &mut dyn Read) -> Result<(), Error> {
        let path = self.into.join(name);
        let folder = path.parent().expect("a file lies in a folder");
        let mut write = || -> io::Result<()> {
            fs::create_dir_all(folder)?;
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            io::copy(from, &mut file)?;
            file.sync_all()?;
            File::open(folder)?.sync_all()
        };
        write().map_err(Error::io(&path))
    }
}

/// One pass over a backup.
struct Reader<'a> {
    path: &'a Path,
    about: Option<About>,
    sums: BTreeMap<String, Checksum>,
    keys: u64,
    key_last: String,
    records: BTreeMap<String, u64>,
    blobs: Vec<Digest>,
    files: Vec<String>,
}

impl<'a> Reader<'a> {
    fn new(path: &'a Path) -> Self {
        Self {
            path,
            about: None,
            sums: BTreeMap::new(),
            keys: 0,
            key_last: String::new(),
            records: BTreeMap::new(),
            blobs: Vec::new(),
            files: Vec::new(),
        }
    }

    fn damaged(&self, why: impl std::fmt::Display) -> Error {
        Error::Damaged { path: self.path.display().to_string(), why: why.to_string() }
    }

    fn read(mut self, sink: &mut dyn Sink) -> Result<About, Error> {
        let file = File::open(self.path).map_err(Error::io(self.path))?;
        let mut stream = zstd::Decoder::new(BufReader::new(file)).map_err(|error| self.damaged(error))?.single_frame();
        let mut last = None;
        let mut tar = tar::Archive::new(&mut stream);
        for entry in tar.entries().map_err(|error| self.damaged(error))? {
            let mut entry = entry.map_err(|error| self.damaged(error))?;
            let name = entry.path().ok().and_then(|path| path.to_str().map(str::to_owned));
            let name = name.ok_or_else(|| self.damaged("an entry has no readable name"))?;
            if last.is_some() {
                return Err(self.damaged("something follows the checksums"));
            }
            if name == CHECKSUMS {
                last = Some(self.whole(&name, &mut entry)?.0);
                continue;
            }
            let sum = self.entry(&name, &mut entry, sink)?;
            if self.sums.insert(name.clone(), sum).is_some() {
                return Err(self.damaged(format!("{name} is there twice")));
            }
        }
        // The end of the stream has a checksum of its own.
        io::copy(&mut stream, &mut io::sink()).map_err(|error| self.damaged(error))?;
        let last = last.ok_or_else(|| self.damaged("it is cut short: its checksums are missing"))?;
        self.check(&last)
    }

    /// An entry of bounded size, in memory.
    fn whole(&self, name: &str, from: &mut dyn Read) -> Result<(Vec<u8>, Checksum), Error> {
        let mut bytes = Vec::new();
        let mut hashed = Hashed::new(from.take(ENTRY_BYTES_MAX + 1));
        hashed.read_to_end(&mut bytes).map_err(|error| self.damaged(format!("{name}: {error}")))?;
        if hashed.bytes > ENTRY_BYTES_MAX {
            return Err(self.damaged(format!("{name} is larger than {ENTRY_BYTES_MAX} bytes")));
        }
        Ok((bytes, hashed.checksum()))
    }

    fn entry(&mut self, name: &str, from: &mut dyn Read, sink: &mut dyn Sink) -> Result<Checksum, Error> {
        if self.about.is_none() {
            return self.begin(name, from);
        }
        let (kind, rest) = name.split_once('/').unwrap_or((name, ""));
        match kind {
            "store" => {
                let (bytes, sum) = self.whole(name, from)?;
                let keys = self.parse_keys(name, &bytes)?;
                sink.keys(keys)?;
                Ok(sum)
            }
            "records" => {
                let (bytes, sum) = self.whole(name, from)?;
                let kind = Kind::ALL.into_iter().find(|kind| Some(kind.as_str()) == rest.split('/').next());
                let kind = kind.ok_or_else(|| self.damaged(format!("{name} is of no known kind of records")))?;
                let records = self.parse_records(name, kind, &bytes)?;
                sink.records(kind, &records)?;
                Ok(sum)
            }
            "blobs" => {
                let digest: Digest = rest.parse().map_err(|error| self.damaged(format!("{name}: {error}")))?;
                let mut hashed = Hashed::new(from);
                self.told(name, sink.blob(&digest, &mut hashed))?;
                self.blobs.push(digest);
                Ok(hashed.checksum())
            }
            "files" if is_inside(rest) => {
                let mut hashed = Hashed::new(from);
                self.told(name, sink.file(rest, &mut hashed))?;
                self.files.push(rest.to_owned());
                Ok(hashed.checksum())
            }
            _ => Err(self.damaged(format!("nobody knows what {name} is"))),
        }
    }

    /// A sink that meets bytes other than promised has met damage.
    fn told(&self, name: &str, done: Result<(), Error>) -> Result<(), Error> {
        match done {
            Err(Error::Blobs(error @ BlobError::WrongDigest { .. })) => Err(self.damaged(format!("{name}: {error}"))),
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::UnexpectedEof => {
                Err(self.damaged(format!("{name}: it is cut short")))
            }
            other => other,
        }
    }

    fn begin(&mut self, name: &str, from: &mut dyn Read) -> Result<Checksum, Error> {
        if name != ABOUT {
            return Err(self.damaged(format!("it begins with {name}, not with {ABOUT}")));
        }
        let (bytes, sum) = self.whole(name, from)?;
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let found: Format = serde_json::from_slice(&bytes).map_err(|error| self.damaged(format!("{name}: {error}")))?;
        if found.format > FORMAT {
            let path = self.path.display().to_string();
            return Err(Error::Newer { path, found: found.format, known: FORMAT });
        }
        let about = serde_json::from_slice(&bytes).map_err(|error| self.damaged(format!("{name}: {error}")))?;
        self.about = Some(about);
        Ok(sum)
    }

    fn parse_keys(&mut self, name: &str, mut bytes: &[u8]) -> Result<Vec<KeyValue>, Error> {
        let mut keys = Vec::new();
        while !bytes.is_empty() {
            let item = key_value(&mut bytes).ok_or_else(|| self.damaged(format!("{name}: a key is cut short")))?;
            if *item.key <= *self.key_last {
                return Err(self.damaged(format!("{name}: key {} is out of order", item.key)));
            }
            self.key_last = item.key.to_string();
            keys.push(item);
        }
        self.keys += keys.len() as u64;
        Ok(keys)
    }

    fn parse_records(&mut self, name: &str, kind: Kind, mut bytes: &[u8]) -> Result<Vec<Record>, Error> {
        let mut records = Vec::new();
        let mut last = self.records.get(kind.as_str()).copied().unwrap_or(0);
        while !bytes.is_empty() {
            let record = record(&mut bytes).ok_or_else(|| self.damaged(format!("{name}: a record is cut short")))?;
            if record.sequence != last + 1 {
                return Err(self.damaged(format!("{name}: record {} follows {last}", record.sequence)));
            }
            last = record.sequence;
            records.push(record);
        }
        self.records.insert(kind.as_str().to_owned(), last);
        Ok(records)
    }

    /// Everything that was promised is there, and nothing else.
    fn check(self, checksums: &[u8]) -> Result<About, Error> {
        let sums: BTreeMap<String, Checksum> =
            serde_json::from_slice(checksums).map_err(|error| self.damaged(format!("{CHECKSUMS}: {error}")))?;
        if let Some(name) = sums.keys().find(|name| self.sums.get(*name) != sums.get(*name)) {
            return Err(self.damaged(format!("{name} is missing or not what was written")));
        }
        if let Some(name) = self.sums.keys().find(|name| !sums.contains_key(*name)) {
            return Err(self.damaged(format!("{name} was not written with it")));
        }
        let about = self.about.clone().ok_or_else(|| self.damaged("it is empty"))?;
        let promised = about.records.iter().filter(|(_, count)| **count > 0);
        let records: BTreeMap<String, u64> = promised.map(|(kind, count)| (kind.clone(), *count)).collect();
        if (about.keys, &records, &about.blobs, &about.files) != (self.keys, &self.records, &self.blobs, &self.files) {
            return Err(self.damaged("it does not hold what it says it does"));
        }
        Ok(about)
    }
}

/// True for a relative path that stays inside.
fn is_inside(path: &str) -> bool {
    !path.is_empty() && Path::new(path).components().all(|part| matches!(part, std::path::Component::Normal(_)))
}

fn part<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (part, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *bytes = rest;
    Some(part)
}

fn text(bytes: &mut &[u8]) -> Option<String> {
    Some(std::str::from_utf8(part(bytes)?).ok()?.to_owned())
}

fn number(bytes: &mut &[u8]) -> Option<u64> {
    let (number, rest) = bytes.split_first_chunk::<8>()?;
    *bytes = rest;
    Some(u64::from_le_bytes(*number))
}

fn key_value(bytes: &mut &[u8]) -> Option<KeyValue> {
    let key = text(bytes)?.into();
    let (create_revision, mod_revision) = (number(bytes)?, number(bytes)?);
    Some(KeyValue { key, value: part(bytes)?.into(), create_revision, mod_revision, lease: None })
}

fn record(bytes: &mut &[u8]) -> Option<Record> {
    let sequence = number(bytes)?;
    Some(Record { sequence, id: text(bytes)?, bytes: part(bytes)?.to_vec() })
}
