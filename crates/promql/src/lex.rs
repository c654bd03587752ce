//! The words of a query. Absent: what they mean together; that is the parser's.

use crate::error::{Error, ErrorKind, Span};

/// A word.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Token {
    /// A name: of a metric, label, function, or a keyword.
    Name(String),
    Number(f64),
    DurationMs(i64),
    Text(String),
    /// Brackets, commas, operators.
    Sign(&'static str),
    End,
}

impl Token {
    /// As people call it.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Name(name) => format!("{name:?}"),
            Self::Number(number) => format!("number {number}"),
            Self::DurationMs(ms) => format!("duration {}", duration_text(*ms)),
            Self::Text(text) => format!("string {text:?}"),
            Self::Sign(sign) => format!("{sign:?}"),
            Self::End => "the end of the query".to_owned(),
        }
    }
}

/// Signs, longer ones first.
const SIGNS: [&str; 25] = [
    "=~", "!~", "==", "!=", "<=", ">=", "(", ")", "{", "}", "[", "]", ",", ":", "@", "+", "-", "*", "/", "%", "^", "=",
    "<", ">", ";",
];
const UNITS_MS: [(&str, i64); 7] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
    ("w", 604_800_000),
    ("y", 31_536_000_000),
];
/// Longest duration, so that no sum of times overflows.
const DURATION_MS_MAX: i64 = 100 * 31_536_000_000;

/// Reads `1h30m` and the like; `None` when it is not a duration.
pub fn duration_ms(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut sum = 0_i64;
    let mut last = i64::MAX;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: i64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let (unit, ms) = UNITS_MS.iter().find(|(unit, _)| {
            rest.strip_prefix(unit).is_some_and(|after| !after.starts_with(|c: char| c.is_ascii_alphabetic()))
        })?;
        if *ms >= last {
            return None;
        }
        last = *ms;
        sum = sum.checked_add(number.checked_mul(*ms)?).filter(|sum| *sum <= DURATION_MS_MAX)?;
        rest = &rest[unit.len()..];
    }
    (!text.is_empty()).then_some(sum)
}

/// Writes a duration as PromQL does.
pub fn duration_text(ms: i64) -> String {
    if ms == 0 {
        return "0s".to_owned();
    }
    let mut text = if ms < 0 { "-".to_owned() } else { String::new() };
    let mut left = ms.unsigned_abs();
    for (unit, size) in UNITS_MS.iter().rev().filter(|(unit, _)| *unit != "y" && *unit != "w") {
        let count = left / size.unsigned_abs();
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
            left %= size.unsigned_abs();
        }
    }
    text
}

/// Splits a query.
pub(crate) fn tokens(query: &str) -> Result<Vec<(Token, Span)>, Error> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(first) = query[at..].chars().next() {
        let rest = &query[at..];
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        if first == '#' {
            at += rest.find('\n').unwrap_or(rest.len());
            continue;
        }
        let (token, length) = one(rest, first).map_err(|(offset, length, message)| {
            Error::new(ErrorKind::Parse, Span { start: at + offset, end: at + offset + length }, message)
        })?;
        found.push((token, Span { start: at, end: at + length }));
        at += length;
    }
    found.push((Token::End, Span { start: query.len(), end: query.len() }));
    Ok(found)
}

/// Offset and length of what is wrong, and what it is.
type Wrong = (usize, usize, String);

fn one(rest: &str, first: char) -> Result<(Token, usize), Wrong> {
    let digit_follows = rest[first.len_utf8()..].starts_with(|c: char| c.is_ascii_digit());
    if first.is_ascii_digit() || first == '.' && digit_follows {
        return number(rest);
    }
    if first.is_ascii_alphabetic() || first == '_' {
        let length = rest.bytes().take_while(|c| c.is_ascii_alphanumeric() || *c == b'_' || *c == b':').count();
        return Ok((Token::Name(rest[..length].to_owned()), length));
    }
    if matches!(first, '"' | '\'' | '`') {
        return text(rest, first);
    }
    if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
        return Ok((Token::Sign(sign), sign.len()));
    }
    Err((0, first.len_utf8(), format!("unexpected character {first:?}")))
}

