//! Variables and config files: what an instance of a service sees in a datacenter, and the `${NAME}` references in it.
//!
//! The built-in variables' values are known to the agent only; here only their names count as known.

use crate::name::*;
use crate::resource::*;
use crate::snapshot::Snapshot;
use crate::unit::Digest;
use std::collections::{BTreeMap, BTreeSet};

/// Variables that every instance gets from its agent, beside `PORT_<NAME>` for each port.
pub const BUILT_IN: &[&str] = &[
    "SPRINGTIDE_INSTANCE",
    "SPRINGTIDE_SERVICE",
    "SPRINGTIDE_BUSINESS",
    "SPRINGTIDE_HOST",
    "SPRINGTIDE_DATACENTER",
    "SPRINGTIDE_ADDRESS",
    "SPRINGTIDE_MESH",
    "SPRINGTIDE_CONFIG",
    "SPRINGTIDE_PACKAGE",
    "SPRINGTIDE_DATA",
];

/// What the instances of a service see in one datacenter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedConfig {
    /// The environment's variables, the datacenter's laid over the general ones.
    pub variables: BTreeMap<String, String>,
    /// Config files as written: their references are resolved on the host.
    pub files: BTreeMap<String, String>,
    /// Digest of all that makes a restart due: files, variables, command, arguments, ports and health check.
    pub digest: Digest,
}

/// A reference to a variable that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} refers to `${{{name}}}`, which is not a variable known here; write `$$` for a plain dollar")]
pub struct MissingVariable {
    /// The variable.
    pub name: String,
    /// The line of the text, from 1.
    pub line: u32,
}

/// Why a service's config cannot be resolved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigFault {
    /// It names something that does not exist.
    #[error("service {service} names {what}, which does not exist")]
    Dangling {
        /// The service.
        service: ServiceName,
        /// What it names.
        what: ResourceKey,
    },
    /// A text refers to a missing variable.
    #[error("{place} of service {service} in {datacenter}: {missing}")]
    Variable {
        /// The service.
        service: ServiceName,
        /// The datacenter.
        datacenter: DatacenterName,
        /// `config file app.conf`, `args`, `package command`.
        place: String,
        /// The reference.
        missing: MissingVariable,
    },
}

/// Resolves the config of a service in a datacenter.
///
/// # Errors
/// A config set, environment or package that does not exist, or a reference to a missing variable.
pub fn resolve(
    snapshot: &Snapshot,
    service: &Service,
    datacenter: &DatacenterName,
) -> Result<ResolvedConfig, ConfigFault> {
    let dangling = |kind, name: &str| ConfigFault::Dangling {
        service: service.name.clone(),
        what: ResourceKey { kind, name: name.to_owned() },
    };
    let package =
        snapshot.package(&service.package).ok_or_else(|| dangling(Kind::Package, service.package.as_str()))?;
    let environment = service
        .environment
        .as_ref()
        .map(|name| snapshot.environment(name).ok_or_else(|| dangling(Kind::Environment, name.as_str())))
        .transpose()?;
    let files = match &service.config {
        Some(name) => snapshot.config_set(name).ok_or_else(|| dangling(Kind::ConfigSet, name.as_str()))?.files.clone(),
        None => BTreeMap::new(),
    };
    let variables = environment.map_or_else(BTreeMap::new, |found| variables_in(found, datacenter));
    let texts = Texts { package, service, files: &files };
    if let Some((place, missing)) = texts.missing(&known(service, &variables)).into_iter().next() {
        let (service, datacenter) = (service.name.clone(), datacenter.clone());
        return Err(ConfigFault::Variable { service, datacenter, place: place.to_string(), missing });
    }
    let digest = digest(package, service, &variables, &files);
    Ok(ResolvedConfig { variables, files, digest })
}

/// An environment's variables in a datacenter.
pub fn variables_in(environment: &Environment, datacenter: &DatacenterName) -> BTreeMap<String, String> {
    let mut variables = environment.variables.clone();
    variables.extend(environment.datacenters.get(datacenter).cloned().unwrap_or_default());
    variables
}

/// The variable that carries a port: `PORT_<NAME>`.
pub fn port_variable(port: &str) -> String {
    format!("PORT_{}", port.to_ascii_uppercase())
}

