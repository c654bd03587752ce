//! What people may call a kind: `Service`, `service`, `services`, `host-types`.

use super::failure::Failure;
use model::Kind;

/// What `get` lists beside the kinds of resource.
pub const LIVE: &[&str] = &["instances", "operations", "curves"];

/// Lower case, without `-` and `_`, in the singular.
fn plain(text: &str) -> String {
    let text: String = text.to_ascii_lowercase().chars().filter(|c| !matches!(c, '-' | '_')).collect();
    match text.as_str() {
        "business" | "businesses" => "business".to_owned(),
        "policies" => "policy".to_owned(),
        "dc" | "dcs" => "datacenter".to_owned(),
        _ => text.strip_suffix('s').unwrap_or(&text).to_owned(),
    }
}

/// The kind that a text means.
pub fn resource(text: &str) -> Option<Kind> {
    let wanted = plain(text);
    Kind::ALL.iter().copied().find(|kind| kind.as_str().to_ascii_lowercase() == wanted)
}

/// What `get` lists beside the kinds, when the text means that.
pub fn live(text: &str) -> Option<&'static str> {
    let wanted = plain(text);
    LIVE.iter().copied().find(|name| plain(name) == wanted)
}

/// The refusal of a text that means no kind.
pub fn unknown(text: &str) -> Failure {
    let kinds: Vec<String> = Kind::ALL.iter().map(|kind| kind.as_str().to_ascii_lowercase()).collect();
    let known: Vec<&str> = kinds.iter().map(String::as_str).chain(LIVE.iter().copied()).collect();
    let wanted = plain(text);
    let hint = model::nearest(&wanted, known.iter().copied());
    let hint = hint.map_or_else(String::new, |name| format!("; did you mean {name}?"));
    Failure::Usage(format!("unknown kind {text:?}{hint} (kinds: {})", known.join(", ")))
}

/// The kind that a text means, or the refusal.
pub fn wanted(text: &str) -> Result<Kind, Failure> {
    resource(text).ok_or_else(|| unknown(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_found_as_people_write_them() {
        for kind in Kind::ALL {
            assert_eq!(resource(kind.as_str()), Some(*kind));
            assert_eq!(resource(&format!("{}s", kind.as_str().to_lowercase())), Some(*kind));
        }
        assert_eq!(resource("host-types"), Some(Kind::HostType));
        assert_eq!(resource("businesses"), Some(Kind::Business));
        assert_eq!(resource("policies"), Some(Kind::Policy));
        assert_eq!(live("instance"), Some("instances"));
        assert_eq!(resource("servcie"), None);
        let Failure::Usage(text) = unknown("servcie") else { panic!("a usage fault") };
        assert!(text.starts_with("unknown kind \"servcie\"; did you mean service?"), "{text}");
    }
}
