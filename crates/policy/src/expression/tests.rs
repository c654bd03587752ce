//! Tests of `expression`.

use super::*;
use crate::head::Head;

fn head<'a>(headers: &'a Vec<(String, String)>) -> Head<'a> {
    Head {
        business: "red-packet",
        service: "lottery",
        caller: "sso",
        datacenter: "east",
        method: "POST",
        host: "lottery",
        path: "/draw/7",
        query: "a=1",
        headers,
        user: Some(0xabc),
        priority: 5 << 10,
    }
}

fn asked(text: &str) -> Result<bool, String> {
    let headers = vec![("x-client".to_owned(), "1.9".to_owned())];
    Expression::compile(text).expect("compiles").matches(&head(&headers))
}

#[test]
fn every_variable_can_be_asked() {
    for text in [
        "request.method == 'POST'",
        "request.path.startsWith('/draw') && request.query == 'a=1' && request.host == 'lottery'",
        "request.headers['x-client'] == '1.9'",
        "'x-client' in request.headers && !('x-other' in request.headers)",
        "request.headers['x-client'].contains('9') && request.path.endsWith('7')",
        "user_hash == '0000000000000abc' && size(user_hash) == 16",
        "user_share >= 0.0 && user_share < 1.0",
        "priority == 5120 && business_level == 5",
        "business == 'red-packet' && service in ['lottery', 'gift'] && caller == 'sso' && datacenter == 'east'",
        "double(request.headers['x-client']) < 2.0",
        "(priority + 1) % 2 == 1 ? true : false",
    ] {
        assert_eq!(asked(text), Ok(true), "{text}");
    }
    assert_eq!(asked("request.method == 'GET'"), Ok(false));
}

#[test]
fn what_can_never_be_evaluated_is_refused_and_says_why() {
    for (text, why) in [
        ("request.path ==", "not CEL"),
        ("path == '/'", "unknown variable `path`"),
        ("request.pth == '/'", "unknown field of request `pth`; did you mean `path`?"),
        ("usershare < 0.5", "unknown variable `usershare`"),
        ("user_shar < 0.5", "did you mean `user_share`?"),
        ("request.path.matches('a+')", "unknown function `matches`"),
        ("[1, 2].all(x, x > 0)", "unknown"),
        ("priority", "gives int; an expression must give true or false"),
        ("'yes'", "gives string"),
        ("priority > 'a'", "no operator or function"),
        ("priority && true", "no operator or function"),
        ("((((((((((((((((((((((((((((((((((((((((((((((((true))))))))))))))))))))))))))))))))))))))))))))))))", ""),
        ("!", "not CEL"),
        ("\u{0}", "not CEL"),
    ] {
        let refused = Expression::compile(text).expect_err(text).to_string();
        assert!(refused.contains(why), "{text}: {refused}");
        assert!(!refused.contains('\n'), "{text}: {refused}");
    }
    assert!(Expression::compile("priority > 9 && (").expect_err("not CEL").column > 0);
}

#[test]
fn one_that_fails_on_a_request_says_why() {
    let failed = asked("request.headers['x-other'] == 'a'").unwrap_err();
    assert!(failed.contains("there is no \"x-other\""), "{failed}");
    assert!(asked("1 / (priority - 5120) > 0").is_err());
    assert!(asked("int(request.path) > 0").is_err());
}

#[test]
fn a_constant_is_known_as_one() {
    assert!(Expression::compile("true || false").unwrap().is_constant());
    assert!(Expression::compile("1 < 2").unwrap().is_constant());
    assert!(!Expression::compile("priority < 2").unwrap().is_constant());
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[ -~]{0,60}") {
        if let Ok(compiled) = Expression::compile(&text) {
            let headers = Vec::new();
            let _ = compiled.matches(&head(&headers));
        }
    }

    #[test]
    fn nothing_like_cel_makes_it_panic(pieces in proptest::collection::vec(proptest::sample::select(vec![
        "request", ".", "path", "headers", "[", "]", "'a'", "==", "&&", "!", "(", ")", "in", "1", "-", "priority", "?", ":",
        "{", "}", ",", "size", "user_share", "<", "0.5", "/", "%", "+", "b'x'", "null", "9223372036854775807", "int", "uint",
    ]), 0..14)) {
        if let Ok(compiled) = Expression::compile(&pieces.join(" ")) {
            let headers = Vec::new();
            let _ = compiled.matches(&head(&headers));
        }
    }
}
