//! Parameters of Prometheus' API: in the query of a GET, in the form of a POST, or both.

use axum::extract::{Form, FromRequest, Query, Request};
use http::{Method, StatusCode};

/// Parameters of one request.
const PARAMETERS_MAX: usize = 1_000;

/// A refusal in Prometheus' form.
#[derive(Debug)]
pub struct Wrong {
    /// Status of the answer.
    pub status: StatusCode,
    /// `bad_data`, `execution`, `timeout`…
    pub kind: &'static str,
    /// What was wrong, and what would be right.
    pub message: String,
}

impl Wrong {
    /// 400.
    pub fn bad(message: String) -> Self {
        Self { status: StatusCode::BAD_REQUEST, kind: "bad_data", message }
    }
}

/// The parameters of a request.
#[derive(Debug, Default)]
pub struct Asked(Vec<(String, String)>);

impl<S: Send + Sync> FromRequest<S> for Asked {
    type Rejection = Wrong;

    async fn from_request(request: Request, state: &S) -> Result<Self, Wrong> {
        let in_path = Query::<Vec<(String, String)>>::try_from_uri(request.uri());
        let Query(mut pairs) = in_path.map_err(|error| Wrong::bad(error.body_text()))?;
        if request.method() == Method::POST {
            let Form(body) = Form::<Vec<(String, String)>>::from_request(request, state).await.map_err(|error| {
                Wrong::bad(format!(
                    "the body must be a form (application/x-www-form-urlencoded): {}",
                    error.body_text()
                ))
            })?;
            pairs.extend(body);
        }
        if pairs.len() > PARAMETERS_MAX {
            return Err(Wrong::bad(format!("{} parameters are given; at most {PARAMETERS_MAX} are read", pairs.len())));
        }
        Ok(Self(pairs))
    }
}

impl Asked {
    /// A parameter; an empty one is absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, value)| known == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// A parameter that must be there.
    pub fn needed(&self, name: &str) -> Result<&str, Wrong> {
        self.get(name).ok_or_else(|| Wrong::bad(format!("invalid parameter {name:?}: it is missing")))
    }

    /// All of one name.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.0.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    }

    /// A time in Unix milliseconds.
    pub fn time_ms(&self, name: &str) -> Result<Option<i64>, Wrong> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let wrong = || {
            let right = "Unix seconds or RFC 3339 (2026-01-02T03:04:05Z) would be right";
            Wrong::bad(format!("invalid parameter {name:?}: {text:?} is no time: {right}"))
        };
        time_ms(text).map(Some).ok_or_else(wrong)
    }

    /// A time that must be there.
    pub fn time_needed(&self, name: &str) -> Result<i64, Wrong> {
        self.needed(name)?;
        Ok(self.time_ms(name)?.expect("it is there"))
    }

    /// A duration: seconds, or as in PromQL.
    pub fn duration_ms(&self, name: &str) -> Result<Option<i64>, Wrong> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let seconds = text.parse::<f64>().ok().filter(|seconds| seconds.is_finite() && (0.0..1e10).contains(seconds));
        let ms = seconds.map(|seconds| (seconds * 1_000.0).round() as i64).or_else(|| promql::duration_ms(text));
        let right = "seconds or a duration such as 15s would be right";
        ms.map(Some).ok_or_else(|| Wrong::bad(format!("invalid parameter {name:?}: {text:?} is no duration: {right}")))
    }
}

fn time_ms(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.parse::<f64>() {
        return (seconds.is_finite() && seconds.abs() < 1e12).then(|| (seconds * 1_000.0).round() as i64);
    }
    rfc3339_ms(text)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar (Howard Hinnant's `days_from_civil`).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn rfc3339_ms(text: &str) -> Option<i64> {
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let zone_at = rest.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = rest.split_at(zone_at);
    let numbers =
        |text: &str, by: char| text.split(by).map(|part| part.parse::<i64>().ok()).collect::<Option<Vec<_>>>();
    let [year, month, day] = numbers(date, '-')?[..] else { return None };
    let (whole, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [hour, minute, second] = numbers(whole, ':')?[..] else { return None };
    let fine = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    let fraction = format!("0.{fraction}").parse::<f64>().ok()?;
    let offset_minutes = match zone {
        "Z" | "z" => 0,
        _ => {
            let [hours, minutes] = numbers(&zone[1..], ':')?[..] else { return None };
            (hours * 60 + minutes) * if zone.starts_with('-') { -1 } else { 1 }
        }
    };
    let seconds = days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second - offset_minutes * 60;
    (fine && (1..=9_999).contains(&year)).then(|| seconds * 1_000 + (fraction * 1_000.0).round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_prometheus_does() {
        assert_eq!(time_ms("1435781451.781"), Some(1_435_781_451_781));
        assert_eq!(time_ms("2015-07-01T20:10:51.781Z"), Some(1_435_781_451_781));
        assert_eq!(time_ms("2015-07-01T22:10:51.781+02:00"), Some(1_435_781_451_781));
        assert_eq!(time_ms("2000-02-29T00:00:00Z"), Some(951_782_400_000));
        for wrong in ["", "now", "2015-07-01", "2015-13-01T00:00:00Z", "NaN", "1e300", "2015-07-01T25:00:00Z"] {
            assert_eq!(time_ms(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn parameters_say_what_is_wrong() {
        let asked = Asked(vec![("step".to_owned(), "15s".to_owned()), ("time".to_owned(), "soon".to_owned())]);
        assert_eq!(asked.duration_ms("step").expect("good"), Some(15_000));
        assert_eq!(asked.duration_ms("timeout").expect("absent"), None);
        let wrong = asked.time_ms("time").expect_err("no time").message;
        assert!(wrong.contains("soon") && wrong.contains("RFC 3339"), "{wrong}");
        assert!(asked.needed("query").expect_err("missing").message.contains("missing"));
    }
}
