//! Medians, ratios, and the shape of the JSON.

use super::*;

fn sample(rps: f64, p50: f64) -> Sample {
    let figures = [("rps", rps), ("p50_us", p50), ("p95_us", 2.0), ("p99_us", 3.0), ("cpu_us_per_req", 4.0)];
    Sample {
        figures: figures.map(|(name, value)| (name.to_owned(), value)).into(),
        errors: Errors { status: 1, ..Errors::default() },
        payload_bytes: 14,
    }
}

fn series() -> (Series, Key, Key) {
    let (a, b) = (Key::new("baton-process", "mix", 64), Key::new("grpc", "mix", 64));
    let mut series = Series::default();
    for (rps, other) in [(100.0, 10.0), (400.0, 100.0), (300.0, 60.0)] {
        series.add(a.clone(), sample(rps, 10.0));
        series.add(b.clone(), sample(other, 20.0));
    }
    (series, a, b)
}

#[test]
fn medians_come_with_minimum_and_maximum() {
    let (series, a, _) = series();
    let rows = series.rows();
    assert_eq!(rows.len(), 2);
    let row = &rows[0];
    assert_eq!((row.system.as_str(), row.concurrency, row.payload_bytes), ("baton-process", 64, 14));
    assert_eq!((row.figures["rps"], row.min["rps"], row.max["rps"]), (300.0, 100.0, 400.0));
    assert_eq!((row.errors, row.rounds), (3, 3));
    assert_eq!(series.median_of(&a, "rps"), Some(300.0));
    assert_eq!(median(vec![1.0, 2.0]), Some(1.5));
    assert_eq!(median(vec![]), None);
}

#[test]
fn ratios_are_medians_of_the_rounds() {
    let (series, a, b) = series();
    let mut report = Report::new("boutique", true, 3);
    report.ratio("rps", &series, "rps", [&a, &b], Some(Promise::AtLeast(4.0)));
    report.difference("p50_minus", &series, "p50_us", [&a, &b], Some(Promise::AtMost(-10.0)));
    report.ratio("absent", &series, "rps", [&a, &a.of("nobody")], None);
    assert_eq!(report.ratios["rps"], 5.0);
    assert_eq!(report.ratio_ranges["rps"], [4.0, 10.0]);
    assert_eq!(report.ratios["p50_minus"], -10.0);
    assert!(!report.ratios.contains_key("absent"));
    assert!(report.promises.iter().all(|(name, promise)| promise.is_kept(report.ratios[name])));
    assert!(!Promise::AtLeast(5.1).is_kept(5.0));
}

#[test]
fn the_json_has_the_documented_shape() {
    let (series, a, b) = series();
    let mut report = Report::new("boutique", false, 3);
    report.take_rows(&series);
    report.ratio("rps_at_64", &series, "rps", [&a, &b], None);
    let file = tempfile::NamedTempFile::new().unwrap();
    report.write_json(file.path()).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(file.path()).unwrap()).unwrap();
    assert_eq!(json["bench"], "boutique");
    assert!(json["machine"].is_object());
    let names =
        "system case payload_bytes concurrency rps p50_us p95_us p99_us cpu_us_per_req errors min max";
    for name in names.split(' ') {
        assert!(!json["rows"][0][name].is_null(), "{name} is missing");
    }
    assert_eq!(json["rows"][0]["min"]["rps"], 100.0);
    assert_eq!(json["ratios"]["rps_at_64"], 5.0);
    assert!(!report.table().is_empty());
    assert_eq!(serde_json::from_value::<Report>(json).unwrap(), report);
}
