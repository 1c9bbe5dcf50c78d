//! Events in all modes, and everything that is none.

use proptest::prelude::*;

use super::*;

fn binary(headers: &[(&str, &str)]) -> Result<CloudEvent, EventFault> {
    CloudEvent::from_headers(headers.iter().map(|(name, value)| (*name, value.as_bytes())))
}

const PLAIN: [(&str, &str); 4] =
    [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/shop"), ("ce-type", "order")];

fn with<'a>(more: &[(&'a str, &'a str)]) -> Result<CloudEvent, EventFault> {
    binary(&PLAIN.iter().chain(more).copied().collect::<Vec<_>>())
}

fn structured(members: &str) -> Result<CloudEvent, EventFault> {
    from_structured(
        format!("{{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/shop\",\"type\":\"order\"{members}}}")
            .as_bytes(),
    )
}

#[test]
fn the_mode_is_what_the_media_type_says() {
    let mode = |text: &str| Mode::of(Some(text));
    assert_eq!(Mode::of(None), Ok(Mode::Binary));
    assert_eq!(mode("application/json"), Ok(Mode::Binary));
    assert_eq!(mode("Application/CloudEvents+JSON; charset=UTF-8"), Ok(Mode::Structured));
    assert_eq!(mode("application/cloudevents-batch+json"), Ok(Mode::Batch));
    for odd in [
        "application/cloudevents+xml",
        "application/cloudevents+json; charset=latin1",
        "application/cloudevents",
    ] {
        assert_eq!(mode(odd).unwrap_err().status(), 415, "{odd}");
    }
}

#[test]
fn one_event_in_both_modes() {
    let mut one = with(&[
        ("content-type", "application/json"),
        ("ce-subject", "Euro%20%E2%82%AC"),
        ("ce-time", "2026-04-05T17:31:00.5+02:00"),
        ("ce-partitionkey", "7"),
        ("x-other", "passed over"),
    ])
    .unwrap();
    one.data = br#"{"b":1,"a":10000000000000000000001}"#.to_vec();
    assert_eq!(one.attribute("subject"), "Euro €");
    let text = to_structured(&one);
    assert!(String::from_utf8_lossy(&text).contains(r#""data":{"b":1,"a":10000000000000000000001}"#));
    assert_eq!(from_structured(&text).unwrap(), one);
    let headers = one.headers();
    let back =
        CloudEvent::from_headers(headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())));
    assert_eq!(back.unwrap().attributes, one.attributes);
}

