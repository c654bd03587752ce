//! Round trips, foreign reports, nonsense.

use super::*;
use crate::{Advert, Callee, LEVEL_ALL};

const ADVERT: Advert = Advert { level: 40_000, demand_rps: 1_500.5, capacity_rps: 750.25, queue_delay_us: 21_500 };

#[test]
fn an_advert_survives_both_forms() {
    let text = orca_text(&ADVERT);
    assert_eq!(
        text,
        "TEXT named_metrics.springtide_level=40000,named_metrics.springtide_demand_rps=1500.5,\
         named_metrics.springtide_capacity_rps=750.25,named_metrics.springtide_queue_delay_ms=21.5"
    );
    assert_eq!(parse_orca_text(&text), Ok(Some(ADVERT)));
    assert_eq!(parse_orca_binary(&orca_binary(&ADVERT)), Ok(Some(ADVERT)));
}

/// An OrcaLoadReport as protoc encodes it: cpu_utilization (1) 0.5, utilization (5) {"a": 1}, rps_fractional (6) 12.5.
#[test]
fn a_report_of_others_is_stepped_over() {
    let mut bytes = vec![0x09];
    bytes.extend(0.5_f64.to_le_bytes());
    bytes.extend([0x2a, 0x0c, 0x0a, 0x01, b'a', 0x11]);
    bytes.extend(1_f64.to_le_bytes());
    bytes.push(0x31);
    bytes.extend(12.5_f64.to_le_bytes());
    assert_eq!(parse_orca_binary(&base64::encode(&bytes)), Ok(None));
    let ours = base64::decode(&orca_binary(&ADVERT)).expect("base64");
    bytes.extend(ours);
    assert_eq!(parse_orca_binary(&base64::encode(&bytes)), Ok(Some(ADVERT)));
    assert_eq!(parse_orca_text("TEXT cpu=0.3,named_metrics.other=5"), Ok(None));
    assert_eq!(
        parse_orca_text("TEXT cpu=0.3,named_metrics.springtide_level=5").map(|it| it.map(|it| it.level)),
        Ok(Some(5))
    );
}

#[test]
fn nonsense_load_is_never_believed() {
    for nonsense in ["NaN", "inf", "-1", "65537", "1e300", "-0.1"] {
        let text = format!("TEXT named_metrics.springtide_level={nonsense}");
        assert!(matches!(parse_orca_text(&text), Err(Fault::Advert(_))), "{nonsense}");
        let text = format!("TEXT named_metrics.springtide_level=5,named_metrics.springtide_demand_rps={nonsense}");
        let faulty = parse_orca_text(&text).is_err();
        assert_eq!(faulty, nonsense != "65537", "{nonsense} as a rate");
    }
    for malformed in ["", "JSON {}", "TEXT level", "TEXT named_metrics.springtide_level=lots", "BIN abc"] {
        assert!(matches!(parse_orca_text(malformed), Err(Fault::Malformed { .. })), "{malformed}");
    }
    let long = format!("TEXT {}", "a=1,".repeat(2_000));
    assert_eq!(parse_orca_text(&long), Err(Fault::TooLong { header: ORCA, bytes: long.len() }));
    let idle = orca_text(&Advert { capacity_rps: 4_000.0, ..ADVERT });
    let fault = parse_orca_text(&idle).expect_err("it rejects while it idles");
    assert_eq!(fault.to_string(), "load report: level 40000 rejects, but demand_rps is below half of capacity_rps");
    let fault = parse_orca_text("TEXT named_metrics.springtide_level=NaN").expect_err("not a number");
    assert_eq!(fault.to_string(), "load report: level is NaN, not within 0 to 65536");
}

#[test]
fn a_report_cut_short_is_refused_at_every_length() {
    let bytes = base64::decode(&orca_binary(&ADVERT)).expect("base64");
    let entry = 2 + 2 + "springtide_level".len() + 9;
    for length in 1..bytes.len() {
        let cut = parse_orca_binary(&base64::encode(&bytes[..length]));
        let whole_entries = [entry, 4 + 21 + 9 + entry, 4 + 23 + 9 + 4 + 21 + 9 + entry];
        assert_eq!(cut.is_err(), !whole_entries.contains(&length), "{length}: {cut:?}");
    }
}

#[test]
fn small_headers_are_read_strictly() {
    assert_eq!(parse_priority(" 513 "), Ok(Priority::from_u16(513)));
    for bad in ["", "-1", "+1", "65536", "1.0", "0x10", "９"] {
        assert!(parse_priority(bad).is_err(), "{bad:?}");
        assert!(parse_attempt(bad).is_err(), "{bad:?}");
    }
    let user_hash = UserHash::from_u64(0xab);
    assert_eq!(user(user_hash), "00000000000000ab");
    assert_eq!(parse_user("00000000000000AB"), Ok(user_hash));
    assert!(parse_user("+0000000000000ab").is_err());
    assert!(parse_user("ab").is_err());
    assert_eq!(parse_deadline_ms("250"), Ok(250));
    assert!(parse_deadline_ms("99999999999999999999999").is_err());
    assert_eq!(
        parse_attempt("101").map_err(|fault| fault.to_string()),
        Err("x-springtide-attempt: expected an attempt number from 0 to 100".to_owned())
    );
}

#[test]
fn services_that_admitted_are_listed_once_and_not_without_end() {
    let mut value = String::new();
    for number in 0..100 {
        value = admitted_with(&value, &format!("s{number}"));
        value = admitted_with(&value, "s0");
    }
    assert!(admitted_has(&value, "s0") && admitted_has(&value, "s31") && !admitted_has(&value, "s32"));
    assert!(!admitted_has("lottery2,x", "lottery"));
    assert!(admitted_has("pay, lottery", "lottery"));
    assert!(!admitted_has("", "lottery"));
}

#[test]
fn shed_calls_survive_the_wire() {
    let callee = Callee::new();
    for value in [5, 6, 700, 60_000] {
        callee.shed(Priority::from_u16(value));
    }
    let report = callee.take_shed();
    let text = shed(&report).expect("something was shed");
    assert_eq!(text, "0:2,10:1,937:1");
    assert_eq!(parse_shed(&text), Ok(report));
    assert_eq!(shed(&ShedReport::EMPTY), None);
    for bad in ["", "1", "1:", ":1", "1024:1", "1:-1", "a:1", "1:99999999999", &"1:1,".repeat(17)] {
        assert!(parse_shed(bad).is_err(), "{bad}");
    }
}

#[test]
fn rejects_say_why_and_who() {
    for why in Why::ALL {
        assert_eq!(parse_reject(&reject(why, "lottery")), Ok((why, "lottery")));
    }
    assert_eq!(Why::from(Reason::Doomed), Why::Deadline);
    assert!(parse_reject("overload").is_err());
    assert!(parse_reject("because; by=x").is_err());
    assert_eq!(parse_orca_text(&orca_text(&Advert::UNKNOWN)).map(|it| it.map(|it| it.level)), Ok(Some(LEVEL_ALL)));
}