/// Puts variables in the place of `${NAME}`; `$$` becomes a dollar, any other `$` stays.
///
/// # Errors
/// The first reference to a variable that is not in `variables`.
pub fn render(text: &str, variables: &BTreeMap<String, String>) -> Result<String, MissingVariable> {
    let mut rendered = String::with_capacity(text.len());
    for piece in Pieces::of(text) {
        match piece {
            Piece::Text(plain) => rendered.push_str(plain),
            Piece::Reference { name, line } => match variables.get(name) {
                Some(value) => rendered.push_str(value),
                None => return Err(MissingVariable { name: name.to_owned(), line }),
            },
        }
    }
    Ok(rendered)
}

/// True for `A-Z`, `a-z`, `0-9` and `_`, not beginning with a digit.
pub fn is_variable_name(text: &str) -> bool {
    let fits = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    text.len() <= 255 && text.bytes().all(fits) && text.bytes().next().is_some_and(|c| !c.is_ascii_digit())
}

/// Names of the variables that texts of a service may refer to.
pub(crate) fn known(service: &Service, variables: &BTreeMap<String, String>) -> BTreeSet<String> {
    let built_in = BUILT_IN.iter().map(|name| (*name).to_owned());
    let ports = service.ports.iter().map(|port| port_variable(port));
    built_in.chain(ports).chain(variables.keys().cloned()).collect()
}

/// The texts of a service in which references are resolved.
pub(crate) struct Texts<'a> {
    pub package: &'a Package,
    pub service: &'a Service,
    pub files: &'a BTreeMap<String, String>,
}

/// Which text refers to a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    File(String),
    Args(usize),
    Command(usize),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(name) => write!(f, "config file {name}"),
            Self::Args(at) => write!(f, "args[{at}]"),
            Self::Command(at) => write!(f, "package command[{at}]"),
        }
    }
}

impl Texts<'_> {
    /// References to variables that are not in `known`.
    pub(crate) fn missing(&self, known: &BTreeSet<String>) -> Vec<(Place, MissingVariable)> {
        let files = self.files.iter().map(|(name, text)| (Place::File(name.clone()), text));
        let args = self.service.args.iter().enumerate().map(|(at, text)| (Place::Args(at), text));
        let command = self.package.command.iter().enumerate().map(|(at, text)| (Place::Command(at), text));
        let mut found = Vec::new();
        for (place, text) in files.chain(args).chain(command) {
            for piece in Pieces::of(text) {
                match piece {
                    Piece::Reference { name, line } if !known.contains(name) => {
                        found.push((place.clone(), MissingVariable { name: name.to_owned(), line }));
                    }
                    Piece::Reference { .. } | Piece::Text(_) => {}
                }
            }
        }
        found
    }
}

/// Digest of all that makes a restart due, apart from the package's bytes. Its form is versioned: a change of it restarts every instance.
fn digest(
    package: &Package,
    service: &Service,
    variables: &BTreeMap<String, String>,
    files: &BTreeMap<String, String>,
) -> Digest {
    let parts = ("v1", variables, files, &package.command, &service.args, &service.ports, &service.health_check);
    Digest::of(&serde_json::to_vec(&parts).expect("maps of texts are always JSON"))
}

enum Piece<'a> {
    Text(&'a str),
    Reference { name: &'a str, line: u32 },
}

/// A text cut at its references.
struct Pieces<'a> {
    rest: &'a str,
    line: u32,
}

impl<'a> Pieces<'a> {
    fn of(text: &'a str) -> Self {
        Self { rest: text, line: 1 }
    }

    fn cut(&mut self, at: usize) -> &'a str {
        let (head, rest) = self.rest.split_at(at);
        self.rest = rest;
        self.line = self.line.saturating_add(head.bytes().filter(|&c| c == b'\n').count() as u32);
        head
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let Some(dollar) = self.rest.find('$') else {
            return Some(Piece::Text(self.cut(self.rest.len())));
        };
        if dollar > 0 {
            return Some(Piece::Text(self.cut(dollar)));
        }
        if self.rest.starts_with("$$") {
            self.cut(1);
            let dollar = self.cut(1);
            return Some(Piece::Text(dollar));
        }
        if !self.rest.starts_with("${") {
            return Some(Piece::Text(self.cut(1)));
        }
        let line = self.line;
        let end = self.rest.find(['}', '\n']).unwrap_or(self.rest.len());
        let name = &self.cut(end)[2..];
        if self.rest.starts_with('}') {
            self.cut(1);
        }
        Some(Piece::Reference { name, line })
    }
}

#[cfg(test)]
mod tests;