#[test]
fn payloads_are_what_their_type_says() {
    let data = |members: &str| structured(members).map(|event| event.data);
    assert_eq!(data(r#", "data": {"x": [1, 2.50]} "#).unwrap(), br#"{"x": [1, 2.50]}"#);
    assert_eq!(data(r#","data":"hi""#).unwrap(), b"\"hi\"");
    assert_eq!(data(r#","datacontenttype":"text/plain","data":"h\u00e9""#).unwrap(), "hé".as_bytes());
    assert_eq!(data(r#","data":"h","datacontenttype":"text/plain""#).unwrap(), b"h");
    assert_eq!(data(r#","data_base64":"AAEC""#).unwrap(), [0, 1, 2]);
    assert_eq!(data(r#","data":null"#).unwrap(), b"");
    assert_eq!(data(",\"data\":3\n").unwrap(), b"3");
    assert!(data(r#","datacontenttype":"text/plain","data":{}"#).is_err());
    assert!(data(r#","data_base64":"!""#).is_err());
    assert_eq!(data(r#","data":1,"data_base64":"AA==""#), Err(EventFault::TwoPayloads));
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    for (left_out, (name, _)) in PLAIN.iter().enumerate() {
        let rest: Vec<_> =
            PLAIN.iter().enumerate().filter(|(at, _)| *at != left_out).map(|(_, pair)| *pair).collect();
        let told = binary(&rest).unwrap_err().to_string();
        assert!(told.contains(name.strip_prefix("ce-").unwrap()) && told.contains("missing"), "{told}");
    }
    for (header, value, said) in [
        ("ce-time", "yesterday", "time"),
        ("ce-time", "2026-02-29T00:00:00Z", "time"),
        ("ce-Bad", "x", "Bad"),
        ("ce-", "x", "\"\""),
        ("ce-data", "x", "data"),
        ("ce-id", "2", "twice"),
        ("ce-subject", "", "empty"),
        ("ce-subject", "%FF", "UTF-8"),
        ("ce-subject", "%0A", "control"),
        ("ce-datacontenttype", "a/b", "Content-Type"),
        ("content-type", "nonsense", "media type"),
    ] {
        let fault = with(&[(header, value)]).unwrap_err();
        assert!(fault.to_string().contains(said) && fault.status() == 400, "{header}: {fault}");
    }
    assert_eq!(binary(&[("ce-specversion", "0.3")]), Err(EventFault::Version("0.3".to_owned())));
    for members in
        [",", ",\"a\":[1]", ",\"a\":1.5", ",\"a\":9999999999", ",\"id\":\"2\"", ",\"a\"", ",a:1", "}"]
    {
        assert!(structured(members).is_err(), "{members}");
    }
    for text in ["", "[]", "{", "{}", "null", "{\"specversion\":1}", "\u{feff}{}"] {
        assert!(from_structured(text.as_bytes()).is_err(), "{text}");
    }
    assert!(from_structured(b"\xff").is_err());
    let deep = format!(",\"data\":{}{}", "[".repeat(200_000), "]".repeat(200_000));
    // Nothing is lost by it, whether it is taken or not.
    let _ = structured(&deep);
}

#[test]
fn times_are_those_of_the_calendar() {
    for time in ["2024-02-29T23:59:60Z", "2026-04-05t17:31:00z", "2026-04-05T17:31:00.000001-23:59"] {
        assert!(text::is_moment(time), "{time}");
    }
    for time in [
        "",
        "2026-04-05",
        "2026-13-05T00:00:00Z",
        "2026-04-31T00:00:00Z",
        "2026-04-05T24:00:00Z",
        "2026-04-05T17:31:00",
        "2026-04-05T17:31:00.Z",
        "2026-04-05T17:31:00+2:00",
        "2026-04-05T17:31:00ZZ",
        "２026-04-05T17:31:00Z",
    ] {
        assert!(!text::is_moment(time), "{time}");
    }
}

#[test]
fn batches_are_bounded_and_say_which_event_is_wrong() {
    let one = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#;
    assert_eq!(from_batch(b" [ ] ").unwrap().len(), 0);
    assert_eq!(from_batch(format!("[{one}, {one}]").as_bytes()).unwrap().len(), 2);
    let many = |count: usize| from_batch(format!("[{}]", vec![one; count].join(",")).as_bytes());
    assert_eq!(many(BATCH_MAX).unwrap().len(), BATCH_MAX);
    assert_eq!(many(BATCH_MAX + 3), Err(EventFault::BatchTooLong(BATCH_MAX + 3)));
    let told = from_batch(format!("[{one},{{\"specversion\":\"1.0\"}}]").as_bytes()).unwrap_err();
    assert!(told.to_string().contains("event 1 of the batch") && told.to_string().contains("id"), "{told}");
    for text in ["[", "[,]", "{}", "[1]", "[{}"] {
        assert!(from_batch(text.as_bytes()).is_err(), "{text}");
    }
    let event = with(&[]).unwrap();
    assert_eq!(from_batch(&to_batch(&[event.clone(), event.clone()])).unwrap(), [event.clone(), event]);
}

proptest! {
    #[test]
    fn any_text_is_carried_by_a_header(value in "[^\\p{Cc}]{1,40}") {
        let carried = escape(&value);
        prop_assert!(carried.bytes().all(|byte| byte.is_ascii_graphic()));
        prop_assert_eq!(unescape(&carried), Some(value));
    }

    #[test]
    fn any_payload_comes_back(data in proptest::collection::vec(any::<u8>(), 0..200), kind in 0..3usize) {
        let kind = ["text/plain", "application/json", "image/png"][kind];
        let mut event = with(&[("content-type", kind)]).unwrap();
        event.data = data;
        prop_assert_eq!(from_structured(&to_structured(&event)).unwrap(), event);
    }

    #[test]
    fn no_bytes_are_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = from_structured(&bytes);
        let _ = from_batch(&bytes);
        let _ = binary(&[("ce-id", &String::from_utf8_lossy(&bytes))]);
    }

    #[test]
    fn no_json_is_a_panic(text in "[\\[\\]{}:,\"a-e0-9. \\\\ntrue]{0,60}") {
        let _ = from_structured(text.as_bytes());
        let _ = from_batch(text.as_bytes());
    }
}