fn number(rest: &str) -> Result<(Token, usize), Wrong> {
    if let Some(hex) = rest.strip_prefix("0x").or_else(|| rest.strip_prefix("0X")) {
        let digits = hex.bytes().take_while(u8::is_ascii_hexdigit).count();
        let value = u64::from_str_radix(&hex[..digits], 16);
        return value
            .map(|value| (Token::Number(value as f64), 2 + digits))
            .map_err(|_| (0, 2 + digits, "bad hexadecimal number".to_owned()));
    }
    let word = rest.bytes().take_while(|c| c.is_ascii_alphanumeric() || *c == b'.' || *c == b'_').count();
    if let Some(ms) = duration_ms(&rest[..word]) {
        return Ok((Token::DurationMs(ms), word));
    }
    let bytes = rest.as_bytes();
    let mut length = word;
    // The sign of an exponent is part of the number.
    if matches!(bytes.get(word - 1), Some(b'e' | b'E')) && matches!(bytes.get(word), Some(b'+' | b'-')) {
        length = word + 1 + bytes[word + 1..].iter().take_while(|c| c.is_ascii_alphanumeric()).count();
    }
    match rest[..length].parse::<f64>() {
        Ok(value) => Ok((Token::Number(value), length)),
        Err(_) => {
            let wrong = format!("{:?} is neither a number nor a duration such as 30s, 5m or 1h30m", &rest[..length]);
            Err((0, length, wrong))
        }
    }
}

fn text(rest: &str, quote: char) -> Result<(Token, usize), Wrong> {
    let mut value = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            _ if c == quote => return Ok((Token::Text(value), at + 1)),
            '\n' if quote != '`' => break,
            '\\' if quote != '`' => {
                let escaped = chars.next().map(|(_, c)| c);
                let wrong = || {
                    (
                        at,
                        2,
                        "unknown escape in a string: \\n, \\t, \\\\, \\\", \\' , \\xHH and \\uHHHH are known"
                            .to_owned(),
                    )
                };
                let code = |count: usize, chars: &mut std::iter::Skip<std::str::CharIndices<'_>>| {
                    let hex: String = chars.take(count).map(|(_, c)| c).collect();
                    u32::from_str_radix(&hex, 16).ok().filter(|_| hex.len() == count).and_then(char::from_u32)
                };
                value.push(match escaped {
                    Some('n') => '\n',
                    Some('t') => '\t',
                    Some('r') => '\r',
                    Some(same @ ('\\' | '"' | '\'')) => same,
                    Some('x') => code(2, &mut chars).ok_or_else(wrong)?,
                    Some('u') => code(4, &mut chars).ok_or_else(wrong)?,
                    _ => return Err(wrong()),
                });
            }
            _ => value.push(c),
        }
    }
    Err((0, 1, format!("this string does not end: {quote} is missing")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split() {
        let words = tokens("a:b{c=~\"x\\n\"}[1h30m] @ 1e-3 # note\n>= .5").expect("good");
        let words: Vec<String> = words.iter().map(|(token, _)| token.shown()).collect();
        let expected = [
            "\"a:b\"",
            "\"{\"",
            "\"c\"",
            "\"=~\"",
            "string \"x\\n\"",
            "\"}\"",
            "\"[\"",
            "duration 1h30m",
            "\"]\"",
            "\"@\"",
            "number 0.001",
            "\">=\"",
            "number 0.5",
            "the end of the query",
        ];
        assert_eq!(words, expected);
    }

    #[test]
    fn durations_are_read_as_promql_does() {
        assert_eq!(duration_ms("1h30m"), Some(5_400_000));
        assert_eq!(duration_ms("500ms"), Some(500));
        for wrong in ["", "5", "m", "30m1h", "5x", "5m5m", "999999999999y"] {
            assert_eq!(duration_ms(wrong), None, "{wrong}");
        }
        assert_eq!(duration_text(90_500), "1m30s500ms");
    }

    #[test]
    fn what_is_no_word_is_placed() {
        let wrong = tokens("a + \"open").expect_err("open").span;
        assert_eq!(wrong.start, 4);
        assert!(tokens("a ? b").expect_err("sign").message.contains("'?'"));
        assert!(tokens("5q").expect_err("unit").message.contains("30s"));
    }
}
