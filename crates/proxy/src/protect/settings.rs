//! What a proxy's operator sets about protection, and its text forms. Absent: policies, which come from the server.

use http::header::HeaderName;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Sources that are tried in order.
const SOURCES_MAX: usize = 8;

/// How protection works in one proxy.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Where the user of a request is found; the first that gives one.
    pub user: UserSource,
    /// Cap on each tenant's share of a service.
    pub tenant: Option<TenantLimit>,
    /// Where slowed requests wait.
    pub lane: LaneAt,
}

impl Default for Settings {
    fn default() -> Self {
        Self { user: UserSource::default(), tenant: None, lane: LaneAt::Nowhere }
    }
}

/// Where slowed requests wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LaneAt {
    /// `slow` policies are refused with 503.
    Nowhere,
    /// In a log in this folder.
    Folder(PathBuf),
    /// In Redis Streams, `redis://[user:password@]host:port[/db]`.
    Redis(String),
}

impl FromStr for LaneAt {
    type Err = Fault;

    /// A folder, a `redis://` address, or `none`.
    fn from_str(text: &str) -> Result<Self, Fault> {
        match text {
            "none" => Ok(Self::Nowhere),
            "" => Err(Fault("slow lane: nothing given; expected a folder, redis://HOST:PORT or none".to_owned())),
            url if url.starts_with("redis://") => Ok(Self::Redis(url.to_owned())),
            folder => Ok(Self::Folder(folder.into())),
        }
    }
}

/// One place in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The value of a header.
    Header(HeaderName),
    /// The value of a cookie.
    Cookie(String),
    /// The value of a query parameter, as written.
    Query(String),
    /// The client's address; on the entry only, since on the mesh it is a service's.
    Address,
}

/// Where a user, or a tenant, is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserSource(pub Vec<Source>);

impl Default for UserSource {
    fn default() -> Self {
        let header = Source::Header(HeaderName::from_static("x-user-id"));
        Self(vec![header, Source::Cookie("uid".to_owned()), Source::Query("uid".to_owned()), Source::Address])
    }
}

/// A setting that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Fault(String);

impl FromStr for Source {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let fault =
            |what: &str| Fault(format!("{text:?}: {what}; expected header:NAME, cookie:NAME, query:NAME or address"));
        if text == "address" {
            return Ok(Self::Address);
        }
        let (kind, name) = text.split_once(':').ok_or_else(|| fault("no kind"))?;
        if name.is_empty() {
            return Err(fault("no name"));
        }
        match kind {
            "header" => HeaderName::from_str(name).map(Self::Header).map_err(|_| fault("not a header's name")),
            "cookie" => Ok(Self::Cookie(name.to_owned())),
            "query" => Ok(Self::Query(name.to_owned())),
            _ => Err(fault("another kind")),
        }
    }
}

impl FromStr for UserSource {
    type Err = Fault;

    /// Sources in order, comma separated.
    fn from_str(text: &str) -> Result<Self, Fault> {
        let sources: Vec<Source> = text.split(',').map(|part| part.trim().parse()).collect::<Result<_, _>>()?;
        if sources.len() > SOURCES_MAX {
            return Err(Fault(format!("{} sources of the user; at most {SOURCES_MAX}", sources.len())));
        }
        Ok(Self(sources))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
            Self::Address => f.write_str("address"),
        }
    }
}

impl fmt::Display for UserSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&parts.join(","))
    }
}

/// No tenant may have more than a share of what a service can do.
#[derive(Debug, Clone, PartialEq)]
pub struct TenantLimit {
    /// Where the tenant is found.
    pub source: Source,
    /// Its share at most, above 0 and up to 1.
    pub share: f64,
}

impl FromStr for TenantLimit {
    type Err = Fault;

    /// `header:x-tenant=20%`.
    fn from_str(text: &str) -> Result<Self, Fault> {
        let fault = || Fault(format!("tenant cap {text:?}: expected SOURCE=PERCENT%, as in header:x-tenant=20%"));
        let (source, share) = text.rsplit_once('=').ok_or_else(fault)?;
        let percent: f64 = share.strip_suffix('%').and_then(|p| p.parse().ok()).ok_or_else(fault)?;
        if !(percent > 0.0 && percent <= 100.0) {
            return Err(fault());
        }
        Ok(Self { source: source.parse()?, share: percent / 100.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms_are_read_and_faults_teach() {
        let user: UserSource = "header:X-Uid, cookie:sid,query:uid,address".parse().expect("well formed");
        assert_eq!(user.to_string(), "header:x-uid,cookie:sid,query:uid,address");
        assert_eq!(UserSource::default().to_string().parse::<UserSource>(), Ok(UserSource::default()));
        for wrong in ["", "uid", "header:", "header:a b", "body:uid"] {
            let fault = wrong.parse::<UserSource>().expect_err(wrong).to_string();
            assert!(fault.contains("expected header:NAME"), "{fault}");
        }
        assert_eq!("header:x-tenant=20%".parse::<TenantLimit>().expect("well formed").share, 0.2);
        for wrong in ["x-tenant", "header:x=0%", "header:x=101%", "header:x=20", "header:x=NaN%"] {
            assert!(wrong.parse::<TenantLimit>().is_err(), "{wrong}");
        }
        assert_eq!("redis://h:1".parse(), Ok(LaneAt::Redis("redis://h:1".to_owned())));
        assert_eq!("none".parse(), Ok(LaneAt::Nowhere));
        assert_eq!("/var/lane".parse(), Ok(LaneAt::Folder("/var/lane".into())));
    }
}
